"""When a deferred operation is due again, and when it is given up. Pure.

    attempt        1     2      3      4      5     …
    next after   1 min  5 min  15 min  30 min  60 min  (60 min from then on)

An operation that fails once more when `max_age` has gone by since it was first deferred becomes *dead*: it stays
listed, and is sent again by a full run or `retry --dead` only. `max_age` is 13 hours unless configured.
Where retries are off, it is dead after its first attempt. What nobody has tried to send yet is never dead.
"""

from __future__ import annotations

from dataclasses import dataclass

DELAYS = (60.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds to wait after attempt 1, 2, …; the last one holds for all later attempts."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """enabled: whether anything is retried across runs. max_age: seconds from the first deferral to `dead`."""

    enabled: bool = True
    max_age: float = 13 * 3600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the attempt-th failure, counted from 1."""
        return DELAYS[min(max(attempt, 1), len(DELAYS)) - 1]
