"""State tables that were damaged from outside: a clear message or a safe run, never a wrong REMOVE."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from harness.histories.oracle import check_converged
from harness.processes.simulated_death import dies_at
from harness.worlds.world import SYNC, World, people

from warehouse_sync.errors import StateDamaged, WarehouseSyncError
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.sandbox import Fault

Rows = list[dict[str, Any]]

pytestmark = [pytest.mark.usefixtures("short_timeouts"), pytest.mark.migrated]


def execute(world: World, sql: str) -> None:
    with world.connect() as connection:
        connection.execute(sa.text(sql))


def table_of(world: World, kind: str) -> str:
    """Return the snapshot or changes table of the promoted run; where changes are a view, the table under it."""
    ((name,),) = world.query(
        f"select {kind}_table from warehouse_sync.runs where run_id = (select promoted_run from warehouse_sync.syncs)"
    )
    rows = world.query(f"select table_name from information_schema.tables where table_name = '{name}_rows'")
    return f"warehouse_sync.{rows[0][0] if rows else name}"


def count_requests(world: World) -> int:
    return len(world.sandbox.requests("users"))


def check_refused(world: World, message: str) -> None:
    """Check that runs of every kind and the plan fail with this message, and that nothing is sent."""
    before = count_requests(world)
    for attempt in (world.run, lambda: world.run(full=True), world.retry, world.plan):
        with pytest.raises(StateDamaged, match=message) as caught:
            attempt()
        assert "Nothing was sent" in str(caught.value)
        assert "--recreate" in str(caught.value)
    assert count_requests(world) == before


def check_recreated(world: World, rows: Rows) -> None:
    """Check that the suggested remedy works: --recreate fills a new audience, and later runs keep it up to date."""
    world.run(recreate=True)
    new = max(int(segment["id"]) for segment in world.sandbox.segments())
    world.fill(rows)
    world.run()
    held = {frozenset(member) for member in world.sandbox.members(new)}
    assert held == world.expected_members(rows, "elements")


DAMAGES = {
    "dropped": "drop table {table} cascade",
    "emptied": "delete from {table}",
    "half": "delete from {table} where primary_key = '1'",
    "unrecorded": "update warehouse_sync.runs set {kind}_table = null where run_id = (select max(run_id) from "
    "warehouse_sync.runs)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_refused(world: World, damage: str) -> None:
    """Without the complete promoted snapshot the removes are unknown: refused, and --recreate is the remedy."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(3, 4))
    execute(world, DAMAGES[damage].format(table=table_of(world, "snapshot"), kind="snapshot"))
    check_refused(world, "is missing|holds [02] members where there were 3")
    check_recreated(world, people(4, 5))


def test_an_expired_audience_does_not_need_its_lost_snapshot(world: World) -> None:
    """When LinkedIn deleted all members itself, no member can be stale: every member is sent again."""
    world.fill(people(1, 2))
    world.run()
    execute(world, f"drop table {table_of(world, 'snapshot')} cascade")
    world.sandbox.force_status(world.audience_id, "EXPIRED")
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(2, 3))


@pytest.mark.parametrize("damage", ["dropped", "half"])
def test_lost_changes_without_pending_work_do_not_matter(world: World, damage: str) -> None:
    """When nothing is pending, runs and retries do not need the changes of the promoted run."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1, 2, 3))
    world.run()
    execute(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    assert world.retry().status is RunStatus.SUCCEEDED
    world.fill(people(3, 4))
    execute(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    assert world.run().planned == OperationCounts(add=1, remove=2)
    world.check(people(3, 4))


@pytest.mark.parametrize(("damage", "command"), [("dropped", "run"), ("emptied", "retry")])
def test_lost_changes_with_pending_adds(world: World, damage: str, command: str) -> None:
    """When only ADDs were pending, every member is sent again and the audience is equal."""
    world.fill(people(1))
    world.run()
    world.fill(people(1, 2, 3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    execute(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    report = world.run() if command == "run" else world.retry()
    assert (report.status, report.delivered) == (RunStatus.SUCCEEDED, OperationCounts(add=3))
    check_converged(world, people(1, 2, 3))


@pytest.mark.parametrize("pending", [True, False])
def test_lost_changes_of_a_first_run(world: World, pending: bool) -> None:
    """Changes of a first run are a view; without it every member is sent again if ADDs were pending, else none."""
    world.fill(people(1, 2, 3))
    if pending:
        world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    execute(world, f"drop view {table_of(world, 'changes')}")
    assert world.run().planned == OperationCounts(add=3 if pending else 0)
    check_converged(world, people(1, 2, 3))


@pytest.mark.parametrize("damage", ["half", "unrecorded"])
def test_lost_changes_with_pending_removes_are_refused(world: World, damage: str) -> None:
    """When REMOVEs were pending, their members are unknown: refused, and --recreate is the remedy."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    execute(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    check_refused(world, "REMOVEs of it are pending")
    check_recreated(world, people(4, 5))


