"""The retry queue: operations that were deferred, waiting for their next attempt or dead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import Outcome
from warehouse_sync.state.store import State, SyncKey

WAITING = "waiting"
DEAD = "dead"


@dataclass(slots=True)
class SeqRanges:
    """A set of `seq`, kept as ranges, so that a million neighbours are one condition."""

    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, first: int, last: int) -> None:
        """`first` to `last` belong to the set; they lie behind what was added before."""
        if self.ranges and self.ranges[-1][1] + 1 == first:
            self.ranges[-1] = (self.ranges[-1][0], last)
        else:
            self.ranges.append((first, last))

    def update(self, other: SeqRanges) -> None:
        """The other's members belong to the set too."""
        self.ranges.extend(other.ranges)


def add(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    which: sa.ColumnElement[bool],
    outcome: Outcome,
    *,
    dead: sa.ColumnElement[bool],
    next_attempt_at: sa.ColumnElement[Any],
) -> None:
    """Operations that were not delivered stand in the queue, with one attempt more than before if it was one."""
    queue = state.tables.retry_queue
    since = sa.func.coalesce(changes.c.deferred_since, state.warehouse.dialect.utc_now())
    source = sa.select(
        sa.literal(run_id, sa.BigInteger),
        changes.c.seq,
        *key.columns(),
        sa.case((dead, DEAD), else_=WAITING),
        changes.c.operation,
        changes.c.identity,
        changes.c.primary_key,
        changes.c.attempt + int(outcome.attempted),
        since,
        sa.case((dead, sa.cast(sa.null(), sa.DateTime)), else_=next_attempt_at),
        sa.literal(outcome.reason, sa.String),
        sa.literal(outcome.message, sa.Text),
    ).where(which)
    connection.execute(sa.insert(queue).from_select([column.name for column in queue.c], source))


def add_held(
    state: State, connection: sa.Connection, key: SyncKey, run_id: int, changes: sa.TableClause, upto: int
) -> None:
    """The operations that the run holds back (seq 1 to `upto`) stand in the queue as they stood before."""
    queue = state.tables.retry_queue
    now = state.warehouse.dialect.utc_now()
    source = sa.select(
        sa.literal(run_id, sa.BigInteger),
        changes.c.seq,
        *key.columns(),
        sa.case((changes.c.dead, DEAD), else_=WAITING),
        changes.c.operation,
        changes.c.identity,
        changes.c.primary_key,
        changes.c.attempt,
        sa.func.coalesce(changes.c.deferred_since, now),
        changes.c.next_attempt_at,
        changes.c.last_reason,
        changes.c.last_message,
    ).where(changes.c.seq <= upto)
    connection.execute(sa.insert(queue).from_select([column.name for column in queue.c], source))


def delete_superseded(state: State, connection: sa.Connection, sync: str, run_id: int, audience_id: str) -> None:
    """The rows of the sync's earlier runs into the same audience are gone: `run_id` has taken them over."""
    queue, runs = state.tables.retry_queue, state.tables.runs
    earlier = sa.select(runs.c.run_id).where(
        runs.c.sync == sync, runs.c.audience_id == audience_id, runs.c.run_id < run_id
    )
    connection.execute(sa.delete(queue).where(queue.c.run_id.in_(earlier)))


def count(state: State, connection: sa.Connection, key: SyncKey, run_id: int) -> tuple[int, int]:
    """How many operations of the run wait, and how many are dead."""
    queue = state.tables.retry_queue
    rows = connection.execute(
        sa.select(queue.c.state, sa.func.count())
        .where(key.match(queue), queue.c.run_id == run_id)
        .group_by(queue.c.state)
    ).all()
    found = {str(name): int(number) for name, number in rows}
    return found.get(WAITING, 0), found.get(DEAD, 0)


def operation_kinds(state: State, connection: sa.Connection, run_id: int) -> set[str]:
    """Which operations of the run stand in the queue, waiting or dead."""
    queue = state.tables.retry_queue
    return set(connection.scalars(sa.select(queue.c.operation).where(queue.c.run_id == run_id).distinct()))


def next_due(state: State, key: SyncKey) -> sa.Select[Any]:
    """For each run of the sync, `run_id` and `next_due`: when the first operation that waits may be sent again."""
    queue = state.tables.retry_queue
    due = sa.func.min(sa.func.coalesce(queue.c.next_attempt_at, queue.c.deferred_since)).label("next_due")
    return sa.select(queue.c.run_id, due).where(key.match(queue), queue.c.state == WAITING).group_by(queue.c.run_id)
