"""The scheduler: checks each sync when it is due, until the service is stopped. The only importer of APScheduler.

APScheduler keeps one job per sync, the time of its next check, and the threads. worker.py says what a check does.
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
from warehouse_sync.service.clock import Clock, Intervals
from warehouse_sync.service.worker import ServedSync, SyncTasks, Worker, describe_internal_error

log = structlog.get_logger(__name__)

LOOP_TIMEOUT: Final = 60.0
"""Seconds after its latest step that the loop still counts as alive; reading a configuration can take long."""


class Scheduler:
    """Runs the enabled syncs of a configuration on their schedules until it is stopped.

    Call `run()` in one thread. `reload()` may be called from a signal handler, `is_alive` and `not_ready_reason` from
    any thread.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        workers: int = 4,
        events: Events | None = None,
        clock: Clock | None = None,
        intervals: Intervals | None = None,
        tasks: SyncTasks | None = None,
        threads: BaseExecutor | None = None,
    ) -> None:
        """Prepare a scheduler; nothing is read or started yet.

        Args:
            path: The configuration: a file or a folder.
            workers: Number of syncs that run at the same time.
            events: Where runs and the service publish events.
            clock: The clock; tests replace it.
            intervals: Seconds between checks.
            tasks: What is done to a sync; tests replace it.
            threads: APScheduler's executor; tests replace it.
        """
        self.clock = clock or Clock()
        self.intervals = intervals or Intervals()
        self._tasks = tasks or SyncTasks()
        self._events = events or Events()
        self._worker = Worker(self._tasks, self._events, self.clock, self.intervals)
        self._watch = ConfigWatch(path)
        self._threads = threads or ThreadPoolExecutor(workers)
        self._jobs = _Jobs(self.clock, self._threads)
        self._jobs.add_listener(self._check_ended, EVENT_JOB_EXECUTED)
        self._syncs: dict[str, ServedSync] = {}
        self._config: Config | None = None
        self._reload_requested = False
        self._reload_at = self.clock.now()
        self._last_step = time.monotonic()

    @property
    def config(self) -> Config:
        """The configuration in force. Raises ConfigurationError before `start()`."""
        if self._config is None:
            raise ConfigurationError("the configuration is not loaded yet")
        return self._config

    @property
    def is_alive(self) -> bool:
        """Whether the loop is running, or waits for the last runs."""
        return self._worker.stop_reason is not None or time.monotonic() - self._last_step < LOOP_TIMEOUT

    @property
    def not_ready_reason(self) -> str | None:
        """Why this service cannot do its work now; None if it can."""
        if self._config is None:
            return "the configuration is not loaded yet"
        if self._worker.stop_reason is not None:
            return f"stopping: {self._worker.stop_reason}"
        return self._worker.unreachable_reason

    def start(self) -> None:
        """Load the configuration and plan the first check of every sync for the next `step()`.

        Raises:
            ConfigurationError: The configuration is invalid; nothing was started.
        """
        self._apply(self._watch.load())
        self._jobs.start()

    def reload(self) -> None:
        """Have the configuration read again soon, whether it has changed or not. Safe in a signal handler."""
        self._reload_requested = True

    def run(self, stop: CancelToken) -> None:
        """Work until `stop` is requested; then stop the active runs and wait for them."""
        try:
            while not stop.requested:
                next_step = self.step()
                self.clock.wait((next_step - self.clock.now()).total_seconds())
        finally:
            self.drain(stop.reason or "an error")

    def step(self) -> datetime:
        """Start the checks that are due, and read the configuration if it is time; return when to step again."""
        self._last_step = time.monotonic()
        now = self.clock.now()
        if self._reload_requested or now >= self._reload_at:
            self._reload_if_changed()
            self._reload_at = now + timedelta(seconds=self.intervals.config_check)
        return min(self._jobs.submit_due(), self._reload_at)

    def drain(self, reason: str) -> None:
        """Start no more runs; return when the active ones have ended and released their leases."""
        self._worker.stop(reason)
        # Not by APScheduler's shutdown: it holds a lock that the end of a check needs.
        self._threads.shutdown(wait=True)
        with suppress(Exception):
            self._jobs.shutdown(wait=False)
        log.info("stopped", reason=reason)

    # --- the configuration

    def _reload_if_changed(self) -> None:
        requested, self._reload_requested = self._reload_requested, False
        if not requested and not self._watch.has_changed():
            return
        try:
            config = self._watch.load()
            if config == self._config:
                if requested:
                    log.info("the configuration has not changed")
                return
            self._apply(config)
        except ConfigurationError as error:
            problems = [redact(str(problem)) for problem in error.problems]
            log.error("the changed configuration is invalid, the previous one stays in force", problems=problems)
        except Exception as error:  # noqa: BLE001 - a bug in reading files must not end the service
            reason = describe_internal_error(error)
            log.error("the changed configuration is invalid, the previous one stays in force", problems=[reason])
        else:
            log.info("the changed configuration is in force", syncs=len(self._syncs))

    def _apply(self, config: Config) -> None:
        """Serve the syncs of `config` from their next check on. If it raises ConfigurationError, nothing changes."""
        served = {}
        for name, sync in config.syncs.items():
            if sync.enabled:
                schedule = sync.schedule.schedule if sync.schedule else None
                served[name] = ServedSync(config, name, schedule, self._tasks.exclusive_resource(config, name))
        previous, self._syncs, self._config = self._syncs, served, config
        self._events.publish(ConfigurationLoaded(config))
        self._worker.update_syncs(served.values())
        for name in previous.keys() - served.keys():
            self._jobs.remove(name)
        for name, entry in served.items():
            # Also syncs with the same schedule: what failed before may work now.
            self._jobs.schedule(name, self._check, _Trigger(entry.schedule, self.intervals), self.clock.now())

    def _check(self, name: str) -> datetime:
        sync = self._syncs.get(name)
        return self._worker.check(sync) if sync else self.clock.now() + timedelta(seconds=self.intervals.sync_check)

    def _check_ended(self, event: JobExecutionEvent) -> None:
        # Not at the end of the check itself: APScheduler allows the next check of the sync only from here on.
        if self._worker.stop_reason is None:
            self._jobs.reschedule(event.job_id, event.retval)