@pytest.mark.parametrize("has_remove", [True, False])
def test_lost_changes_of_a_dead_run(world: World, has_remove: bool) -> None:
    """Lost changes that a dead worker promoted and did not send: refused with REMOVEs, sent again with ADDs alone."""
    world.fill(people(1, 2))
    world.run()

    world.fill(people(2, 3) if has_remove else people(1, 2, 3))
    with dies_at("deliver"):
        world.run()
    execute(world, f"drop table {table_of(world, 'changes')}")
    if has_remove:
        check_refused(world, "REMOVEs of it are pending")
    else:
        assert world.run().status is RunStatus.SUCCEEDED
        world.check(people(1, 2, 3))
        statuses = [status for (status,) in world.query("select status from warehouse_sync.runs order by run_id")]
        assert statuses == ["succeeded", "failed", "succeeded"]


@pytest.mark.parametrize("sql", ["delete from warehouse_sync.syncs", "update warehouse_sync.syncs set {columns}"])
def test_a_lost_row_of_the_sync(world: World, sql: str) -> None:
    """Without its row the sync finds its audience at LinkedIn and its last snapshot in `runs`."""
    world.fill(people(1, 2))
    world.run()
    columns = ("audience_type", "audience_id", "promoted_run", "lease_holder", "lease_expires_at")
    execute(world, sql.format(columns=", ".join(f"{column} = null" for column in columns)))
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_converged(world, people(2, 3))


def test_a_lost_row_of_the_sync_with_pending_work(world: World) -> None:
    """Without its row the sync finds its pending operations again."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(2, 3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    execute(world, "delete from warehouse_sync.syncs")
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_converged(world, people(2, 3))


def test_lost_runs_are_refused(world: World) -> None:
    """A promoted run that is not in `runs` is refused, and --recreate is the remedy."""
    world.fill(people(1, 2))
    world.run()
    execute(world, "delete from warehouse_sync.runs")
    before = count_requests(world)
    for attempt in (world.run, world.retry, world.plan):
        with pytest.raises(StateDamaged, match="--recreate"):
            attempt()
    assert count_requests(world) == before
    check_recreated(world, people(2, 3))


def test_a_lost_installation_is_refused(world: World) -> None:
    """Without its id an installation cannot recognise its own audiences: the run is refused and sends nothing."""
    world.fill(people(1, 2))
    world.run()
    execute(world, "delete from warehouse_sync.installation")
    before = count_requests(world)
    for attempt in (world.run, world.retry):
        with pytest.raises(StateDamaged, match="backup"):
            attempt()
    assert count_requests(world) == before
    assert len(world.sandbox.segments()) == 1


@pytest.mark.parametrize("table", ["syncs", "runs", "installation", "retry_queue", "sync_log"])
def test_a_missing_state_table_is_refused(world: World, table: str) -> None:
    """A run without a state table fails with its name; nothing is sent and no second audience is created."""
    world.fill(people(1, 2))
    world.run()
    execute(world, f"drop table warehouse_sync.{table}")
    world.fill(people(2, 3))
    before = count_requests(world)
    with pytest.raises(WarehouseSyncError, match=table):
        world.run()
    assert count_requests(world) == before
    assert len(world.sandbox.segments()) == 1


def test_wrong_versions_of_the_schema_are_refused(world: World) -> None:
    """A newer schema and a missing version are refused; nothing is changed or sent."""
    world.fill(people(1, 2))
    world.run()
    before = count_requests(world)
    for sql in ("update {version} set version_num = '9999'", "delete from {version}"):
        execute(world, sql.format(version="warehouse_sync.schema_version"))
        for attempt in (world.run, world.retry, world.plan):
            with pytest.raises(WarehouseSyncError):
                attempt()
    assert count_requests(world) == before
    assert [run for (run,) in world.query("select run_id from warehouse_sync.runs")] == [1]
    with pytest.raises(StateDamaged, match="backup"):
        world.run()


def test_other_tables_in_the_schema_are_kept(world: World) -> None:
    """A run ignores and keeps tables of others in the schema, even with names like its own."""
    world.fill(people(1, 2))
    world.run()
    execute(world, f"create table warehouse_sync.snapshot_{SYNC}_99 (note text)")
    world.fill(people(2, 3))
    assert world.run().status is RunStatus.SUCCEEDED
    assert world.query(f"select note from warehouse_sync.snapshot_{SYNC}_99") == []
    execute(world, f"drop table warehouse_sync.snapshot_{SYNC}_99")
    check_converged(world, people(2, 3))


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_a_view_of_the_operator_on_an_old_snapshot_is_kept(world: World) -> None:
    """A view keeps its snapshot table, with a warning that names it; without the view the next run drops the table."""
    world.fill(people(1, 2))
    world.run()
    table = table_of(world, "snapshot")
    execute(world, f"create view own_view as select identity from {table}")
    with structlog.testing.capture_logs() as logs:
        for number in (3, 4, 5):
            world.fill(people(1, number))
            assert world.run().status is RunStatus.SUCCEEDED
            world.check(people(1, number))
    warnings = [entry["error"] for entry in logs if "old tables" in entry["event"]]
    assert len(warnings) == 2
    assert all(table in warning and "other objects depend on it" in warning for warning in warnings)
    left = "select 1 from information_schema.tables where table_schema || '.' || table_name = '{}'"
    assert world.query(left.format(table))
    execute(world, "drop view own_view")
    world.run()
    assert not world.query(left.format(table))
