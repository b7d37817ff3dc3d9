"""Work of earlier runs that is still to be done, as far as the current snapshot asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from warehouse_sync.operations import OperationKind
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.selects import MEMBER, RETRY, operation_rows
from warehouse_sync.state.runs import Run
from warehouse_sync.state.tables import StateTables
from warehouse_sync.warehouses.base import Warehouse


def has_pending(connection: sa.Connection, tables: StateTables, promoted: Run | None) -> bool:
    """Whether the promoted run has pending work. Mostly it has none, and nothing need be looked for in snapshots."""
    if promoted is None or promoted.changes_table is None:
        return False
    queue = tables.retry_queue
    queued = sa.select(queue.c.seq).where(queue.c.run_id == promoted.run_id)
    return promoted.watermark < promoted.last_seq or bool(connection.scalar(sa.select(queued.exists())))


def pending_operations(
    warehouse: Warehouse, tables: StateTables, names: Sequence[str], basis: Comparison
) -> sa.CTE | None:
    """What earlier runs left undelivered and the current snapshot still asks for; `held` where it is not sent now.

    A run's undelivered work is what lies beyond its watermark and its rows in the retry queue.
    """
    run = basis.promoted
    if run is None or run.changes_table is None or basis.previous is None:
        return None
    changes, queue = tables.changes(run.changes_table, names), tables.retry_queue
    member = [changes.c.operation, *(changes.c[name] for name in (*MEMBER, *names))]
    untouched = sa.select(*member, *(changes.c[name] for name in RETRY)).where(changes.c.seq > run.watermark)
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
    left = sa.union_all(untouched, queued).subquery("left_undelivered")
    current = basis.current
    same = current.c.identity == left.c.identity
    present = sa.exists().where(same)
    wanted = sa.exists().where(same, current.c.fingerprint == left.c.fingerprint)
    holds = (left.c.operation == OperationKind.REMOVE) & ~present
    if not basis.full:
        holds = holds | ((left.c.operation == OperationKind.ADD) & wanted)
    not_sent: sa.ColumnElement[bool] = sa.false() if basis.include_dead or basis.full else left.c.dead
    if basis.due_only:
        not_sent = not_sent | sa.func.coalesce(left.c.next_attempt_at > warehouse.dialect.utc_now(), sa.false())
    return sa.select(*left.c, sa.func.coalesce(not_sent, sa.false()).label("held")).where(holds).cte("pending")


def held_operations(names: Sequence[str], pending: sa.CTE | None, readds: sa.CTE | None) -> sa.CTE | None:
    """Pending work that is carried along; what is added again anyway need not wait."""
    if pending is None:
        return None
    waits: sa.ColumnElement[bool] = pending.c.held
    if readds is not None:
        again = sa.exists().where(readds.c.identity == pending.c.identity)
        waits = waits & ((pending.c.operation == OperationKind.REMOVE) | ~again)
    return operation_rows(names, sa.select(pending).where(waits), None, "pending", held=True).cte("held")
