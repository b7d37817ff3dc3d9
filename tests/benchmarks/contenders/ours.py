"""The product: a process that loads the configuration and runs the sync, as a CronJob would.

`python -m benchmarks.contenders.ours CONFIG [--only-load]` prints one line of JSON: seconds and processor seconds by
phase since the start of the process, statements, and the bytes on the connections to the warehouse. With `--only-load`
it imports all modules, including the driver, and ends before a run would connect.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from benchmarks.measuring import peak_memory_mb, seconds_since_start, written_bytes

import warehouse_sync
from warehouse_sync.events import Event, Events, PhaseStarted, RunEnded

SYNC = "benchmark"
TCP_INFO_TO_BYTES = 120
"""The offset of tcpi_bytes_acked in struct tcp_info; tcpi_bytes_received follows it; see linux/tcp.h."""


def write_config(
    path: Path,
    warehouse_url: str,
    api_url: str,
    segment: int,
    requests_per_minute: int,
    memory_limit: str | None = None,
) -> None:
    """Write the configuration of the benchmark, with the defaults of the product for all other keys."""
    columns = ("first_name", "last_name", "title", "company", "country")
    destination = {
        "type": "linkedin",
        "account_id": 507404993,
        "client_id": "sandbox",
        "client_secret": "sandbox",
        "refresh_token": "sandbox-refresh",
        "api_url": api_url,
        "oauth_url": api_url,
        "requests_per_minute": requests_per_minute,
    }
    sync = {
        "warehouse": "analytics",
        "destination": "ads",
        "model": {"sql": "select * from people", "primary_key": "id"},
        "audience": {"type": "user", "id": segment},
        "identifiers": {"sha256_email": "email", "google_aid": "gaid"},
        "fields": {name: name for name in columns},
        "guard": {"max_removed_percent": 100},
    }
    config = {
        "warehouses": {"analytics": {"url": warehouse_url, "memory_limit": memory_limit}},
        "destinations": {"ads": destination},
        "syncs": {SYNC: sync},
    }
    path.write_text(yaml.safe_dump(config))


class PhaseTimer:
    """Seconds and processor seconds by phase; phase `start` is the time before the first event."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._phase = "start"
        self._since, self._cpu_since = time.monotonic() - seconds_since_start(), 0.0

    def listen(self, _sync: str, event: Event) -> None:
        """Receive an event of the run."""
        match event:
            case PhaseStarted(phase):
                self._start_phase(phase.value)
            case RunEnded():
                self.end()

    def end(self) -> None:
        """End the last phase."""
        self._start_phase("end")

    def _start_phase(self, phase: str) -> None:
        now, cpu = time.monotonic(), _processor_seconds()
        self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._since
        self.cpu[self._phase] = self.cpu.get(self._phase, 0.0) + cpu - self._cpu_since
        self._phase, self._since, self._cpu_since = phase, now, cpu


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Traffic:
    """Counts of statements, and of bytes from and to a warehouse with a socket."""

    def __init__(self) -> None:
        self.statements = 0
        self.received: int | None = None
        self.sent: int | None = None

    def listen(self) -> None:
        """Count for every engine and pool of this process."""
        from sqlalchemy import Engine, Pool, event

        event.listen(Engine, "before_cursor_execute", self._count)
        event.listen(Pool, "close", self._closing)
        event.listen(Pool, "close_detached", self._closing)

    def _count(self, *_: Any) -> None:
        self.statements += 1

    def _closing(self, connection: Any, *_: Any) -> None:
        pgconn = getattr(connection, "pgconn", None)
        if pgconn is None or pgconn.socket < 0:
            return
        borrowed = socket.socket(fileno=pgconn.socket)
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        finally:
            borrowed.detach()
        acked, received = struct.unpack_from("QQ", info, TCP_INFO_TO_BYTES)
        self.sent = (self.sent or 0) + acked
        self.received = (self.received or 0) + received


def main() -> None:
    """Run the sync and print the measurements."""
    config_path = Path(sys.argv[1])
    config = warehouse_sync.load_config(config_path)
    timer, traffic = PhaseTimer(), Traffic()
    if sys.argv[2:] == ["--only-load"]:
        from warehouse_sync.warehouses.registry import make_warehouse

        import_module("warehouse_sync.run.run")
        make_warehouse(config.warehouse_of(config.sync(SYNC)))
        timer.end()
        print(json.dumps({"phases": timer.phases, "rss_mb": peak_memory_mb()}))
        return
    traffic.listen()
    report = warehouse_sync.run_sync(config, SYNC, events=Events(timer.listen))
    print(
        json.dumps(
            {
                "status": report.status.value,
                "delivered": [report.delivered.add, report.delivered.remove],
                "members": report.members,
                "phases": timer.phases,
                "phase_cpu": timer.cpu,
                "statements": traffic.statements,
                "received_bytes": traffic.received,
                "sent_bytes": traffic.sent,
                "write_bytes": written_bytes(),
                "rss_mb": peak_memory_mb(),
            }
        )
    )


if __name__ == "__main__":
    main()
