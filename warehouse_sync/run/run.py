"""One run of one sync, from top to bottom. Read this first."""

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
from warehouse_sync.run import recovery, steps
from warehouse_sync.run.baseline import TargetState, find_target
from warehouse_sync.run.context import RunContext, open_context
from warehouse_sync.run.record import RunOptions, RunProgress, begin, ending, make_recorder
from warehouse_sync.state import syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.migrate import migrate


def execute(context: RunContext, lease: Lease, options: RunOptions, target: TargetState) -> RunReport:
    """Carry out one run under its lease. The commit point is `promote`.

    Args:
        context: The sync, opened and checked.
        lease: The lease of the sync.
        options: What is asked of the run.
        target: Where the sync stands.

    Returns:
        How the run ended: succeeded, incomplete or blocked.

    Raises:
        WarehouseSyncError: The run failed; its `report` says how far it came.
    """
    lease.stop.unshield()
    active = begin(context, lease, options, target)
    with ending(active) as end:
        baseline = steps.verify(active, target)
        baseline = recovery.recover_dead_runs(active, baseline)
        tables = steps.tables_of(active)
        snapshot = steps.take_snapshot(active, baseline, tables)
        end.reached(RunProgress(snapshot.counts))
        changes = steps.compute_changes(active, baseline, snapshot, tables)
        end.reached(RunProgress(snapshot.counts, changes.counts))
        if objection := steps.check_guard(active, baseline, snapshot, changes):
            return end.blocked(objection)
        audience = steps.ensure_audience(active, target)
        promoted = steps.promote(active, target, baseline, snapshot, changes, audience)
        recorder = make_recorder(active, promoted, changes.table)
        end.reached(RunProgress(snapshot.counts, changes.counts, recorder, is_promoted=True))
        ended_early = steps.deliver(active, audience, changes, recorder)
        return end.finished(promoted, audience.id, ended_early)
    return end.report  # A stop was requested: the run is cancelled.


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

    After a failure, and after any report, the next run continues from where this one stopped.

    Args:
        config: The configuration.
        name: The sync.
        full: Send every member.
        force: Pass the guard.
        recreate: Fill a new audience instead of the one so far.
        trigger: Who asks for the run, for its row.
        tick: Run it for this time of its schedule, unless that was done. A run that ends before it has sent anything
            leaves the tick to be done.
        events: Publishes what happens.
        stop: Once a stop is requested, from any thread, no request is started any more and the run ends incomplete.

    Returns:
        How the run ended: succeeded, incomplete, blocked or skipped.

    Raises:
        ConfigurationError: Something must be changed first.
        WarehouseSyncError: The run failed; its `report` says how far it came.
    """
    kind = RunKind.FULL if full else RunKind.DIFF
    options = RunOptions(kind, force=force, recreate=recreate, trigger=trigger, tick=tick)
    return _run_one(config, name, options, events, stop)


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
    """Send once more what waits in the retry queue of sync `name`. No query is run.

    Args:
        config: The configuration.
        name: The sync.
        dead: Send dead operations too.
        due_only: Leave operations whose time has not come; where there are no others, the pass is skipped.
        trigger: Who asks for the pass, for its row.
        events: Publishes what happens.
        stop: As in `run_sync()`.

    Returns:
        As `run_sync()`.

    Raises:
        WarehouseSyncError: As `run_sync()`.
    """
    options = RunOptions(RunKind.RETRY, include_dead=dead, due_only=due_only, trigger=trigger)
    return _run_one(config, name, options, events, stop)


def _run_one(
    config: Config, name: str, options: RunOptions, events: Events | None, stop: CancelToken | None
) -> RunReport:
    def work(context: RunContext, lease: Lease) -> list[RunReport]:
        if reason := _reason_to_skip(context, options):
            return [RunReport(name, RunStatus.SKIPPED, reason=reason)]
        target = find_target(context, recreate=options.recreate)
        return [execute(context, lease, options, target)]

    with_query = options.kind is not RunKind.RETRY
    (report,) = under_lease(config, name, work, events or Events(), stop or CancelToken(), with_query=with_query)
    return report


def _reason_to_skip(context: RunContext, options: RunOptions) -> str | None:
    """Return why there is nothing to do, asked under the lease; never for a run that was asked for by hand."""
    if options.tick is None and not options.due_only:
        return None
    schedule = syncs.schedule_state(context.state, context.key)
    if options.tick is not None:
        return "this tick was run by another worker" if schedule.has_run(options.tick) else None
    return None if schedule.retry_is_due else "nothing in the retry queue is due"


def under_lease(
    config: Config,
    name: str,
    work: Callable[[RunContext, Lease], list[RunReport]],
    events: Events,
    stop: CancelToken,
    *,
    with_query: bool,
) -> list[RunReport]:
    """Do `work` under the lease of sync `name`, and return its reports.

    Args:
        config: The configuration.
        name: The sync.
        work: What is done under the lease.
        events: Publishes what happens.
        stop: Requests a stop.
        with_query: The work needs the query of the sync.

    Returns:
        The reports of `work`, or a single one where it could not begin: the sync is disabled, another worker runs it,
        or a stop was requested before.

    Raises:
        WarehouseSyncError: The work failed; the error has a report.
    """
    started = time.monotonic()
    sync = config.sync(name)
    if not sync.enabled:
        return [RunReport(name, RunStatus.SKIPPED, reason="the sync is disabled (enabled: false)")]
    if stop.requested:
        return [RunReport(name, RunStatus.INCOMPLETE, reason=f"stopped by {stop.reason} before it began")]
    stop.shielded = is_interrupted = False
    events = events.for_sync(name)
    ensure_logging()
    before = structlog.contextvars.bind_contextvars(sync=name)
    try:
        events.publish(RunStarted())
        with open_context(config, sync, events, with_query=with_query) as context:
            events.publish(PhaseStarted(Phase.LEASE))
            migrate(context.state)
            stop.shield()  # A lease that is taken must be given back.
            lease = Lease.take(context.state, context.key, stop)
            if lease is None:
                return [RunReport(name, RunStatus.SKIPPED, reason="another worker is running this sync")]
            with lease:
                try:
                    stop.unshield()
                    reports = work(context, lease)
                finally:
                    is_interrupted, stop.shielded = stop.may_interrupt, True
    except BaseException as error:
        if is_interrupted or stop.may_interrupt:
            reason = f"stopped by {stop.reason} before anything was sent"
            reports = [RunReport(name, RunStatus.INCOMPLETE, reason=reason)]
        elif isinstance(error, WarehouseSyncError):
            report = error.report or RunReport(name, RunStatus.FAILED, reason=str(error))
            error.report = replace(report, seconds=_seconds_since(started))
            raise
        else:
            raise
    finally:
        stop.shielded = True
        events.publish(RunEnded())
        structlog.contextvars.unbind_contextvars("run")
        structlog.contextvars.reset_contextvars(**before)
    return [replace(report, seconds=_seconds_since(started)) for report in reports]


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 3)
