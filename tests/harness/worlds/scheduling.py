"""The real scheduler by a virtual clock: days pass in seconds, and only the runs themselves are stand-ins."""

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
    """Stands still but for whoever sets `time`."""

    def __init__(self, time: datetime) -> None:
        super().__init__()
        self.time = time

    def now(self) -> datetime:
        return self.time


@dataclass(frozen=True)
class RecordedRun:
    """A run that a stand-in has recorded: for which tick, by whom, when it began."""

    sync: str
    tick: datetime
    worker: int
    started: datetime


@dataclass
class SchedulerWorld:
    """A real state schema that stays open, and everything that was run against it.

    trouble: what happens in a run, by sync and tick; it may raise. takes: how long a run lasts.
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
        """One sync for each schedule stands in the file. more: further keys of each."""
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
        """A scheduler of its own process, so to speak; it has begun."""
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
        """Time passes, and the workers do what they do; with none, nobody does."""
        while self.clock.time < until:
            following = min([until, *(worker.step() for worker in workers)])
            self.clock.time = max(self.clock.time, following)

    def ticks_of(self, sync: str) -> list[datetime]:
        """The ticks that were run, in their order."""
        return [ran.tick for ran in self.runs if ran.sync == sync]

    def last_tick(self, sync: str) -> datetime | None:
        return syncs.schedule_state(self.state, SyncKey(sync, "ads")).last_tick


class RecordingTasks(SyncTasks):
    """What is done to a sync, but for what is sent: the ticks are claimed in the real tables."""

    def __init__(self, shop: SchedulerWorld, worker: int) -> None:
        self.shop = shop
        self.worker = worker

    def exclusive_resource(self, config: Config, name: str) -> str | None:
        return None

    def read_state(self, config: Config, name: str, tick: datetime | None) -> ScheduleState:
        self.shop.state_reads += 1
        if self.shop.outage is not None:
            raise self.shop.outage
        found = read_schedule_state(self.shop.state, SyncKey(name, "ads"), tick)
        self.shop.clock.time += self.shop.state_read_duration
        return found

    def run(self, config: Config, name: str, tick: datetime, stop: CancelToken, events: Events) -> RunReport:
        shop = self.shop
        ran = RecordedRun(name, tick, self.worker, shop.clock.time)
        shop.on_run(name, tick)
        shop.runs.append(ran)
        with shop.warehouse.write("settle a tick") as connection:
            syncs.record_tick(shop.state, connection, SyncKey(name, "ads"), tick)
        shop.clock.time += shop.run_duration(name, tick)
        return RunReport(name, RunStatus.SUCCEEDED, run_id=len(shop.runs))

    def apply_retention(self, config: Config, name: str, stop: CancelToken) -> bool:
        self.shop.retention_calls.append((name, self.shop.clock.time))
        return True


@contextmanager
def scheduler_world(url: str, folder: Path, time: str) -> Iterator[SchedulerWorld]:
    """A shop whose clock shows `time`, an ISO time in UTC."""
    from warehouse_sync.warehouses.duckdb.warehouse import DuckDB
    from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

    kind = DuckDB if sa.make_url(url).drivername.startswith("duckdb") else PostgreSQL
    warehouse = kind("analytics", url, "warehouse_sync", 60.0)
    warehouse.open()
    try:
        yield SchedulerWorld(warehouse, VirtualClock(datetime.fromisoformat(time).replace(tzinfo=UTC)), folder)
    finally:
        warehouse.close()
