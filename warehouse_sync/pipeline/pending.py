"""Pending work: operations of earlier runs that are not delivered yet and that the current snapshot still wants."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from warehouse_sync.operations import OperationKind
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.selects import MEMBER_COLUMNS, RETRY_COLUMNS, operation_rows
from warehouse_sync.state.runs import Run
from warehouse_sync.state.tables import StateTables
from warehouse_sync.warehouses.base import Warehouse


def has_pending(connection: sa.Connection, tables: StateTables, promoted: Run | None) -> bool:
    """Return whether the promoted run has pending work. Mostly it has none, and snapshots need no search for it."""
    if promoted is None or promoted.changes_table is None:
        return False
    queue = tables.retry_queue
    queued = sa.select(queue.c.seq).where(queue.c.run_id == promoted.run_id)
    return promoted.watermark < promoted.last_seq or bool(connection.scalar(sa.select(queued.exists())))


def pending_operations(
    warehouse: Warehouse, tables: StateTables, names: Sequence[str], comparison: Comparison
) -> sa.CTE | None:
    """Return the pending work that the current snapshot still wants, with `held` where the run does not send it.

    The pending work of a run is what its changes hold beyond its watermark, and its rows in the retry queue. A REMOVE
    is wanted while its identity is not in the snapshot, an ADD while its fingerprint is.
    """
    run = comparison.promoted
    if run is None or run.changes_table is None or comparison.previous is None:
        return None
    changes, queue = tables.changes(run.changes_table, names), tables.retry_queue
    member = [changes.c.operation, *(changes.c[name] for name in (*MEMBER_COLUMNS, *names))]
    beyond_watermark = sa.select(*member, *(changes.c[name] for name in RETRY_COLUMNS)).where(
        changes.c.seq > run.watermark
    )
    queued = (
        sa.select(
            *member,
            queue.c.attempt,
            queue.c.deferred_since,
            (queue.c.state == "dead").label("dead"),
            queue.c.next_attempt_at,
            queue.c.reason.label("last_reason"),
            queue.c.message.label("last_message"),
        )
        .join_from(changes, queue, (queue.c.run_id == run.run_id) & (queue.c.seq == changes.c.seq))
        .where(changes.c.seq <= run.watermark)
    )
    left = sa.union_all(beyond_watermark, queued).subquery("left_undelivered")
    current = comparison.current
    same = current.c.identity == left.c.identity
    present = sa.exists().where(same)
    unchanged = sa.exists().where(same, current.c.fingerprint == left.c.fingerprint)
    wanted = (left.c.operation == OperationKind.REMOVE) & ~present
    if not comparison.full:
        wanted = wanted | ((left.c.operation == OperationKind.ADD) & unchanged)
    not_sent: sa.ColumnElement[bool] = sa.false() if comparison.include_dead or comparison.full else left.c.dead
    if comparison.due_only:
        not_sent = not_sent | sa.func.coalesce(left.c.next_attempt_at > warehouse.dialect.utc_now(), sa.false())
    return sa.select(*left.c, sa.func.coalesce(not_sent, sa.false()).label("held")).where(wanted).cte("pending")


def held_operations(names: Sequence[str], pending: sa.CTE | None, readds: sa.CTE | None) -> sa.CTE | None:
    """Return the pending work that the run keeps without sending it. A member that is added again needs no held ADD."""
    if pending is None:
        return None
    held: sa.ColumnElement[bool] = pending.c.held
    if readds is not None:
        readded = sa.exists().where(readds.c.identity == pending.c.identity)
        held = held & ((pending.c.operation == OperationKind.REMOVE) | ~readded)
    return operation_rows(names, sa.select(pending).where(held), None, "pending", held=True).cte("held")
