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
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import AudienceFields
from warehouse_sync.operations import OperationKind
from warehouse_sync.pipeline.comparison import Comparison, find_overlap
from warehouse_sync.pipeline.counts import ChangeCounts, count_changes
from warehouse_sync.pipeline.pending import has_pending, held_operations, pending_operations
from warehouse_sync.pipeline.selects import anti_join, member_columns, no_operations, numbered_rows, operation_rows
from warehouse_sync.state.tables import StateTables
from warehouse_sync.warehouses.base import Warehouse

CAUSES = {OperationKind.REMOVE: "left", OperationKind.ADD: "joined"}
"""Of operations that follow from two snapshots."""


def make_changes(
    warehouse: Warehouse,
    connection: sa.Connection,
    tables: StateTables,
    fields: AudienceFields,
    basis: Comparison,
    table: sa.TableClause,
    *,
    temporary: bool = False,
) -> ChangeCounts:
    """`table` holds the operations of the run, numbered by `seq` from 1; `basis.gone` is gone. Raises QueryFailed.

    A run that adds everybody to an audience that holds nobody has its snapshot for that: where its members are
    numbered, `table` is a view of it. Writing them once more takes up to a sixth of the run, and as much room again.
    Other runs put one kind of operation behind the other where the engine numbers rows by itself. Where it does not, or
    where work is pending, some of which stands first but depends on what is added again, all is made by one statement.
    """
    number = warehouse.stored_member_number(all_members=not basis.counts.rejected) if basis.previous is None else None
    if number is not None:
        select = _all_members(fields.names, basis, number)
        warehouse.create_view_as(connection, table, select, temporary=temporary)
        if not temporary:
            connection.commit()
        return count_changes(connection, table)
    pending = has_pending(connection, tables, basis.promoted)
    basis = find_overlap(warehouse, connection, basis)
    if warehouse.capabilities.numbered_tables and not pending:
        _append_by_kind(warehouse, connection, fields, basis, table, temporary=temporary)
    else:
        select = changes_select(warehouse, tables, fields, basis, pending=pending)
        with warehouse.prefer_full_joins(connection):
            warehouse.create_table_as(connection, table, select, temporary=temporary, ordered_by="seq")
    if not temporary:
        warehouse.analyse(connection, table, "seq", ordered_by="seq")
        if basis.counts.reused:
            warehouse.drop_created_table(connection, basis.not_reused)
        connection.commit()
    return count_changes(connection, table)


def changes_select(
    warehouse: Warehouse, tables: StateTables, fields: AudienceFields, basis: Comparison, *, pending: bool
) -> sa.Select[Any]:
    """The SELECT whose rows are the changes, in the columns of `StateTables.changes`.

    pending: the promoted run has left work undelivered. Parts that are empty anyway do not even appear: a first run
    reads its snapshot once and that is all.
    """
    names = fields.names
    if basis.previous is None:
        return _all_members(names, basis, warehouse.dialect.row_number())
    left = pending_operations(warehouse, tables, names, basis) if pending else None
    removes = _as_cte("removes", _operations(names, OperationKind.REMOVE, _removed_members(names, basis), left))
    adds = _as_cte("adds", _operations(names, OperationKind.ADD, _added_members(names, basis), left))
    readds = _as_cte("readds", _readds(names, fields, basis, removes, adds))
    held = held_operations(names, left, readds)
    parts = [part for part in (held, removes, adds, readds) if part is not None]
    return numbered_rows(warehouse, names, parts or [no_operations(names).cte("nothing")])


def _as_cte(title: str, select: sa.SelectBase | None) -> sa.CTE | None:
    return None if select is None else select.cte(title)


def _append_by_kind(
    warehouse: Warehouse,
    connection: sa.Connection,
    fields: AudienceFields,
    basis: Comparison,
    table: sa.TableClause,
    *,
    temporary: bool,
) -> None:
    """`table` shows the changes of a run without pending work, REMOVEs put there first.

    Nothing of it is held in memory to be read again, and no window numbers it, for which rows pass a single thread: of
    an audience that is replaced as a whole that took twice as long.
    """
    names = fields.names
    changed = {OperationKind.REMOVE: _removed_members(names, basis), OperationKind.ADD: _added_members(names, basis)}
    made = {
        kind: operation_rows(names, select, kind, CAUSES[kind])
        for kind, select in changed.items()
        if select is not None
    }
    first, *rest = made.values() or [no_operations(names)]
    warehouse.create_numbered_table(connection, table, first, temporary=temporary)
    for select in rest:
        warehouse.append_numbered_rows(connection, table, select)
    there = {kind: sa.select(table).where(table.c.operation == kind).subquery(kind.value) for kind in made}
    readds = _readds(names, fields, basis, there.get(OperationKind.REMOVE), there.get(OperationKind.ADD))
    if readds is not None:
        warehouse.append_numbered_rows(connection, table, readds)


def _all_members(names: Sequence[str], basis: Comparison, number: sa.ColumnElement[int]) -> sa.Select[Any]:
    """Every member as an ADD, under this number."""
    current = basis.current
    members = sa.select(number.label("seq"), *member_columns(names, current)).where(current.c.reason.is_(None))
    return operation_rows(names, members, OperationKind.ADD, CAUSES[OperationKind.ADD])


def _removed_members(names: Sequence[str], basis: Comparison) -> sa.Select[Any] | None:
    """Members of the previous snapshot whose identity is gone."""
    behind = basis.unmatched_previous
    if behind is None or basis.is_retry or basis.all_previous_reused:
        return None
    members = sa.select(*member_columns(names, behind)).where(behind.c.reason.is_(None))
    if basis.no_common_identity:
        return members
    return anti_join(members, behind.c.identity, basis.current.c.identity, found=~basis.current.c.carried)


def _added_members(names: Sequence[str], basis: Comparison) -> sa.Select[Any] | None:
    """Members whose fingerprint is new; in a full run and for a new audience all."""
    current, behind = basis.current, basis.unmatched_previous
    members = sa.select(*member_columns(names, current)).where(current.c.reason.is_(None))
    if basis.full or basis.no_common_fingerprint or behind is None:
        return members
    if basis.is_retry or basis.all_current_reused:
        return None
    return anti_join(members, current.c.fingerprint, behind.c.fingerprint, among=~current.c.carried)


def _operations(
    names: Sequence[str], operation: OperationKind, changed: sa.Select[Any] | None, pending: sa.CTE | None
) -> sa.SelectBase | None:
    """The operations of one kind that this run sends: what changed, then what was left undelivered."""
    parts: list[sa.Select[Any]] = []
    if changed is not None:
        parts.append(operation_rows(names, changed, operation, CAUSES[operation]))
    if pending is not None:
        taken = sa.select(pending).where(pending.c.operation == operation, ~pending.c.held)
        parts.append(operation_rows(names, taken, operation, "pending"))
    return sa.union_all(*parts) if parts else None


def _readds(
    names: Sequence[str],
    fields: AudienceFields,
    basis: Comparison,
    removes: sa.FromClause | None,
    adds: sa.FromClause | None,
) -> sa.Select[Any] | None:
    """Current members that share an identifier with somebody who is removed, unless they are added anyway."""
    current = basis.current
    if basis.full or basis.no_common_fingerprint or removes is None:
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
    return operation_rows(names, sharers, OperationKind.ADD, "shared")
