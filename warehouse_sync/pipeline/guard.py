"""Decide whether a run that removes many members may go on. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """The limits of a plausible run.

    Attributes:
        max_removed_percent: The largest share of the previous members that may be removed, in per cent.
        min_members: A query that yields fewer members is implausible, if the audience had some.
        ignore_below: Up to this many removed members are never too many.
    """

    max_removed_percent: float = 30.0
    min_members: int = 1
    ignore_below: int = 100

    def check(self, *, previous_members: int, current_members: int, removed_members: int) -> str | None:
        """Return why the run must stop, or None.

        Args:
            previous_members: Members of the audience before the run.
            current_members: Members that the query yields now.
            removed_members: Members that the run would remove because they left the query.
        """
        if previous_members > 0 and current_members < self.min_members:
            return (
                f"the query yields {current_members:,} members, fewer than guard.min_members ({self.min_members:,}), "
                f"where the audience had {previous_members:,}. Nothing was sent. "
                "If the query is right, run it once with --force."
            )
        share = removed_members * 100 / max(previous_members, 1)
        if removed_members > self.ignore_below and share > self.max_removed_percent:
            return (
                f"{removed_members:,} of {previous_members:,} members would be removed ({share:.1f} %), more than "
                f"guard.max_removed_percent ({self.max_removed_percent:g} %) allows. Nothing was sent. If they really "
                "left the query, run it once with --force."
            )
        return None
