"""Compute the changes of a run: snapshots and pending work become operations, in sending order.

    held       pending operations that this run does not send: dead, or not due yet; they are kept for later runs
    REMOVE     identities of the previous snapshot that are not in the current one, and pending REMOVEs still not in it
    ADD        fingerprints that are not in the previous snapshot, and pending ADDs still in the current one
    ADD again  members that share an identifier with a REMOVE of this run: LinkedIn does not say whether a REMOVE takes
               out the identifiers that it names or the person that has them

Why this converges: the previous snapshot is what the destination holds once the pending work is done. So the difference
from it, and the pending work that is still wanted, is what the current snapshot needs.
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
"""The causes of operations that follow from the two snapshots."""


def make_changes(
    warehouse: Warehouse,
    connection: sa.Connection,
    tables: StateTables,
    fields: AudienceFields,
    comparison: Comparison,
    table: sa.TableClause,
    *,
    temporary: bool = False,
) -> ChangeCounts:
    """Write the operations of the run into `table`, numbered by `seq` from 1, and count them.

    It takes one of three ways:

    - A run that adds every member to an empty audience reads its operations from the snapshot: where the members are
      numbered, `table` is a view of it. Writing them once more takes up to a sixth of the run, and as much room again.
    - Where the engine numbers the rows of a table by itself, and no work is pending, one kind of operation is appended
      after the other.
    - Otherwise all operations are made by one statement: pending operations stand first but depend on what is added
      again.

    Args:
        warehouse: The warehouse.
        connection: The connection to use; committed unless the tables are temporary.
        tables: The state tables.
        fields: The identifiers and fields of the audience type.
        comparison: The snapshots to compare; its table `not_reused` is dropped.
        table: The table to make.
        temporary: The table belongs to the session.

    Raises:
        QueryFailed: The warehouse refused a statement.
    """
    all_members = not comparison.counts.rejected
    number = warehouse.stored_member_number(all_members=all_members) if comparison.previous is None else None
    if number is not None:
        select = _all_members(fields.names, comparison, number)
        warehouse.create_view_as(connection, table, select, temporary=temporary)
        if not temporary:
            connection.commit()
        return count_changes(connection, table)
    pending = has_pending(connection, tables, comparison.promoted)
    comparison = find_overlap(warehouse, connection, comparison)
    if warehouse.capabilities.numbered_tables and not pending:
        _append_by_kind(warehouse, connection, fields, comparison, table, temporary=temporary)
    else:
        select = changes_select(warehouse, tables, fields, comparison, pending=pending)
        with warehouse.prefer_full_joins(connection):
            warehouse.create_table_as(connection, table, select, temporary=temporary, ordered_by="seq")
    if not temporary:
        warehouse.analyse(connection, table, "seq", ordered_by="seq")
        if comparison.counts.reused:
            warehouse.drop_created_table(connection, comparison.not_reused)
        connection.commit()
    return count_changes(connection, table)


def changes_select(
    warehouse: Warehouse, tables: StateTables, fields: AudienceFields, comparison: Comparison, *, pending: bool
) -> sa.Select[Any]:
    """Return the SELECT whose rows are the changes, in the columns of `StateTables.changes`.

    Parts that must be empty are left out of the statement: a first run reads its snapshot once and nothing else.

    Args:
        warehouse: The warehouse that runs it.
        tables: The state tables.
        fields: The identifiers and fields of the audience type.
        comparison: The snapshots to compare.
        pending: The promoted run has pending work.
    """
    names = fields.names
    if comparison.previous is None:
        return _all_members(names, comparison, warehouse.dialect.row_number())
    undelivered = pending_operations(warehouse, tables, names, comparison) if pending else None
    removed, added = _removed_members(names, comparison), _added_members(names, comparison)
    removes = _as_cte("removes", _sent_operations(names, OperationKind.REMOVE, removed, undelivered))
    adds = _as_cte("adds", _sent_operations(names, OperationKind.ADD, added, undelivered))
    readds = _as_cte("readds", _readds(names, fields, comparison, removes, adds))
    held = held_operations(names, undelivered, readds)
    parts = [part for part in (held, removes, adds, readds) if part is not None]
    return numbered_rows(warehouse, names, parts or [no_operations(names).cte("nothing")])


def _as_cte(title: str, select: sa.SelectBase | None) -> sa.CTE | None:
    return None if select is None else select.cte(title)


def _append_by_kind(
    warehouse: Warehouse,
    connection: sa.Connection,
    fields: AudienceFields,
    comparison: Comparison,
    table: sa.TableClause,
    *,
    temporary: bool,
) -> None:
    """Write the changes of a run without pending work into `table`, REMOVEs first.

    Nothing is kept in memory to be read again, and no window function numbers the rows: that runs in a single thread
    and took twice as long for an audience that is replaced as a whole.
    """
    names = fields.names
    changed = {
        OperationKind.REMOVE: _removed_members(names, comparison),
        OperationKind.ADD: _added_members(names, comparison),
    }
    selects = {
        kind: operation_rows(names, select, kind, CAUSES[kind])
        for kind, select in changed.items()
        if select is not None
    }
    first, *rest = selects.values() or [no_operations(names)]
    warehouse.create_numbered_table(connection, table, first, temporary=temporary)
    for select in rest:
        warehouse.append_numbered_rows(connection, table, select)
    written = {kind: sa.select(table).where(table.c.operation == kind).subquery(kind.value) for kind in selects}
    removes, adds = written.get(OperationKind.REMOVE), written.get(OperationKind.ADD)
    readds = _readds(names, fields, comparison, removes, adds)
    if readds is not None:
        warehouse.append_numbered_rows(connection, table, readds)


def _all_members(names: Sequence[str], comparison: Comparison, number: sa.ColumnElement[int]) -> sa.Select[Any]:
    """Return every member as an ADD with this number."""
    current = comparison.current
    members = sa.select(number.label("seq"), *member_columns(names, current)).where(current.c.reason.is_(None))
    return operation_rows(names, members, OperationKind.ADD, CAUSES[OperationKind.ADD])


def _removed_members(names: Sequence[str], comparison: Comparison) -> sa.Select[Any] | None:
    """Return the members of the previous snapshot whose identity is not in the current one."""
    previous = comparison.unmatched_previous
    if previous is None or comparison.is_retry or comparison.all_previous_reused:
        return None
    members = sa.select(*member_columns(names, previous)).where(previous.c.reason.is_(None))
    if comparison.no_common_identity:
        return members
    current = comparison.current
    return anti_join(members, previous.c.identity, current.c.identity, found=~current.c.carried)


def _added_members(names: Sequence[str], comparison: Comparison) -> sa.Select[Any] | None:
    """Return the members whose fingerprint is new; all members in a full run and for a new audience."""
    current, previous = comparison.current, comparison.unmatched_previous
    members = sa.select(*member_columns(names, current)).where(current.c.reason.is_(None))
    if comparison.full or comparison.no_common_fingerprint or previous is None:
        return members
    if comparison.is_retry or comparison.all_current_reused:
        return None
    return anti_join(members, current.c.fingerprint, previous.c.fingerprint, among=~current.c.carried)


def _sent_operations(
    names: Sequence[str], operation: OperationKind, changed: sa.Select[Any] | None, pending: sa.CTE | None
) -> sa.SelectBase | None:
    """Return the operations of one kind that the run sends: changed members, then pending work."""
    parts: list[sa.Select[Any]] = []
    if changed is not None:
        parts.append(operation_rows(names, changed, operation, CAUSES[operation]))
    if pending is not None:
        due = sa.select(pending).where(pending.c.operation == operation, ~pending.c.held)
        parts.append(operation_rows(names, due, operation, "pending"))
    return sa.union_all(*parts) if parts else None


def _readds(
    names: Sequence[str],
    fields: AudienceFields,
    comparison: Comparison,
    removes: sa.FromClause | None,
    adds: sa.FromClause | None,
) -> sa.Select[Any] | None:
    """Return the current members that share an identifier with a REMOVE, unless they are added anyway."""
    current = comparison.current
    if comparison.full or comparison.no_common_fingerprint or removes is None:
        return None
    # Not a join: an identifier that many members share would be joined to each of them.
    sharing = [
        sa.select(current.c.identity).where(current.c[identifier.name].in_(sa.select(removes.c[identifier.name])))
        for identifier in fields.identifiers
    ]
    affected = sa.union(*sharing).subquery("affected")
    same = affected.c.identity == current.c.identity
    members = sa.select(*member_columns(names, current)).join_from(current, affected, same)
    if adds is not None:
        members = members.where(~sa.exists().where(adds.c.identity == current.c.identity))
    return operation_rows(names, members, OperationKind.ADD, "shared")
