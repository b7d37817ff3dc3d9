"""The scheduler's time: the clock, how it waits, and the intervals between its checks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

POLL: Final = 0.2
"""Seconds until a request to stop is noticed; a signal handler cannot always wake the loop."""


class Clock:
    """The current time, and a way to wait."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> datetime:
        """Return the current time, with its time zone."""
        return datetime.now(UTC)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner."""
        self._woken.wait(min(max(seconds, 0.0), POLL))
        self._woken.clear()

    def wake(self) -> None:
        """Make `wait()` return. Thread-safe."""
        self._woken.set()


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the checks of a service.

    Attributes:
        config_check: Until the configuration's files are checked for changes again.
        lease_held: Until a sync is checked again that another worker is running.
        resource_busy: Until a sync is checked again whose warehouse is in use by another run of this process.
        sync_check: Longest time between two checks of a sync, because other workers may have left work. A check wakes
            a warehouse that is billed by time.
        retention: Between two passes that delete old data of a sync.
        backoff_initial: After the first failure; doubled after each further one.
        backoff_max: Upper limit of that.
    """

    config_check: float = 5.0
    lease_held: float = 5.0
    resource_busy: float = 0.5
    sync_check: float = 3600.0
    retention: float = 86400.0
    backoff_initial: float = 15.0
    backoff_max: float = 300.0
