"""Complete the records of runs whose worker died."""

from __future__ import annotations

from dataclasses import replace

import structlog

from warehouse_sync.operations import RunStatus, deferred
from warehouse_sync.pipeline import cleanup
from warehouse_sync.run.baseline import Baseline
from warehouse_sync.run.record import ActiveRun, make_recorder
from warehouse_sync.state import runs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State

log = structlog.get_logger(__name__)

NOT_RECORDED = deferred("interrupted", "the worker died before the answer to this was recorded", attempted=False)
"""The outcome of operations beyond the watermark of a run whose worker died."""


def recover_dead_runs(active: ActiveRun, baseline: Baseline) -> Baseline:
    """Complete the runs of dead workers, and return the baseline with its promoted run completed.

    What a dead worker promoted and did not record waits in the retry queue afterwards; what it did not promote is
    dropped. This holds for runs into other audiences too: their operations wait for a purge, or until the sync feeds
    that audience again.

    Raises:
        LeaseLost: Another worker has taken over.
    """
    promoted = baseline.promoted
    for run in discard_unpromoted_runs(active.state, active.lease, active.row.run_id):
        if promoted is None or run.run_id != promoted.run_id:
            _complete(active, run)
    if promoted and (promoted.watermark < promoted.last_seq or promoted.status is RunStatus.RUNNING):
        _complete(active, promoted)
        return replace(baseline, promoted=replace(promoted, watermark=promoted.last_seq))
    return baseline


def discard_unpromoted_runs(state: State, lease: Lease, before: int) -> list[Run]:
    """End the open runs that were not promoted, and drop their tables: nothing had happened.

    Args:
        state: The state tables.
        lease: The lease of the sync.
        before: Only runs with a smaller number.

    Returns:
        The open runs that were promoted. They keep their tables, since an audience holds what they sent.
    """
    promoted: list[Run] = []
    for run in runs.find_unfinished(state, lease.key, before):
        if run.promoted:
            promoted.append(run)
            continue
        log.info("discarding a run whose worker died", run_id=run.run_id)
        cleanup.drop_run_tables(state, lease, run)
        runs.update(
            state,
            lease,
            run.run_id,
            status=RunStatus.FAILED,
            reason="the worker died before anything was sent",
            finished_at=state.warehouse.dialect.utc_now(),
        )
    return promoted


def _complete(active: ActiveRun, run: Run) -> None:
    """Put what the run did not record into the retry queue, and end it as failed."""
    log.info("completing a run whose worker died", run_id=run.run_id)
    context = active.context
    # Its changes may be a view of its snapshot, so without that they cannot be read.
    if run.watermark < run.last_seq and _has_tables(active, run.changes_table, run.snapshot_table):
        changes = active.state.tables.changes(str(run.changes_table), context.fields.names)
        recorder = make_recorder(active, run, changes)
        recorder.defer_rest(run.last_seq, run.last_remove_seq, NOT_RECORDED)
    runs.update(
        active.state,
        active.lease,
        run.run_id,
        status=RunStatus.FAILED,
        reason=f"the worker died; run {active.row.run_id} continued",
        finished_at=context.warehouse.dialect.utc_now(),
    )


def _has_tables(active: ActiveRun, *names: str | None) -> bool:
    warehouse = active.context.warehouse
    with warehouse.connect("look for tables") as connection:
        return all(name is not None and warehouse.has_table(connection, name) for name in names)
