"""What is left of earlier runs: those whose worker died are finished, and what is too old is dropped."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from warehouse_sync.operations import RunStatus
from warehouse_sync.state import retry_queue, runs, sync_log
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State
from warehouse_sync.state.syncs import Lease

log = structlog.get_logger(__name__)


def drop_tables(state: State, lease: Lease, run: Run, names: Sequence[str | None]) -> None:
    """These tables of a run are gone, and its row says so."""
    dropped = [name for name in names if name]
    if not dropped:
        return
    gone = {
        column: None
        for column, name in (("snapshot_table", run.snapshot_table), ("changes_table", run.changes_table))
        if name in dropped
    }
    with state.fenced(lease.key, lease.token, "drop old tables") as connection:
        for name in dropped:
            state.warehouse.drop_table(connection, name)
        connection.execute(sa.update(state.tables.runs).where(state.tables.runs.c.run_id == run.run_id).values(**gone))


def discard(state: State, lease: Lease, run: Run, promoted: Run | None) -> None:
    """The run's own tables are gone; a retry pass shares the promoted run's snapshot, which stays."""
    kept = promoted.snapshot_table if promoted else None
    drop_tables(state, lease, run, [name for name in (run.snapshot_table, run.changes_table) if name != kept])


def discard_dead_runs(state: State, lease: Lease, promoted: Run | None, current: int) -> None:
    """Runs that ended before their commit point without saying so: nothing happened, their tables are rubbish."""
    for run in runs.left_open(state, lease.key, current):
        if promoted is not None and run.run_id == promoted.run_id:
            continue
        log.info("discarding a run whose worker died", run_id=run.run_id)
        discard(state, lease, run, promoted)
        runs.update(
            state,
            lease,
            run.run_id,
            status=RunStatus.FAILED,
            reason="the worker died before anything was sent",
            finished_at=state.warehouse.utc_now(),
        )


def retire(state: State, lease: Lease, run: Run, audience_id: str, *, snapshots: int, sync_log_days: int) -> None:
    """Behind a promoted run: superseded queue rows, old snapshots and changes, old log lines are gone.

    The last snapshot of each audience that the sync has fed stays: without it nobody would know who is in there.
    """
    with state.fenced(lease.key, lease.token, "clear the retry queue") as connection:
        retry_queue.supersede(state, connection, lease.key.sync, run.run_id, audience_id)
        sync_log.forget(state, connection, lease.key, sync_log_days)
    kept: list[str] = []
    audiences: set[str | None] = set()
    for old in runs.with_tables(state, lease.key):
        newest = old.audience_id not in audiences
        audiences.add(old.audience_id)
        if old.snapshot_table and old.snapshot_table not in kept and (newest or len(kept) < snapshots):
            kept.append(old.snapshot_table)
        # Changes before those of the newest run are of use to nobody but the curious, like old snapshots.
        keeps_changes = newest or old.snapshot_table in kept
        unwanted = [
            old.snapshot_table if old.snapshot_table not in kept else None,
            None if keeps_changes else old.changes_table,
        ]
        drop_tables(state, lease, old, unwanted)
