"""May this plan be carried out? Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """The limits of a plausible run.

    max_removed_percent: of the members so far. ignore_below: so many removes are never too many.
    min_members: a query that yields fewer, where the audience had some, is implausible.
    """

    max_removed_percent: float = 30.0
    min_members: int = 1
    ignore_below: int = 100

    def objection(self, *, had: int, has: int, leaving: int) -> str | None:
        """Why the run must stop, or None.

        had, has: members before and now. leaving: members that the run would remove because they left the query.
        """
        if had > 0 and has < self.min_members:
            return (
                f"the query yields {has:,} members, fewer than guard.min_members ({self.min_members:,}), where the "
                f"audience had {had:,}. Nothing was sent. If the query is right, run it once with --force."
            )
        share = leaving * 100 / max(had, 1)
        if leaving > self.ignore_below and share > self.max_removed_percent:
            return (
                f"{leaving:,} of {had:,} members would be removed ({share:.1f} %), more than "
                f"guard.max_removed_percent ({self.max_removed_percent:g} %) allows. Nothing was sent. If they really "
                "left the query, run it once with --force."
            )
        return None
