"""The worker: checks one sync and does the work that is due.

A check reads the state tables and does at most one piece of work, under the sync's lease:

    a tick is due              it is newer than `syncs.last_tick`: one run, also for several missed ticks together
    the retry queue is due     one retry pass, without a new snapshot
    a day has passed           old snapshots and log lines are deleted
    nothing is due             the check ends and returns when to check again

A tick counts as done when its run has ended. So the next worker that checks the sync finds what a dead worker left
open, and sees in the tables what others have run. Workers share nothing else.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events import Events, RunReported
from warehouse_sync.operations import RunStatus
from warehouse_sync.redaction import redact
from warehouse_sync.reports import RunReport
from warehouse_sync.run.context import open_warehouse
from warehouse_sync.run.retention import apply_retention
from warehouse_sync.run.run import retry_sync, run_sync
from warehouse_sync.schedule import Schedule
from warehouse_sync.service.clock import Clock, Intervals
from warehouse_sync.state import syncs
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ScheduleState
from warehouse_sync.warehouses.registry import make_warehouse

log = structlog.get_logger(__name__)


class SyncTasks:
    """What a worker does to a sync. Tests replace it to control time and outcomes."""

    def exclusive_resource(self, config: Config, name: str) -> str | None:
        """Return the key of what only one run of this process may use at a time, for example a DuckDB file.

        Raises:
            ConfigurationError: The warehouse of the sync is not configured correctly.
        """
        warehouse = make_warehouse(config.warehouse_of(config.sync(name)))
        try:
            return warehouse.exclusive_resource
        finally:
            warehouse.close()

    def read_state(self, config: Config, name: str, tick: datetime | None) -> ScheduleState:
        """Return the state of a sync; migrate the tables first. See `read_schedule_state`."""
        sync = config.sync(name)
        key = SyncKey(sync.name, sync.destination)
        with open_warehouse(config, sync) as warehouse:
            state = State(warehouse)
            migrate(state)
            return read_schedule_state(state, key, tick)

    def run(self, config: Config, name: str, tick: datetime, stop: CancelToken, events: Events) -> RunReport:
        """Run the sync for `tick`."""
        return run_sync(config, name, trigger="schedule", tick=tick, stop=stop, events=events)

    def retry(self, config: Config, name: str, stop: CancelToken, events: Events) -> RunReport:
        """Send the operations of the retry queue that are due."""
        return retry_sync(config, name, due_only=True, trigger="schedule", stop=stop, events=events)

    def apply_retention(self, config: Config, name: str, stop: CancelToken) -> bool:
        """Delete old data of the sync; return whether that was possible now."""
        return apply_retention(config, name, stop)


def read_schedule_state(state: State, key: SyncKey, tick: datetime | None) -> ScheduleState:
    """Return the state of a sync from migrated tables.

    Args:
        state: The state tables.
        key: The sync.
        tick: Newest tick of its schedule, if it has one. A sync that no service has run yet counts as done up to it.
    """
    found = syncs.schedule_state(state, key)
    if tick is None or found.last_tick is not None:
        return found
    syncs.ensure_row(state, key)
    syncs.initialise_last_tick(state, key, tick)
    return syncs.schedule_state(state, key)


@dataclass(frozen=True)
class ServedSync:
    """A sync of the configuration that a service runs.

    Attributes:
        config: The configuration that it was read from.
        name: Its name there.
        schedule: Its schedule; None if only its retry queue is served.
        exclusive_resource: See `SyncTasks.exclusive_resource`.
    """

    config: Config
    name: str
    schedule: Schedule | None
    exclusive_resource: str | None

    @property
    def warehouse(self) -> str:
        """Name of its warehouse."""
        return self.config.sync(self.name).warehouse


class Worker:
    """Checks syncs and does what is due. Thread-safe for different syncs.

    Attributes:
        stop_reason: Why no work is started any more; None while work is started.
    """

    def __init__(self, tasks: SyncTasks, events: Events, clock: Clock, intervals: Intervals) -> None:
        self.clock = clock
        self.intervals = intervals
        self.stop_reason: str | None = None
        self._tasks = tasks
        self._events = events
        self._lock = threading.Lock()
        self._tokens: dict[str, CancelToken] = {}
        self._resources_in_use: set[str] = set()
        self._failures: dict[str, int] = {}
        self._retention_due: dict[str, datetime] = {}
        self._unreachable: dict[str, str] = {}

    def check(self, sync: ServedSync) -> datetime:
        """Check a sync and do at most one piece of work; return when to check it again. Never raises Exception."""
        return Context().run(self._check, sync)  # A context of its own: log values of a run must not reach the next.

    def stop(self, reason: str) -> None:
        """Start no more work, and request the work that is going on to stop."""
        with self._lock:
            self.stop_reason = reason
            active = dict(self._tokens)
        if active:
            log.warning("stopping: waiting for the active runs", reason=reason, syncs=sorted(active))
        for token in active.values():
            token.request(reason)

    @property
    def unreachable_reason(self) -> str | None:
        """Why the latest check of some warehouse could not read it; None if all could be read."""
        with self._lock:
            return next(iter(self._unreachable.values()), None)

    def update_syncs(self, served: Iterable[ServedSync]) -> None:
        """Adapt to a changed configuration, which may have repaired what failed."""
        warehouses = {sync.warehouse for sync in served}
        with self._lock:
            self._unreachable = {name: reason for name, reason in self._unreachable.items() if name in warehouses}
            self._failures.clear()

    def _check(self, sync: ServedSync) -> datetime:
        structlog.contextvars.bind_contextvars(sync=sync.name)
        if self.stop_reason is not None:
            return self._after(self.intervals.sync_check)
        with self._exclusive(sync) as is_free:
            if not is_free:
                return self._after(self.intervals.resource_busy)
            try:
                return self._do_due_work(sync)
            except Exception as error:  # noqa: BLE001 - a bug in one sync must not stop the others
                return self._report_failure(sync, error)

    def _do_due_work(self, sync: ServedSync) -> datetime:
        name, now = sync.name, self.clock.now()
        tick = sync.schedule.latest_until(now) if sync.schedule else None
        state = self._read_state(sync, tick)
        run_is_due = tick is not None and not state.has_run(tick)
        if sync.schedule and state.last_tick and state.last_tick > sync.schedule.next_after(now):
            log.warning("this sync was run for a time in the future: is the clock right?", tick=str(state.last_tick))
        retention_is_due = now >= self._retention_due.setdefault(name, self._after(self.intervals.sync_check))
        if not (run_is_due or state.retry_is_due):
            self._failures.pop(name, None)
            if not retention_is_due:
                return self._next_check(sync, now, state.retry_in)
        if state.is_leased:
            return self._after(self.intervals.lease_held)
        with self._cancel_token(name) as stop:
            if stop is None:
                return self._after(self.intervals.sync_check)
            if not (run_is_due or state.retry_is_due):
                self._retention_due[name] = self._after(self.intervals.sync_check)
                if self._tasks.apply_retention(sync.config, name, stop):
                    self._retention_due[name] = self._after(self.intervals.retention)
                return self.clock.now()
            try:
                if tick is not None and run_is_due:
                    report = self._tasks.run(sync.config, name, tick, stop, self._events)
                else:
                    report = self._tasks.retry(sync.config, name, stop, self._events)
            except Exception as error:  # noqa: BLE001 - as above
                return self._report_failure(sync, error, is_retry=not run_is_due)
        return self._report(sync, report, is_retry=not run_is_due)

    def _read_state(self, sync: ServedSync, tick: datetime | None) -> ScheduleState:
        try:
            state = self._tasks.read_state(sync.config, sync.name, tick)
        except WarehouseSyncError as error:
            with self._lock:
                self._unreachable[sync.warehouse] = redact(str(error))
            raise
        with self._lock:
            self._unreachable.pop(sync.warehouse, None)
        return state

    def _report(self, sync: ServedSync, report: RunReport, *, is_retry: bool) -> datetime:
        if report.status is RunStatus.SKIPPED:
            log.debug("skipped", reason=report.reason)
            return self._after(self.intervals.lease_held)
        self._publish(sync, report, is_retry=is_retry)
        if report.status is RunStatus.INCOMPLETE and not report.delivered.total:
            return self._backoff(sync)  # The destination accepts nothing at the moment.
        self._failures.pop(sync.name, None)
        return self.clock.now()

    def _report_failure(self, sync: ServedSync, error: Exception, *, is_retry: bool = False) -> datetime:
        next_check = self._backoff(sync)
        is_expected = isinstance(error, WarehouseSyncError)
        report = getattr(error, "report", None) or RunReport(sync.name, RunStatus.FAILED)
        reason = redact(str(error)) if is_expected else describe_internal_error(error)
        if report.run_id is None or not is_expected:
            log.error("failed", reason=reason, next_check=next_check.isoformat(timespec="seconds"))
        self._publish(sync, replace(report, status=RunStatus.FAILED, reason=reason), is_retry=is_retry)
        return next_check

    def _publish(self, sync: ServedSync, report: RunReport, *, is_retry: bool) -> None:
        self._events.for_sync(sync.name).publish(RunReported(report, is_retry))

    def _backoff(self, sync: ServedSync) -> datetime:
        """Count a failure; return when to check again: after a growing delay, at the next tick at the latest."""
        failures = self._failures[sync.name] = self._failures.get(sync.name, 0) + 1
        delay = min(self.intervals.backoff_initial * 2.0 ** min(failures - 1, 16), self.intervals.backoff_max)
        return self._next_check(sync, self.clock.now(), delay)

    def _next_check(self, sync: ServedSync, checked_at: datetime, delay: float | None) -> datetime:
        """Return when to check a sync again: after `delay` seconds, at its next tick at the latest."""
        longest = self.intervals.sync_check
        later = self._after(longest if delay is None else min(max(delay, 0.0), longest))
        # The next tick after the check, not after now: the check did not see a tick that came during it.
        return min(later, sync.schedule.next_after(checked_at)) if sync.schedule else later

    def _after(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    @contextmanager
    def _exclusive(self, sync: ServedSync) -> Iterator[bool]:
        """Reserve the sync's exclusive resource; yield whether it was free."""
        key = sync.exclusive_resource
        with self._lock:
            is_free = key is None or key not in self._resources_in_use
            if is_free and key is not None:
                self._resources_in_use.add(key)
        try:
            yield is_free
        finally:
            if is_free and key is not None:
                with self._lock:
                    self._resources_in_use.discard(key)

    @contextmanager
    def _cancel_token(self, name: str) -> Iterator[CancelToken | None]:
        """Yield the token of work that starts now; None if no work may start any more."""
        token = CancelToken(from_other_thread=True)
        with self._lock:
            may_start = self.stop_reason is None
            if may_start:
                self._tokens[name] = token
        try:
            yield token if may_start else None
        finally:
            with self._lock:
                self._tokens.pop(name, None)


def describe_internal_error(error: Exception) -> str:
    """Return where an unexpected error happened, without its text, which may contain values of rows."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error at {Path(last.filename).name}:{last.lineno} ({type(error).__name__}); please report it"
