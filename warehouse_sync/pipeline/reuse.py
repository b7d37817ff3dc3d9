"""Make a snapshot out of the previous one and of what has changed since.

Engines with row ids do it in two steps. Finding a row needs its hash and key, which are narrow, while the line to reuse
is wide: of a large audience the former fit into memory and the latter do not. So the query's rows are matched first,
and the lines of those that have not changed are copied afterwards, in the order in which they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.pipeline.members import PACKED, STALE, staged_select
from warehouse_sync.pipeline.model import ResolvedModel
from warehouse_sync.pipeline.selects import anti_join
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class SnapshotTables:
    """The tables that a snapshot is written into.

    Attributes:
        snapshot: The members, and the rows that cannot be members.
        not_reused: The members of the previous snapshot that were not reused. It exists only where some were reused.
        number_members: The members get numbers, so that `snapshot` can serve as the changes; see
            `changes.make_changes()`.
        temporary: The tables belong to the session.
    """

    snapshot: sa.TableClause
    not_reused: sa.TableClause
    number_members: bool = False
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class PreviousSnapshot:
    """The snapshot whose lines are reused.

    Attributes:
        table: Its table.
        members: How many members it has.
        has_duplicates: One of its lines represents several rows of the query.
    """

    table: sa.TableClause
    members: int
    has_duplicates: bool


def describe_previous(connection: sa.Connection, snapshot: sa.TableClause) -> PreviousSnapshot:
    """Return the snapshot with its numbers, read by one statement."""
    is_member = sa.case((snapshot.c.reason.is_(None), 1), else_=0)
    counts = sa.select(sa.func.sum(is_member), sa.func.max(snapshot.c.query_rows))
    members, most = connection.execute(counts.select_from(snapshot)).one()
    return PreviousSnapshot(snapshot, int(members or 0), (most or 0) > 1)


def reuse_rows(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: ResolvedModel,
    salt: str,
    previous: sa.TableClause,
    tables: SnapshotTables,
) -> int:
    """Write the snapshot and the members that were not reused, by row ids.

    Args:
        warehouse: The warehouse; it has row ids.
        connection: The connection to use.
        model: The query and its mapping.
        salt: Of the row hashes.
        previous: The snapshot whose lines are reused.
        tables: The tables to make.

    Returns:
        How many rows the query has. Where several of them match one line of `previous`, that line is written once.

    Raises:
        QueryFailed: The warehouse refused a statement.
    """
    snapshot, temporary = tables.snapshot, tables.temporary
    before, row_id = previous.alias("before"), warehouse.row_id("before")
    staged = sa.table(f"{snapshot.name}_staged", sa.column(STALE), sa.column(PACKED), schema=snapshot.schema)
    stale, packed = staged.c[STALE], staged.c[PACKED]
    select = staged_select(warehouse, model, salt, before, row_id)
    warehouse.create_table_as(connection, staged, select, temporary=temporary)
    has_reused = sa.select(sa.func.count()).select_from(before).scalar_subquery() > sa.func.count(stale)
    rows, some_reused = connection.execute(sa.select(sa.func.count() - sa.func.count(stale), has_reused)).one()
    unpacked = (warehouse.dialect.unpack_column(packed, column.name).label(column.name) for column in snapshot.c)
    lines: sa.SelectBase = sa.select(*unpacked).where(packed.is_not(None))
    if some_reused:
        stale_ids = sa.select(stale).where(stale.is_not(None))
        columns = [
            sa.true().label("carried") if column.name == "carried" else before.c[column.name] for column in snapshot.c
        ]
        reused = sa.select(*columns).where(row_id.not_in(stale_ids))
        lines = reused.union_all(lines)
        members = sa.select(before).where(before.c.reason.is_(None), row_id.in_(stale_ids))
        warehouse.create_table_as(connection, tables.not_reused, members, temporary=temporary)
    warehouse.create_table_as(connection, snapshot, lines, temporary=temporary)
    warehouse.drop_created_table(connection, staged)
    return int(rows)


def store_not_reused(
    warehouse: Warehouse, connection: sa.Connection, previous: sa.TableClause, tables: SnapshotTables
) -> None:
    """Write the members of `previous` that were not reused, mostly a small part of it.

    Removed members are searched among them, and new members are compared with them.

    Raises:
        QueryFailed: The warehouse refused a statement.
    """
    members = sa.select(previous).where(previous.c.reason.is_(None))
    current = tables.snapshot
    select = anti_join(members, previous.c.identity, current.c.identity, found=current.c.carried)
    with warehouse.prefer_full_joins(connection):
        warehouse.create_table_as(connection, tables.not_reused, select, temporary=tables.temporary)


def has_duplicates(
    warehouse: Warehouse, connection: sa.Connection, lines: sa.TableClause, counts: SnapshotCounts
) -> bool:
    """Return whether several lines of an unranked snapshot have one identity, or are rejected under one key.

    Lines that were reused have different identities, so only pairs with a line that was not reused are searched.
    """
    identity = lines.c.identity
    # Sorting takes the least memory of all ways, and PostgreSQL can share it among processes.
    before = sa.func.lag(identity).over(order_by=identity).label("before")
    members = sa.select(identity, before).where(lines.c.reason.is_(None))
    if counts.reused:
        other = lines.alias("other")
        members = members.where(identity.in_(sa.select(other.c.identity).where(~other.c.carried)))
    ordered = members.subquery("ordered")
    found: sa.ColumnElement[bool] = sa.select(sa.literal(1)).where(ordered.c.identity == ordered.c.before).exists()
    if counts.rejected:
        same_key = sa.select(sa.literal(1)).where(lines.c.reason.is_not(None))
        same_key = same_key.group_by(lines.c.reason, lines.c.primary_key).having(sa.func.count() > 1)
        found = found | same_key.exists()
    with warehouse.prefer_full_joins(connection):
        return bool(connection.scalar(sa.select(found)))
