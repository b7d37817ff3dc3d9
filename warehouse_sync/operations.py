"""What a run handles: operations, batches, outcomes and statuses. Pure data, no input or output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, groupby, repeat


class OperationKind(StrEnum):
    """What the destination is asked to do with one member."""

    ADD = "ADD"
    REMOVE = "REMOVE"


class OutcomeStatus(StrEnum):
    """How a planned operation ends: with exactly one of these."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one operation ended.

    Attributes:
        status: Delivered, rejected or deferred.
        reason: A short stable code for counting (`http_503`, `invalid_identifier`); empty when delivered.
        message: One sentence for the operator; never a row's value, a token or an e-mail address.
        attempted: Whether the operation was sent. If not, this counts as no attempt and never makes it dead.
        retry_after: Seconds to wait before the next request, when the destination or its rules ask for that.
    """

    status: OutcomeStatus
    reason: str = ""
    message: str = ""
    attempted: bool = True
    retry_after: float | None = None


DELIVERED = Outcome(OutcomeStatus.DELIVERED)


def rejected(reason: str, message: str) -> Outcome:
    """Return the outcome of an element that will never be accepted as it is."""
    return Outcome(OutcomeStatus.REJECTED, reason, message)


def deferred(reason: str, message: str, *, attempted: bool = True, retry_after: float | None = None) -> Outcome:
    """Return the outcome of an element that may be accepted later; it waits in the retry queue."""
    return Outcome(OutcomeStatus.DEFERRED, reason, message, attempted, retry_after)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of one batch, one for each operation, in their order.

    Attributes:
        groups: Adjacent equal outcomes as one entry each, with their number.
    """

    groups: Sequence[tuple[Outcome, int]]

    @classmethod
    def from_outcomes(cls, outcomes: Iterable[Outcome]) -> Outcomes:
        """Return `outcomes` with adjacent equal ones grouped."""
        return cls([(outcome, sum(1 for _ in group)) for outcome, group in groupby(outcomes)])

    def __len__(self) -> int:
        return sum(count for _, count in self.groups)

    def __iter__(self) -> Iterator[Outcome]:
        return chain.from_iterable(repeat(outcome, count) for outcome, count in self.groups)


SEPARATOR = ",\n"
"""Follows each element. Inside JSON a line break is an escape, or white space that no warehouse writes."""


class Elements:
    """Operations in the form that the destination receives, in sending order: JSON objects in one UTF-8 text.

    Mostly the text is sent as a whole. It is split only when a single element is needed.
    """

    def __init__(self, data: bytes | memoryview, size: int) -> None:
        """Take over the text of the elements.

        Args:
            data: The objects, each followed by SEPARATOR.
            size: The number of objects.
        """
        self._data = memoryview(data)[: -len(SEPARATOR)]
        self._size = size
        self._each: list[bytes] = []

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> bytes:
        if not self._each:
            self._each = bytes(self._data).split(SEPARATOR.encode())
            if len(self._each) != self._size:
                raise AssertionError(f"{self._size} elements came apart into {len(self._each)}")
        return self._each[position]

    def release(self) -> None:
        """Free the memory of the elements; only their number is known from now on."""
        self._data, self._each = memoryview(b""), []

    def join(self, positions: Sequence[int]) -> bytes | memoryview:
        """Return the elements at `positions`, in that order and separated by commas; all of them without a copy."""
        if positions == range(self._size):
            return self._data
        return b",".join([self[position] for position in positions])


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations of one kind that are sent in one request, in sending order.

    Attributes:
        operation: The kind of all its operations.
        first_seq: The `seq` of the first element; the one at position i has `first_seq + i`, without gaps.
        elements: The operations.
    """

    operation: OperationKind
    first_seq: int
    elements: Elements

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.elements) - 1


class RunStatus(StrEnum):
    """The state of a run, or how it ended.

    Attributes:
        RUNNING: It is in progress, or its worker died; then the next run takes over what it promoted.
        SUCCEEDED: Every operation was delivered or rejected.
        INCOMPLETE: At least one operation was deferred.
        BLOCKED: The guard refused it; nothing was sent.
        FAILED: An error ended it; nothing is lost.
        SKIPPED: Another worker holds the lease, or the sync is disabled.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    INCOMPLETE = "incomplete"
    BLOCKED = "blocked"
    FAILED = "failed"
    SKIPPED = "skipped"


class RunKind(StrEnum):
    """What a run sends.

    Attributes:
        DIFF: What changed since the promoted run.
        FULL: Every member.
        RETRY: What waits in the retry queue.
        PURGE: The removal of every member.
    """

    DIFF = "diff"
    FULL = "full"
    RETRY = "retry"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """The number of operations of each kind."""

    add: int = 0
    remove: int = 0

    @property
    def total(self) -> int:
        return self.add + self.remove
