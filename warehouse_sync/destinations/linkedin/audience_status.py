"""What the status of an audience means for campaigns and for a sync. Pure functions.

status             campaigns                           sync
BUILDING           may select it, reach no member yet  continues; warns after 48 hours
READY, UPDATING    may use it from 300 members on      continues
ARCHIVED           may select it, which reactivates it continues, warns
EXPIRED            cannot use it, its data is deleted  sends every member again
FAILED, ERROR      cannot use it                       continues, warns
"""

from __future__ import annotations

from dataclasses import replace

from warehouse_sync.destinations.base import Audience

MIN_MEMBERS = 300
"""The fewest members with which campaigns can use an audience (LinkedIn Help, "matched audiences")."""

MAX_BUILD_SECONDS = 48 * 3600.0
"""Seconds that LinkedIn needs at most to build an audience, except "in rare instances"."""

_HOURS, _DAY = "48 hours", 86400.0

_USABILITY = {
    "BUILDING": f"LinkedIn is still building it, which takes up to {_HOURS}",
    "ARCHIVED": "archived after 30 days without use; LinkedIn reactivates it when a campaign selects it",
    "EXPIRED": "LinkedIn has deleted its members after 90 days without use; the next run sends all of them again",
    "FAILED": "LinkedIn reports that it failed; no campaign can use it",
    "ERROR": "LinkedIn reports an error in it; no campaign can use it",
}


def with_usability(audience: Audience) -> Audience:
    """Return the audience with `usability` and `emptied`, which follow from its status."""
    return replace(audience, usability=_usability(audience), emptied=audience.status == "EXPIRED")


def with_warning(audience: Audience, age: float | None, *, chosen_by_id: bool) -> Audience:
    """Return the audience with its `warning`.

    Args:
        audience: The audience.
        age: Seconds since it was created; None if unknown.
        chosen_by_id: Whether the configuration names it by its id.
    """
    return replace(audience, warning=_warning(audience, age, _remedy(chosen_by_id)))


def _usability(audience: Audience) -> str:
    if audience.status in _USABILITY:
        return _USABILITY[audience.status]
    if audience.status not in (None, "READY", "UPDATING"):
        return f"unknown status {audience.status}: see LinkedIn's Campaign Manager"
    if audience.size is None:
        return "LinkedIn does not report its size yet"
    if audience.size < MIN_MEMBERS:
        return f"fewer than the {MIN_MEMBERS} members LinkedIn needs"
    return "usable in campaigns"


def _warning(audience: Audience, age: float | None, remedy: str) -> str | None:
    name = f"audience {audience.id}"
    match audience.status:
        case "ARCHIVED" if audience.size == 0:
            return (
                f"LinkedIn has archived {name}: no campaign has used it for 30 days, and it is empty, so that no "
                f"campaign reactivates it. Runs continue to update it; if it stays archived, {remedy}."
            )
        case "ARCHIVED":
            return (
                f"LinkedIn has archived {name}: no campaign has used it for 30 days. Runs continue to update it; "
                f"select it in an active or draft campaign, and LinkedIn reactivates it within {_HOURS}."
            )
        case "FAILED" | "ERROR":
            return (
                f"LinkedIn reports {audience.status} for {name}, so no campaign can use it. Check it in Campaign "
                f"Manager; if it stays so, {remedy}."
            )
        case "BUILDING" if age is not None and age > MAX_BUILD_SECONDS:
            return (
                f"LinkedIn shows {name} as BUILDING although it was created {age / _DAY:.0f} days ago; after the "
                f"first members it takes up to {_HOURS}, rarely longer. If it has members and stays so, ask LinkedIn's "
                f"support, or {remedy}."
            )
    return None


def _remedy(chosen_by_id: bool) -> str:
    if chosen_by_id:
        return "remove audience.id from the sync to have a new audience created"
    return "start with a new audience: run the sync once with --recreate"
