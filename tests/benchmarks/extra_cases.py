"""Measurements beside the cases: a first sync at the rate limit of LinkedIn, and the start of a command."""

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
from benchmarks.measuring import measure, module_environment
from benchmarks.sinks import RunningSink, measure_ceiling, running_sandbox, running_sink
from benchmarks.warehouses import BenchWarehouse

PER_MINUTE = 600
"""The number of requests that LinkedIn accepts on `/users` in a minute from the token of one member."""

SANDBOX_BATCHES = 40
"""Few batches, because the sandbox counts them against its rate limit."""


def paces(warehouse: BenchWarehouse, folder: Path, rows: int) -> Iterator[dict[str, Any]]:
    """Run first syncs of the product at the rate limit of LinkedIn, with three servers; yield their records."""
    servers: dict[str, AbstractContextManager[RunningSink]] = {
        "answers at once": running_sink(),
        "a request every 0.1 s": running_sink(per_minute=PER_MINUTE),
        "sandbox": running_sandbox(),
    }
    for name, server in servers.items():
        found = {}
        if name == "sandbox":
            with running_sandbox() as another:
                found = {"ceiling": vars(measure_ceiling(another, batches=SANDBOX_BATCHES))}
        with server as sink:
            series = Series(warehouse, sink, folder, rows, PER_MINUTE)
            for record in series.run(Churn("first", rows), [CONTENDERS["ours"]], 1):
                yield {**record, "kind": "pace", "server": name, "per_minute": PER_MINUTE, **found}


def start_ups(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure commands that connect to nothing; yield their records."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "start-up.yaml"
    ours.write_config(config, "duckdb:///nothing.duckdb", "http://127.0.0.1:9", 1, 600)
    program = str(Path(sysconfig.get_path("scripts"), "warehouse-sync"))
    for name in ("--help", "validate --offline"):
        command = [program, "--config", str(config), *name.split()]
        measure(command, module_environment())  # The first call compiles the modules.
        seconds = [measure(command, module_environment()).seconds for _ in range(repeats)]
        yield {"kind": "start-up", "command": name, "seconds": seconds}
