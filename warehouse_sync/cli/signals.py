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
"""The signals that request a stop, by the names that users know. The exit code is 128 plus the number, as in shells."""

GRACEFUL_VERBS: Final = ("run", "retry", "serve")
"""Verbs that stop by themselves soon after the first signal; all others are interrupted."""

SIGINT_EXIT_CODE: Final = 128 + signal.SIGINT

SECOND_SIGNAL: Final = "stopped at once; nothing is lost: the next run continues when the lease has expired"

CONTEXT_KEY: Final = "warehouse_sync.stop"
"""Where the context of a command keeps its token."""


def cancel_token(ctx: Any) -> CancelToken:
    """Return the token that the signals of this process set."""
    stop: CancelToken = ctx.meta[CONTEXT_KEY]
    return stop


def set_verb(ctx: Any) -> None:
    """Let signals interrupt the verb from now on, unless it is one of GRACEFUL_VERBS.

    Raises:
        Interrupted: A signal has come already.
    """
    stop = cancel_token(ctx)
    stop.shielded = ctx.invoked_subcommand in GRACEFUL_VERBS
    if stop.may_interrupt:
        raise Interrupted


@contextmanager
def signals_handled(stop: CancelToken) -> Iterator[None]:
    """Let the signals of this process request `stop` while a verb runs."""
    previous = {number: signal.signal(number, _make_handler(stop)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, _handler_after_verb or handler)


def _make_handler(stop: CancelToken) -> Callable[[int, Any], None]:
    """Return a handler: the first signal requests a stop and interrupts if allowed, the second ends the process."""

    def handle(number: int, _frame: Any) -> None:
        if stop.requested:
            os.write(2, format_error_line(SECOND_SIGNAL).encode() + b"\n")
            os._exit(128 + number)
        stop.request(SIGNALS[signal.Signals(number)])
        if stop.may_interrupt:
            raise Interrupted

    return handle


def ignore_signals_after_verb() -> None:
    """Ignore signals once the verb is done: the process ends then anyway, and they must not change its exit code."""
    global _handler_after_verb
    _handler_after_verb = signal.SIG_IGN
    sys.unraisablehook = _hide_interrupted


def _hide_interrupted(unraisable: Any) -> None:
    """Print unraisable errors except Interrupted, which a signal raises during garbage collection; the token is set."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


_handler_after_verb: Any = None
"""Handler of signals after a verb; None restores the previous one."""
