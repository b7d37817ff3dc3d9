"""What the status of an audience means for campaigns and for its sync."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.destinations.base import Audience
from warehouse_sync.destinations.linkedin.audience_status import MAX_BUILD_SECONDS, with_usability, with_warning

DAY = 86400.0


def audience(status: str | None, size: int | None = None) -> Audience:
    return Audience("10804", "user", "Customers", status, size)


@pytest.mark.parametrize(
    ("status", "size", "expected"),
    [
        ("READY", 300, "usable in campaigns"),
        ("UPDATING", 5000, "usable in campaigns"),
        ("READY", 299, "fewer than the 300 members LinkedIn needs"),
        ("READY", None, "LinkedIn does not report its size yet"),
        (None, 300, "usable in campaigns"),
        ("BUILDING", None, "LinkedIn is still building it, which takes up to 48 hours"),
        ("ARCHIVED", 300, "archived after 30 days without use; LinkedIn reactivates it when a campaign selects it"),
        (
            "EXPIRED", 0,
            "LinkedIn has deleted its members after 90 days without use; the next run sends all of them again",
        ),
        ("PAUSED", 300, "unknown status PAUSED: see LinkedIn's Campaign Manager"),
    ],
)  # fmt: skip
def test_whether_campaigns_can_use_an_audience(status: str | None, size: int | None, expected: str) -> None:
    """One sentence says so for each status, and that 300 members are needed."""
    assert with_usability(audience(status, size)).usability == expected


@pytest.mark.parametrize("status", ["BUILDING", "READY", "UPDATING", "ARCHIVED", "EXPIRED", "FAILED", "ERROR", None])
def test_only_an_expired_audience_is_emptied(status: str | None) -> None:
    """ARCHIVED and FAILED ones keep their members, so a diff is enough there."""
    assert with_usability(audience(status)).emptied is (status == "EXPIRED")


@given(st.sampled_from(["READY", "UPDATING", "EXPIRED", None]), st.none() | st.floats(0, 400 * DAY), st.booleans())
def test_an_audience_in_order_has_no_warning(status: str | None, age: float | None, by_id: bool) -> None:
    """Neither its age nor how it was chosen leads to a warning."""
    assert with_warning(audience(status), age, chosen_by_id=by_id).warning is None


@pytest.mark.parametrize(
    ("status", "size", "words"),
    [
        ("ARCHIVED", 5, ["archived audience 10804", "in an active or draft campaign", "48 hours"]),
        ("ARCHIVED", None, ["archived audience 10804", "in an active or draft campaign"]),
        ("ARCHIVED", 0, ["archived audience 10804", "empty", "--recreate"]),
        ("FAILED", 5, ["FAILED", "audience 10804", "Campaign Manager", "--recreate"]),
        ("ERROR", 5, ["ERROR", "audience 10804", "Campaign Manager", "--recreate"]),
    ],
)
def test_an_audience_with_a_problem_has_a_warning(status: str, size: int | None, words: list[str]) -> None:
    """The warning explains the status and says what to do."""
    warning = with_warning(audience(status, size), 0.0, chosen_by_id=False).warning
    assert warning is not None
    for word in words:
        assert word in warning


@pytest.mark.parametrize("age", [None, 0.0, MAX_BUILD_SECONDS - 1])
def test_a_new_audience_may_be_building(age: float | None) -> None:
    """Within 48 hours, or with an unknown age, BUILDING is no problem."""
    assert with_warning(audience("BUILDING"), age, chosen_by_id=False).warning is None


def test_an_audience_that_builds_for_days_has_a_warning() -> None:
    """After 48 hours the warning contains the age, and that LinkedIn's support can help."""
    warning = with_warning(audience("BUILDING"), 5 * DAY, chosen_by_id=False).warning
    assert warning is not None
    assert "5 days ago" in warning
    assert "LinkedIn's support" in warning


@pytest.mark.parametrize(("status", "size"), [("ARCHIVED", 0), ("FAILED", 1), ("ERROR", 1), ("BUILDING", None)])
def test_recreate_is_not_the_advice_for_an_audience_chosen_by_id(status: str, size: int | None) -> None:
    """--recreate would change nothing there; removing audience.id does."""
    warning = with_warning(audience(status, size), 9 * DAY, chosen_by_id=True).warning
    assert warning is not None
    assert "remove audience.id" in warning
    assert "--recreate" not in warning
