"""How fast requests leave: a limit per endpoint and minute, and one pause that all threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from pyrate_limiter import Duration, InMemoryBucket, Rate, RateItem

from warehouse_sync.destinations.base import NO_LISTENERS, Permit
from warehouse_sync.destinations.linkedin.errors import TransientError, daily_limit_error, stopped_error
from warehouse_sync.destinations.linkedin.shared import SharedRegistry
from warehouse_sync.events import DelayCause, Events, RequestsDelayed

DEFAULT_REQUESTS_PER_MINUTE = {"user": 480, "company": 240}
"""80 % of what LinkedIn allows one token a minute (600 requests to `/users`, 300 to `/companies`).

The rest is room for another worker on the same token, for clocks that disagree about where a minute begins, and for
the older pages of LinkedIn that still name 500 and 200.
"""


class DelayMeter:
    """Publishes for how long at least one thread waits; each wait is the body of a `with` statement. Thread-safe."""

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
    """What may leave in a minute, and until when nothing may; of all who send with one token at the same time."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.lock = threading.Lock()
        self.buckets = {endpoint: InMemoryBucket([Rate(limit, Duration.MINUTE)]) for endpoint, limit in limits.items()}
        self.paused_until = 0.0


rate_limit_states: SharedRegistry[RateLimitState] = SharedRegistry()
"""Those of this process, by the credentials and limits of who sends."""


class RateLimiter:
    """Thread-safe. In no window of 60 s more than the limit of an endpoint leaves, of all who share the budget.

    Delays are published. throttled: around a wait that the destination asked for.
    """

    def __init__(
        self,
        state: RateLimitState,
        max_pause: float,
        events: Events = NO_LISTENERS,
    ) -> None:
        self.destination_delay = DelayMeter(events, DelayCause.DESTINATION)
        self._own_delay = DelayMeter(events, DelayCause.PACE)
        self._state = state
        self._max_pause = max_pause

    def pause(self, seconds: float) -> None:
        """Let no request leave for so many seconds, from any thread."""
        with self._state.lock:
            self._state.paused_until = max(self._state.paused_until, time.monotonic() + seconds)

    def acquire(self, endpoint: str | None, permit: Permit) -> None:
        """Block until a request may leave. `endpoint` None has no limit of its own and heeds only the shared pause.

        Raises GaveUp when the permit has ended, or when the pause is longer than `longest_hold` seconds.
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
        """0 when the request may leave now, which is then counted."""
        with self._state.lock:
            held = self._state.paused_until - time.monotonic()
            if held > self._max_pause:
                raise TransientError(
                    "throttled", "LinkedIn asks to be left alone for longer than is waited", retry_after=held
                )
            if held > 0:
                return held
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


log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Endpoint:
    """since, day: of the first of the 429s that nothing else has come between. shut_until, why: once it is shut."""

    first_429: float | None = None
    day: date | None = None
    blocked_until: float | None = None
    reason: str = ""


class DailyLimits:
    """Which endpoints are shut until tomorrow. Thread-safe: what one thread learns holds for all.

    daily_limit_after: seconds after which 429s are not those of a minute's limit any more.
    """

    def __init__(
        self,
        daily_limit_after: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._daily_limit_after = daily_limit_after
        self._monotonic = monotonic
        self._utc = utc
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = threading.Lock()

    def check(self, endpoint: str) -> None:
        """Raises GaveUp while the endpoint is shut."""
        with self._lock:
            self._check(endpoint, self._endpoint(endpoint))

    def record_429(self, endpoint: str, retry_after: float | None) -> None:
        """The endpoint has answered 429. Raises GaveUp when that is the limit of the day; then it is shut."""
        with self._lock:
            known, now, day = self._endpoint(endpoint), self._monotonic(), self._utc().date()
            self._check(endpoint, known)
            if known.first_429 is None or known.day != day:  # At midnight the day's requests begin anew.
                known.first_429, known.day = now, day
            if retry_after is not None:
                if retry_after > self._daily_limit_after:
                    self._block(endpoint, known, retry_after, f"asks to be left alone for {retry_after:,.0f} s")
            elif now - known.first_429 > self._daily_limit_after:
                lasted = (
                    f"has answered HTTP 429 and nothing else for more than {self._daily_limit_after:,.0f} s; it starts "
                    "anew at 00:00 UTC"
                )
                self._block(endpoint, known, self._until_midnight(), lasted)
            self._check(endpoint, known)

    def record_other_status(self, endpoint: str) -> None:
        """The endpoint has answered something else than 429, to whichever thread."""
        with self._lock:
            self._endpoint(endpoint).first_429 = None

    def _endpoint(self, endpoint: str) -> _Endpoint:
        return self._endpoints.setdefault(endpoint, _Endpoint())

    def _check(self, endpoint: str, known: _Endpoint) -> None:
        if known.blocked_until is not None and (left := known.blocked_until - self._monotonic()) > 0:
            raise daily_limit_error(endpoint, known.reason, left)

    def _block(self, endpoint: str, known: _Endpoint, seconds: float, why: str) -> None:
        known.first_429, known.blocked_until, known.reason = None, self._monotonic() + seconds, why
        log.warning("linkedin_daily_limit", endpoint=endpoint, why=why, seconds=round(seconds))

    def _until_midnight(self) -> float:
        now = self._utc()
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
        return (midnight - now).total_seconds()
