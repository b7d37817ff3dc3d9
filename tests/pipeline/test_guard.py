from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.pipeline.guard import Guard

numbers = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("had", "has", "leaving", "word"),
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
def test_defaults(had: int, has: int, leaving: int, word: str | None) -> None:
    """30 % of the members, when that is more than 100; and never an empty query where the audience had somebody."""
    objection = Guard().check(previous_members=had, current_members=has, removed_members=leaving)
    assert (
        (objection is None)
        if word is None
        else (objection is not None and word in objection and "--force" in objection)
    )


@given(had=numbers, has=numbers, leaving=numbers, percent=st.floats(0, 100), least=numbers, below=numbers)
def test_a_run_that_passes_removes_a_tolerable_share(
    had: int, has: int, leaving: int, percent: float, least: int, below: int
) -> None:
    """Whatever the limits, a run without objection is below each of them."""
    if Guard(percent, least, below).check(previous_members=had, current_members=has, removed_members=leaving) is None:
        assert leaving <= below or leaving * 100 / max(had, 1) <= percent
        assert had == 0 or has >= least


@given(had=numbers, has=numbers, leaving=numbers)
def test_removing_fewer_never_raises_an_objection(had: int, has: int, leaving: int) -> None:
    """If a run may remove so many, it may remove one fewer."""
    guard = Guard()
    if leaving and guard.check(previous_members=had, current_members=has, removed_members=leaving) is None:
        assert guard.check(previous_members=had, current_members=has, removed_members=leaving - 1) is None
