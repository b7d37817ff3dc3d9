"""The numbers of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from warehouse_sync.operations import OperationCounts, OperationKind
from warehouse_sync.warehouses import normalisers


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """held, removes, adds: numbers of operations in that order of `seq`; adds include `readds` and pending ones.

    left: members that left the query since the previous snapshot. pending: operations taken over from earlier runs
    and sent by this one. last_seq: the number of all.
    """

    held: int = 0
    removes: int = 0
    adds: int = 0
    removed_members: int = 0
    readds: int = 0
    pending: int = 0

    @property
    def last_seq(self) -> int:
        return self.held + self.removes + self.adds

    @property
    def planned(self) -> OperationCounts:
        return OperationCounts(add=self.adds, remove=self.removes)


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


@dataclass(frozen=True, slots=True)
class SnapshotCounts:
    """rows: of the query. members: distinct tuples of identifiers. rejected: rows that cannot be members.

    carried: members that are as they were in the previous snapshot, as far as that was looked at.

    reasons: rejected rows by reason, and left-out values by field and reason.
    """

    rows: int = 0
    members: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    reused: int = 0


def count_snapshot(connection: sa.Connection, table: sa.TableClause, *, count_reused: bool = False) -> SnapshotCounts:
    """The numbers of a snapshot, by one statement; `carried` only if asked for, as not every snapshot tells it."""
    number_carried = sa.func.sum(sa.case((table.c.carried, 1), else_=0)) if count_reused else sa.literal(0)
    rows = connection.execute(
        sa.select(
            table.c.reason,
            table.c.left_out,
            sa.func.count().label("lines"),
            sa.cast(sa.func.coalesce(sa.func.sum(table.c.query_rows), 0), sa.BigInteger).label("query_rows"),
            sa.cast(number_carried, sa.BigInteger).label("carried"),
        ).group_by(table.c.reason, table.c.left_out)
    ).all()
    reasons: dict[str, int] = {}
    for row in rows:
        problems = (row.left_out or "").split()
        # A value that rejected its row is told as the row's reason already.
        told = [problem for problem in problems if problem.split(":")[1] not in normalisers.REJECTING_PROBLEMS]
        for reason in ([row.reason] if row.reason else []) + told:
            reasons[reason] = reasons.get(reason, 0) + int(row.query_rows)
    return SnapshotCounts(
        rows=sum(int(row.query_rows) for row in rows),
        members=sum(int(row.lines) for row in rows if row.reason is None),
        rejected=sum(int(row.query_rows) for row in rows if row.reason is not None),
        reasons=dict(sorted(reasons.items())),
        reused=sum(int(row.carried) for row in rows),
    )
