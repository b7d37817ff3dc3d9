"""What every destination does for a run.

The pipeline knows destinations only through this protocol; a contract suite (tests/integration) holds for each.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from warehouse_sync.events import Events
from warehouse_sync.fields import AudienceFields, ElementTemplate
from warehouse_sync.operations import Batch, OperationKind, Outcomes


@dataclass(frozen=True, slots=True)
class AudienceSpec:
    """The audience that a sync wants.

    id: an existing audience of the destination, or None to find or create our own.
    source_id: our name for it at the destination: installation id and sync, so that it is found again. A later
    generation of our audience bears a name of its own, which ends in `:2`, `:3` …
    """

    type: str
    name: str | None
    description: str | None
    id: str | None
    source_id: str


@dataclass(frozen=True, slots=True)
class Audience:
    """An audience as the destination shows it. Numbers are None while the destination does not know them.

    status: the destination's own word (READY, BUILDING …). created: made by this call, in this run.
    usable: whether campaigns can use it, in one sentence.
    warning: what is wrong with it and what to do, in one or two sentences; None while all is well.
    emptied: the destination has thrown its members away, so every one has to be sent again.
    """

    id: str
    type: str
    name: str
    status: str | None = None
    size: int | None = None
    matched: int | None = None
    input_count: int | None = None
    created: bool = False
    usability: str = ""
    warning: str | None = None
    emptied: bool = False

    @property
    def match_rate(self) -> int | None:
        """How many of the members that were sent lately the destination knows, in per cent; None when unknown."""
        if self.matched is None or not self.input_count:
            return None
        return round(100 * self.matched / self.input_count)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How long the credentials live; None where the destination does not say."""

    refresh_token_expires: date | None = None


class Permit(Protocol):
    """The right to send requests, which a destination checks before each one. Thread-safe.

    A run passes its lease: it ends when a stop is requested and when another worker takes the sync over.
    """

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`, or less when the right ends meanwhile.

        It is called before each request, with 0 where there is nothing to wait for. It may ask the warehouse.

        Returns:
            True when no further request may be started, False when the right holds for long enough to start one.

        """
        ...

    def is_valid(self) -> bool:
        """Return whether a request may leave now.

        Asked at the last moment before the first byte leaves, so it must take no time. A worker that was suspended
        between `wait` and this moment sends nothing.
        """
        ...


class Unconditional:
    """A permit that never ends, for requests that are sent before there is a lease."""

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`; return False."""
        if seconds > 0:
            time.sleep(seconds)
        return False

    def is_valid(self) -> bool:
        """Return True."""
        return True


UNCONDITIONAL: Permit = Unconditional()

NO_LISTENERS = Events()
"""For a destination that is opened outside a run."""


class Destination(Protocol):
    """A place that holds audiences.

    Thread-safe: `deliver` is called from `max_in_flight` threads at once.

    Each method that sends requests checks its `permit` before each of them. Once that has ended, no request is started
    and no wait is completed: `deliver` defers what is open, everything else raises DestinationUnavailable.
    """

    batch_size: int
    max_in_flight: int

    def fields(self, audience_type: str) -> AudienceFields:
        """Identifiers and fields that this audience type takes."""
        ...

    def element_template(self, audience_type: str, operation: OperationKind) -> ElementTemplate:
        """How an operation on this audience type is written, of the fields that it takes."""
        ...

    def requests_per_minute(self, audience_type: str) -> int:
        """The pace that deliveries to this audience type keep."""
        ...

    def check(self, permit: Permit = UNCONDITIONAL) -> Credentials:
        """Credentials work, the account is ours to write to, the API version is alive. Reads only.

        Raises ConfigurationError where the operator must act, DestinationUnavailable where waiting helps.
        """
        ...

    def find(self, spec: AudienceSpec, known_id: str | None, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """The audience of this spec: `spec.id`, else `known_id`, else by `spec.source_id`; None: not there yet.

        A `known_id` that does not bear our `source_id` was chosen by its id once and is not meant any more. Reads only.
        Raises ConfigurationError when a named or known id does not exist or is of another type or account.
        """
        ...

    def get(self, audience_id: str, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """The audience of our account with this id, whatever its type and source id; None when there is none any more.

        Reads only. Raises ConfigurationError when it belongs to another account, else DestinationUnavailable.
        """
        ...

    def create(self, spec: AudienceSpec, permit: Permit = UNCONDITIONAL) -> Audience:
        """Create the audience unless it is there, also when the answer to an earlier attempt was lost.

        It can be written to when this returns. Raises ConfigurationError or DestinationUnavailable.
        """
        ...

    def deliver(self, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        """Send one batch, written as `element` says; exactly one outcome per operation, in order. Safe to repeat.

        What was deferred because `permit` had ended before any request had left was not `attempted`; for how long the
        destination wants no requests is `retry_after`.

        Raises AuthenticationFailed or another StopRun only when no further batch could succeed either; everything
        else is told by outcomes.
        """
        ...

    def close(self) -> None:
        """Give back connections. Nothing may be called afterwards."""
        ...
