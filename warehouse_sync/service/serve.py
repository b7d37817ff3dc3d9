"""The service: a scheduler, the signals that it heeds, and whoever watches it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.events import Events
from warehouse_sync.monitoring.alerts import Alerts
from warehouse_sync.monitoring.metrics import Metrics
from warehouse_sync.monitoring.restore import recall
from warehouse_sync.service.clock import Clock, Pace
from warehouse_sync.service.http_server import ANYWHERE, HealthServer
from warehouse_sync.service.scheduler import Scheduler

log = structlog.get_logger(__name__)


def serve(
    path: str | Path,
    *,
    workers: int = 4,
    port: int | None = None,
    host: str = ANYWHERE,
    stop: CancelToken | None = None,
    clock: Clock | None = None,
    pace: Pace | None = None,
) -> None:
    """Run the syncs of the configuration at `path` on their schedules until `stop` is requested.

    workers: how many run at once. port: where /healthz, /readyz and /metrics are answered; None: nowhere. SIGHUP reads
    the configuration again. Returns when all runs have ended and given back their leases. Raises ConfigurationError
    before anything is begun.
    """
    metrics = Metrics()
    events = Events(metrics.handle, Alerts().handle)
    scheduler = Scheduler(path, workers=workers, events=events, clock=clock, pace=pace)
    scheduler.start()
    with _heeding_hangup(scheduler), _answering(scheduler, metrics, host, port):
        recall(metrics, scheduler.config)
        scheduler.run(stop or CancelToken())


def _answering(scheduler: Scheduler, metrics: Metrics, host: str, port: int | None) -> AbstractContextManager[object]:
    if port is None:
        return nullcontext()
    return HealthServer(port, host, alive=lambda: scheduler.alive, ready=lambda: scheduler.ready, metrics=metrics.text)


@contextmanager
def _heeding_hangup(scheduler: Scheduler) -> Iterator[None]:
    """SIGHUP has the configuration read again, where there is such a signal and this is the main thread."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGHUP, lambda *_: scheduler.reload())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)
