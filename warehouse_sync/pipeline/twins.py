"""Rows that are one member: several of one identity, or rejected under one key."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class Earlier:
    """The snapshot from which rows are carried over.

    members: how many it has. twins: a line of it speaks for several rows.
    """

    table: sa.TableClause
    members: int
    twins: bool


def earlier(connection: sa.Connection, snapshot: sa.TableClause) -> Earlier:
    """The snapshot, looked at by one statement."""
    is_member = sa.case((snapshot.c.reason.is_(None), 1), else_=0)
    counts = sa.select(sa.func.sum(is_member), sa.func.max(snapshot.c.query_rows))
    members, most = connection.execute(counts.select_from(snapshot)).one()
    return Earlier(snapshot, int(members or 0), (most or 0) > 1)


def has_twins(warehouse: Warehouse, connection: sa.Connection, rows: sa.TableClause, counts: SnapshotCounts) -> bool:
    """Whether several of the rows, taken as they are, have one identity or are rejected under one key.

    Those that were carried over have each another identity.
    """
    identity = rows.c.identity
    # Sorted, not counted: of all ways it takes the least memory, and PostgreSQL can share it among processes.
    before = sa.func.lag(identity).over(order_by=identity).label("before")
    members = sa.select(identity, before).where(rows.c.reason.is_(None))
    if counts.carried:
        other = rows.alias("other")
        members = members.where(identity.in_(sa.select(other.c.identity).where(~other.c.carried)))
    ordered = members.subquery("ordered")
    twins: sa.ColumnElement[bool] = sa.select(sa.literal(1)).where(ordered.c.identity == ordered.c.before).exists()
    if counts.rejected:
        several = sa.select(sa.literal(1)).where(rows.c.reason.is_not(None)).group_by(rows.c.reason, rows.c.primary_key)
        twins = twins | several.having(sa.func.count() > 1).exists()
    with warehouse.joining_whole_tables(connection):
        return bool(connection.scalar(sa.select(twins)))
