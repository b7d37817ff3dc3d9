"""Cancellation: the request that work ends before it is complete."""

from __future__ import annotations


class Interrupted(KeyboardInterrupt):
    """Work was interrupted on request.

    A plain KeyboardInterrupt would also make Python end the whole process by a signal.
    """


class CancelToken:
    """A request to stop, shared by the thread that works and everything that can ask it to stop.

    A signal handler may set the attributes, so there is no lock.

    Attributes:
        reason: What requested the stop, as an operator reads it ("SIGTERM", "Ctrl-C"); None without a request.
        shielded: The work must not be interrupted. It checks for a request by itself and then ends soon.
        from_other_thread: Requests come from another thread than the work. That thread interrupts the work by
            cancelling its statement in the warehouse; a signal handler raises Interrupted instead.
    """

    def __init__(self, *, from_other_thread: bool = False) -> None:
        self.reason: str | None = None
        self.shielded = False
        self.from_other_thread = from_other_thread

    def request(self, reason: str) -> None:
        """Request that the work ends soon. The first reason is kept."""
        if self.reason is None:
            self.reason = reason

    @property
    def requested(self) -> bool:
        """Return whether a stop was requested."""
        return self.reason is not None

    @property
    def may_interrupt(self) -> bool:
        """Return whether the work may be interrupted at any statement: a stop was requested and nothing shields it."""
        return self.requested and not self.shielded

    def unshield(self) -> None:
        """Allow interruptions from now on.

        Raises:
            Interrupted: A stop was requested while the work was shielded.
        """
        self.shielded = False
        if self.requested:
            raise Interrupted

    def shield(self) -> None:
        """Forbid interruptions from now on.

        Raises:
            Interrupted: A stop was requested before.
        """
        if self.requested:
            raise Interrupted
        self.shielded = True
