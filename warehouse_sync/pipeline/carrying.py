"""A snapshot made of the one before and of what has changed, and who of the one before has not come along.

Engines that can tell a row of a table by its place do it in two steps. To look a row up one needs its hash and key,
which are small, while what is carried over is wide: of a large audience the one fits into memory and the other does
not. So the query's rows are looked up first, and what became of those that are still the same is copied afterwards, in
the order in which it lies.
"""

from __future__ import annotations

import sqlalchemy as sa

from warehouse_sync.pipeline.lacking import lacking
from warehouse_sync.pipeline.members import GONE, MADE, Query, staged_select
from warehouse_sync.warehouses.base import Warehouse


def carry_over(
    query: Query,
    connection: sa.Connection,
    previous: sa.TableClause,
    table: sa.TableClause,
    gone: sa.TableClause,
    *,
    temporary: bool = False,
) -> int:
    """`table` holds what becomes of the rows of the query, `gone` what `leave_behind` says. Raises QueryFailed.

    Returns how many rows the query has; where several of them are one row of `previous` it stands in `table` once.
    """
    warehouse = query.warehouse
    before, place = previous.alias("before"), warehouse.place("before")
    staged = sa.table(f"{table.name}_staged", sa.column(GONE), sa.column(MADE), schema=table.schema)
    left, made = staged.c[GONE], staged.c[MADE]
    warehouse.create_table_as(connection, staged, staged_select(query, before, place), temporary=temporary)
    places = sa.select(left).where(left.is_not(None))
    told = [sa.true().label("carried") if column.name == "carried" else before.c[column.name] for column in table.c]
    stayed = sa.select(*told).where(place.not_in(places))
    fresh = sa.select(*(warehouse.unpacked(made, column.name) for column in table.c)).where(made.is_not(None))
    warehouse.create_table_as(connection, table, stayed.union_all(fresh), temporary=temporary)
    some_stayed = sa.select(sa.func.count()).select_from(before).scalar_subquery() > sa.func.count(left)
    rows, some = connection.execute(sa.select(sa.func.count() - sa.func.count(left), some_stayed)).one()
    if some:
        members = sa.select(before).where(before.c.reason.is_(None), place.in_(places))
        warehouse.create_table_as(connection, gone, members, temporary=temporary)
    warehouse.drop_own(connection, staged)
    return int(rows)


def leave_behind(
    warehouse: Warehouse,
    connection: sa.Connection,
    previous: sa.TableClause,
    table: sa.TableClause,
    gone: sa.TableClause,
    *,
    temporary: bool = False,
) -> None:
    """`gone` holds the members of `previous` that were not carried over into `table`. Raises QueryFailed.

    It is what leavers are looked for among, and whom newcomers are compared with: mostly a small part of `previous`.
    """
    members = sa.select(previous).where(previous.c.reason.is_(None))
    select = lacking(members, previous.c.identity, table.c.identity, found=table.c.carried)
    with warehouse.joining_whole_tables(connection):
        warehouse.create_table_as(connection, gone, select, temporary=temporary)
