"""The wish that work ends before it is done: a signal sets it, a run heeds it."""

from __future__ import annotations


class Interrupted(KeyboardInterrupt):
    """Work is broken off. A plain KeyboardInterrupt would make Python end the whole process by a signal, too."""


class CancelToken:
    """A wish to stop, as seen from everywhere at once. Its attributes may be set from a signal handler: it has no lock.

    why: what asked for it, as a reader should see it ("SIGTERM", "Ctrl-C"); None while nobody has.
    draining: work must not be broken off any more; it heeds the wish by itself and ends soon.
    from_elsewhere: the wish comes from another thread than the work, which is broken off at its statement in the
    warehouse; a signal handler does it by raising Interrupted.
    """

    def __init__(self, *, from_other_thread: bool = False) -> None:
        self.reason: str | None = None
        self.shielded = False
        self.from_other_thread = from_other_thread

    def request(self, reason: str) -> None:
        """Have the work end soon. The first wish counts."""
        if self.reason is None:
            self.reason = reason

    @property
    def requested(self) -> bool:
        """Whether somebody asked for it."""
        return self.reason is not None

    @property
    def may_interrupt(self) -> bool:
        """Whether what goes on may be, or was, broken off at any statement: a stop is wished and nothing drains."""
        return self.requested and not self.shielded

    def unshield(self) -> None:
        """From now on work may be broken off. Raises Interrupted when a stop was wished meanwhile."""
        self.shielded = False
        if self.requested:
            raise Interrupted

    def shield(self) -> None:
        """From now on nothing is broken off. Raises Interrupted when a stop was wished before."""
        if self.requested:
            raise Interrupted
        self.shielded = True
