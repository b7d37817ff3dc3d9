"""One run of one sync, top to bottom. Each step is a method of mirror.Mirror."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events import Events, Phase, PhaseStarted, RunEnded, RunStarted
from warehouse_sync.logs import ensure_logging
from warehouse_sync.operations import RunKind, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.context import RunContext, open_context
from warehouse_sync.run.leased_run import RunOptions, reason_to_skip
from warehouse_sync.run.mirror import Mirror
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.migrate import migrate


def mirror(run: Mirror) -> RunReport:
    """The steps of a run, under its lease. The commit point is `promote`."""
    run.stop.unshield()
    run.begin()
    try:
        run.find_footing()
        run.finish_dead_runs()
        run.take_snapshot()
        run.work_out_changes()
        if objection := run.objection():
            return run.blocked(objection)
        run.ensure_audience()
        run.promote()
        run.deliver()
        return run.finish()
    except BaseException as error:
        is_broken_off, run.stop.shielded = run.stop.may_interrupt, True  # How it ended is recorded whatever comes now.
        if is_broken_off:
            return run.broken_off()
        run.failed(error)
        raise


def run_sync(
    config: Config,
    name: str,
    *,
    full: bool = False,
    force: bool = False,
    recreate: bool = False,
    trigger: str = "library",
    tick: datetime | None = None,
    events: Events | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Make the audience of sync `name` equal to its query.

    full: send every member. force: pass the guard. recreate: fill a fresh audience instead of the one so far.
    tick: run it for this time of its schedule, unless that was done; a run that comes to nothing leaves it to be done.
    stop: once it is requested, from any thread, no request is started any more and the run ends incomplete.

    Returns how it went: succeeded, incomplete, blocked or skipped. Raises ConfigurationError when something must be
    changed first, and another WarehouseSyncError when the run failed; its `report` says how far it came. After any of
    these the next run goes on from where this one was left.
    """
    kind = RunKind.FULL if full else RunKind.DIFF
    wish = RunOptions(kind, force=force, recreate=recreate, trigger=trigger, tick=tick)
    return _run(config, name, wish, events or Events(), stop or CancelToken())


def retry_sync(
    config: Config,
    name: str,
    *,
    dead: bool = False,
    due_only: bool = False,
    trigger: str = "library",
    events: Events | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Send what waits in the retry queue of sync `name` once more, with `dead` also what was given up.

    With `due_only` what waits for a later time goes on waiting; where that is all, the pass is skipped. No query is
    run. Returns and raises like `run_sync`.
    """
    wish = RunOptions(RunKind.RETRY, dead=dead, due_only=due_only, trigger=trigger)
    return _run(config, name, wish, events or Events(), stop or CancelToken())


def _run(config: Config, name: str, wish: RunOptions, events: Events, stop: CancelToken) -> RunReport:
    def one(job: RunContext, lease: Lease) -> list[RunReport]:
        if reason := reason_to_skip(job, wish):
            return [RunReport(name, RunStatus.SKIPPED, reason=reason)]
        return [mirror(Mirror(job, lease, wish, stop))]

    return under_lease(config, name, one, events, stop, with_query=wish.kind is not RunKind.RETRY)[0]


def under_lease(
    config: Config,
    name: str,
    work: Callable[[RunContext, Lease], list[RunReport]],
    events: Events,
    stop: CancelToken,
    *,
    with_query: bool,
) -> list[RunReport]:
    """What `work` reports, done under the lease of sync `name`; one report alone where it could not begin.

    A stop that is wished while nothing drains ends it as incomplete. Raises WarehouseSyncError with a report.
    """
    started = time.monotonic()
    sync = config.sync(name)
    if not sync.enabled:
        return [RunReport(name, RunStatus.SKIPPED, reason="the sync is disabled (enabled: false)")]
    if stop.requested:
        return [RunReport(name, RunStatus.INCOMPLETE, reason=f"stopped by {stop.reason} before it began")]
    stop.shielded = is_broken_off = False
    ensure_logging()
    before = structlog.contextvars.bind_contextvars(sync=name)
    events = events.for_sync(name)
    try:
        events.publish(RunStarted())
        with open_context(config, name, events, with_query=with_query) as job:
            events.publish(PhaseStarted(Phase.LEASE))
            migrate(job.state)
            stop.shield()  # A lease that is taken must come to be given back.
            lease = Lease.take(job.state, job.key, stop)
            if lease is None:
                return [RunReport(name, RunStatus.SKIPPED, reason="another worker is running this sync")]
            with lease:
                try:
                    stop.unshield()
                    reports = work(job, lease)
                finally:
                    is_broken_off, stop.shielded = stop.may_interrupt, True
    except BaseException as error:
        if is_broken_off or stop.may_interrupt:
            reports = [
                RunReport(name, RunStatus.INCOMPLETE, reason=f"stopped by {stop.reason} before anything was sent")
            ]
        elif isinstance(error, WarehouseSyncError):
            report = error.report or RunReport(name, RunStatus.FAILED, reason=str(error))
            error.report = replace(report, seconds=_since(started))
            raise
        else:
            raise
    finally:
        stop.shielded = True
        events.publish(RunEnded())
        structlog.contextvars.unbind_contextvars("run")
        structlog.contextvars.reset_contextvars(**before)
    return [replace(report, seconds=_since(started)) for report in reports]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
