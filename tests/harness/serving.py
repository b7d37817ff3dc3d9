"""`serve` in real processes whose clock runs faster, so that ticks of five minutes come every few seconds.

    python -m harness.serving CONFIG SPEED BEGAN BASE

SPEED: how many seconds pass in one. BEGAN: `time.time()` at which all of these clocks showed BASE (an ISO time).
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import datetime, timedelta
from typing import Any

from warehouse_sync.clock import Clock, Pace
from warehouse_sync.logs import configure_logs
from warehouse_sync.serve import serve
from warehouse_sync.stopping import Stop


class FastClock(Clock):
    """A clock that runs `speed` times as fast since `began`."""

    def __init__(self, speed: float, began: float, base: datetime) -> None:
        super().__init__()
        self.speed = speed
        self.began = began
        self.base = base

    def now(self) -> datetime:
        return self.base + timedelta(seconds=(time.time() - self.began) * self.speed)

    def wait(self, seconds: float) -> None:
        super().wait(seconds / self.speed)


def main(path: str, speed: float, began: float, base: datetime) -> None:
    """Serve until SIGTERM."""
    stop = Stop()

    def heed(_number: int, _frame: Any) -> None:
        stop.request("SIGTERM")

    signal.signal(signal.SIGTERM, heed)
    configure_logs("info", json=True)
    pace = Pace(reload_interval=speed, look_again=0.3 * speed, busy=0.1 * speed, wait_first=0.5 * speed)
    serve(path, workers=4, stop=stop, clock=FastClock(speed, began, base), pace=pace)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), datetime.fromisoformat(sys.argv[4]))