class _Trigger(BaseTrigger):
    """When a sync is checked unless its latest check returned another time."""

    def __init__(self, schedule: Schedule | None, intervals: Intervals) -> None:
        self.schedule = schedule
        self.intervals = intervals

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        later = now + timedelta(seconds=self.intervals.sync_check)
        return min(later, self.schedule.next_after(now)) if self.schedule else later


class _Jobs(BaseScheduler):
    """APScheduler with our clock, and without its own loop: the caller calls `submit_due()`."""

    def __init__(self, clock: Clock, threads: BaseExecutor) -> None:
        self._clock = clock
        # One check of a sync at a time; a late check is not skipped.
        defaults = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        super().__init__(timezone=UTC, executors={"default": threads}, job_defaults=defaults)

    def wakeup(self) -> None:
        self._clock.wake()

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def schedule(self, name: str, check: Any, trigger: BaseTrigger, at: datetime) -> None:
        """Plan the next check of a sync for `at`; `trigger` decides about later ones."""
        self.add_job(check, trigger, [name], id=name, next_run_time=at, replace_existing=True)

    def remove(self, name: str) -> None:
        """Plan no further check of a sync."""
        with suppress(JobLookupError):
            self.remove_job(name)

    def reschedule(self, name: str, at: datetime) -> None:
        """Move the next check of a sync to `at`, unless the sync was removed."""
        with suppress(JobLookupError):
            self.modify_job(name, next_run_time=at)

    def submit_due(self) -> datetime:
        """Submit the checks that are due to the threads; return when the next one is."""
        now = self._clock.now()
        store, threads = self._lookup_jobstore("default"), self._lookup_executor("default")
        for job in store.get_due_jobs(now):
            # Before submitting: a check that ends at once sets its own next time.
            self.reschedule(job.id, job.trigger.get_next_fire_time(None, now))
            with suppress(MaxInstancesReachedError):
                threads.submit_job(job, [now])
        next_check: datetime | None = store.get_next_run_time()
        return next_check or now + timedelta(days=1)
