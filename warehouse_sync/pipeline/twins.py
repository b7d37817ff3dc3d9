"""Rows that are one member: several of one identity, or rejected under one key."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts


def had_twins(connection: sa.Connection, snapshot: sa.TableClause) -> bool:
    """Whether a line of the snapshot speaks for several rows."""
    some = sa.select(sa.literal(1)).select_from(snapshot).where(snapshot.c.query_rows > 1)
    return bool(connection.scalar(sa.select(some.exists())))


def has_twins(connection: sa.Connection, rows: sa.TableClause, counts: SnapshotCounts, *, fresh: bool = False) -> bool:
    """Whether several of the rows, taken as they are, have one identity or are rejected under one key.

    fresh: those that were carried over have each another identity.
    """
    identity = rows.c.identity
    # Sorted, not counted: of all ways it takes the least memory, and PostgreSQL can share it among processes.
    before = sa.func.lag(identity).over(order_by=identity).label("before")
    members = sa.select(identity, before).where(rows.c.reason.is_(None))
    if fresh:
        other = rows.alias("other")
        members = members.where(identity.in_(sa.select(other.c.identity).where(~other.c.carried)))
    ordered = members.subquery("ordered")
    twins: sa.ColumnElement[bool] = sa.select(sa.literal(1)).where(ordered.c.identity == ordered.c.before).exists()
    if counts.rejected:
        several = sa.select(sa.literal(1)).where(rows.c.reason.is_not(None)).group_by(rows.c.reason, rows.c.primary_key)
        twins = twins | several.having(sa.func.count() > 1).exists()
    return bool(connection.scalar(sa.select(twins)))
