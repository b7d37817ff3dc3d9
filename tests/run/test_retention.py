"""Retention that is applied without a run."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from harness.worlds.world import SYNC, World, create_audience, people

from warehouse_sync.run.retention import apply_retention
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.registry import make_warehouse


@pytest.fixture
def world(world: World) -> World:
    """The common world, whose audience exists and whose retention keeps three snapshots."""
    world.sync_settings = {
        "audience": {"type": "user", "id": create_audience(world.sandbox)},
        "retention": {"snapshots": 3},
    }
    return world


def tables(world: World) -> set[str]:
    found = world.query("select table_name from information_schema.tables where table_schema = 'warehouse_sync'")
    return {name for (name,) in found if name.startswith(("snapshot_", "changes_"))}


def count(world: World, what: str) -> Any:
    return world.query(f"select count(*) from warehouse_sync.{what}")[0][0]


def test_old_log_lines_and_tables_are_dropped(world: World) -> None:
    """Retention drops old log lines, surplus snapshots and tables of dead runs, and keeps what the next run needs."""
    for last in (1, 2, 3, 4):
        world.fill(people(*range(last)))
        world.run()
    with world.connect() as connection:
        connection.execute(
            sa.text("update warehouse_sync.sync_log set logged_at = timestamp '2020-01-01' where run_id < 4")
        )
        connection.execute(
            sa.text("create table warehouse_sync.snapshot_people_5 as select * from warehouse_sync.snapshot_people_4")
        )
        connection.execute(sa.text("update warehouse_sync.installation set last_run = 5"))
        dead = (
            "5, sync, destination, audience_key, kind, triggered_by, 'running', phase, lease_token, config_fingerprint"
        )
        names = dead.replace("5,", "run_id,").replace("'running'", "status")
        connection.execute(
            sa.text(
                f"insert into warehouse_sync.runs ({names}, snapshot_table, started_at) select {dead}, "
                "'snapshot_people_5', started_at from warehouse_sync.runs where run_id = 4"
            )
        )
    world.sync_settings["retention"] = {"snapshots": 2, "sync_log_days": 30}
    assert apply_retention(world.config, SYNC)
    kept = {"snapshot_people_3", "changes_people_3", "snapshot_people_4", "changes_people_4"}
    rows = {"changes_people_3_rows", "changes_people_4_rows"} if world.url.startswith("duckdb") else set()
    assert tables(world) == kept | rows
    assert count(world, "sync_log") == 1
    assert [row[0] for row in world.query("select status from warehouse_sync.runs where run_id = 5")] == ["failed"]
    assert world.query("select lease_holder from warehouse_sync.syncs")[0][0] is None
    world.fill(people(*range(2, 6)))
    world.run()
    world.check(people(*range(2, 6)))


def test_retention_does_nothing_while_the_sync_runs(world: World) -> None:
    """Retention does nothing while a worker has the lease, and creates no tables where there are none."""
    world.fill(people(*range(3)))
    assert not apply_retention(world.config, SYNC)
    world.run()
    config = world.config
    warehouse = make_warehouse(config.warehouses["analytics"])
    warehouse.open()
    try:
        lease = Lease.take(State(warehouse), SyncKey(SYNC, "ads"))
        assert lease is not None
        with lease:
            assert not apply_retention(config, SYNC)
    finally:
        warehouse.close()
    assert apply_retention(config, SYNC)


def test_retention_of_a_sync_that_never_ran(world: World) -> None:
    """Retention of a sync that never ran drops nothing and succeeds."""
    world.fill(people(*range(3)))
    world.run()
    world.sync_settings["warehouse"] = "analytics"
    config = world.config
    (sync,) = config.syncs.values()
    other = config.model_copy(update={"syncs": {"other": sync.model_copy(update={"name": "other"})}})
    assert apply_retention(other, "other")
    assert count(world, "runs") == 1
