"""The rate limit per endpoint and minute, and the pause that all threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from pyrate_limiter import Duration, InMemoryBucket, Rate, RateItem

from warehouse_sync.destinations.base import NO_LISTENERS, Permit
from warehouse_sync.destinations.linkedin.errors import TransientError, stopped_error
from warehouse_sync.destinations.linkedin.shared import SharedRegistry
from warehouse_sync.events import DelayCause, Events, RequestsDelayed

DEFAULT_REQUESTS_PER_MINUTE = {"user": 480, "company": 240}
"""80 % of what LinkedIn allows one token a minute (600 requests to `/users`, 300 to `/companies`).

The rest is for another worker with the same token, for clocks that disagree about the start of a minute, and because
older pages of LinkedIn's documentation still say 500 and 200.
"""


class DelayMeter:
    """A context manager around each wait, which publishes for how long at least one thread waits. Thread-safe."""

    def __init__(self, events: Events, cause: DelayCause) -> None:
        self._events = events
        self._cause = cause
        self._lock = threading.Lock()
        self._waiting = 0
        self._published_at = 0.0

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *_: object) -> None:
        self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            now = time.monotonic()
            if self._waiting:
                self._events.publish(RequestsDelayed(self._cause, now - self._published_at))
            self._published_at = now
            self._waiting += by


class RateLimitState:
    """The requests of the last minute and the current pause, shared by all destinations with the same credentials.

    Attributes:
        lock: Guards the other attributes.
        buckets: The requests of the last minute, by endpoint.
        paused_until: No request may leave before this moment of the monotonic clock.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.lock = threading.Lock()
        self.buckets = {endpoint: InMemoryBucket([Rate(limit, Duration.MINUTE)]) for endpoint, limit in limits.items()}
        self.paused_until = 0.0


rate_limit_states: SharedRegistry[RateLimitState] = SharedRegistry()
"""The states of this process, by credentials and limits."""


class RateLimiter:
    """Delays requests so that no 60 seconds contain more of them than an endpoint's limit. Thread-safe.

    The limit holds for all destinations that share `state`. Delays are published.

    Attributes:
        destination_delay: To be entered during a wait that LinkedIn asked for.
    """

    def __init__(self, state: RateLimitState, max_pause: float, events: Events = NO_LISTENERS) -> None:
        self.destination_delay = DelayMeter(events, DelayCause.DESTINATION)
        self._own_delay = DelayMeter(events, DelayCause.PACE)
        self._state = state
        self._max_pause = max_pause

    def pause(self, seconds: float) -> None:
        """Let no thread send a request for so many seconds."""
        with self._state.lock:
            self._state.paused_until = max(self._state.paused_until, time.monotonic() + seconds)

    def acquire(self, endpoint: str | None, permit: Permit) -> None:
        """Block until a request may leave, and count it.

        Args:
            endpoint: The endpoint whose limit counts the request; None for one that only keeps the shared pause.
            permit: The right to send the request.

        Raises:
            TransientError: The permit has ended, or the pause is longer than `max_pause` seconds.
        """
        while (seconds := self._seconds_to_wait(endpoint)) > 0:
            with self.destination_delay if self._is_paused() else self._own_delay:
                self._wait(seconds, permit)
        self._wait(0, permit)

    def _is_paused(self) -> bool:
        with self._state.lock:
            return self._state.paused_until > time.monotonic()

    def _wait(self, seconds: float, permit: Permit) -> None:
        if permit.wait(seconds):
            raise stopped_error(attempted=False)

    def _seconds_to_wait(self, endpoint: str | None) -> float:
        """Return 0 if the request may leave now, and count it; else the seconds to wait."""
        with self._state.lock:
            pause = self._state.paused_until - time.monotonic()
            if pause > self._max_pause:
                raise TransientError(
                    "throttled", "LinkedIn asks for a pause that is longer than a run waits", retry_after=pause
                )
            if pause > 0:
                return pause
            if endpoint is None:
                return 0.0
            bucket = self._state.buckets[endpoint]
            now = time.monotonic_ns() // 1_000_000
            bucket.leak(now)
            item = RateItem(endpoint, now)
            if bucket.put(item):
                return 0.0
            milliseconds = bucket.waiting(item)
            assert isinstance(milliseconds, int)
            return max(milliseconds, 1) / 1000
