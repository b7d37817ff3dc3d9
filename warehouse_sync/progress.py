"""What a run tells whoever watches it."""

from __future__ import annotations

from enum import StrEnum


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


class Progress:
    """Receives the progress of one run; this one ignores it. Called from the run's own thread only."""

    def begin(self, phase: Phase, total: int | None = None) -> None:
        """`phase` starts now; `total` members will be handled in it, None when it is not known."""

    def advance(self, count: int) -> None:
        """`count` more members of the current phase are done."""

    def note(self, message: str) -> None:
        """Something worth a line to the operator (a new audience is being waited for, a warning)."""
