"""How fast requests leave: a limit per endpoint and minute, and one pause that all threads share."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

from pyrate_limiter import Duration, InMemoryBucket, Rate, RateItem

from warehouse_sync.destinations.linkedin.endings import GaveUp, stopped
from warehouse_sync.progress import Waiting

DEFAULT_REQUESTS_PER_MINUTE = {"user": 480, "company": 240}
"""80 % of what LinkedIn allows one token a minute (600 requests to `/users`, 300 to `/companies`).

The rest is room for another worker on the same token, for clocks that disagree about where a minute begins, and for
the older pages of LinkedIn that still name 500 and 200.
"""

Wait = Callable[[float], bool]
"""Sleeps for the seconds given; true when it was ended early because the worker is to stop."""


class Waits:
    """Tells for how long at least one thread waits; each wait is the body of a `with` statement. Thread-safe."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting = 0
        self._told = 0.0

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *_: object) -> None:
        self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            now = time.monotonic()
            if self._waiting:
                self._tell(now - self._told)
            self._told = now
            self._waiting += by


class Budget:
    """What may leave in a minute, and until when nothing may; of all who send with one token at the same time."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.lock = threading.Lock()
        self.buckets = {endpoint: InMemoryBucket([Rate(limit, Duration.MINUTE)]) for endpoint, limit in limits.items()}
        self.held_until = 0.0


_budgets: WeakValueDictionary[tuple[object, ...], Budget] = WeakValueDictionary()
_budgets_lock = threading.Lock()


def shared_budget(limits: Mapping[str, int], *sender: str | None) -> Budget:
    """The budget of those in this process who send as `sender` with these limits, for as long as any of them does.

    sender: what LinkedIn counts by: its address and the credentials; they are kept as a hash.
    """
    digest = hashlib.sha256(repr(sender).encode()).hexdigest()
    key = (digest, *sorted(limits.items()))
    with _budgets_lock:
        budget = _budgets.get(key)
        if budget is None:
            budget = _budgets[key] = Budget(limits)
        return budget


class Pace:
    """Thread-safe. In no window of 60 s more than the limit of an endpoint leaves, of all who share the budget.

    waited: is told of the time during which requests were held back, and why. throttled: around a wait that the
    destination asked for.
    """

    def __init__(
        self,
        budget: Budget,
        wait: Wait,
        longest_hold: float,
        waited: Callable[[Waiting, float], None] = lambda *_: None,
    ) -> None:
        self.throttled = Waits(lambda seconds: waited(Waiting.DESTINATION, seconds))
        self._paced = Waits(lambda seconds: waited(Waiting.PACE, seconds))
        self._budget = budget
        self._wait = wait
        self._longest_hold = longest_hold

    def hold(self, seconds: float) -> None:
        """Let no request leave for so many seconds, from any thread."""
        with self._budget.lock:
            self._budget.held_until = max(self._budget.held_until, time.monotonic() + seconds)

    def turn(self, endpoint: str | None) -> None:
        """Block until a request may leave. `endpoint` None has no limit of its own and heeds only the shared pause.

        Raises GaveUp when the worker is to stop, or when the pause is longer than `longest_hold` seconds.
        """
        while (seconds := self._seconds_to_wait(endpoint)) > 0:
            with self.throttled if self._is_held() else self._paced:
                self._pause(seconds)
        self._pause(0)

    def _is_held(self) -> bool:
        with self._budget.lock:
            return self._budget.held_until > time.monotonic()

    def _pause(self, seconds: float) -> None:
        if self._wait(seconds):
            raise stopped(attempted=False)

    def _seconds_to_wait(self, endpoint: str | None) -> float:
        """0 when the request may leave now, which is then counted."""
        with self._budget.lock:
            held = self._budget.held_until - time.monotonic()
            if held > self._longest_hold:
                raise GaveUp("throttled", "LinkedIn asks to be left alone for longer than is waited", retry_after=held)
            if held > 0:
                return held
            if endpoint is None:
                return 0.0
            bucket = self._budget.buckets[endpoint]
            now = time.monotonic_ns() // 1_000_000
            bucket.leak(now)
            item = RateItem(endpoint, now)
            if bucket.put(item):
                return 0.0
            milliseconds = bucket.waiting(item)
            assert isinstance(milliseconds, int)
            return max(milliseconds, 1) / 1000
