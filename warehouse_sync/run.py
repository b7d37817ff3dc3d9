"""One run of one sync, top to bottom. Each step is a method of mirror.Mirror."""

from __future__ import annotations

import time
from dataclasses import replace

import structlog

from warehouse_sync.config import Config
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.job import open_job
from warehouse_sync.logs import ensure_configured
from warehouse_sync.mirror import Mirror, Wish
from warehouse_sync.operations import RunKind, RunReport, RunStatus
from warehouse_sync.progress import Phase, Progress
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.syncs import Lease


def mirror(run: Mirror) -> RunReport:
    """The eight steps of a run, under its lease. The commit point is `promote`."""
    run.begin()
    try:
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
        run.failed(error)
        raise


def run_sync(
    config: Config,
    name: str,
    *,
    full: bool = False,
    force: bool = False,
    trigger: str = "library",
    progress: Progress | None = None,
) -> RunReport:
    """Make the audience of sync `name` equal to its query.

    Returns how it went: succeeded, incomplete, blocked or skipped. Raises ConfigurationError when something must be
    changed first, and another WarehouseSyncError when the run failed; its `report` says how far it came. After any of
    these the next run goes on from where this one was left.
    """
    kind = RunKind.FULL if full else RunKind.DIFF
    return _run(config, name, Wish(kind, force=force, trigger=trigger), progress or Progress())


def retry_sync(
    config: Config,
    name: str,
    *,
    dead: bool = False,
    due_only: bool = False,
    trigger: str = "library",
    progress: Progress | None = None,
) -> RunReport:
    """Send what waits in the retry queue of sync `name` once more, with `dead` also what was given up.

    With `due_only` what waits for a later time goes on waiting. No query is run. Returns and raises like `run_sync`.
    """
    return _run(
        config, name, Wish(RunKind.RETRY, dead=dead, due_only=due_only, trigger=trigger), progress or Progress()
    )


def _run(config: Config, name: str, wish: Wish, progress: Progress) -> RunReport:
    started = time.monotonic()
    sync = config.sync(name)
    if not sync.enabled:
        return RunReport(name, RunStatus.SKIPPED, reason="the sync is disabled (enabled: false)")
    ensure_configured()
    structlog.contextvars.bind_contextvars(sync=name)
    try:
        with open_job(config, name, progress, with_query=wish.kind is not RunKind.RETRY) as job:
            progress.begin(Phase.LEASE)
            migrate(job.state)
            lease = Lease.take(job.state, job.key)
            if lease is None:
                return RunReport(name, RunStatus.SKIPPED, reason="another worker is running this sync")
            with lease:
                report = mirror(Mirror(job, lease, wish))
        return replace(report, seconds=round(time.monotonic() - started, 3))
    except WarehouseSyncError as error:
        report = error.report or RunReport(name, RunStatus.FAILED, reason=str(error))
        error.report = replace(report, seconds=round(time.monotonic() - started, 3))
        raise
    finally:
        structlog.contextvars.unbind_contextvars("sync", "run")
