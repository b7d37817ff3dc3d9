"""The numbers of a snapshot and of the changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from warehouse_sync.operations import OperationCounts, OperationKind
from warehouse_sync.warehouses import normalisers


@dataclass(frozen=True, slots=True)
class SnapshotCounts:
    """The numbers of a snapshot.

    Attributes:
        rows: Rows of the query.
        members: Distinct tuples of identifiers.
        rejected: Rows that cannot be members.
        reasons: Rejected rows by reason, and values that were left out, by field and reason.
        reused: Members taken over unchanged from the previous snapshot, where that was compared.
    """

    rows: int = 0
    members: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    reused: int = 0


def count_snapshot(connection: sa.Connection, table: sa.TableClause, *, count_reused: bool = False) -> SnapshotCounts:
    """Return the numbers of a snapshot, by one statement.

    Args:
        connection: The connection to use.
        table: The snapshot.
        count_reused: Count the reused members too; snapshots of releases before 0.6 have no such column.
    """
    reused = sa.func.sum(sa.case((table.c.carried, 1), else_=0)) if count_reused else sa.literal(0)
    rows = connection.execute(
        sa.select(
            table.c.reason,
            table.c.left_out,
            sa.func.count().label("lines"),
            sa.cast(sa.func.coalesce(sa.func.sum(table.c.query_rows), 0), sa.BigInteger).label("query_rows"),
            sa.cast(reused, sa.BigInteger).label("carried"),
        ).group_by(table.c.reason, table.c.left_out)
    ).all()
    reasons: dict[str, int] = {}
    for row in rows:
        problems = (row.left_out or "").split()
        # A value that rejected its row is counted as the reason of the row already.
        left_out = [problem for problem in problems if problem.split(":")[1] not in normalisers.REJECTING_PROBLEMS]
        for reason in ([row.reason] if row.reason else []) + left_out:
            reasons[reason] = reasons.get(reason, 0) + int(row.query_rows)
    return SnapshotCounts(
        rows=sum(int(row.query_rows) for row in rows),
        members=sum(int(row.lines) for row in rows if row.reason is None),
        rejected=sum(int(row.query_rows) for row in rows if row.reason is not None),
        reasons=dict(sorted(reasons.items())),
        reused=sum(int(row.carried) for row in rows),
    )


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """The numbers of a run's changes. By `seq` held operations come first, then REMOVEs, then ADDs.

    Attributes:
        held: Pending operations that the run does not send.
        removes: REMOVEs that the run sends.
        adds: ADDs that the run sends, with `readds` and pending ones.
        removed_members: Members that left the query since the previous snapshot.
        readds: Members added again because they share an identifier with a REMOVE.
        pending: Operations of earlier runs that the run sends.
    """

    held: int = 0
    removes: int = 0
    adds: int = 0
    removed_members: int = 0
    readds: int = 0
    pending: int = 0

    @property
    def last_remove_seq(self) -> int:
        """Return the `seq` of the last operation before the first ADD."""
        return self.held + self.removes

    @property
    def last_seq(self) -> int:
        """Return the number of all operations."""
        return self.held + self.removes + self.adds

    @property
    def planned(self) -> OperationCounts:
        """Return the operations that the run sends."""
        return OperationCounts(add=self.adds, remove=self.removes)


def count_changes(connection: sa.Connection, table: sa.TableClause) -> ChangeCounts:
    """Return the numbers of a run's changes, by one statement."""

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
