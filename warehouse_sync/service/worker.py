"""Turns: what is done when the time has come to look at a sync.

A turn looks at the state tables and does at most one thing, under the sync's lease:

    a tick is due          newer than `syncs.last_tick`: a run; ticks that have passed together are made up for once
    the retry queue is due a retry pass, without a new snapshot
    a day has gone by      old snapshots and log lines are dropped
    nothing                the turn ends and says when to look again

A tick counts as run when its run has ended, so what a dead worker leaves comes up again at whoever looks next, and what
was run elsewhere is seen in the tables. Workers share nothing else.
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
from warehouse_sync.service.clock import Clock, Pace
from warehouse_sync.state import syncs
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ScheduleState
from warehouse_sync.warehouses.registry import make_warehouse

log = structlog.get_logger(__name__)


class Work:
    """What is done to a sync; when, is the scheduler's."""

    def one_at_a_time(self, config: Config, name: str) -> str | None:
        """What of the sync's warehouse only one run at a time may use. Raises ConfigurationError."""
        warehouse = make_warehouse(config.warehouse_of(config.sync(name)))
        try:
            return warehouse.exclusive_resource
        finally:
            warehouse.close()

    def look(self, config: Config, name: str, tick: datetime | None) -> ScheduleState:
        """How the sync stands. One that was never served counts as run up to `tick`, its newest."""
        sync = config.sync(name)
        key = SyncKey(sync.name, sync.destination)
        with open_warehouse(config, sync) as warehouse:
            state = State(warehouse)
            migrate(state)
            return outlook(state, key, tick)

    def run(self, config: Config, name: str, tick: datetime, stop: CancelToken, events: Events) -> RunReport:
        """Run the sync for `tick`."""
        return run_sync(config, name, trigger="schedule", tick=tick, stop=stop, events=events)

    def retry(self, config: Config, name: str, stop: CancelToken, events: Events) -> RunReport:
        """Send what is due in the retry queue."""
        return retry_sync(config, name, due_only=True, trigger="schedule", stop=stop, events=events)

    def tidy(self, config: Config, name: str, stop: CancelToken) -> bool:
        """Drop what is too old; False when that could not be now."""
        return apply_retention(config, name, stop)


def outlook(state: State, key: SyncKey, tick: datetime | None) -> ScheduleState:
    """How a sync stands in migrated tables; one that was never served counts as run up to `tick`."""
    found = syncs.schedule_state(state, key)
    if tick is None or found.last_tick is not None:
        return found
    syncs.ensure_row(state, key)
    syncs.initialise_last_tick(state, key, tick)
    return syncs.schedule_state(state, key)


@dataclass(frozen=True)
class Entry:
    """A sync that is served, by one reading of the configuration.

    one_at_a_time: what of its warehouse only one run of this process may use at a time.
    """

    config: Config
    name: str
    schedule: Schedule | None
    one_at_a_time: str | None

    @property
    def warehouse(self) -> str:
        return self.config.sync(self.name).warehouse


