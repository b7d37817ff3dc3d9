"""State tables that somebody has tampered with: a clear message or a safe run, never a wrong REMOVE."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from harness.histories.oracle import check_converged
from harness.processes.simulated_death import dies_at
from harness.worlds.world import SYNC, World

from warehouse_sync.errors import StateDamaged, WarehouseSyncError
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.sandbox import Fault

Rows = list[dict[str, Any]]

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.migrated]


def people(*numbers: int) -> Rows:
    return [{"id": number, "email": f"person{number}@example.com"} for number in numbers]


def tamper(world: World, sql: str) -> None:
    with world.connect() as connection:
        connection.execute(sa.text(sql))


def table_of(world: World, kind: str) -> str:
    """The promoted run's snapshot or changes table; what holds the rows, where changes are a view."""
    ((name,),) = world.query(
        f"select {kind}_table from warehouse_sync.runs where run_id = (select promoted_run from warehouse_sync.syncs)"
    )
    rows = world.query(f"select table_name from information_schema.tables where table_name = '{name}_rows'")
    return f"warehouse_sync.{rows[0][0] if rows else name}"


def requests_so_far(world: World) -> int:
    return len(world.sandbox.requests("users"))


def refuses(world: World, says: str) -> None:
    """Runs of every kind, and the plan, fail with this message; nothing is sent."""
    before = requests_so_far(world)
    for attempt in (world.run, lambda: world.run(full=True), world.retry, world.plan):
        with pytest.raises(StateDamaged, match=says) as caught:
            attempt()
        assert "Nothing was sent" in str(caught.value)
        assert "--recreate" in str(caught.value)
    assert requests_so_far(world) == before


def begins_anew(world: World, rows: Rows) -> None:
    """The way out that the message offers works: a fresh audience is filled, and kept from then on."""
    world.run(recreate=True)
    fresh = max(int(segment["id"]) for segment in world.sandbox.segments())
    world.fill(rows)
    world.run()
    held = {frozenset(member) for member in world.sandbox.members(fresh)}
    assert held == world.expected(rows, "elements")


