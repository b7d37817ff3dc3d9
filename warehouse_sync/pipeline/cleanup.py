"""Drop tables that no run needs any more, and delete old rows of the state tables."""

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
    """Drop these tables of a run, and clear their names in its row.

    Raises:
        LeaseLost: Another worker has taken over.
        QueryFailed: The warehouse refused to drop one.
    """
    dropped = [name for name in names if name]
    if not dropped:
        return
    cleared = {
        column: None
        for column, name in (("snapshot_table", run.snapshot_table), ("changes_table", run.changes_table))
        if name in dropped
    }
    with state.fenced(lease.key, lease.token, "drop old tables") as connection:
        for name in dropped:
            state.warehouse.drop_table(connection, name)
        runs_table = state.tables.runs
        connection.execute(sa.update(runs_table).where(runs_table.c.run_id == run.run_id).values(**cleared))


def drop_run_tables(state: State, lease: Lease, run: Run) -> None:
    """Drop the run's own tables. A retry pass has no snapshot of its own: it shares that of the promoted run."""
    drop_tables(state, lease, run, _own_tables(run))


def drop_unpromoted_tables(state: State, run: Run) -> None:
    """Drop the tables of a run that will never be promoted.

    This needs no lease: no other worker uses tables of these names.
    """
    with state.warehouse.write("drop the tables of this run") as connection:
        for name in _own_tables(run):
            state.warehouse.drop_table(connection, name)


def _own_tables(run: Run) -> list[str]:
    # The changes may be a view of the snapshot, so they go first.
    snapshot = [] if run.kind is RunKind.RETRY else [run.not_reused_table, run.snapshot_table]
    names = [run.changes_table, *snapshot]
    return [name for name in names if name]


def apply_retention(
    state: State, lease: Lease, run: Run, audience_id: str, *, snapshots: int, sync_log_days: int
) -> None:
    """Delete what a promoted run has superseded: queue rows, old snapshots and changes, and old log lines.

    The last snapshot of each audience that the sync has fed stays: without it, it would not be known which members the
    audience holds. A table that the warehouse does not drop (the operator has a view of it) stays too, with a warning,
    and the next run tries again.

    Args:
        state: The state tables.
        lease: The lease of the sync.
        run: The promoted run.
        audience_id: The audience that it was promoted for.
        snapshots: How many snapshots of that audience stay.
        sync_log_days: How many days of the sync log stay.
    """
    with state.fenced(lease.key, lease.token, "clear the retry queue") as connection:
        retry_queue.delete_superseded(state, connection, lease.key.sync, run.run_id, audience_id)
        sync_log.delete_older(state, connection, lease.key, sync_log_days)
    # Oldest first: the changes of an old run may be a view of a snapshot that later runs share.
    for old, tables in reversed(_unneeded_tables(runs.find_with_tables(state, lease.key), audience_id, snapshots)):
        try:
            drop_tables(state, lease, old, tables)
        except QueryFailed as error:
            log.warning("old tables are still there; the next run tries again", run_id=old.run_id, error=str(error))


def _unneeded_tables(
    newest_first: Sequence[Run], audience_id: str, snapshots: int
) -> list[tuple[Run, list[str | None]]]:
    """Return for each run the tables that can be dropped.

    Each audience keeps its newest run's changes and its newest snapshots: `snapshots` for `audience_id`, one for any
    other. Changes of older runs stay only beside a snapshot that stays.
    """
    kept: dict[str | None, set[str]] = {}
    unneeded: list[tuple[Run, list[str | None]]] = []
    for run in newest_first:
        of_audience = kept.setdefault(run.audience_id, set())
        is_newest = not of_audience
        wanted = snapshots if run.audience_id == audience_id else 1
        if run.snapshot_table and (run.snapshot_table in of_audience or len(of_audience) < wanted):
            of_audience.add(run.snapshot_table)
        keeps_snapshot = run.snapshot_table in of_audience
        changes = None if is_newest or keeps_snapshot else run.changes_table
        unneeded.append((run, [changes, None if keeps_snapshot else run.snapshot_table]))
    return unneeded
