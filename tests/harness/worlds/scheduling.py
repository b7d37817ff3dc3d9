"""The real scheduler on a virtual clock: days pass in seconds, and only the runs are simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from apscheduler.executors.debug import DebugExecutor

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events import Event, Events, RunReported
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.service.clock import Clock, Intervals
from warehouse_sync.service.scheduler import Scheduler
from warehouse_sync.service.worker import SyncTasks, read_schedule_state
from warehouse_sync.state import syncs
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ScheduleState
from warehouse_sync.warehouses.base import Warehouse

INTERVALS = Intervals(config_check=86400.0, sync_check=86400.0)


class VirtualClock(Clock):
    """A clock that moves only when its `time` is set."""

    def __init__(self, time: datetime) -> None:
        super().__init__()
        self.time = time

    def now(self) -> datetime:
        return self.time


@dataclass(frozen=True)
class RecordedRun:
    """A simulated run.

    Attributes:
        sync: The name of the sync.
        tick: The tick that it ran for.
        worker: The number of the worker.
        started: The virtual time of its start.
    """

    sync: str
    tick: datetime
    worker: int
    started: datetime


@dataclass
class SchedulerWorld:
    """A real state schema, a virtual clock, and a record of what the schedulers did.

    Attributes:
        warehouse: The open warehouse of the state schema.
        clock: The clock of all schedulers.
        folder: The folder of the configuration.
        runs: All simulated runs that succeeded.
        reports: All reports that the schedulers sent.
        on_run: Called at the start of a run with sync and tick; it may raise.
        run_duration: Returns how long the run of a sync and tick lasts.
        state_read_duration: How long one read of the state lasts.
        outage: What each read of the state raises.
        retention_calls: Sync and time of each call of the retention.
        state_reads: The number of reads of the state.
        worker_count: The number of workers that were started.
    """

    warehouse: Warehouse
    clock: VirtualClock
    folder: Path
    runs: list[RecordedRun] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)
    on_run: Callable[[str, datetime], None] = lambda _sync, _tick: None
    run_duration: Callable[[str, datetime], timedelta] = lambda _sync, _tick: timedelta(seconds=20)
    state_read_duration: timedelta = timedelta()
    outage: WarehouseSyncError | None = None
    retention_calls: list[tuple[str, datetime]] = field(default_factory=list)
    state_reads: int = 0
    worker_count: int = 0

    def __post_init__(self) -> None:
        self.state = State(self.warehouse)
        migrate(self.state)

    @property
    def path(self) -> Path:
        return self.folder / "config.yaml"

    def configure(self, schedules: Mapping[str, Mapping[str, Any] | None], **more: Any) -> None:
        """Write a configuration with one sync for each schedule; `more` holds further keys of each."""
        sync = {
            "warehouse": "analytics",
            "destination": "ads",
            "model": {"sql": "select 1 as id", "primary_key": "id"},
            "identifiers": {"sha256_email": "email"},
            **more,
        }
        self.path.write_text(
            yaml.safe_dump(
                {
                    "warehouses": {"analytics": {"url": "postgresql://nowhere.invalid/shop"}},
                    "destinations": {"ads": {"type": "linkedin", "account_id": 5, "access_token": "long-enough-token"}},
                    "syncs": {
                        name: {**sync, "audience": {"type": "user", "name": name}}
                        | ({"schedule": dict(schedule)} if schedule else {})
                        for name, schedule in schedules.items()
                    },
                }
            )
        )

    def start_worker(self, intervals: Intervals = INTERVALS) -> Scheduler:
        """Return a started scheduler, which stands for one `serve` process."""
        self.worker_count += 1
        scheduler = Scheduler(
            self.path,
            clock=self.clock,
            intervals=intervals,
            tasks=RecordingTasks(self, self.worker_count),
            threads=DebugExecutor(),
            events=Events(self._listen),
        )
        scheduler.start()
        return scheduler

    def _listen(self, _sync: str, event: Event) -> None:
        if isinstance(event, RunReported):
            self.reports.append(event.report)

    def run_until(self, until: datetime, *workers: Scheduler) -> None:
        """Advance the clock to `until` and let the workers do what becomes due; without workers only time passes."""
        while self.clock.time < until:
            next_step = min([until, *(worker.step() for worker in workers)])
            self.clock.time = max(self.clock.time, next_step)

    def ticks_of(self, sync: str) -> list[datetime]:
        """Return the ticks of the runs of a sync, in order."""
        return [run.tick for run in self.runs if run.sync == sync]

    def last_tick(self, sync: str) -> datetime | None:
        return syncs.schedule_state(self.state, SyncKey(sync, "ads")).last_tick


class RecordingTasks(SyncTasks):
    """The tasks of a sync without deliveries: runs are recorded, and ticks are claimed in the real tables."""

    def __init__(self, world: SchedulerWorld, worker: int) -> None:
        self.world = world
        self.worker = worker

    def exclusive_resource(self, config: Config, name: str) -> str | None:
        return None

    def read_state(self, config: Config, name: str, tick: datetime | None) -> ScheduleState:
        self.world.state_reads += 1
        if self.world.outage is not None:
            raise self.world.outage
        state = read_schedule_state(self.world.state, SyncKey(name, "ads"), tick)
        self.world.clock.time += self.world.state_read_duration
        return state

    def run(self, config: Config, name: str, tick: datetime, stop: CancelToken, events: Events) -> RunReport:
        world = self.world
        run = RecordedRun(name, tick, self.worker, world.clock.time)
        world.on_run(name, tick)
        world.runs.append(run)
        with world.warehouse.write("record a tick") as connection:
            syncs.record_tick(world.state, connection, SyncKey(name, "ads"), tick)
        world.clock.time += world.run_duration(name, tick)
        return RunReport(name, RunStatus.SUCCEEDED, run_id=len(world.runs))

    def apply_retention(self, config: Config, name: str, stop: CancelToken) -> bool:
        self.world.retention_calls.append((name, self.world.clock.time))
        return True


@contextmanager
def scheduler_world(url: str, folder: Path, time: str) -> Iterator[SchedulerWorld]:
    """Yield a scheduler world whose clock shows `time`, an ISO time in UTC."""
    from warehouse_sync.warehouses.duckdb.warehouse import DuckDB
    from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

    kind = DuckDB if sa.make_url(url).drivername.startswith("duckdb") else PostgreSQL
    warehouse = kind("analytics", url, "warehouse_sync", 60.0)
    warehouse.open()
    try:
        yield SchedulerWorld(warehouse, VirtualClock(datetime.fromisoformat(time).replace(tzinfo=UTC)), folder)
    finally:
        warehouse.close()
