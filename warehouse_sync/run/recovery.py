"""What is left of earlier runs: those whose worker died are finished, and what is too old is dropped."""

from __future__ import annotations

from warehouse_sync.operations import RunStatus
from warehouse_sync.pipeline.cleanup import drop_run_tables, log
from warehouse_sync.state import runs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State


def discard_dead_runs(state: State, lease: Lease, current: int) -> list[Run]:
    """Runs whose worker died before their commit point have ended, and their tables are gone: nothing had happened.

    Those that had passed it are returned; they keep their tables, since an audience holds what they sent.
    """
    promoted: list[Run] = []
    for run in runs.unfinished(state, lease.key, current):
        if run.promoted:
            promoted.append(run)
            continue
        log.info("discarding a run whose worker died", run_id=run.run_id)
        drop_run_tables(state, lease, run)
        runs.update(
            state,
            lease,
            run.run_id,
            status=RunStatus.FAILED,
            reason="the worker died before anything was sent",
            finished_at=state.warehouse.dialect.utc_now(),
        )
    return promoted
