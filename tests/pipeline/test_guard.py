"""When the guard stops a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.pipeline.guard import Guard

numbers = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("previous", "current", "removed", "limit"),
    [
        (0, 0, 0, None),
        (1000, 700, 300, None),
        (1000, 699, 301, "max_removed_percent"),
        (100, 1, 99, None),
        (101, 1, 100, None),
        (101, 1, 101, "max_removed_percent"),
        (5, 0, 5, "min_members"),
        (1, 0, 1, "min_members"),
        (0, 0, 500, "max_removed_percent"),
    ],
)
def test_default_limits(previous: int, current: int, removed: int, limit: str | None) -> None:
    """The default guard stops removes above 30 % and 100 members, and an empty query for an audience with members."""
    objection = Guard().check(previous_members=previous, current_members=current, removed_members=removed)
    assert (
        (objection is None)
        if limit is None
        else (objection is not None and limit in objection and "--force" in objection)
    )


@given(previous=numbers, current=numbers, removed=numbers, percent=st.floats(0, 100), least=numbers, below=numbers)
def test_an_accepted_run_is_within_the_limits(
    previous: int, current: int, removed: int, percent: float, least: int, below: int
) -> None:
    """A run that the guard accepts is within each limit, for any limits."""
    if (
        Guard(percent, least, below).check(previous_members=previous, current_members=current, removed_members=removed)
        is None
    ):
        assert removed <= below or removed * 100 / max(previous, 1) <= percent
        assert previous == 0 or current >= least


@given(previous=numbers, current=numbers, removed=numbers)
def test_fewer_removes_are_never_stopped(previous: int, current: int, removed: int) -> None:
    """If the guard accepts a number of removes, it accepts one fewer."""
    guard = Guard()
    if removed and guard.check(previous_members=previous, current_members=current, removed_members=removed) is None:
        assert guard.check(previous_members=previous, current_members=current, removed_members=removed - 1) is None
