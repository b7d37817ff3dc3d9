"""The protocol of a destination, and the values that it exchanges with a run.

Runs know destinations only through this protocol. tests/destinations/test_destination_contract.py checks it for each
type of destination.
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

    Attributes:
        type: The audience type, a key of the destination's audience fields.
        name: The name of an audience that we create; None leaves the choice to the destination.
        description: The description of an audience that we create.
        id: The id of an existing audience; None to find or create our own.
        source_id: Our key for the audience at the destination: installation id and sync. The destination stores it,
            so that the audience is found again. Later generations of our audience end in `:2`, `:3` …
    """

    type: str
    name: str | None
    description: str | None
    id: str | None
    source_id: str


@dataclass(frozen=True, slots=True)
class Audience:
    """An audience as the destination describes it. Numbers are None while the destination does not report them.

    Attributes:
        id: Its id at the destination.
        type: Its audience type, in our words.
        name: Its name at the destination.
        status: The destination's own status (READY, BUILDING …).
        size: Number of members that campaigns can target.
        matched: Number of recently sent members that the destination recognised.
        input_count: Number of recently sent members.
        created: Whether this call created it.
        usability: Whether campaigns can use it, in one sentence.
        warning: What is wrong with it and what to do, in one or two sentences; None if nothing is wrong.
        emptied: Whether the destination has deleted its members, so that each must be sent again.
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
        """Return the percentage of recently sent members that the destination recognised; None when unknown."""
        if self.matched is None or not self.input_count:
            return None
        return round(100 * self.matched / self.input_count)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the destination reports about our credentials.

    Attributes:
        refresh_token_expires: Last day of the refresh token; None if the destination does not report it.
    """

    refresh_token_expires: date | None = None


class Permit(Protocol):
    """The right to send requests, which a destination checks before each one. Thread-safe.

    A run passes its lease. The right ends when a stop is requested, or when the lease is lost or cannot be renewed.
    """

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`, or less when the right ends meanwhile.

        Called before each request, with 0 if no wait is due. It may run a statement in the warehouse.

        Returns:
            True if no further request may be started, False if the right lasts long enough to start one.
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
"""The permit of calls without a lease."""

NO_LISTENERS = Events()
"""The events of a destination that is opened outside a run: they have no listener."""


class Destination(Protocol):
    """An account that holds audiences. Thread-safe: `deliver` is called from `max_in_flight` threads at once.

    Each method that sends requests checks its `permit` before each request. Once the permit has ended, no request is
    started and waits end early: `deliver` defers what has no outcome yet, every other method raises
    DestinationUnavailable.

    Attributes:
        batch_size: Greatest number of operations in one batch.
        max_in_flight: Greatest number of requests at the same time.
    """

    batch_size: int
    max_in_flight: int

    def fields(self, audience_type: str) -> AudienceFields:
        """Return the identifiers and fields that `audience_type` accepts."""
        ...

    def element_template(self, audience_type: str, operation: OperationKind) -> ElementTemplate:
        """Return the JSON of one operation on an audience of `audience_type`, as a template over its fields."""
        ...

    def requests_per_minute(self, audience_type: str) -> int:
        """Return the rate limit that deliveries to audiences of `audience_type` keep."""
        ...

    def check(self, permit: Permit = UNCONDITIONAL) -> Credentials:
        """Check the credentials, our access to the account and the API version. Reads only.

        Raises:
            ConfigurationError: The operator must change something.
            DestinationUnavailable: A later call may succeed.
        """
        ...

    def find(self, spec: AudienceSpec, known_id: str | None, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """Find an audience by `spec.id`, else by `known_id`, else by `spec.source_id`. Reads only.

        Args:
            spec: The audience that the sync wants.
            known_id: The id of the audience that the sync fed last. It is ignored if that audience has another
                `source_id`: the configuration named it by its id then, and does so no longer.
            permit: The right to send requests.

        Returns:
            The audience, or None if it does not exist yet.

        Raises:
            ConfigurationError: No audience has `spec.id` or `known_id`, or it has another type or account.
            DestinationUnavailable: A later call may succeed.
        """
        ...

    def get(self, audience_id: str, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """Return the audience of our account with this id, of any type and source id; None if it is deleted.

        Reads only.

        Raises:
            ConfigurationError: The audience belongs to another account.
            DestinationUnavailable: A later call may succeed.
        """
        ...

    def create(self, spec: AudienceSpec, permit: Permit = UNCONDITIONAL) -> Audience:
        """Create the audience unless it exists, and wait until it accepts members.

        It creates no second audience when the answer to an earlier attempt was lost.

        Raises:
            ConfigurationError: The operator must change something.
            DestinationUnavailable: A later call may succeed.
        """
        ...

    def deliver(self, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        """Send one batch. Safe to repeat.

        Args:
            audience: The audience that the operations change.
            batch: At most `batch_size` operations, written by `element_template`.
            permit: The right to send requests.

        Returns:
            Exactly one outcome per operation, in order. An operation that was deferred because `permit` had ended
            before its first request left is not `attempted`. `retry_after` is set if the destination asked for a pause.

        Raises:
            StopRun: No further batch could succeed either; AuthenticationFailed if the credentials are the reason.
                Every other failure is an outcome.
        """
        ...

    def close(self) -> None:
        """Close all connections. No method may be called afterwards."""
        ...
