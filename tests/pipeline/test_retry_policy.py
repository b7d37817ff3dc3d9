from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.pipeline.retry_policy import RetryPolicy


def test_the_table_of_the_docstring() -> None:
    """Delays grow as documented and stay at an hour."""
    policy = RetryPolicy()
    assert [policy.delay(attempt) / 60 for attempt in range(1, 8)] == [1, 5, 15, 30, 60, 60, 60]


@given(st.integers(-3, 10_000))
def test_delays_never_shrink(attempt: int) -> None:
    """A later attempt never waits for less time than an earlier one, and never for none."""
    policy = RetryPolicy()
    assert 0 < policy.delay(attempt) <= policy.delay(attempt + 1)