class Turns:
    """Takes the turns of all syncs; thread-safe, one turn of a sync at a time.

    stopped: why no work is begun any more.
    """

    def __init__(self, work: Work, events: Events, clock: Clock, pace: Pace) -> None:
        self.clock = clock
        self.pace = pace
        self.stopped: str | None = None
        self._work = work
        self._events = events
        self._lock = threading.Lock()
        self._stops: dict[str, CancelToken] = {}
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._untidy_at: dict[str, datetime] = {}
        self._unreachable: dict[str, str] = {}

    def take(self, entry: Entry) -> datetime:
        """One look at a sync, and at most one piece of work. Returns when its next turn is; never raises Exception."""
        return Context().run(self._bound, entry)  # Nothing that a run binds to its log lines leaks into the next.

    def stop(self, why: str) -> None:
        """No work is begun any more; what is under way is asked to end."""
        with self._lock:
            self.stopped = why
            under_way = dict(self._stops)
        if under_way:
            log.warning("stopping: awaiting the runs that are under way", why=why, syncs=sorted(under_way))
        for stop in under_way.values():
            stop.request(why)

    @property
    def trouble(self) -> str | None:
        """Why a warehouse could not be looked into the last time; None when all could."""
        with self._lock:
            return next(iter(self._unreachable.values()), None)

    def begin_anew(self, entries: Iterable[Entry]) -> None:
        """The configuration has changed: these syncs are served, and what has failed may go through now."""
        warehouses = {entry.warehouse for entry in entries}
        with self._lock:
            self._unreachable = {name: why for name, why in self._unreachable.items() if name in warehouses}
            self._failures.clear()

    def _bound(self, entry: Entry) -> datetime:
        structlog.contextvars.bind_contextvars(sync=entry.name)
        if self.stopped is not None:
            return self._in(self.pace.look_every)
        with self._undisturbed(entry) as undisturbed:
            if not undisturbed:
                return self._in(self.pace.busy)
            try:
                return self._serve(entry)
            except Exception as error:  # noqa: BLE001 - whatever a bug does to one sync, the others go on
                return self._failed(entry, error)

    def _serve(self, entry: Entry) -> datetime:
        name, now = entry.name, self.clock.now()
        tick = entry.schedule.latest_until(now) if entry.schedule else None
        found = self._look(entry, tick)
        is_due = tick is not None and not found.has_run(tick)
        if entry.schedule and found.last_tick and found.last_tick > entry.schedule.next_after(now):
            log.warning("this sync was run for a time that lies ahead: is the clock right?", tick=str(found.last_tick))
        is_untidy = now >= self._untidy_at.setdefault(name, self._in(self.pace.look_every))
        if not (is_due or found.retry_is_due):
            self._failures.pop(name, None)
            if not is_untidy:
                return self._next(entry, now, found.retry_in)
        if found.is_leased:
            return self._in(self.pace.look_again)
        with self._stop_of(name) as stop:
            if stop is None:
                return self._in(self.pace.look_every)
            if not (is_due or found.retry_is_due):
                self._untidy_at[name] = self._in(self.pace.look_every)
                if self._work.tidy(entry.config, name, stop):
                    self._untidy_at[name] = self._in(self.pace.tidy_every)
                return self.clock.now()
            try:
                if tick is not None and is_due:
                    report = self._work.run(entry.config, name, tick, stop, self._events)
                else:
                    report = self._work.retry(entry.config, name, stop, self._events)
            except Exception as error:  # noqa: BLE001 - as above
                return self._failed(entry, error, retry=not is_due)
        return self._ended(entry, report, retry=not is_due)

    def _look(self, entry: Entry, tick: datetime | None) -> ScheduleState:
        try:
            found = self._work.look(entry.config, entry.name, tick)
        except WarehouseSyncError as error:
            with self._lock:
                self._unreachable[entry.warehouse] = redact(str(error))
            raise
        with self._lock:
            self._unreachable.pop(entry.warehouse, None)
        return found

    def _ended(self, entry: Entry, report: RunReport, *, retry: bool) -> datetime:
        if report.status is RunStatus.SKIPPED:
            log.debug("nothing done", reason=report.reason)
            return self._in(self.pace.look_again)
        self._publish(entry, report, is_retry=retry)
        if report.status is RunStatus.INCOMPLETE and not report.delivered.total:
            return self._wait(entry)  # The other side takes nothing: what is due at once again is not hurried.
        self._failures.pop(entry.name, None)
        return self.clock.now()

    def _failed(self, entry: Entry, error: Exception, *, retry: bool = False) -> datetime:
        following = self._wait(entry)
        known = isinstance(error, WarehouseSyncError)
        report = getattr(error, "report", None) or RunReport(entry.name, RunStatus.FAILED)
        reason = redact(str(error)) if known else unforeseen(error)
        if report.run_id is None or not known:
            log.error("failed", reason=reason, next_look=following.isoformat(timespec="seconds"))
        self._publish(entry, replace(report, status=RunStatus.FAILED, reason=reason), is_retry=retry)
        return following

    def _publish(self, entry: Entry, report: RunReport, *, is_retry: bool) -> None:
        self._events.for_sync(entry.name).publish(RunReported(report, is_retry))

    def _wait(self, entry: Entry) -> datetime:
        """When to look at a sync again that has failed: after growing waits, and at its next tick at the latest."""
        failures = self._failures[entry.name] = self._failures.get(entry.name, 0) + 1
        wait = min(self.pace.wait_first * 2.0 ** min(failures - 1, 16), self.pace.wait_most)
        return self._next(entry, self.clock.now(), wait)

    def _next(self, entry: Entry, looked: datetime, seconds: float | None) -> datetime:
        """When a sync is looked at next that was looked at then; in so many seconds at the latest."""
        longest = self.pace.look_every
        later = self._in(longest if seconds is None else min(max(seconds, 0.0), longest))
        # Behind the look, not behind now: a tick that came meanwhile was not seen.
        return min(later, entry.schedule.next_after(looked)) if entry.schedule else later

    def _in(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    @contextmanager
    def _undisturbed(self, entry: Entry) -> Iterator[bool]:
        """Whether nothing else of this process uses what the sync's warehouse grants to one run at a time."""
        key = entry.one_at_a_time
        with self._lock:
            free = key is None or key not in self._busy
            if free and key is not None:
                self._busy.add(key)
        try:
            yield free
        finally:
            if free and key is not None:
                with self._lock:
                    self._busy.discard(key)

    @contextmanager
    def _stop_of(self, name: str) -> Iterator[CancelToken | None]:
        """The wish to stop of a run that begins now; None when nothing may begin any more."""
        stop = CancelToken(from_other_thread=True)
        with self._lock:
            begins = self.stopped is None
            if begins:
                self._stops[name] = stop
        try:
            yield stop if begins else None
        finally:
            with self._lock:
                self._stops.pop(name, None)


def unforeseen(error: Exception) -> str:
    """Only where it happened: the text of an error that nobody has foreseen may hold values of rows."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error at {Path(last.filename).name}:{last.lineno} ({type(error).__name__}); please report it"
