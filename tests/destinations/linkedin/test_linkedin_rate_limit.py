"""Requests keep the limit of their endpoint, and a pause applies to all threads."""

from __future__ import annotations

import time

import pytest

from warehouse_sync.destinations.base import UNCONDITIONAL
from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.rate_limit import DEFAULT_REQUESTS_PER_MINUTE, RateLimiter, RateLimitState
from warehouse_sync.destinations.linkedin.shared import SharedRegistry


class Waits:
    """A permit that records how long a wait would take and ends it, as if a stop were requested."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return seconds > 0

    def is_valid(self) -> bool:
        return True


def test_the_defaults_are_80_percent_of_linkedins_limits() -> None:
    assert {kind: limit / 0.8 for kind, limit in DEFAULT_REQUESTS_PER_MINUTE.items()} == {"user": 600, "company": 300}


def test_the_request_beyond_the_limit_waits_for_the_first_to_be_a_minute_old() -> None:
    waits = Waits()
    limiter = RateLimiter(RateLimitState({"user": 3, "company": 1}), max_pause=300)
    for _ in range(3):
        limiter.acquire("user", waits)
    assert waits.seconds == [0, 0, 0]
    with pytest.raises(TransientError) as caught:
        limiter.acquire("user", waits)
    assert caught.value.reason == "stopped"
    assert 59 < waits.seconds[3] <= 60.1


def test_endpoints_do_not_share_their_limits() -> None:
    waits = Waits()
    limiter = RateLimiter(RateLimitState({"user": 1, "company": 1}), max_pause=300)
    limiter.acquire("user", waits)
    limiter.acquire("company", waits)
    for _ in range(5):
        limiter.acquire(None, waits)
    with pytest.raises(TransientError):
        limiter.acquire("company", waits)


def test_a_pause_applies_to_every_endpoint_and_a_shorter_one_does_not_end_it() -> None:
    waits = Waits()
    limiter = RateLimiter(RateLimitState({"user": 100}), max_pause=300)
    limiter.pause(20)
    limiter.pause(1)
    for endpoint in ("user", None):
        with pytest.raises(TransientError):
            limiter.acquire(endpoint, waits)
    assert all(19 < seconds <= 20 for seconds in waits.seconds if seconds)


def test_a_pause_ends() -> None:
    limiter = RateLimiter(RateLimitState({"user": 100}), max_pause=300)
    limiter.pause(0.05)
    started = time.monotonic()
    limiter.acquire("user", UNCONDITIONAL)
    assert 0.05 <= time.monotonic() - started < 1


def test_a_pause_longer_than_the_maximum_is_not_waited_for() -> None:
    waits = Waits()
    limiter = RateLimiter(RateLimitState({"user": 100}), max_pause=300)
    limiter.pause(3600)
    with pytest.raises(TransientError) as caught:
        limiter.acquire("user", waits)
    assert caught.value.reason == "throttled"
    assert caught.value.retry_after == pytest.approx(3600, abs=1)
    assert waits.seconds == []


def test_destinations_with_one_token_share_its_limit_and_its_pauses() -> None:
    """Concurrent syncs together stay below LinkedIn's limit for a member; another member has separate limits."""
    limits, waits = {"user": 3}, Waits()
    shared: SharedRegistry[RateLimitState] = SharedRegistry()
    shares = [shared.acquire(token, lambda: RateLimitState(limits)) for token in ("one", "one", "another")]
    one, two, other = (RateLimiter(share.value, max_pause=300) for share in shares)
    for limiter in (one, two, one):
        limiter.acquire("user", waits)
    with pytest.raises(TransientError):
        two.acquire("user", waits)
    other.acquire("user", waits)
    one.pause(20)
    with pytest.raises(TransientError):
        two.acquire(None, waits)
    other.acquire(None, waits)
    for share in (*shares, *shares):
        share.release()
    assert shared.acquire("one", lambda: RateLimitState(limits)).value is not shares[0].value
