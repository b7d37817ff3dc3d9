"""The clock that leases in this process use; a test advances it instead of sleeping."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from warehouse_sync.state import lease


class LeaseClock:
    """A clock that shows the real time plus an offset. Thread-safe for one caller of `advance`."""

    def __init__(self) -> None:
        self._offset = 0.0

    def advance(self, seconds: float) -> None:
        """Advance the clock of all leases; the clock of the warehouse does not change."""
        self._offset += seconds

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Make leases read this clock until the patch is undone."""
        shifted = {
            "monotonic": lambda: time.monotonic() + self._offset,
            "clock_gettime": lambda clock: time.clock_gettime(clock) + self._offset,
        }
        patch.setattr(lease, "time", SimpleNamespace(**{**vars(time), **shifted}))
