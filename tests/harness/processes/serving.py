"""`serve` in real processes whose clock is set by a test: ticks of five minutes come as fast as their runs are done.

    python -m harness.processes.serving CONFIG CLOCK

CLOCK: a file that holds the time, as `SetClock` writes it. Leases go by the database's clock, which nobody sets.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.logs import configure_logs
from warehouse_sync.service.clock import POLL, Clock, Intervals
from warehouse_sync.service.serve import serve


class SetClock(Clock):
    """Stands where the file at `path` says, for all processes that read it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def set(self, at: datetime) -> None:
        """It is this time, with its zone, from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(at.isoformat())
        new.replace(self.path)

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def wait(self, seconds: float) -> None:
        # Not by how far off the next turn is, which on a standing clock says nothing: without pauses between looks the
        # loop would spin, and with them a sync that somebody else had would never be looked at again.
        time.sleep(POLL)


def main(path: str, clock: str) -> None:
    """Serve until SIGTERM."""
    stop = CancelToken()

    def heed(_number: int, _frame: Any) -> None:
        stop.request("SIGTERM")

    signal.signal(signal.SIGTERM, heed)
    configure_logs("info", json=True)
    pace = Intervals(lease_held=0.0, resource_busy=0.0, backoff_initial=0.0)
    serve(path, workers=4, stop=stop, clock=SetClock(Path(clock)), intervals=pace)


if __name__ == "__main__":
    main(*sys.argv[1:])
