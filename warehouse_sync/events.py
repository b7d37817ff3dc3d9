"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from warehouse_sync.operations import OperationKind, Outcome, RunKind
from warehouse_sync.reports import RunReport

if TYPE_CHECKING:
    from warehouse_sync.config.loader import Config


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
    """What a request to a destination is for."""

    TOKEN = "token"  # noqa: S105 - a word for what is fetched
    FIND = "find"
    READ = "read"
    CREATE = "create"
    ADD = "add"
    REMOVE = "remove"


class Waiting(StrEnum):
    """What holds a request back: the pace that we keep by ourselves, or that the destination wants to be left alone."""

    PACE = "pace"
    DESTINATION = "destination"


class Progress:
    """Receives the progress of one run; this one ignores it.

    Called from the run's own thread only, but for `answered` and `waited`: several threads send. Must not raise.
    """

    def begin(self, phase: Phase, total: int | None = None) -> None:
        """`phase` starts now; `total` members will be handled in it, None when it is not known."""

    def advance(self, count: int) -> None:
        """`count` more members of the current phase are done."""

    def note(self, message: str) -> None:
        """Something worth a line to the operator (a new audience is being waited for, a warning)."""

    def end(self) -> None:
        """The run is over, however it went."""

    def credentials(self, refresh_token_expires: date | None) -> None:
        """The destination takes our credentials; None when it does not say how long they live."""

    def rejected_rows(self, reasons: Mapping[str, int]) -> None:
        """The snapshot is there: the rows of the query that cannot be members, all of them, by reason."""

    def promoted(self, kind: RunKind, members: int) -> None:
        """The commit point is passed: the audience shall hold so many members."""

    def settled(self, operation: OperationKind, outcome: Outcome, count: int) -> None:
        """So many operations have ended so."""

    def queued(self, kind: RunKind, waiting: int, dead: int) -> None:
        """What the retry queue of the run holds at its end."""

    def answered(self, action: Action, status: str, seconds: float) -> None:
        """One request was answered with an HTTP status, or not at all: then `status` is `timeout` or `connection`."""

    def waited(self, cause: Waiting, seconds: float) -> None:
        """For so much more time at least one request was held back."""


class EachProgress(Progress):
    """Hands everything on to several others."""

    def __init__(self, *watchers: Progress) -> None:
        self._watchers = watchers

    def begin(self, phase: Phase, total: int | None = None) -> None:
        for watcher in self._watchers:
            watcher.begin(phase, total)

    def advance(self, count: int) -> None:
        for watcher in self._watchers:
            watcher.advance(count)

    def note(self, message: str) -> None:
        for watcher in self._watchers:
            watcher.note(message)

    def end(self) -> None:
        for watcher in self._watchers:
            watcher.end()

    def credentials(self, refresh_token_expires: date | None) -> None:
        for watcher in self._watchers:
            watcher.credentials(refresh_token_expires)

    def rejected_rows(self, reasons: Mapping[str, int]) -> None:
        for watcher in self._watchers:
            watcher.rejected_rows(reasons)

    def promoted(self, kind: RunKind, members: int) -> None:
        for watcher in self._watchers:
            watcher.promoted(kind, members)

    def settled(self, operation: OperationKind, outcome: Outcome, count: int) -> None:
        for watcher in self._watchers:
            watcher.settled(operation, outcome, count)

    def queued(self, kind: RunKind, waiting: int, dead: int) -> None:
        for watcher in self._watchers:
            watcher.queued(kind, waiting, dead)

    def answered(self, action: Action, status: str, seconds: float) -> None:
        for watcher in self._watchers:
            watcher.answered(action, status, seconds)

    def waited(self, cause: Waiting, seconds: float) -> None:
        for watcher in self._watchers:
            watcher.waited(cause, seconds)


log = structlog.get_logger(__name__)


class Observer:
    """Receives what happens to syncs; this one ignores it. Called from several threads; must not raise."""

    def configured(self, config: Config) -> None:
        """From now on the syncs are those of `config`."""

    def progress(self, sync: str) -> Progress:
        """What a run of `sync` that begins now shall be given."""
        return Progress()

    def ended(self, sync: str, report: RunReport, *, retry: bool = False) -> None:
        """A run of `sync` has ended as `report` says; a failure's reason stands in it.

        retry: it was a retry pass, which says nothing of whether the query can be run. Purges are not told.
        """


class EachObserver(Observer):
    """Hands everything on to several others, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def configured(self, config: Config) -> None:
        for observer in self._observers:
            observer.configured(config)

    def progress(self, sync: str) -> Progress:
        return EachProgress(*(observer.progress(sync) for observer in self._observers))

    def ended(self, sync: str, report: RunReport, *, retry: bool = False) -> None:
        for observer in self._observers:
            try:
                observer.ended(sync, report, retry=retry)
            except Exception as error:  # noqa: BLE001 - how a run ended does not depend on who watches it
                log.error("an observer failed", observer=type(observer).__name__, error=type(error).__name__, sync=sync)
