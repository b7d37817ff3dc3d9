"""The service: a scheduler with its monitoring, and the signal that reloads the configuration."""

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
from warehouse_sync.monitoring.restore import restore_metrics
from warehouse_sync.service.clock import Clock, Intervals
from warehouse_sync.service.http_server import ALL_INTERFACES, HealthServer
from warehouse_sync.service.scheduler import Scheduler

log = structlog.get_logger(__name__)


def serve(
    path: str | Path,
    *,
    workers: int = 4,
    port: int | None = None,
    host: str = ALL_INTERFACES,
    stop: CancelToken | None = None,
    clock: Clock | None = None,
    intervals: Intervals | None = None,
) -> None:
    """Run the syncs of a configuration on their schedules; return when stopped and all runs have ended.

    SIGHUP makes it read the configuration again.

    Args:
        path: The configuration: a file or a folder.
        workers: Number of syncs that run at the same time.
        port: Port of /healthz, /readyz and /metrics; 0 chooses a free one, None opens none.
        host: Address of that port.
        stop: Request it to stop the service.
        clock: The clock; tests replace it.
        intervals: Seconds between checks.

    Raises:
        ConfigurationError: The configuration is invalid or the port is taken; nothing was started.
    """
    metrics = Metrics()
    events = Events(metrics.handle, Alerts().handle)
    scheduler = Scheduler(path, workers=workers, events=events, clock=clock, intervals=intervals)
    scheduler.start()
    with _reload_on_hangup(scheduler), _http_server(scheduler, metrics, host, port):
        restore_metrics(metrics, scheduler.config)
        scheduler.run(stop or CancelToken())


def _http_server(scheduler: Scheduler, metrics: Metrics, host: str, port: int | None) -> AbstractContextManager[object]:
    if port is None:
        return nullcontext()
    return HealthServer(
        port,
        host,
        is_alive=lambda: scheduler.is_alive,
        not_ready_reason=lambda: scheduler.not_ready_reason,
        metrics=metrics.text,
    )


@contextmanager
def _reload_on_hangup(scheduler: Scheduler) -> Iterator[None]:
    """Have SIGHUP reload the configuration, if the platform has this signal and this is the main thread."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGHUP, lambda *_: scheduler.reload())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)
