"""Record outcomes as log lines, retry queue rows and the watermark, in few and large statements."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from warehouse_sync.operations import Batch, OperationCounts, OperationKind, Outcome, Outcomes, OutcomeStatus
from warehouse_sync.pipeline.retry_policy import DELAYS, RetryPolicy
from warehouse_sync.state import retry_queue, sync_log
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.retry_queue import SeqRanges
from warehouse_sync.state.store import State


@dataclass(slots=True)
class Tally:
    """The outcomes of a run so far.

    Attributes:
        delivered_add: Delivered ADDs.
        delivered_remove: Delivered REMOVEs.
        rejected: Operations that will never be accepted.
        deferred: Operations that wait in the retry queue.
        last_deferral: The message of the latest deferral.
        not_attempted: Deferred operations that no request has carried.
    """

    delivered_add: int = 0
    delivered_remove: int = 0
    rejected: int = 0
    deferred: int = 0
    last_deferral: str = ""
    not_attempted: int = 0

    @property
    def delivered(self) -> OperationCounts:
        """Return the delivered operations by kind."""
        return OperationCounts(add=self.delivered_add, remove=self.delivered_remove)


@dataclass(slots=True)
class _Unrecorded:
    """Outcomes that are known and not on disk yet: the operations from the watermark to `last`.

    Attributes:
        last: The last `seq` of them.
        exceptions: The operations that were not delivered, by kind and outcome.
    """

    last: int
    exceptions: dict[tuple[OperationKind, Outcome], SeqRanges] = field(default_factory=dict)


class Recorder:
    """Writes the outcomes of one run. The watermark moves in the transaction that writes everything before it.

    Attributes:
        tally: The outcomes so far, on disk or not.
        watermark: Everything up to this `seq` is on disk.
    """

    def __init__(
        self,
        state: State,
        lease: Lease,
        run_id: int,
        changes: sa.TableClause,
        policy: RetryPolicy,
        *,
        watermark: int,
        keeps_log: bool,
        settled: Callable[[OperationKind, Outcome, int], None] = lambda *_: None,
    ) -> None:
        self.settled = settled
        self.state = state
        self.lease = lease
        self.run_id = run_id
        self.changes = changes
        self.policy = policy
        self.keeps_log = keeps_log
        self.watermark = watermark
        self.tally = Tally()
        self._open = _Unrecorded(watermark)
        self._written = time.monotonic()

    @property
    def last_taken(self) -> int:
        """Return the last `seq` whose outcome is known, on disk or not."""
        return self._open.last

    def take(self, batch: Batch, outcomes: Outcomes) -> None:
        """Take the outcomes of the next batch in sending order; the next `flush()` writes them at the latest.

        Raises:
            LeaseLost: Another worker has taken over.
        """
        if batch.first_seq != self._open.last + 1:
            raise AssertionError(f"batch {batch.first_seq} does not follow {self._open.last}")
        seq = batch.first_seq
        for outcome, count in outcomes.groups:
            self._count(batch.operation, outcome, count)
            if outcome.status is not OutcomeStatus.DELIVERED:
                self._exception(batch.operation, outcome).add(seq, seq + count - 1)
            seq += count
        self._open.last = batch.last_seq
        if time.monotonic() - self._written >= self.state.warehouse.record_interval:
            self.flush()

    def defer_rest(self, last: int, last_remove_seq: int, outcome: Outcome) -> None:
        """Give all operations up to `last` that have no outcome yet this one, and write everything to disk.

        Args:
            last: The last `seq` of the run.
            last_remove_seq: The last `seq` of its REMOVEs.
            outcome: The outcome.

        Raises:
            LeaseLost: Another worker has taken over.
        """
        first = self._open.last + 1
        for operation, start, end in (
            (OperationKind.REMOVE, first, min(last_remove_seq, last)),
            (OperationKind.ADD, max(first, last_remove_seq + 1), last),
        ):
            if start <= end:
                self._count(operation, outcome, end - start + 1)
                self._exception(operation, outcome).add(start, end)
        self._open.last = max(self._open.last, last)
        self.flush()

    def flush(self) -> None:
        """Write everything that was taken to disk.

        Raises:
            LeaseLost: Another worker has taken over.
        """
        upto = self._open.last
        if upto > self.watermark:
            with self.state.fenced(self.lease.key, self.lease.token, "record outcomes") as connection:
                self._write(connection, self._open)
                self._move_watermark(connection, upto)
            self.watermark = upto
            self._open = _Unrecorded(upto)
        self._written = time.monotonic()

    def _write(self, connection: sa.Connection, piece: _Unrecorded) -> None:
        key, run_id = self.lease.key, self.run_id
        excepted = SeqRanges()
        for (operation, outcome), selection in piece.exceptions.items():
            excepted.update(selection)
            if self.keeps_log:
                sync_log.add_operations(
                    self.state, connection, key, run_id, self.changes, self._in_ranges(selection), outcome
                )
            if outcome.status is OutcomeStatus.DEFERRED or operation is OperationKind.REMOVE:
                # A refused REMOVE stays in the queue: its member would be targeted for ever.
                retry_queue.add_operations(
                    self.state,
                    connection,
                    key,
                    run_id,
                    self.changes,
                    self._in_ranges(selection),
                    outcome,
                    dead=self._is_dead(outcome),
                    next_attempt_at=self.state.warehouse.dialect.utc_now(self._delay(outcome)),
                )
        if self.keeps_log:
            delivered = sa.and_(
                self.changes.c.seq > self.watermark,
                self.changes.c.seq <= piece.last,
                ~self._in_ranges(excepted),
            )
            sync_log.add_delivered(self.state, connection, key, run_id, self.changes, delivered)

    def _in_ranges(self, selection: SeqRanges) -> sa.ColumnElement[bool]:
        return self.state.warehouse.dialect.in_ranges(self.changes.c.seq, selection.ranges)

    def _is_dead(self, outcome: Outcome) -> sa.ColumnElement[bool]:
        """Return whether an operation with this outcome is no longer retried by itself."""
        if outcome.status is OutcomeStatus.REJECTED:
            return sa.true()
        if not outcome.attempted:
            return sa.false()
        if not self.policy.enabled:
            return sa.true()
        age_out = self.state.warehouse.dialect.utc_now(-self.policy.max_age)
        return sa.func.coalesce(self.changes.c.deferred_since <= age_out, sa.false())

    def _delay(self, outcome: Outcome) -> float | sa.ColumnElement[float]:
        """Return the seconds until the next attempt: those of the policy, or longer if the destination asks for it."""
        if not outcome.attempted:
            return 0.0
        least = outcome.retry_after or 0.0
        before = self.changes.c.attempt
        delays = [max(least, self.policy.delay(attempt)) for attempt in range(1, len(DELAYS) + 1)]
        steps = [(before + 1 <= attempt, delay) for attempt, delay in enumerate(delays[:-1], 1)]
        return sa.case(*steps, else_=delays[-1])

    def _move_watermark(self, connection: sa.Connection, upto: int) -> None:
        runs = self.state.tables.runs
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == self.run_id)
            .values(
                watermark=upto,
                delivered_add=self.tally.delivered_add,
                delivered_remove=self.tally.delivered_remove,
                rejected_operations=self.tally.rejected,
            )
        )

    def _exception(self, operation: OperationKind, outcome: Outcome) -> SeqRanges:
        return self._open.exceptions.setdefault((operation, outcome), SeqRanges())

    def _count(self, operation: OperationKind, outcome: Outcome, count: int) -> None:
        self.settled(operation, outcome, count)
        match outcome.status:
            case OutcomeStatus.DELIVERED if operation is OperationKind.ADD:
                self.tally.delivered_add += count
            case OutcomeStatus.DELIVERED:
                self.tally.delivered_remove += count
            case OutcomeStatus.REJECTED:
                self.tally.rejected += count
            case OutcomeStatus.DEFERRED:
                self.tally.deferred += count
                self.tally.last_deferral = outcome.message
                self.tally.not_attempted += 0 if outcome.attempted else count
