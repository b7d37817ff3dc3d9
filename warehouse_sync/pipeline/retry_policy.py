"""Decide when a deferred operation is due again, and when it is given up. Pure.

    attempt        1     2      3      4      5     …
    next after   1 min  5 min  15 min  30 min  60 min  (then every 60 min)

An operation that fails again when `max_age` has passed since it was first deferred becomes *dead*: it stays listed, and
only a full run or `retry --dead` sends it again. `max_age` is 13 hours unless configured. Where retries are off, an
operation is dead after its first attempt. An operation that was never sent is never dead.
"""

from __future__ import annotations

from dataclasses import dataclass

DELAYS = (60.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds to wait after attempt 1, 2, …; the last one is used for all later attempts."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The configured limits of retries.

    Attributes:
        enabled: Deferred operations are sent again by later runs.
        max_age: Seconds from the first deferral until an operation is dead.
    """

    enabled: bool = True
    max_age: float = 13 * 3600.0

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt, counted from 1."""
        return DELAYS[min(max(attempt, 1), len(DELAYS)) - 1]
