"""A snapshot made of the one before and of what has changed, and who of the one before has not come along.

Engines that can tell a row of a table by its place do it in two steps. To look a row up one needs its hash and key,
which are small, while what is carried over is wide: of a large audience the one fits into memory and the other does
not. So the query's rows are looked up first, and what became of those that are still the same is copied afterwards, in
the order in which it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.pipeline.members import GONE, MADE, ResolvedModel, staged_select
from warehouse_sync.pipeline.selects import anti_join
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class SnapshotTables:
    """The tables that a snapshot is put into.

    table: its members, and the rows that cannot be members. gone: the members of the previous snapshot that were not
    carried over; there is no such table where none was.
    numbered: members are sent as they stand in `table`, see `changes.make_changes`. temporary: of this session.
    """

    table: sa.TableClause
    not_reused: sa.TableClause
    number_members: bool = False
    temporary: bool = False


def reuse_rows(
    query: ResolvedModel, connection: sa.Connection, previous: sa.TableClause, target: SnapshotTables
) -> int:
    """The tables of `target` hold what becomes of the rows of the query, and who is left behind. Raises QueryFailed.

    Returns how many rows the query has; where several of them are one row of `previous` it stands there once.
    """
    warehouse, table, temporary = query.warehouse, target.table, target.temporary
    before, place = previous.alias("before"), warehouse.row_id("before")
    staged = sa.table(f"{table.name}_staged", sa.column(GONE), sa.column(MADE), schema=table.schema)
    absent, made = staged.c[GONE], staged.c[MADE]
    warehouse.create_table_as(connection, staged, staged_select(query, before, place), temporary=temporary)
    some_stayed = sa.select(sa.func.count()).select_from(before).scalar_subquery() > sa.func.count(absent)
    rows, some = connection.execute(sa.select(sa.func.count() - sa.func.count(absent), some_stayed)).one()
    unpacked = (warehouse.dialect.unpack_column(made, column.name).label(column.name) for column in table.c)
    lines: sa.SelectBase = sa.select(*unpacked).where(made.is_not(None))
    if some:
        places = sa.select(absent).where(absent.is_not(None))
        told = [sa.true().label("carried") if column.name == "carried" else before.c[column.name] for column in table.c]
        stayed = sa.select(*told).where(place.not_in(places))
        lines = stayed.union_all(lines)
        members = sa.select(before).where(before.c.reason.is_(None), place.in_(places))
        warehouse.create_table_as(connection, target.not_reused, members, temporary=temporary)
    warehouse.create_table_as(connection, table, lines, temporary=temporary)
    warehouse.drop_created_table(connection, staged)
    return int(rows)


def store_not_reused(
    query: ResolvedModel, connection: sa.Connection, previous: sa.TableClause, target: SnapshotTables
) -> None:
    """`target.gone` holds the members of `previous` that were not carried over into its table. Raises QueryFailed.

    Leavers are looked for among these, and newcomers compared with them: mostly a small part of `previous`.
    """
    members = sa.select(previous).where(previous.c.reason.is_(None))
    now = target.table
    select = anti_join(members, previous.c.identity, now.c.identity, found=now.c.carried)
    with query.warehouse.prefer_full_joins(connection):
        query.warehouse.create_table_as(connection, target.not_reused, select, temporary=target.temporary)


@dataclass(frozen=True, slots=True)
class PreviousSnapshot:
    """The snapshot from which rows are carried over.

    members: how many it has. twins: a line of it speaks for several rows.
    """

    table: sa.TableClause
    members: int
    has_duplicates: bool


def describe_previous(connection: sa.Connection, snapshot: sa.TableClause) -> PreviousSnapshot:
    """The snapshot, looked at by one statement."""
    is_member = sa.case((snapshot.c.reason.is_(None), 1), else_=0)
    counts = sa.select(sa.func.sum(is_member), sa.func.max(snapshot.c.query_rows))
    members, most = connection.execute(counts.select_from(snapshot)).one()
    return PreviousSnapshot(snapshot, int(members or 0), (most or 0) > 1)


def has_duplicates(
    warehouse: Warehouse, connection: sa.Connection, rows: sa.TableClause, counts: SnapshotCounts
) -> bool:
    """Whether several of the rows, taken as they are, have one identity or are rejected under one key.

    Those that were carried over have each another identity.
    """
    identity = rows.c.identity
    # Sorted, not counted: of all ways it takes the least memory, and PostgreSQL can share it among processes.
    before = sa.func.lag(identity).over(order_by=identity).label("before")
    members = sa.select(identity, before).where(rows.c.reason.is_(None))
    if counts.reused:
        other = rows.alias("other")
        members = members.where(identity.in_(sa.select(other.c.identity).where(~other.c.carried)))
    ordered = members.subquery("ordered")
    twins: sa.ColumnElement[bool] = sa.select(sa.literal(1)).where(ordered.c.identity == ordered.c.before).exists()
    if counts.rejected:
        several = sa.select(sa.literal(1)).where(rows.c.reason.is_not(None)).group_by(rows.c.reason, rows.c.primary_key)
        twins = twins | several.having(sa.func.count() > 1).exists()
    with warehouse.prefer_full_joins(connection):
        return bool(connection.scalar(sa.select(twins)))
