"""Schedules to runs: when each sync is looked at, and what is done with it then. The only importer of APScheduler.

APScheduler keeps one job per sync, the time of its next turn, and the threads. A turn looks at the state tables and
does at most one thing, under the sync's lease:

    a tick is due          newer than `syncs.last_tick`: run_sync; ticks that have passed together are made up for once
    the retry queue is due a retry pass, without a new snapshot
    a day has gone by      old snapshots and log lines are dropped
    nothing                the turn ends and says when to look again

A tick counts as run when its run has ended, so what a dead worker leaves comes up again at whoever looks next, and what
was run elsewhere is seen in the tables. Workers share nothing else.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from apscheduler.events import EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.base import BaseExecutor, MaxInstancesReachedError
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger

from warehouse_sync.config import Config
from warehouse_sync.config_watch import ConfigWatch
from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
from warehouse_sync.job import open_warehouse
from warehouse_sync.logs import redact
from warehouse_sync.observer import Observer
from warehouse_sync.operations import RunReport, RunStatus
from warehouse_sync.progress import Progress
from warehouse_sync.run import retry_sync, run_sync
from warehouse_sync.schedule import Schedule
from warehouse_sync.state import syncs, ticks
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.ticks import Outlook
from warehouse_sync.stopping import Stop
from warehouse_sync.tidy import tidy_sync
from warehouse_sync.warehouses import make_warehouse

log = structlog.get_logger(__name__)

POLL: Final = 0.2
"""Seconds until a wish to stop is noticed; a signal handler may not wake the loop itself."""

ALIVE_FOR: Final = 60.0
"""Seconds after its last round that the loop still counts as turning; reading a configuration may take a while."""


class Clock:
    """The time, and how to wait for it."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> datetime:
        """The time, with its zone."""
        return datetime.now(UTC)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or sooner."""
        self._woken.wait(min(max(seconds, 0.0), POLL))
        self._woken.clear()

    def wake(self) -> None:
        """Have `wait()` return. Thread-safe."""
        self._woken.set()


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks.

    reload_interval: at the configuration's files. look_again: at a sync that another worker has, busy: at one whose
    warehouse another run of this process has. look_every: at any sync, since others may have left work; each look wakes
    a warehouse that is paid for by time. tidy_every: of retention. wait_first, wait_most: after a failure, doubled each
    time.
    """

    reload_interval: float = 5.0
    look_again: float = 5.0
    busy: float = 0.5
    look_every: float = 3600.0
    tidy_every: float = 86400.0
    wait_first: float = 15.0
    wait_most: float = 300.0


class Work:
    """What is done to a sync; when, is the scheduler's."""

    def one_at_a_time(self, config: Config, name: str) -> str | None:
        """What of the sync's warehouse only one run at a time may use. Raises ConfigurationError."""
        warehouse = make_warehouse(config.warehouse_of(config.sync(name)))
        try:
            return warehouse.one_at_a_time
        finally:
            warehouse.close()

    def look(self, config: Config, name: str, tick: datetime | None) -> Outlook:
        """How the sync stands. One that was never served counts as run up to `tick`, its newest."""
        sync = config.sync(name)
        key = SyncKey(sync.name, sync.destination)
        with open_warehouse(config, sync) as warehouse:
            state = State(warehouse)
            migrate(state)
            return outlook(state, key, tick)

    def run(self, config: Config, name: str, tick: datetime, stop: Stop, progress: Progress) -> RunReport:
        """Run the sync for `tick`."""
        return run_sync(config, name, trigger="schedule", tick=tick, stop=stop, progress=progress)

    def retry(self, config: Config, name: str, stop: Stop, progress: Progress) -> RunReport:
        """Send what is due in the retry queue."""
        return retry_sync(config, name, due_only=True, trigger="schedule", stop=stop, progress=progress)

    def tidy(self, config: Config, name: str, stop: Stop) -> bool:
        """Drop what is too old; False when that could not be now."""
        return tidy_sync(config, name, stop)


