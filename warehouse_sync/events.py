"""What runs and the service publish, and who listens: events, listeners, and `Events`, which connects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from warehouse_sync.operations import OperationKind, Outcome, RunKind
from warehouse_sync.reports import RunReport

if TYPE_CHECKING:
    from warehouse_sync.config.loader import Config

log = structlog.get_logger(__name__)


class Phase(StrEnum):
    """The steps of a run that take time, in their order."""

    LEASE = "lease"
    AUDIENCE = "audience"
    SNAPSHOT = "snapshot"
    CHANGES = "changes"
    GUARD = "guard"
    PROMOTE = "promote"
    REMOVE = "remove"
    ADD = "add"
    FINISH = "finish"


class Action(StrEnum):
    """The purpose of a request to a destination."""

    TOKEN = "token"  # noqa: S105 - a word for what is fetched
    FIND = "find"
    READ = "read"
    CREATE = "create"
    ADD = "add"
    REMOVE = "remove"


class DelayCause(StrEnum):
    """Why requests are delayed: our own rate limit, or the destination asked for a pause."""

    PACE = "pace"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class ConfigurationLoaded:
    """A configuration is in force. Published for no single sync.

    Attributes:
        config: The configuration; its syncs replace those of the previous one.
    """

    config: Config


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run starts; the warehouse is not connected yet."""


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A run enters a phase; the phase before is over.

    Attributes:
        phase: The phase that starts.
        total: Number of members that the phase will process; None if unknown.
    """

    phase: Phase
    total: int | None = None


@dataclass(frozen=True, slots=True)
class MembersProcessed:
    """The current phase has processed more members.

    Attributes:
        count: Number of members since the previous event of this kind.
    """

    count: int


@dataclass(frozen=True, slots=True)
class NoteAdded:
    """The operator should read a line, for example why a run waits.

    Attributes:
        message: The line.
    """

    message: str


@dataclass(frozen=True, slots=True)
class CredentialsChecked:
    """The destination accepts the credentials.

    Attributes:
        refresh_token_expires: Last day of the refresh token; None if the destination does not report it.
    """

    refresh_token_expires: date | None


@dataclass(frozen=True, slots=True)
class RowsRejected:
    """The snapshot is complete, so the rejected rows and left-out values are known.

    Attributes:
        reasons: Number of rows by reason. `field:reason` counts rows whose value of that field is left out.
    """

    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RunPromoted:
    """A run has passed its commit point.

    Attributes:
        kind: Kind of the run.
        members: Number of members that the audience will hold.
    """

    kind: RunKind
    members: int


@dataclass(frozen=True, slots=True)
class OperationsEnded:
    """Operations of a run have their outcome.

    Attributes:
        operation: Kind of the operations.
        outcome: Their outcome, equal for all.
        count: Number of operations.
    """

    operation: OperationKind
    outcome: Outcome
    count: int


@dataclass(frozen=True, slots=True)
class RetryQueueCounted:
    """A run has counted its retry queue, at its end.

    Attributes:
        kind: Kind of the run.
        waiting: Operations that are retried later.
        dead: Operations that are no longer retried automatically.
    """

    kind: RunKind
    waiting: int
    dead: int


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request to the destination has ended. Published from several threads.

    Attributes:
        action: Purpose of the request.
        status: HTTP status; `timeout` or `connection` if there was no answer.
        seconds: Time from the request to the end of the answer.
    """

    action: Action
    status: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestsDelayed:
    """At least one request was delayed during this time. Published from several threads.

    Attributes:
        cause: Why.
        seconds: Time since the previous event of this kind and cause, or since the delay began.
    """

    cause: DelayCause
    seconds: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run that was started has ended, in whatever way."""


@dataclass(frozen=True, slots=True)
class RunReported:
    """The result of a run or retry pass is known, also of one that could not start. Not published for purges.

    Attributes:
        report: The result; it contains the reason of a failure.
        is_retry: Whether it was a retry pass, which does not show whether the query works.
    """

    report: RunReport
    is_retry: bool = False


Event = (
    ConfigurationLoaded
    | RunStarted
    | PhaseStarted
    | MembersProcessed
    | NoteAdded
    | CredentialsChecked
    | RowsRejected
    | RunPromoted
    | OperationsEnded
    | RetryQueueCounted
    | RequestAnswered
    | RequestsDelayed
    | RunEnded
    | RunReported
)

Listener = Callable[[str, Event], None]
"""Receives the name of a sync and an event; an empty name for an event of no single sync. Called from any thread."""


class Events:
    """Publishes events to listeners, in the order of the listeners. Immutable, so it is thread-safe.

    A listener that raises an exception does not change what happens to a run: the exception is logged.
    """

    def __init__(self, *listeners: Listener, sync: str = "") -> None:
        self._listeners = listeners
        self._sync = sync

    def for_sync(self, sync: str) -> Events:
        """Return a publisher of the events of `sync`, to the same listeners."""
        return Events(*self._listeners, sync=sync)

    def with_listener(self, listener: Listener) -> Events:
        """Return a publisher that has one more listener."""
        return Events(*self._listeners, listener, sync=self._sync)

    def publish(self, event: Event) -> None:
        """Call every listener with `event`."""
        for listener in self._listeners:
            try:
                listener(self._sync, event)
            except Exception as error:  # noqa: BLE001 - a listener must not end a run
                log.error(
                    "a listener failed",
                    listener=getattr(listener, "__qualname__", type(listener).__name__),
                    published=type(event).__name__,
                    error=type(error).__name__,
                    sync=self._sync,
                )
