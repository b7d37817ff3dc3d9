"""The clock by which leases are measured in this process; a test moves it forward instead of sleeping."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from warehouse_sync.state import lease


class LeaseClock:
    """Shows the real time plus what it was advanced by. Thread-safe for one caller of `advance`."""

    def __init__(self) -> None:
        self._offset = 0.0

    def advance(self, seconds: float) -> None:
        """Let so much time pass for all leases; the warehouse's own clock stays as it is."""
        self._offset += seconds

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Make leases read this clock until the patch is undone."""
        shifted = {
            "monotonic": lambda: time.monotonic() + self._offset,
            "clock_gettime": lambda clock: time.clock_gettime(clock) + self._offset,
        }
        patch.setattr(lease, "time", SimpleNamespace(**{**vars(time), **shifted}))