def outlook(state: State, key: SyncKey, tick: datetime | None) -> Outlook:
    """How a sync stands in migrated tables; one that was never served counts as run up to `tick`."""
    found = ticks.look(state, key)
    if tick is None or found.last_tick is not None:
        return found
    syncs.make_row(state, key)
    ticks.found(state, key, tick)
    return ticks.look(state, key)


@dataclass(frozen=True)
class _Entry:
    """A sync that is served, by one reading of the configuration."""

    config: Config
    name: str
    schedule: Schedule | None
    one_at_a_time: str | None

    @property
    def warehouse(self) -> str:
        return self.config.sync(self.name).warehouse


class Scheduler:
    """Runs the enabled syncs of a configuration when they are due, at most `workers` at once, until it is stopped.

    `run()` in one thread; `reload()` may be called from a signal handler, `alive` and `ready` from any thread.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        workers: int = 4,
        observer: Observer | None = None,
        clock: Clock | None = None,
        pace: Pace | None = None,
        work: Work | None = None,
        threads: BaseExecutor | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.pace = pace or Pace()
        self._work = work or Work()
        self._observer = observer or Observer()
        self._watch = ConfigWatch(path)
        self._threads = threads or ThreadPoolExecutor(workers)
        self._jobs = _Jobs(self.clock, self._threads)
        self._jobs.add_listener(self._turn_ended, EVENT_JOB_EXECUTED)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._stops: dict[str, Stop] = {}
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._untidy_at: dict[str, datetime] = {}
        self._unreachable: dict[str, str] = {}
        self._draining: str | None = None
        self._config: Config | None = None
        self._reload_wanted = False
        self._reload_at = self.clock.now()
        self._turned = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop turns, or drains."""
        return self._draining is not None or time.monotonic() - self._turned < ALIVE_FOR

    @property
    def ready(self) -> str | None:
        """Why this worker cannot do its work now; None when nothing is known against it."""
        if self._config is None:
            return "the configuration is not loaded yet"
        if self._draining is not None:
            return f"stopping: {self._draining}"
        with self._lock:
            return next(iter(self._unreachable.values()), None)

    def start(self) -> None:
        """The configuration is loaded, and every sync gets its first turn in the next `step()`.

        Raises ConfigurationError; nothing was begun then.
        """
        self._take_over(self._watch.load())
        self._jobs.start()

    def reload(self) -> None:
        """Have the configuration read again soon, changed or not. Fit for a signal handler."""
        self._reload_wanted = True

    def run(self, stop: Stop) -> None:
        """Work until `stop` is requested; then nothing new is begun, what goes on is stopped and awaited."""
        try:
            while not stop.requested:
                following = self.step()
                self.clock.wait((following - self.clock.now()).total_seconds())
        finally:
            self.drain(stop.why or "an error")

    def step(self) -> datetime:
        """Begin the turns that are due now, and read the configuration if it is time; returns when to step again."""
        self._turned = time.monotonic()
        now = self.clock.now()
        if self._reload_wanted or now >= self._reload_at:
            self._read_again()
            self._reload_at = now + timedelta(seconds=self.pace.reload_interval)
        return min(self._jobs.begin_due(), self._reload_at)

    def drain(self, why: str) -> None:
        """No run is begun any more; those under way end soon and give back their leases. Returns when they have."""
        with self._lock:
            self._draining = why
            under_way = dict(self._stops)
        if under_way:
            log.warning("stopping: awaiting the runs that are under way", why=why, syncs=sorted(under_way))
        for stop in under_way.values():
            stop.request(why)
        # Not by the scheduler's own shutdown: it holds a lock that the end of a turn needs.
        self._threads.shutdown(wait=True)
        with suppress(Exception):
            self._jobs.shutdown(wait=False)
        log.info("stopped", why=why)

    # --- the configuration

    def _read_again(self) -> None:
        asked, self._reload_wanted = self._reload_wanted, False
        if not asked and not self._watch.changed():
            return
        try:
            config = self._watch.load()
            if config == self._config:
                if asked:
                    log.info("the configuration is as it was")
                return
            self._take_over(config)
        except ConfigurationError as error:
            problems = [redact(str(problem)) for problem in error.problems]
            log.error("the changed configuration is refused, the one before stays in force", problems=problems)
        except Exception as error:  # noqa: BLE001 - a bug in reading files must not end the service
            reason = _unforeseen(error)
            log.error("the changed configuration is refused, the one before stays in force", problems=[reason])
        else:
            log.info("the changed configuration is in force", syncs=len(self._entries))

    def _take_over(self, config: Config) -> None:
        """From their next turn on the syncs are those of `config`. Raises ConfigurationError; then nothing changes."""
        entries = {}
        for name, sync in config.syncs.items():
            if sync.enabled:
                schedule = sync.schedule.schedule if sync.schedule else None
                entries[name] = _Entry(config, name, schedule, self._work.one_at_a_time(config, name))
        with self._lock:
            before, self._entries, self._config = self._entries, entries, config
            warehouses = {entry.warehouse for entry in entries.values()}
            self._unreachable = {name: why for name, why in self._unreachable.items() if name in warehouses}
            self._failures.clear()
        for name in before.keys() - entries.keys():
            self._jobs.forget(name)
        for name, entry in entries.items():
            # Also where the schedule is as it was: what has failed so far may go through now.
            self._jobs.plan(name, self._turn, _Trigger(entry.schedule, self.pace), self.clock.now())

    # --- a turn, in a thread of its own

    def _turn(self, name: str) -> datetime:
        """One look at a sync, and at most one piece of work; returns when the next turn is."""
        return Context().run(self._bound_turn, name)  # Nothing that a run binds to its log lines leaks into the next.

    def _bound_turn(self, name: str) -> datetime:
        structlog.contextvars.bind_contextvars(sync=name)
        with self._lock:
            entry = self._entries.get(name)
        if entry is None or self._draining:
            return self._in(self.pace.look_every)
        with self._undisturbed(entry) as undisturbed:
            if not undisturbed:
                return self._in(self.pace.busy)
            try:
                return self._serve(entry)
            except WarehouseSyncError as error:
                return self._failed(entry, error)
            except Exception as error:  # noqa: BLE001 - whatever a bug does to one sync, the others go on
                return self._failed(entry, error)

    def _serve(self, entry: _Entry) -> datetime:
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
                return self._next(entry, found)
        if found.is_leased:
            return self._in(self.pace.look_again)
        with self._stop_of(name) as stop:
            if stop is None:
                return self._in(self.pace.look_every)
            if tick is not None and is_due:
                report = self._work.run(entry.config, name, tick, stop, self._observer.progress(name))
            elif found.retry_is_due:
                report = self._work.retry(entry.config, name, stop, self._observer.progress(name))
            else:
                self._untidy_at[name] = self._in(self.pace.look_every)
                if self._work.tidy(entry.config, name, stop):
                    self._untidy_at[name] = self._in(self.pace.tidy_every)
                return self.clock.now()
        return self._ended(entry, report)

    def _look(self, entry: _Entry, tick: datetime | None) -> Outlook:
        try:
            found = self._work.look(entry.config, entry.name, tick)
        except WarehouseSyncError as error:
            with self._lock:
                self._unreachable[entry.warehouse] = redact(str(error))
            raise
        with self._lock:
            self._unreachable.pop(entry.warehouse, None)
        return found

    def _ended(self, entry: _Entry, report: RunReport) -> datetime:
        if report.status is RunStatus.SKIPPED:
            log.debug("nothing done", reason=report.reason)
            return self._in(self.pace.look_again)
        self._observer.ended(entry.name, report)
        if report.status is RunStatus.INCOMPLETE and not report.delivered.total:
            return self._wait(entry)  # The other side takes nothing: what is due at once again is not hurried.
        self._failures.pop(entry.name, None)
        return self.clock.now()

    def _failed(self, entry: _Entry, error: Exception) -> datetime:
        following = self._wait(entry)
        known = isinstance(error, WarehouseSyncError)
        report = getattr(error, "report", None) or RunReport(entry.name, RunStatus.FAILED)
        reason = redact(str(error)) if known else _unforeseen(error)
        if report.run_id is None or not known:
            log.error("failed", reason=reason, next_look=following.isoformat(timespec="seconds"))
        self._observer.ended(entry.name, replace(report, status=RunStatus.FAILED, reason=reason))
        return following

    def _wait(self, entry: _Entry) -> datetime:
        """When to look at a sync again that has failed: after growing waits, and at its next tick at the latest."""
        failures = self._failures[entry.name] = self._failures.get(entry.name, 0) + 1
        wait = min(self.pace.wait_first * 2.0 ** min(failures - 1, 16), self.pace.wait_most)
        return self._next(entry, Outlook(retry_in=wait))

    def _next(self, entry: _Entry, found: Outlook) -> datetime:
        """When a sync that stands like this is looked at next."""
        now = self.clock.now()
        seconds = [self.pace.look_every, *([] if found.retry_in is None else [found.retry_in])]
        moments = [now + timedelta(seconds=max(0.0, each)) for each in seconds]
        moments += [entry.schedule.next_after(now)] if entry.schedule else []
        return min(moments)

    def _in(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    @contextmanager
    def _undisturbed(self, entry: _Entry) -> Iterator[bool]:
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
    def _stop_of(self, name: str) -> Iterator[Stop | None]:
        """The wish to stop of a run that begins now; None when nothing may begin any more."""
        stop = Stop(from_elsewhere=True)
        with self._lock:
            begins = self._draining is None
            if begins:
                self._stops[name] = stop
        try:
            yield stop if begins else None
        finally:
            with self._lock:
                self._stops.pop(name, None)

    def _turn_ended(self, event: JobExecutionEvent) -> None:
        # Here and not in the turn itself: only now APScheduler lets the sync's next turn begin.
        if self._draining is None:
            self._jobs.next_turn(event.job_id, event.retval)


def _unforeseen(error: Exception) -> str:
    """Only where it happened: the text of an error that nobody has foreseen may hold values of rows."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error at {Path(last.filename).name}:{last.lineno} ({type(error).__name__}); please report it"


class _Trigger(BaseTrigger):
    """When a sync is looked at unless its last turn said something else."""

    def __init__(self, schedule: Schedule | None, pace: Pace) -> None:
        self.schedule = schedule
        self.pace = pace

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        later = now + timedelta(seconds=self.pace.look_every)
        return min(later, self.schedule.next_after(now)) if self.schedule else later


class _Jobs(BaseScheduler):
    """APScheduler by a clock that is passed in; its loop is the caller's, who calls `begin_due()`."""

    def __init__(self, clock: Clock, threads: BaseExecutor) -> None:
        self._clock = clock
        # One turn of a sync at a time; a late one is no reason to leave it out.
        defaults = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        super().__init__(timezone=UTC, executors={"default": threads}, job_defaults=defaults)

    def wakeup(self) -> None:
        self._clock.wake()

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def plan(self, name: str, turn: Any, trigger: BaseTrigger, at: datetime) -> None:
        """The sync's next turn is at `at`; without another word, later ones are when `trigger` says."""
        self.add_job(turn, trigger, [name], id=name, next_run_time=at, replace_existing=True)

    def forget(self, name: str) -> None:
        """The sync has no further turn."""
        with suppress(JobLookupError):
            self.remove_job(name)

    def next_turn(self, name: str, at: datetime) -> None:
        """The sync's next turn is at `at`, if it still has any."""
        with suppress(JobLookupError):
            self.modify_job(name, next_run_time=at)

    def begin_due(self) -> datetime:
        """Hand the turns that are due to the threads; returns when the next one is."""
        now = self._clock.now()
        store, threads = self._lookup_jobstore("default"), self._lookup_executor("default")
        for job in store.get_due_jobs(now):
            # First: a turn that ends at once says itself when the next one is.
            self.next_turn(job.id, job.trigger.get_next_fire_time(None, now))
            with suppress(MaxInstancesReachedError):
                threads.submit_job(job, [now])
        following: datetime | None = store.get_next_run_time()
        return following or now + timedelta(days=1)
