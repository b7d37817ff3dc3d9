"""A snapshot made of the one before and of what has changed, for engines that can tell a row of a table by its place.

To look a row up one needs its hash and key, which are small, while what is carried over is wide: of a large audience
the one fits into memory and the other does not. So the query's rows are looked up first, and what became of those that
are still the same is copied afterwards, in the order in which it lies.
"""

from __future__ import annotations

import sqlalchemy as sa

from warehouse_sync.pipeline.members import GONE, MADE, Query, staged_select


def carry_over(
    query: Query,
    connection: sa.Connection,
    previous: sa.TableClause,
    table: sa.TableClause,
    *,
    temporary: bool = False,
) -> int:
    """`table` holds what becomes of the rows of the query, and nothing else is left behind. Raises QueryFailed.

    Returns how many rows the query has; where several of them are one row of `previous` it stands in `table` once.
    """
    warehouse = query.warehouse
    before, place = previous.alias("before"), warehouse.place("before")
    staged = sa.table(f"{table.name}_staged", sa.column(GONE), sa.column(MADE), schema=table.schema)
    gone, made = staged.c[GONE], staged.c[MADE]
    warehouse.create_table_as(connection, staged, staged_select(query, before, place), temporary=temporary)
    told = [sa.true().label("carried") if column.name == "carried" else before.c[column.name] for column in table.c]
    stayed = sa.select(*told).where(place.not_in(sa.select(gone).where(gone.is_not(None))))
    fresh = sa.select(*(warehouse.unpacked(made, column.name) for column in table.c)).where(made.is_not(None))
    warehouse.create_table_as(connection, table, stayed.union_all(fresh), temporary=temporary)
    rows = connection.scalar(sa.select(sa.func.count()).select_from(staged).where(gone.is_(None)))
    warehouse.drop_own(connection, staged)
    return int(rows or 0)
