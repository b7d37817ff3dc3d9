"""Snapshots and pending work become operations: what is missing at the destination, in sending order.

    held       pending work that this run does not send: dead, or not due yet; it is carried along
    REMOVE     identities of the previous snapshot that the current one lacks, and pending REMOVEs still absent from it
    ADD        fingerprints that the previous snapshot lacks, and pending ADDs still present in the current one
    ADD again  members that share an identifier with a REMOVE of this run: LinkedIn does not say whether REMOVE takes
               out the identifiers it names or the person behind them

Why it converges: the previous snapshot is what the destination holds once the pending work is done, so what differs
from it, and the pending work that still holds, is what is missing from the current one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import AudienceFields
from warehouse_sync.operations import OperationCounts, OperationKind
from warehouse_sync.pipeline.lacking import lacking
from warehouse_sync.pipeline.operation_rows import (
    MEMBER,
    RETRY,
    as_operations,
    member_columns,
    no_operations,
    numbered,
)
from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts
from warehouse_sync.state.runs import Run
from warehouse_sync.state.tables import StateTables
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class Basis:
    """What the changes of a run are made from.

    current: the snapshot that the audience shall equal. previous: the promoted one; None for a new audience, and
    `current` itself for a retry pass. promoted: the run of `previous`, whose pending work is taken over.
    rows: the numbers of `current`. gone: of the members of `previous` those that were not carried over into `current`,
    if any was.
    full: add every member. dead: send dead work too. due_only: hold back waiting work whose time has not come.
    """

    current: sa.TableClause
    previous: sa.TableClause | None
    promoted: Run | None
    rows: SnapshotCounts
    gone: sa.TableClause
    full: bool = False
    dead: bool = False
    due_only: bool = False

    @property
    def is_retry(self) -> bool:
        return self.previous is self.current

    @property
    def left_behind(self) -> sa.TableClause | None:
        """The members of `previous` among whom leavers are to be found: who was carried over has not left."""
        return self.gone if self.rows.carried else self.previous

    @property
    def nobody_left(self) -> bool:
        """Every member of `previous` was carried over into `current`."""
        return self.promoted is not None and self.rows.carried == self.promoted.members

    @property
    def nobody_joined(self) -> bool:
        """Every member of `current` was carried over."""
        return self.rows.carried == self.rows.members


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """held, removes, adds: numbers of operations in that order of `seq`; adds include `readds` and pending ones.

    left: members that left the query since the previous snapshot. pending: operations taken over from earlier runs
    and sent by this one. last_seq: the number of all.
    """

    held: int = 0
    removes: int = 0
    adds: int = 0
    left: int = 0
    readds: int = 0
    pending: int = 0

    @property
    def last_seq(self) -> int:
        return self.held + self.removes + self.adds

    @property
    def planned(self) -> OperationCounts:
        return OperationCounts(add=self.adds, remove=self.removes)


def make_changes(
    warehouse: Warehouse,
    connection: sa.Connection,
    tables: StateTables,
    fields: AudienceFields,
    basis: Basis,
    table: sa.TableClause,
    *,
    temporary: bool = False,
) -> ChangeCounts:
    """`table` holds the operations of the run, numbered by `seq` from 1; `basis.gone` is gone. Raises QueryFailed.

    A run that adds everybody to an audience that holds nobody has its snapshot for that: where its members are
    numbered, `table` is a view of it. Writing them once more takes up to a sixth of the run, and as much room again.
    """
    number = warehouse.kept_number(all_members=not basis.rows.rejected) if basis.previous is None else None
    if number is not None:
        select = _everybody(fields.names, basis, number)
        warehouse.create_view_as(connection, table, select, temporary=temporary)
        if not temporary:
            connection.commit()
        return count_changes(connection, table)
    pending = _has_pending(connection, tables, basis.promoted)
    select = changes_select(warehouse, tables, fields, basis, pending=pending)
    with warehouse.joining_whole_tables(connection):
        warehouse.create_table_as(connection, table, select, temporary=temporary, ordered_by="seq")
    if not temporary:
        warehouse.after_load(connection, table, "seq", ordered_by="seq")
        if basis.rows.carried:
            warehouse.drop_own(connection, basis.gone)
        connection.commit()
    return count_changes(connection, table)


def count_changes(connection: sa.Connection, table: sa.TableClause) -> ChangeCounts:
    """The numbers of a run's changes, by one statement."""

    def count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    sent, cause = ~table.c.held, table.c.cause
    row = connection.execute(
        sa.select(
            count(table.c.held),
            count(sent & (table.c.operation == OperationKind.REMOVE)),
            count(sent & (table.c.operation == OperationKind.ADD)),
            count(cause == "left"),
            count(cause == "shared"),
            count(sent & (cause == "pending")),
        )
    ).one()
    return ChangeCounts(*(int(number) for number in row))