DAMAGES = {
    "gone": "drop table {table} cascade",
    "emptied": "delete from {table}",
    "half": "delete from {table} where primary_key = '1'",
    "forgotten": "update warehouse_sync.runs set {kind}_table = null where run_id = (select max(run_id) from "
    "warehouse_sync.runs)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_snapshot(world: World, damage: str) -> None:
    """Without the whole promoted snapshot nobody knows who is stale: refused, with a fresh audience as the way out."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(3, 4))
    tamper(world, DAMAGES[damage].format(table=table_of(world, "snapshot"), kind="snapshot"))
    refuses(world, "is missing|holds [02] members where there were 3")
    begins_anew(world, people(4, 5))


def test_a_lost_snapshot_of_an_emptied_audience_is_not_needed(world: World) -> None:
    """Where LinkedIn has thrown all members away itself, nobody can be stale: everybody is sent again."""
    world.fill(people(1, 2))
    world.run()
    tamper(world, f"drop table {table_of(world, 'snapshot')} cascade")
    world.sandbox.force_status(world.segment, "EXPIRED")
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(2, 3))


@pytest.mark.parametrize("damage", ["gone", "half"])
def test_lost_changes_that_nobody_needs(world: World, damage: str) -> None:
    """When nothing waits, the changes of the promoted run are of no use: an ordinary run, retries too."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1, 2, 3))
    world.run()
    tamper(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    assert world.retry().status is RunStatus.SUCCEEDED
    world.fill(people(3, 4))
    tamper(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    assert world.run().planned == OperationCounts(add=1, remove=2)
    world.check(people(3, 4))


@pytest.mark.parametrize(("damage", "wish"), [("gone", "run"), ("emptied", "retry")])
def test_lost_changes_with_adds_that_wait(world: World, damage: str, wish: str) -> None:
    """When only ADDs waited, every member is sent again and the audience is equal."""
    world.fill(people(1))
    world.run()
    world.fill(people(1, 2, 3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    tamper(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    report = world.run() if wish == "run" else world.retry()
    assert (report.status, report.delivered) == (RunStatus.SUCCEEDED, OperationCounts(add=3))
    check_converged(world, people(1, 2, 3))


@pytest.mark.parametrize("waits", [True, False])
def test_lost_changes_of_a_first_run(world: World, waits: bool) -> None:
    """They are a view of its snapshot; without it everybody is sent again if ADDs waited, else it is not missed."""
    world.fill(people(1, 2, 3))
    if waits:
        world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    tamper(world, f"drop view {table_of(world, 'changes')}")
    assert world.run().planned == OperationCounts(add=3 if waits else 0)
    check_converged(world, people(1, 2, 3))


@pytest.mark.parametrize("damage", ["half", "forgotten"])
def test_lost_changes_with_removes_that_wait(world: World, damage: str) -> None:
    """When REMOVEs waited, nobody knows whose: refused, with a fresh audience as the way out."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    tamper(world, DAMAGES[damage].format(table=table_of(world, "changes"), kind="changes"))
    refuses(world, "REMOVEs of it are pending")
    begins_anew(world, people(4, 5))


@pytest.mark.parametrize("leaver", [True, False])
def test_lost_changes_of_a_dead_run(world: World, leaver: bool) -> None:
    """The same for what a dead worker had promoted and not sent: with REMOVEs refused, with ADDs alone sent again."""
    world.fill(people(1, 2))
    world.run()

    world.fill(people(2, 3) if leaver else people(1, 2, 3))
    with dies_at("deliver"):
        world.run()
    tamper(world, f"drop table {table_of(world, 'changes')}")
    if leaver:
        refuses(world, "REMOVEs of it are pending")
    else:
        assert world.run().status is RunStatus.SUCCEEDED
        world.check(people(1, 2, 3))
        statuses = [status for (status,) in world.query("select status from warehouse_sync.runs order by run_id")]
        assert statuses == ["succeeded", "failed", "succeeded"]


@pytest.mark.parametrize("sql", ["delete from warehouse_sync.syncs", "update warehouse_sync.syncs set {columns}"])
def test_an_empty_row_of_the_sync(world: World, sql: str) -> None:
    """Without its row the sync finds its audience at LinkedIn and the last snapshot in `runs`: leavers are removed."""
    world.fill(people(1, 2))
    world.run()
    columns = ("audience_type", "audience_id", "promoted_run", "lease_holder", "lease_expires_at")
    tamper(world, sql.format(columns=", ".join(f"{column} = null" for column in columns)))
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_converged(world, people(2, 3))


def test_an_empty_row_of_the_sync_behind_a_dead_run(world: World) -> None:
    """What waits is found again, too."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(2, 3))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    tamper(world, "delete from warehouse_sync.syncs")
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_converged(world, people(2, 3))


def test_lost_runs(world: World) -> None:
    """A promoted run that `runs` does not know is told of, with a fresh audience as the way out."""
    world.fill(people(1, 2))
    world.run()
    tamper(world, "delete from warehouse_sync.runs")
    before = requests_so_far(world)
    for attempt in (world.run, world.retry, world.plan):
        with pytest.raises(StateDamaged, match="--recreate"):
            attempt()
    assert requests_so_far(world) == before
    begins_anew(world, people(2, 3))


def test_a_lost_installation(world: World) -> None:
    """Without its id an installation does not know its own audiences: it says so and sends nothing."""
    world.fill(people(1, 2))
    world.run()
    tamper(world, "delete from warehouse_sync.installation")
    before = requests_so_far(world)
    for attempt in (world.run, world.retry):
        with pytest.raises(StateDamaged, match="backup"):
            attempt()
    assert requests_so_far(world) == before
    assert len(world.sandbox.segments()) == 1


@pytest.mark.parametrize("table", ["syncs", "runs", "installation", "retry_queue", "sync_log"])
def test_a_missing_state_table(world: World, table: str) -> None:
    """Each ends in a message that names what failed; nothing is sent and no second audience is made."""
    world.fill(people(1, 2))
    world.run()
    tamper(world, f"drop table warehouse_sync.{table}")
    world.fill(people(2, 3))
    before = requests_so_far(world)
    with pytest.raises(WarehouseSyncError, match=table):
        world.run()
    assert requests_so_far(world) == before
    assert len(world.sandbox.segments()) == 1


def test_versions_of_the_schema(world: World) -> None:
    """A newer schema is refused, an unknown or missing version too; nothing is touched or sent."""
    world.fill(people(1, 2))
    world.run()
    before = requests_so_far(world)
    for sql in ("update {version} set version_num = '9999'", "delete from {version}"):
        tamper(world, sql.format(version="warehouse_sync.schema_version"))
        for attempt in (world.run, world.retry, world.plan):
            with pytest.raises(WarehouseSyncError):
                attempt()
    assert requests_so_far(world) == before
    assert [run for (run,) in world.query("select run_id from warehouse_sync.runs")] == [1]
    with pytest.raises(StateDamaged, match="backup"):
        world.run()


def test_what_stands_beside_the_state_does_not_matter(world: World) -> None:
    """Tables of others in the schema, even with names like ours, are left alone."""
    world.fill(people(1, 2))
    world.run()
    tamper(world, f"create table warehouse_sync.snapshot_{SYNC}_99 (note text)")
    world.fill(people(2, 3))
    assert world.run().status is RunStatus.SUCCEEDED
    assert world.query(f"select note from warehouse_sync.snapshot_{SYNC}_99") == []
    tamper(world, f"drop table warehouse_sync.snapshot_{SYNC}_99")
    check_converged(world, people(2, 3))


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_a_view_of_the_operators_own_on_an_old_snapshot(world: World) -> None:
    """It keeps that one table, with a warning that names it; runs succeed, and drop it once the view is gone."""
    world.fill(people(1, 2))
    world.run()
    table = table_of(world, "snapshot")
    tamper(world, f"create view own_view as select identity from {table}")
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
    tamper(world, "drop view own_view")
    world.run()
    assert not world.query(left.format(table))
