"""A DMP segment: its description, its members and its status over time.

    BUILDING --build_seconds after the first ADD--> READY --a write--> UPDATING --update_seconds--> READY
    any of them --archive_after idle--> ARCHIVED --expire_after idle--> EXPIRED (members deleted)
    ARCHIVED --a write--> UPDATING        EXPIRED --a write--> BUILDING        FAILED, ERROR: until changed by hand

Idle means that no batch and no update of the segment arrived. All times are in seconds since the epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from warehouse_sync.sandbox.members import ElementKey, Fields, SegmentMembers
from warehouse_sync.sandbox.settings import DAY, SandboxSettings

STATUSES = ("BUILDING", "READY", "UPDATING", "ARCHIVED", "EXPIRED", "FAILED", "ERROR")
COUNT_PERIOD = 7 * DAY
"""Seconds for which matchedCount and inputCount count an element."""


@dataclass(slots=True)
class Segment:
    """A DMP segment. Call `advance` with the current time before reading it.

    Attributes:
        id: The number of the segment.
        account: The URN of its account.
        type: What its members are, such as USER or COMPANY.
        name: Its name.
        source_platform: The platform that created it.
        created: When it was created.
        settings: The settings of the sandbox.
        source_segment_id: Its id at the platform.
        description: Its description.
        access_policy: PRIVATE, or None.
        destinations: When each destination was added, by name.
        members: Its members.
        last_modified: The time of the last change.
        last_active: The time from which idle time counts.
        first_added: The time of the first ADD; None before.
        last_written: The time of the last batch.
        forced_status: A status that holds until the next write, set by hand or EXPIRED; None if it follows the times.
    """

    id: int
    account: str
    type: str
    name: str
    source_platform: str
    created_at: float
    settings: SandboxSettings
    source_segment_id: str | None = None
    description: str | None = None
    access_policy: str | None = None
    destinations: dict[str, float] = field(default_factory=dict)
    members: SegmentMembers = field(default_factory=SegmentMembers)
    last_modified: float = 0.0
    last_active: float = 0.0
    first_added: float | None = None
    last_written: float = 0.0
    forced_status: str | None = None
    _added_counts: deque[tuple[float, int, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.last_modified = self.last_active = self.created_at

    @property
    def account_id(self) -> int:
        """Return the number in the account's URN."""
        return int(self.account.rpartition(":")[2])

    def advance(self, now: float) -> None:
        """Apply the passage of time: expire an idle segment and drop old counts."""
        if self.forced_status != "EXPIRED" and now - self.last_active >= self.settings.expire_after:
            self.force_status("EXPIRED", now)
        while self._added_counts and self._added_counts[0][0] <= now - COUNT_PERIOD:
            self._added_counts.popleft()

    def status(self, now: float) -> str:
        """Return the status of its destinations."""
        if self.forced_status is not None:
            return self.forced_status
        if self.first_added is None or now < self.first_added + self.settings.build_seconds:
            building = "BUILDING"
        else:
            building = "UPDATING" if now < self.last_written + self.settings.update_seconds else "READY"
        return "ARCHIVED" if now - self.last_active >= self.settings.archive_after else building

    def force_status(self, status: str, now: float) -> None:
        """Set the status until the next write; EXPIRED deletes the members."""
        self.forced_status = status
        if status == "EXPIRED":
            self.members.clear()
            self._added_counts.clear()
            self.first_added = None
        elif status in ("BUILDING", "READY", "UPDATING"):
            self.last_active = now

    def apply(self, adds: Sequence[tuple[ElementKey, Fields]], removes: Sequence[ElementKey], now: float) -> None:
        """Apply the valid REMOVEs and ADDs of a batch."""
        if self.forced_status not in ("FAILED", "ERROR"):
            self.forced_status = None
        self.members.remove(removes)
        self.members.add(adds)
        if adds:
            unmatched = self.settings.unmatched_values
            missed = sum(all(value in unmatched for _, value in key) for key, _ in adds) if unmatched else 0
            self._added_counts.append((now, len(adds), len(adds) - missed))
            if self.first_added is None:
                self.first_added = now
        self.last_written = self.last_active = self.last_modified = now

    def as_entity(self, now: float) -> dict[str, Any]:
        """Return the segment as GET and the finder show it; without counts while it is BUILDING."""
        building = self.status(now) == "BUILDING"
        entity: dict[str, Any] = {
            "created": _milliseconds(self.created_at),
            "destinations": [self.as_destination(name, now) for name in self.destinations],
            "name": self.name,
            "sourcePlatform": self.source_platform,
            "id": self.id,
            "lastModified": _milliseconds(self.last_modified),
            "type": self.type,
            "account": self.account,
        }
        optional = {
            "accessPolicy": self.access_policy,
            "description": self.description,
            "sourceSegmentId": self.source_segment_id,
            "inputCount": None if building else sum(count for _, count, _ in self._added_counts),
        }
        return entity | {name: value for name, value in optional.items() if value is not None}

    def as_destination(self, name: str, now: float) -> dict[str, Any]:
        """Return one entry of `destinations`."""
        status = self.status(now)
        destination: dict[str, Any] = {
            "created": _milliseconds(self.destinations[name]),
            "destination": name,
            "destinationSegmentId": f"urn:li:adSegment:{self.id + 5_000_000}",
            "lastModified": _milliseconds(self.last_modified),
            "status": status,
        }
        if status != "BUILDING":
            destination["audienceSize"] = len(self.members)
            destination["matchedCount"] = sum(matched for _, _, matched in self._added_counts)
        return destination


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
