"""What is left of earlier runs: those whose worker died are finished, and what is too old is dropped."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from warehouse_sync.errors import QueryFailed
from warehouse_sync.operations import RunKind
from warehouse_sync.state import retry_queue, runs, sync_log
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State

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


def drop_run_tables(state: State, lease: Lease, run: Run) -> None:
    """The run's own tables are gone. A retry pass has no snapshot of its own: it shares that of the promoted run."""
    drop_tables(state, lease, run, _own_tables(run))


def drop_unpromoted_tables(state: State, run: Run) -> None:
    """The tables of a run that will never be promoted are gone. Without the lease: nobody else knows their names."""
    with state.warehouse.write("drop the tables of this run") as connection:
        for name in _own_tables(run):
            state.warehouse.drop_table(connection, name)


def _own_tables(run: Run) -> list[str]:
    # Changes may be a view of the snapshot.
    snapshot = [] if run.kind is RunKind.RETRY else [run.not_reused_table, run.snapshot_table]
    names = [run.changes_table, *snapshot]
    return [name for name in names if name]


def apply_retention(
    state: State, lease: Lease, run: Run, audience_id: str, *, snapshots: int, sync_log_days: int
) -> None:
    """Behind a promoted run: superseded queue rows, old snapshots and changes, old log lines are gone.

    The last snapshot of each audience that the sync has fed stays: without it nobody would know who is in there. What
    the warehouse does not let go (a view of the operator's own shows it) stays too, with a warning, until a later run.
    """
    with state.fenced(lease.key, lease.token, "clear the retry queue") as connection:
        retry_queue.delete_superseded(state, connection, lease.key.sync, run.run_id, audience_id)
        sync_log.delete_older(state, connection, lease.key, sync_log_days)
    kept: dict[str | None, set[str]] = {}
    dropped: list[tuple[Run, list[str | None]]] = []
    for old in runs.with_tables(state, lease.key):
        beside = kept.get(old.audience_id, set())
        wanted = snapshots if old.audience_id == audience_id else 1
        if old.snapshot_table and (old.snapshot_table in beside or len(beside) < wanted):
            kept[old.audience_id] = beside | {old.snapshot_table}
        newest = not beside
        # Changes before those of the newest run are of use to nobody but the curious, like old snapshots.
        keeps_snapshot = old.snapshot_table in kept.get(old.audience_id, set())
        unwanted = [
            None if newest or keeps_snapshot else old.changes_table,
            None if keeps_snapshot else old.snapshot_table,
        ]
        dropped.append((old, unwanted))
    # The oldest first: its changes may be a view of a snapshot that later runs share.
    for old, unwanted in reversed(dropped):
        try:
            drop_tables(state, lease, old, unwanted)
        except QueryFailed as error:
            log.warning("old tables are still there; the next run tries again", run_id=old.run_id, error=str(error))
