"""The retry queue: deferred operations, which either wait for their next attempt or are dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import Outcome
from warehouse_sync.state.store import State, SyncKey

WAITING = "waiting"
DEAD = "dead"


@dataclass(slots=True)
class SeqRanges:
    """A set of `seq` values, stored as ranges, so that a million consecutive values are one condition.

    Attributes:
        ranges: The first and the last value of each range.
    """

    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, first: int, last: int) -> None:
        """Add `first` to `last`, which must be larger than all values added before."""
        if self.ranges and self.ranges[-1][1] + 1 == first:
            self.ranges[-1] = (self.ranges[-1][0], last)
        else:
            self.ranges.append((first, last))

    def update(self, other: SeqRanges) -> None:
        """Add the values of another set, which must not overlap with this one."""
        self.ranges.extend(other.ranges)


def add_operations(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    condition: sa.ColumnElement[bool],
    outcome: Outcome,
    *,
    dead: sa.ColumnElement[bool],
    next_attempt_at: sa.ColumnElement[Any],
) -> None:
    """Queue the operations in `changes` that match `condition` and were not delivered.

    Args:
        state: The state schema.
        connection: A fenced transaction.
        key: The sync.
        run_id: The run that sent the operations.
        changes: The changes of the run.
        condition: Selects the operations.
        outcome: Their outcome; it counts as one attempt more if `outcome.attempted`.
        dead: Whether an operation is dead from now on.
        next_attempt_at: When an operation that is not dead is due.
    """
    _add_rows(
        state,
        connection,
        key,
        run_id,
        changes,
        condition,
        {
            "state": sa.case((dead, DEAD), else_=WAITING),
            "attempt": changes.c.attempt + int(outcome.attempted),
            "next_attempt_at": sa.case((dead, sa.cast(sa.null(), sa.DateTime)), else_=next_attempt_at),
            "reason": sa.literal(outcome.reason, sa.String),
            "message": sa.literal(outcome.message, sa.Text),
        },
    )


def add_held(
    state: State, connection: sa.Connection, key: SyncKey, run_id: int, changes: sa.TableClause, last_held: int
) -> None:
    """Queue the operations that the run holds back (seq 1 to `last_held`) in the state that they had before."""
    _add_rows(
        state,
        connection,
        key,
        run_id,
        changes,
        changes.c.seq <= last_held,
        {
            "state": sa.case((changes.c.dead, DEAD), else_=WAITING),
            "attempt": changes.c.attempt,
            "next_attempt_at": changes.c.next_attempt_at,
            "reason": changes.c.last_reason,
            "message": changes.c.last_message,
        },
    )


def _add_rows(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    condition: sa.ColumnElement[bool],
    columns: Mapping[str, sa.ColumnElement[Any]],
) -> None:
    """Insert one row per operation; `columns` are those that the operation itself does not decide."""
    queue = state.tables.retry_queue
    values: dict[str, sa.ColumnElement[Any]] = {
        "run_id": sa.literal(run_id, sa.BigInteger),
        **dict(zip(key.values(), key.columns(), strict=True)),
        **{name: changes.c[name] for name in ("seq", "operation", "identity", "primary_key")},
        "deferred_since": sa.func.coalesce(changes.c.deferred_since, state.warehouse.dialect.utc_now()),
        **columns,
    }
    names = [column.name for column in queue.c]
    rows = sa.select(*(values[name] for name in names)).where(condition)
    connection.execute(sa.insert(queue).from_select(names, rows))


def delete_superseded(state: State, connection: sa.Connection, sync: str, run_id: int, audience_id: str) -> None:
    """Delete the rows of the sync's earlier runs into the same audience: run `run_id` has taken them over."""
    queue, runs = state.tables.retry_queue, state.tables.runs
    earlier = sa.select(runs.c.run_id).where(
        runs.c.sync == sync, runs.c.audience_id == audience_id, runs.c.run_id < run_id
    )
    connection.execute(sa.delete(queue).where(queue.c.run_id.in_(earlier)))


def count(state: State, connection: sa.Connection, key: SyncKey, run_id: int) -> tuple[int, int]:
    """Return the numbers of waiting and of dead operations of the run."""
    queue = state.tables.retry_queue
    rows = connection.execute(
        sa.select(queue.c.state, sa.func.count())
        .where(key.match(queue), queue.c.run_id == run_id)
        .group_by(queue.c.state)
    ).all()
    found = {str(name): int(number) for name, number in rows}
    return found.get(WAITING, 0), found.get(DEAD, 0)


def operation_kinds(state: State, connection: sa.Connection, run_id: int) -> set[str]:
    """Return the kinds of operations (ADD, REMOVE) that the run has in the queue, waiting or dead."""
    queue = state.tables.retry_queue
    return set(connection.scalars(sa.select(queue.c.operation).where(queue.c.run_id == run_id).distinct()))


def select_next_due(state: State, key: SyncKey) -> sa.Select[Any]:
    """Return a SELECT of `run_id` and `next_due`: when the first waiting operation of each run of the sync is due."""
    queue = state.tables.retry_queue
    due = sa.func.min(sa.func.coalesce(queue.c.next_attempt_at, queue.c.deferred_since)).label("next_due")
    return sa.select(queue.c.run_id, due).where(key.match(queue), queue.c.state == WAITING).group_by(queue.c.run_id)
