"""The nouns of a run: operations, batches, outcomes and reports. Pure data, no input or output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, groupby, repeat


class OperationKind(StrEnum):
    """What is asked of the destination for one member."""

    ADD = "ADD"
    REMOVE = "REMOVE"


class OutcomeStatus(StrEnum):
    """How a planned operation ends; exactly one of these."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one operation.

    reason: a short stable code for counting (`http_503`, `invalid_identifier`); empty when delivered.
    message: one sentence for the operator; never a value of a row, a token or an e-mail address.
    attempted: False when nobody has tried to send it yet; then it counts as no attempt and is never dead for it.
    retry_after: seconds that the destination wants to be left alone, when it said so or its rules do.
    """

    status: OutcomeStatus
    reason: str = ""
    message: str = ""
    attempted: bool = True
    retry_after: float | None = None


DELIVERED = Outcome(OutcomeStatus.DELIVERED)


def rejected(reason: str, message: str) -> Outcome:
    """This element will never be accepted as it is."""
    return Outcome(OutcomeStatus.REJECTED, reason, message)


def deferred(reason: str, message: str, *, attempted: bool = True, retry_after: float | None = None) -> Outcome:
    """The same element may be accepted later; it waits in the retry queue."""
    return Outcome(OutcomeStatus.DEFERRED, reason, message, attempted, retry_after)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The ends of the operations of one batch, in order: `runs` of equal ones, each with its length."""

    groups: Sequence[tuple[Outcome, int]]

    @classmethod
    def from_outcomes(cls, outcomes: Iterable[Outcome]) -> Outcomes:
        """These, one by one."""
        return cls([(outcome, sum(1 for _ in run)) for outcome, run in groupby(outcomes)])

    def __len__(self) -> int:
        return sum(count for _, count in self.groups)

    def __iter__(self) -> Iterator[Outcome]:
        return chain.from_iterable(repeat(outcome, count) for outcome, count in self.groups)


SEPARATOR = ",\n"
"""Behind each element. A line break inside of JSON is an escape, or white space that no warehouse writes."""


class Elements:
    """Operations as the destination gets them, in sending order: JSON objects in one piece of UTF-8.

    data: the objects, each with SEPARATOR behind it. Mostly it is sent as it stands; it is taken apart once one of them
    is wanted by itself.
    """

    def __init__(self, data: bytes | memoryview, size: int) -> None:
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
        """Only the number of elements is known from now on; the memory that they took is free."""
        self._data, self._each = memoryview(b""), []

    def join(self, positions: Sequence[int]) -> bytes | memoryview:
        """Those at `positions`, in that order and with commas between; all of them without a copy."""
        if positions == range(self._size):
            return self._data
        return b",".join([self[position] for position in positions])


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations of one kind that go into one request, in sending order.

    first_seq: `seq` of the first element; that at position i has `first_seq + i`, without gaps.
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
    """How a run stands.

    running      it is under way, or its worker died (then the next run takes over what it promoted)
    succeeded    every operation was delivered or rejected
    incomplete   something was deferred
    blocked      the guard refused; nothing was sent
    failed       an error ended it; nothing is lost
    skipped      another worker holds the lease, or the sync is disabled
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    INCOMPLETE = "incomplete"
    BLOCKED = "blocked"
    FAILED = "failed"
    SKIPPED = "skipped"


class RunKind(StrEnum):
    """What a run sends: what changed, every member, what waits in the retry queue; or it takes everybody out."""

    DIFF = "diff"
    FULL = "full"
    RETRY = "retry"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """Numbers of operations by kind."""

    add: int = 0
    remove: int = 0

    @property
    def total(self) -> int:
        return self.add + self.remove