def changes_select(
    warehouse: Warehouse, tables: StateTables, fields: AudienceFields, basis: Basis, *, pending: bool
) -> sa.Select[Any]:
    """The SELECT whose rows are the changes, in the columns of `StateTables.changes`.

    pending: the promoted run has left work undelivered. Parts that are empty anyway do not even appear: a first run
    reads its snapshot once and that is all.
    """
    names = fields.names
    if basis.previous is None:
        return _everybody(names, basis, warehouse.number())
    left = _pending(warehouse, tables, names, basis) if pending else None
    removes = _operations(names, OperationKind.REMOVE, _leavers(names, basis), left, "removes")
    adds = _operations(names, OperationKind.ADD, _joiners(names, basis), left, "adds")
    readds = _readds(names, fields, basis, removes, adds)
    held = _held(names, left, readds)
    parts = [part for part in (held, removes, adds, readds) if part is not None]
    return numbered(warehouse, names, parts or [no_operations(names).cte("nothing")])


def _everybody(names: Sequence[str], basis: Basis, number: sa.ColumnElement[int]) -> sa.Select[Any]:
    """Every member as an ADD, under this number."""
    current = basis.current
    members = sa.select(number.label("seq"), *member_columns(names, current)).where(current.c.reason.is_(None))
    return as_operations(names, members, OperationKind.ADD, "joined")


def _has_pending(connection: sa.Connection, tables: StateTables, promoted: Run | None) -> bool:
    """Whether the promoted run has pending work. Mostly it has none, and nothing need be looked for in snapshots."""
    if promoted is None or promoted.changes_table is None:
        return False
    queue = tables.retry_queue
    queued = sa.select(queue.c.seq).where(queue.c.run_id == promoted.run_id)
    return promoted.watermark < promoted.last_seq or bool(connection.scalar(sa.select(queued.exists())))


def _leavers(names: Sequence[str], basis: Basis) -> sa.Select[Any] | None:
    """Members of the previous snapshot whose identity is gone."""
    behind = basis.left_behind
    if behind is None or basis.is_retry or basis.nobody_left:
        return None
    members = sa.select(*member_columns(names, behind)).where(behind.c.reason.is_(None))
    return lacking(members, behind.c.identity, basis.current.c.identity, found=~basis.current.c.carried)


def _joiners(names: Sequence[str], basis: Basis) -> sa.Select[Any] | None:
    """Members whose fingerprint is new; in a full run and for a new audience all."""
    current, behind = basis.current, basis.left_behind
    members = sa.select(*member_columns(names, current)).where(current.c.reason.is_(None))
    if basis.full or behind is None:
        return members
    if basis.is_retry or basis.nobody_joined:
        return None
    return lacking(members, current.c.fingerprint, behind.c.fingerprint, among=~current.c.carried)


def _pending(warehouse: Warehouse, tables: StateTables, names: Sequence[str], basis: Basis) -> sa.CTE | None:
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
    not_sent: sa.ColumnElement[bool] = sa.false() if basis.dead or basis.full else left.c.dead
    if basis.due_only:
        not_sent = not_sent | sa.func.coalesce(left.c.next_attempt_at > warehouse.utc_now(), sa.false())
    return sa.select(*left.c, sa.func.coalesce(not_sent, sa.false()).label("held")).where(holds).cte("pending")


def _operations(
    names: Sequence[str],
    operation: OperationKind,
    changed: sa.Select[Any] | None,
    pending: sa.CTE | None,
    title: str,
) -> sa.CTE | None:
    """The operations of one kind that this run sends: what changed, then what was left undelivered."""
    cause = "left" if operation is OperationKind.REMOVE else "joined"
    parts: list[sa.Select[Any]] = []
    if changed is not None:
        parts.append(as_operations(names, changed, operation, cause))
    if pending is not None:
        taken = sa.select(pending).where(pending.c.operation == operation, ~pending.c.held)
        parts.append(as_operations(names, taken, operation, "pending"))
    return sa.union_all(*parts).cte(title) if parts else None


def _readds(
    names: Sequence[str], fields: AudienceFields, basis: Basis, removes: sa.CTE | None, adds: sa.CTE | None
) -> sa.CTE | None:
    """Current members that share an identifier with somebody who is removed, unless they are added anyway."""
    current = basis.current
    if basis.full or removes is None:
        return None
    # Not joined: what many people share would be joined to each of them.
    sharing = [
        sa.select(current.c.identity).where(current.c[identifier.name].in_(sa.select(removes.c[identifier.name])))
        for identifier in fields.identifiers
    ]
    hurt = sa.union(*sharing).subquery("hurt")
    sharers = sa.select(*member_columns(names, current)).join_from(current, hurt, hurt.c.identity == current.c.identity)
    if adds is not None:
        sharers = sharers.where(~sa.exists().where(adds.c.identity == current.c.identity))
    return as_operations(names, sharers, OperationKind.ADD, "shared").cte("readds")


def _held(names: Sequence[str], pending: sa.CTE | None, readds: sa.CTE | None) -> sa.CTE | None:
    """Pending work that is carried along; what is added again anyway need not wait."""
    if pending is None:
        return None
    waits: sa.ColumnElement[bool] = pending.c.held
    if readds is not None:
        again = sa.exists().where(readds.c.identity == pending.c.identity)
        waits = waits & ((pending.c.operation == OperationKind.REMOVE) | ~again)
    return as_operations(names, sa.select(pending).where(waits), None, "pending", held=True).cte("held")
