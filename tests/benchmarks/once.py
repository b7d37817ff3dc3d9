"""What is measured apart from the cases: LinkedIn's real pace, and how long a command takes to say anything."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.cases import Series
from benchmarks.contenders import ours
from benchmarks.contenders.registry import CONTENDERS
from benchmarks.data import Churn
from benchmarks.measuring import measure, search_path
from benchmarks.sinks import RunningSink, ceiling, running_sandbox, running_sink
from benchmarks.warehouses import BenchWarehouse

PER_MINUTE = 600
"""What LinkedIn takes of one member's token on `/users`."""

SANDBOX_BATCHES = 40
"""Few, as the sandbox counts them against its limit of a minute."""


def paces(warehouse: BenchWarehouse, folder: Path, rows: int) -> Iterator[dict[str, Any]]:
    """First syncs of the product, limited to LinkedIn's pace by itself, against three servers."""
    servers: dict[str, AbstractContextManager[RunningSink]] = {
        "answers at once": running_sink(),
        "a request every 0.1 s": running_sink(per_minute=PER_MINUTE),
        "sandbox": running_sandbox(),
    }
    for name, server in servers.items():
        found = {}
        if name == "sandbox":
            with running_sandbox() as another:
                found = {"ceiling": vars(ceiling(another, batches=SANDBOX_BATCHES))}
        with server as sink:
            series = Series(warehouse, sink, folder, rows, PER_MINUTE)
            for record in series.run(Churn("first", rows), [CONTENDERS["ours"]], 1):
                yield {**record, "kind": "pace", "server": name, "per_minute": PER_MINUTE, **found}


def start_ups(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of commands that connect to nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "start-up.yaml"
    ours.write_config(config, "duckdb:///nothing.duckdb", "http://127.0.0.1:9", 1, 600)
    program = str(Path(sysconfig.get_path("scripts"), "warehouse-sync"))
    for name in ("--help", "validate --offline"):
        command = [program, "--config", str(config), *name.split()]
        measure(command, search_path())  # Compiles what is not compiled yet.
        seconds = [measure(command, search_path()).seconds for _ in range(repeats)]
        yield {"kind": "start-up", "command": name, "seconds": seconds}
