"""The scheduler's time: what it reads it from, how it waits, and how long between two looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

POLL: Final = 0.2
"""Seconds until a wish to stop is noticed; a signal handler may not wake the loop itself."""


class Clock:
    """The time, and how to wait for it."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> datetime:
        """The time, with its zone."""
        return datetime.now(UTC)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or sooner."""
        self._woken.wait(min(max(seconds, 0.0), POLL))
        self._woken.clear()

    def wake(self) -> None:
        """Have `wait()` return. Thread-safe."""
        self._woken.set()


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks.

    reload_interval: at the configuration's files. look_again: at a sync that another worker has, busy: at one whose
    warehouse another run of this process has. look_every: at any sync, since others may have left work; each look wakes
    a warehouse that is paid for by time. tidy_every: of retention. wait_first, wait_most: after a failure, doubled each
    time.
    """

    reload_interval: float = 5.0
    look_again: float = 5.0
    busy: float = 0.5
    look_every: float = 3600.0
    tidy_every: float = 86400.0
    wait_first: float = 15.0
    wait_most: float = 300.0
