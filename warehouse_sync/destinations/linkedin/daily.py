"""The limit of a day, told from that of a minute by the only sign that there is: how long it lasts.

Both are answered with the same 429, and so is a request that LinkedIn's outer protection turns away. A minute's limit
is over after a minute at most. So when an endpoint has answered 429 and nothing else for longer than that, its requests
of this day are used up, and asking again before 00:00 UTC is of no use. Where LinkedIn itself asks to be left alone for
longer than a minute, that counts, and no longer than it asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog

from warehouse_sync.destinations.linkedin.endings import daily_limit

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Endpoint:
    """since, day: of the first of the 429s that nothing else has come between. shut_until, why: once it is shut."""

    since: float | None = None
    day: date | None = None
    shut_until: float | None = None
    why: str = ""


class DailyLimits:
    """Which endpoints are shut until tomorrow. Thread-safe: what one thread learns holds for all.

    minute_throttle: seconds after which 429s are not those of a minute's limit any more.
    """

    def __init__(
        self,
        minute_throttle: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._minute_throttle = minute_throttle
        self._monotonic = monotonic
        self._utc = utc
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = threading.Lock()

    def ensure_open(self, endpoint: str) -> None:
        """Raises GaveUp while the endpoint is shut."""
        with self._lock:
            self._ensure_open(endpoint, self._endpoint(endpoint))

    def throttled(self, endpoint: str, retry_after: float | None) -> None:
        """The endpoint has answered 429. Raises GaveUp when that is the limit of the day; then it is shut."""
        with self._lock:
            known, now, day = self._endpoint(endpoint), self._monotonic(), self._utc().date()
            self._ensure_open(endpoint, known)
            if known.since is None or known.day != day:  # At midnight the day's requests begin anew.
                known.since, known.day = now, day
            if retry_after is not None:
                if retry_after > self._minute_throttle:
                    self._shut(endpoint, known, retry_after, f"asks to be left alone for {retry_after:,.0f} s")
            elif now - known.since > self._minute_throttle:
                lasted = (
                    f"has answered HTTP 429 and nothing else for more than {self._minute_throttle:,.0f} s; it starts "
                    "anew at 00:00 UTC"
                )
                self._shut(endpoint, known, self._until_midnight(), lasted)
            self._ensure_open(endpoint, known)

    def answered(self, endpoint: str) -> None:
        """The endpoint has answered something else than 429, to whichever thread."""
        with self._lock:
            self._endpoint(endpoint).since = None

    def _endpoint(self, endpoint: str) -> _Endpoint:
        return self._endpoints.setdefault(endpoint, _Endpoint())

    def _ensure_open(self, endpoint: str, known: _Endpoint) -> None:
        if known.shut_until is not None and (left := known.shut_until - self._monotonic()) > 0:
            raise daily_limit(endpoint, known.why, left)

    def _shut(self, endpoint: str, known: _Endpoint, seconds: float, why: str) -> None:
        known.since, known.shut_until, known.why = None, self._monotonic() + seconds, why
        log.warning("linkedin_daily_limit", endpoint=endpoint, why=why, seconds=round(seconds))

    def _until_midnight(self) -> float:
        now = self._utc()
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
        return (midnight - now).total_seconds()
