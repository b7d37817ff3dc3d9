"""LinkedIn's limit of requests a day, which looks like the limit per minute but lasts until 00:00 UTC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog

from warehouse_sync.destinations.linkedin.errors import daily_limit_error

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Endpoint:
    """What is known of one endpoint.

    Attributes:
        first_429: Moment of the first of the latest 429s, if they were answered without another status between them.
        day: Its day, in UTC.
        blocked_until: No request may leave before this moment.
        evidence: How we know that the daily limit is reached.
    """

    first_429: float | None = None
    day: date | None = None
    blocked_until: float | None = None
    evidence: str = ""


class DailyLimits:
    """The endpoints whose daily limit is reached. Thread-safe: what one thread learns applies to all."""

    def __init__(
        self,
        daily_limit_after: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Create limits that are not reached.

        Args:
            daily_limit_after: Seconds with no status but 429 after which these are not due to the limit per minute.
            monotonic: The monotonic clock.
            utc: The wall clock.
        """
        self._daily_limit_after = daily_limit_after
        self._monotonic = monotonic
        self._utc = utc
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = threading.Lock()

    def check(self, endpoint: str) -> None:
        """Raise TransientError while the endpoint is blocked."""
        with self._lock:
            self._check(endpoint, self._endpoint(endpoint))

    def record_429(self, endpoint: str, retry_after: float | None) -> None:
        """Record a 429. Block the endpoint and raise TransientError if its daily limit is reached."""
        with self._lock:
            known, now, day = self._endpoint(endpoint), self._monotonic(), self._utc().date()
            self._check(endpoint, known)
            if known.first_429 is None or known.day != day:  # The limit is reset at midnight.
                known.first_429, known.day = now, day
            if retry_after is not None:
                if retry_after > self._daily_limit_after:
                    self._block(endpoint, known, retry_after, f"asks for a pause of {retry_after:,.0f} s")
            elif now - known.first_429 > self._daily_limit_after:
                evidence = (
                    f"has answered only HTTP 429 for more than {self._daily_limit_after:,.0f} s; the limit is reset "
                    "at 00:00 UTC"
                )
                self._block(endpoint, known, self._until_midnight(), evidence)
            self._check(endpoint, known)

    def record_other_status(self, endpoint: str) -> None:
        """Record an answer that is no 429."""
        with self._lock:
            self._endpoint(endpoint).first_429 = None

    def _endpoint(self, endpoint: str) -> _Endpoint:
        return self._endpoints.setdefault(endpoint, _Endpoint())

    def _check(self, endpoint: str, known: _Endpoint) -> None:
        if known.blocked_until is not None and (remaining := known.blocked_until - self._monotonic()) > 0:
            raise daily_limit_error(endpoint, known.evidence, remaining)

    def _block(self, endpoint: str, known: _Endpoint, seconds: float, evidence: str) -> None:
        known.first_429, known.blocked_until, known.evidence = None, self._monotonic() + seconds, evidence
        log.warning("linkedin_daily_limit", endpoint=endpoint, evidence=evidence, seconds=round(seconds))

    def _until_midnight(self) -> float:
        now = self._utc()
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
        return (midnight - now).total_seconds()
