"""The delays between the attempts to send an operation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.pipeline.retry_policy import RetryPolicy


def test_delays_are_those_of_the_docstring() -> None:
    """Delays grow as documented and stay at an hour."""
    policy = RetryPolicy()
    assert [policy.delay(attempt) / 60 for attempt in range(1, 8)] == [1, 5, 15, 30, 60, 60, 60]


@given(st.integers(-3, 10_000))
def test_delays_never_shrink(attempt: int) -> None:
    """The delay of a later attempt is never shorter, and never zero."""
    policy = RetryPolicy()
    assert 0 < policy.delay(attempt) <= policy.delay(attempt + 1)
