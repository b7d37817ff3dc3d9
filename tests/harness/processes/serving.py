"""Run `serve` in a real process whose clock a test sets, so that no test waits for a tick.

    python -m harness.processes.serving CONFIG CLOCK

CLOCK is a file that holds the time, as `SetClock` writes it. Leases use the real clock of the database.
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
    """A clock that shows the time in the file at `path`, to all processes that read it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def set(self, at: datetime) -> None:
        """Set the time. It must have a time zone."""
        new = self.path.with_suffix(".new")
        new.write_text(at.isoformat())
        new.replace(self.path)

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def wait(self, seconds: float) -> None:
        # This clock does not advance by itself, so the time until the next step says nothing. The loop checks all syncs
        # at a fixed interval instead: it does not spin, and it checks a sync again that another worker held.
        time.sleep(POLL)


def main(path: str, clock: str) -> None:
    """Serve until SIGTERM."""
    stop = CancelToken()

    def request_stop(_number: int, _frame: Any) -> None:
        stop.request("SIGTERM")

    signal.signal(signal.SIGTERM, request_stop)
    configure_logs("info", json=True)
    intervals = Intervals(lease_held=0.0, resource_busy=0.0, backoff_initial=0.0)
    serve(path, workers=4, stop=stop, clock=SetClock(Path(clock)), intervals=intervals)


if __name__ == "__main__":
    main(*sys.argv[1:])
