"""The nouns of a run: operations, batches, outcomes and reports. Pure data, no input or output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


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
class Batch:
    """Operations of one kind that go into one request, in sending order.

    first_seq: `seq` of `rows[0]`; row i has `first_seq + i`, without gaps.
    columns: names of identifiers and fields (fields.AudienceFields.names), the same for each row.
    rows: one tuple per operation, a value or None per column. TEXT_LIST values are JSON arrays as text.
    """

    operation: OperationKind
    first_seq: int
    columns: tuple[str, ...]
    rows: Sequence[tuple[str | None, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.rows) - 1


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


@dataclass(frozen=True, slots=True)
class RunReport:
    """What `run --json` prints for one sync.

    rows: rows of the model query. members: distinct identifier tuples among them. rejected: rows that cannot be
    members, plus operations that the destination refused for good. deferred: operations that wait in the retry
    queue after this run, without the dead ones. dead: operations in the retry queue that are no longer retried by
    themselves. seconds: wall time.
    """

    sync: str
    status: RunStatus
    run_id: int | None = None
    reason: str | None = None
    rows: int = 0
    members: int = 0
    rejected: int = 0
    planned: OperationCounts = field(default_factory=OperationCounts)
    delivered: OperationCounts = field(default_factory=OperationCounts)
    deferred: int = 0
    dead: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What `plan --json` prints for one sync; the keys of RunReport without `delivered`, and what it would take.

    requests, minutes: of the destination, at its default pace. rejections: rows and left-out values by reason.
    samples: for each kind of change up to a handful of members, as the destination would get them (hashed).
    """

    sync: str
    status: RunStatus
    run_id: int | None = None
    reason: str | None = None
    rows: int = 0
    members: int = 0
    rejected: int = 0
    planned: OperationCounts = field(default_factory=OperationCounts)
    deferred: int = 0
    dead: int = 0
    seconds: float = 0.0
    requests: int = 0
    minutes: float = 0.0
    rejections: dict[str, int] = field(default_factory=dict)
    readds: int = 0
    pending: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)
