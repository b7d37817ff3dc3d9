"""The daily limit is distinguished from the limit per minute by how long it lasts, for each endpoint."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.destinations.base import UNCONDITIONAL, Permit
from warehouse_sync.destinations.linkedin.api import Api
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.daily_limit import DailyLimits
from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.http import HTTPClient, Response
from warehouse_sync.destinations.linkedin.rate_limit import RateLimiter
from warehouse_sync.destinations.linkedin.tokens import TokenStore

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HALF_A_DAY = 12 * 3600.0


class Clock:
    """Both clocks, set by the test."""

    def __init__(self, start: datetime = NOON) -> None:
        self.start = start
        self.seconds = 0.0

    def limits(self) -> DailyLimits:
        return DailyLimits(
            75.0, monotonic=lambda: self.seconds, utc=lambda: self.start + timedelta(seconds=self.seconds)
        )


def throttled(limits: DailyLimits, endpoint: str = "/users", retry_after: float | None = None) -> TransientError | None:
    try:
        limits.record_429(endpoint, retry_after)
    except TransientError as gave_up:
        return gave_up
    return None


@given(st.lists(st.floats(0.1, 37), min_size=1, max_size=40))
def test_an_endpoint_is_blocked_once_429s_last_longer_than_a_minute(gaps: list[float]) -> None:
    """Not earlier, whatever the pauses between them; and then until midnight."""
    clock = Clock()
    limits = clock.limits()
    assert throttled(limits) is None
    for gap in gaps:
        clock.seconds += gap
        found = throttled(limits)
        assert (found is not None) == (clock.seconds > 75)
        if found is not None:
            assert found.reason == "daily_limit"
            assert found.retry_after == pytest.approx(HALF_A_DAY - clock.seconds)
            assert "00:00 UTC" in str(found)
            return


@given(st.lists(st.tuples(st.floats(0.1, 74), st.booleans()), max_size=60))
def test_any_other_answer_restarts_the_minute(course: list[tuple[float, bool]]) -> None:
    """Repeated 429s of one thread mean nothing while other threads are answered."""
    clock = Clock()
    limits = clock.limits()
    for gap, lucky in course:
        clock.seconds += gap
        assert throttled(limits) is None
        if lucky:
            limits.record_other_status("/users")
        else:
            clock.seconds += 0.5
            limits.record_other_status("/users")


def test_endpoints_have_separate_limits() -> None:
    """A used-up limit of users does not block companies and audiences."""
    clock = Clock()
    limits = clock.limits()
    throttled(limits)
    clock.seconds = 76
    assert throttled(limits, "/companies") is None
    assert throttled(limits) is not None
    limits.check("/companies")
    with pytest.raises(TransientError, match="/users"):
        limits.check("/users")


def test_a_blocked_endpoint_opens_at_midnight_and_not_for_a_late_answer() -> None:
    """A request that left earlier may still succeed; that does not unblock the endpoint."""
    clock = Clock()
    limits = clock.limits()
    throttled(limits)
    clock.seconds = 76
    assert throttled(limits) is not None
    limits.record_other_status("/users")
    clock.seconds = HALF_A_DAY - 1
    with pytest.raises(TransientError) as caught:
        limits.check("/users")
    assert caught.value.retry_after == pytest.approx(1)
    clock.seconds = HALF_A_DAY
    limits.check("/users")
    assert throttled(limits) is None


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(75.0, None), (75.1, 75.1), (3600.0, 3600.0), (60_000.0, 60_000.0)]
)
def test_a_retry_after_of_more_than_a_minute_blocks_at_once(retry_after: float, seconds: float | None) -> None:
    """For as long as LinkedIn asks for, which is more exact than our estimate."""
    found = throttled(Clock().limits(), retry_after=retry_after)
    assert (found.retry_after if found else None) == seconds


def test_429s_on_both_sides_of_midnight_are_not_of_one_day() -> None:
    """The limit is reset at midnight, so earlier answers mean nothing."""
    clock = Clock(NOON + timedelta(seconds=HALF_A_DAY - 40))
    limits = clock.limits()
    throttled(limits)
    clock.seconds = 41
    assert throttled(limits) is None
    clock.seconds = 41 + 75
    assert throttled(limits) is None
    clock.seconds += 1
    found = throttled(limits)
    assert found is not None
    assert found.retry_after == pytest.approx(86400 - 77)


def test_all_calls_to_a_blocked_endpoint_get_the_same_message() -> None:
    """The message does not change with time, so that many equal outcomes are recorded together."""
    clock = Clock()
    limits = clock.limits()
    messages = {str(throttled(limits, retry_after=3600))}
    for clock.seconds in (1, 100, 3000):
        with pytest.raises(TransientError) as caught:
            limits.check("/users")
        messages.add(str(caught.value))
        messages.add(str(throttled(limits)))
    assert len(messages) == 1


def test_a_thread_that_waits_while_the_limit_is_reached_sends_nothing() -> None:
    """The wait for the rate limiter may be long, and another thread may reach the limit meanwhile."""

    class SlowPace:
        def acquire(self, *_: Any) -> None:
            with contextlib.suppress(TransientError):
                api._daily_limits.record_429("/users", 3600)

    class SilentTokens:
        def get(self, _: Permit) -> str:
            return "token"

    class NoClient:
        def request(self, *_: Any, **__: Any) -> Response:
            raise AssertionError("a request was started")

    settings = LinkedInSettings(account_id=1)
    parts = cast("HTTPClient", NoClient()), cast("TokenStore", SilentTokens()), cast("RateLimiter", SlowPace())
    api = Api(*parts, settings)
    with pytest.raises(TransientError) as caught:
        api.send("POST", "/rest/dmpSegments/7/users", permit=UNCONDITIONAL, endpoint="user")
    assert caught.value.reason == "daily_limit"
