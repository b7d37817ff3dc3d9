"""What the status of an audience means for whoever keeps it or wants to use it. Pure.

status             for campaigns               for a sync
BUILDING           allowed, serves nobody yet  goes on; a warning after 48 hours
READY, UPDATING    usable from 300 members on  goes on
ARCHIVED           allowed, wakes when used    goes on, with a warning
EXPIRED            no, its data is gone        sends every member again
FAILED, ERROR      no                          goes on, with a warning
"""

from __future__ import annotations

from dataclasses import replace

from warehouse_sync.destinations.base import Audience

MIN_MEMBERS = 300
"""Members below which LinkedIn offers an audience to no campaign (LinkedIn Help, "matched audiences")."""

MAX_BUILD_SECONDS = 48 * 3600.0
"""Seconds that LinkedIn takes to build an audience, "in rare instances" more."""

_HOURS, _DAY = "48 hours", 86400.0

_USABILITY = {
    "BUILDING": f"LinkedIn is still building it, which takes up to {_HOURS}",
    "ARCHIVED": "archived after 30 days without use; LinkedIn wakes it when a campaign takes it",
    "EXPIRED": "LinkedIn has dropped its members after 90 days without use; the next run sends all of them again",
    "FAILED": "LinkedIn reports that it failed; no campaign can use it",
    "ERROR": "LinkedIn reports an error in it; no campaign can use it",
}


def with_usability(audience: Audience) -> Audience:
    """The audience with what its status says by itself: `usable` and `emptied`."""
    return replace(audience, usability=_usability(audience), emptied=audience.status == "EXPIRED")


def with_warning(audience: Audience, age: float | None, *, chosen_by_id: bool) -> Audience:
    """The audience with its `warning`.

    age: seconds since it was created, None when unknown. chosen_by_id: the configuration names it by its id.
    """
    return replace(audience, warning=_warning(audience, age, _remedy(chosen_by_id)))


def _usability(audience: Audience) -> str:
    if audience.status in _USABILITY:
        return _USABILITY[audience.status]
    if audience.status not in (None, "READY", "UPDATING"):
        return f"nothing is known here of the status {audience.status}: see LinkedIn's Campaign Manager"
    if audience.size is None:
        return "LinkedIn does not tell its size yet"
    if audience.size < MIN_MEMBERS:
        return f"fewer than the {MIN_MEMBERS} members LinkedIn needs"
    return "usable in campaigns"


def _warning(audience: Audience, age: float | None, way_out: str) -> str | None:
    name = f"audience {audience.id}"
    match audience.status:
        case "ARCHIVED" if audience.size == 0:
            return (
                f"LinkedIn has archived {name}, which nobody has used for 30 days and which is empty, so that no "
                f"campaign wakes it any more. It is kept up to date all the same; if it stays archived, {way_out}."
            )
        case "ARCHIVED":
            return (
                f"LinkedIn has archived {name}, which nobody has used for 30 days. It is kept up to date all the same; "
                f"take it into an active or draft campaign and LinkedIn wakes it within {_HOURS}."
            )
        case "FAILED" | "ERROR":
            return (
                f"LinkedIn reports {audience.status} for {name}, so no campaign can use it. Look at it in Campaign "
                f"Manager; if it stays so, {way_out}."
            )
        case "BUILDING" if age is not None and age > MAX_BUILD_SECONDS:
            return (
                f"LinkedIn shows {name} as BUILDING although it was created {age / _DAY:.0f} days ago; from the first "
                f"members on it takes up to {_HOURS}, rarely longer. If it stays so with members in it, ask LinkedIn's "
                f"support, or {way_out}."
            )
    return None


def _remedy(chosen_by_id: bool) -> str:
    if chosen_by_id:
        return "take audience.id out of the sync to have a fresh audience made"
    return "begin anew with a fresh audience: run the sync once with --recreate"
