"""Turn the signals of a process into a request to stop.

The first signal requests a stop, and interrupts a verb that may be interrupted. A second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from warehouse_sync.cancellation import CancelToken, Interrupted
from warehouse_sync.logs import format_error_line

SIGNALS: Final = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""The signals that ask for an end, as a reader knows them. The exit code is 128 and the number, as shells have it."""

HEEDING: Final = ("run", "retry", "serve")
"""Verbs that end by themselves soon after the first signal: runs tell of it by their reports, a service has drained."""

STOPPED: Final = 128 + signal.SIGINT

AT_ONCE: Final = "stopped at once; nothing is lost: the next run goes on from here, once the lease has run out"

STOP: Final = "warehouse_sync.stop"
"""Where the context of a command keeps its wish to stop."""


def stop_of(ctx: Any) -> CancelToken:
    """The wish to stop that the signals of this process set."""
    stop: CancelToken = ctx.meta[STOP]
    return stop


def verb_is_known(ctx: Any) -> None:
    """From now on a signal breaks off the verb, but for one that heeds it itself (HEEDING). Raises Interrupted."""
    stop = stop_of(ctx)
    stop.shielded = ctx.invoked_subcommand in HEEDING
    if stop.may_interrupt:
        raise Interrupted


@contextmanager
def handled(stop: CancelToken) -> Iterator[None]:
    """Have the signals of this process request `stop` while a verb runs."""
    previous = {number: signal.signal(number, _heeding(stop)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, _after_the_verb or handler)


def _heeding(stop: CancelToken) -> Callable[[int, Any], None]:
    """The first signal sets the wish, and breaks off what may be broken off; the second ends the process."""

    def heed(number: int, _frame: Any) -> None:
        if stop.requested:
            os.write(2, format_error_line(AT_ONCE).encode() + b"\n")
            os._exit(128 + number)
        stop.request(SIGNALS[signal.Signals(number)])
        if stop.may_interrupt:
            raise Interrupted

    return heed


def own_process() -> None:
    """The process ends with the command: a signal that comes when that is done does not change how it ended."""
    global _after_the_verb
    _after_the_verb = signal.SIG_IGN
    sys.unraisablehook = _untold_if_interrupted


def _untold_if_interrupted(unraisable: Any) -> None:
    """A signal that comes while the interpreter tidies up cannot be raised there; the wish to stop is set anyway."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


_after_the_verb: Any = None
"""What signals do behind a verb; None: what they did before."""
