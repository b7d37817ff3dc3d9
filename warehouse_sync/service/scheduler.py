"""Schedules to runs: when each sync gets its turn, until the service is stopped. The only importer of APScheduler.

APScheduler keeps one job per sync, the time of its next turn, and the threads. What happens in a turn is in turns.py.
"""

from __future__ import annotations

import time
from contextlib import suppress
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

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.config.watch import ConfigWatch
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import ConfigurationLoaded, Events
from warehouse_sync.redaction import redact
from warehouse_sync.schedule import Schedule
from warehouse_sync.service.clock import Clock, Pace
from warehouse_sync.service.worker import Entry, Turns, Work, unforeseen

log = structlog.get_logger(__name__)

ALIVE_FOR: Final = 60.0
"""Seconds after its last round that the loop still counts as turning; reading a configuration may take a while."""


class Scheduler:
    """Runs the enabled syncs of a configuration when they are due, at most `workers` at once, until it is stopped.

    `run()` in one thread; `reload()` may be called from a signal handler, `alive` and `ready` from any thread.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        workers: int = 4,
        events: Events | None = None,
        clock: Clock | None = None,
        pace: Pace | None = None,
        work: Work | None = None,
        threads: BaseExecutor | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.pace = pace or Pace()
        self._work = work or Work()
        self._events = events or Events()
        self._turns = Turns(self._work, self._events, self.clock, self.pace)
        self._watch = ConfigWatch(path)
        self._threads = threads or ThreadPoolExecutor(workers)
        self._jobs = _Jobs(self.clock, self._threads)
        self._jobs.add_listener(self._turn_ended, EVENT_JOB_EXECUTED)
        self._entries: dict[str, Entry] = {}
        self._config: Config | None = None
        self._reload_wanted = False
        self._reload_at = self.clock.now()
        self._turned = time.monotonic()

    @property
    def config(self) -> Config:
        """The configuration in force. Raises ConfigurationError before `start()`."""
        if self._config is None:
            raise ConfigurationError("the configuration is not loaded yet")
        return self._config

    @property
    def alive(self) -> bool:
        """Whether the loop turns, or drains."""
        return self._turns.stopped is not None or time.monotonic() - self._turned < ALIVE_FOR

    @property
    def ready(self) -> str | None:
        """Why this worker cannot do its work now; None when nothing is known against it."""
        if self._config is None:
            return "the configuration is not loaded yet"
        if self._turns.stopped is not None:
            return f"stopping: {self._turns.stopped}"
        return self._turns.trouble

    def start(self) -> None:
        """The configuration is loaded, and every sync gets its first turn in the next `step()`.

        Raises ConfigurationError; nothing was begun then.
        """
        self._take_over(self._watch.load())
        self._jobs.start()

    def reload(self) -> None:
        """Have the configuration read again soon, changed or not. Fit for a signal handler."""
        self._reload_wanted = True

    def run(self, stop: CancelToken) -> None:
        """Work until `stop` is requested; then nothing new is begun, what goes on is stopped and awaited."""
        try:
            while not stop.requested:
                following = self.step()
                self.clock.wait((following - self.clock.now()).total_seconds())
        finally:
            self.drain(stop.reason or "an error")

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
        self._turns.stop(why)
        # Not by the scheduler's own shutdown: it holds a lock that the end of a turn needs.
        self._threads.shutdown(wait=True)
        with suppress(Exception):
            self._jobs.shutdown(wait=False)
        log.info("stopped", why=why)

    # --- the configuration

    def _read_again(self) -> None:
        asked, self._reload_wanted = self._reload_wanted, False
        if not asked and not self._watch.has_changed():
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
            reason = unforeseen(error)
            log.error("the changed configuration is refused, the one before stays in force", problems=[reason])
        else:
            log.info("the changed configuration is in force", syncs=len(self._entries))

    def _take_over(self, config: Config) -> None:
        """From their next turn on the syncs are those of `config`. Raises ConfigurationError; then nothing changes."""
        entries = {}
        for name, sync in config.syncs.items():
            if sync.enabled:
                schedule = sync.schedule.schedule if sync.schedule else None
                entries[name] = Entry(config, name, schedule, self._work.one_at_a_time(config, name))
        before, self._entries, self._config = self._entries, entries, config
        self._events.publish(ConfigurationLoaded(config))
        self._turns.begin_anew(entries.values())
        for name in before.keys() - entries.keys():
            self._jobs.forget(name)
        for name, entry in entries.items():
            # Also where the schedule is as it was: what has failed so far may go through now.
            self._jobs.plan(name, self._turn, _Trigger(entry.schedule, self.pace), self.clock.now())

    def _turn(self, name: str) -> datetime:
        entry = self._entries.get(name)
        return self._turns.take(entry) if entry else self.clock.now() + timedelta(seconds=self.pace.look_every)

    def _turn_ended(self, event: JobExecutionEvent) -> None:
        # Here and not in the turn itself: only now APScheduler lets the sync's next turn begin.
        if self._turns.stopped is None:
            self._jobs.next_turn(event.job_id, event.retval)


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
