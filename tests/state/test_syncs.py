"""Which tick a run was for, when that tick counts as run, and when the retry queue is due."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from harness.worlds.world import SYNC, World, create_audience, people

from warehouse_sync.errors import DestinationUnavailable, QueryFailed, WarehouseSyncError
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.run import run_sync
from warehouse_sync.sandbox import Fault
from warehouse_sync.state import syncs
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ScheduleState
from warehouse_sync.warehouses.registry import make_warehouse

pytestmark = pytest.mark.usefixtures("short_timeouts")

KEY = SyncKey(SYNC, "ads")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def world(world: World) -> World:
    """The common world, whose audience exists and whose table holds three people."""
    world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    world.fill(people(*range(3)))
    return world


def read_schedule_state(world: World) -> ScheduleState:
    warehouse = make_warehouse(world.config.warehouses["analytics"])
    warehouse.open()
    try:
        return syncs.schedule_state(State(warehouse), KEY)
    finally:
        warehouse.close()


def run(world: World, tick: datetime, **options: Any) -> RunReport:
    return run_sync(world.config, SYNC, trigger="schedule", tick=tick, **options)


def test_a_tick_is_run_once(world: World) -> None:
    """A run with the same or an older tick is skipped under the lease and leaves no row."""
    assert run(world, NOON).status is RunStatus.SUCCEEDED
    assert read_schedule_state(world) == ScheduleState(NOON, False, None)
    for tick in (NOON, NOON - HOUR):
        report = run(world, tick)
        assert (report.status, report.reason) == (RunStatus.SKIPPED, "this tick was run by another worker")
    assert world.run().status is RunStatus.SUCCEEDED
    assert run(world, NOON + HOUR).status is RunStatus.SUCCEEDED
    found = [tuple(row) for row in world.query("select tick, triggered_by from warehouse_sync.runs order by run_id")]
    plain = NOON.replace(tzinfo=None)
    assert found == [(plain, "schedule"), (None, "library"), (plain + HOUR, "schedule")]
    assert read_schedule_state(world).last_tick == NOON + HOUR


def test_which_runs_complete_their_tick(world: World) -> None:
    """A blocked or failed run does; one that could not reach the destination, or not get the lease, does not."""
    world.sync_settings["guard"] = {"min_members": 1}
    run(world, NOON)
    world.fill([])
    assert run(world, NOON + HOUR).status is RunStatus.BLOCKED
    assert read_schedule_state(world).last_tick == NOON + HOUR
    world.fill([{"id": 1, "email": "person1@example.com"}])
    world.sync_settings["model"] = {"sql": "select * from people where 1 / (id - 1) > 0", "primary_key": "id"}
    if world.url.startswith("postgres"):  # DuckDB divides by zero without a word.
        with pytest.raises(QueryFailed):
            run(world, NOON + 2 * HOUR)
        assert read_schedule_state(world).last_tick == NOON + 2 * HOUR
    del world.sync_settings["model"]
    world.sync_settings["audience"] = {"type": "user", "name": "Created again"}
    world.sandbox.inject(Fault("503", on="create", times=0))
    with pytest.raises(DestinationUnavailable):
        run(world, NOON + 3 * HOUR)
    assert read_schedule_state(world).last_tick != NOON + 3 * HOUR
    world.sandbox.clear_faults()
    world.sync_settings["identifiers"] = {"sha256_email": "nowhere"}
    with suppress(WarehouseSyncError):
        run(world, NOON + 3 * HOUR)
    assert read_schedule_state(world).last_tick != NOON + 3 * HOUR


def test_when_the_retry_queue_is_due(world: World) -> None:
    """After the seconds that the first operation has to wait; at once if a worker died during delivery."""
    world.sandbox.inject(Fault("503", on="users", times=0))
    run(world, NOON)
    found = read_schedule_state(world)
    assert found.retry_in is not None
    assert 30 < found.retry_in <= 60
    assert not found.retry_is_due
    world.sandbox.clear_faults()
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.retry_queue set next_attempt_at = timestamp '2020-01-01'"))
    assert read_schedule_state(world).retry_is_due
    assert world.retry(due_only=True, trigger="schedule").status is RunStatus.SUCCEEDED
    assert read_schedule_state(world).retry_in is None
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.runs set status = 'running' where run_id = 2"))
    assert read_schedule_state(world).retry_is_due


def test_where_a_schedule_starts(world: World) -> None:
    """A sync that was never served counts as run up to its newest tick; no other sync is touched."""
    warehouse = make_warehouse(world.config.warehouses["analytics"])
    run(world, NOON)
    warehouse.open()
    try:
        state, other = State(warehouse), SyncKey("other", "ads")
        assert syncs.schedule_state(state, other) == ScheduleState()
        syncs.ensure_row(state, other)
        assert syncs.schedule_state(state, other) == ScheduleState()
        for tick in (NOON + HOUR, NOON + 2 * HOUR):
            syncs.initialise_last_tick(state, other, tick)
            syncs.initialise_last_tick(state, KEY, tick)
            assert syncs.schedule_state(state, other) == ScheduleState(NOON + HOUR)
        assert syncs.schedule_state(state, KEY) == ScheduleState(NOON)
    finally:
        warehouse.close()
