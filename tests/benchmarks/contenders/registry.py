"""All contenders, by name."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.contenders import floor, ours
from benchmarks.contenders.base import Contender, RunSetup, WrongResult
from benchmarks.measuring import module_command
from benchmarks.results import BENCH_PYTHON
from benchmarks.sinks import Counts
from benchmarks.warehouses import BenchWarehouse, DuckDBFiles, psql

MORE_MEMORY = "ours 4 GB"
"""The product with memory for an audience of ten million; the floor uses 2.4 GB for the same."""

LESS_MEMORY = "floor 512 MB"
"""The floor with the default memory limit of the product."""


class Ours(Contender):
    """The product."""

    def __init__(self, name: str = "ours", memory_limit: str | None = None) -> None:
        """Create the contender; `memory_limit` is the limit of DuckDB, None for the default of the product."""
        self.name = name
        self._memory_limit = memory_limit

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        return "memory_limit is for DuckDB only" if self._memory_limit and warehouse.name != "duckdb" else None

    def command(self, setup: RunSetup) -> list[str]:
        config, sink = setup.files / "sync.yaml", setup.sink
        ours.write_config(
            config, setup.url, sink.url, sink.segment, setup.requests_per_minute, memory_limit=self._memory_limit
        )
        return module_command("contenders.ours", str(config))

    def check(self, setup: RunSetup, counts: Counts, report: dict[str, Any]) -> None:
        super().check(setup, counts, report)
        if report["status"] != "succeeded":
            raise WrongResult(f"ours: the run ended as {report['status']}")


class StartUp(Contender):
    """The start of the product before a run: interpreter, imports, configuration."""

    name = "start-up"
    delivers = False
    only_first = True

    def command(self, setup: RunSetup) -> list[str]:
        return [*Ours().command(setup), "--only-load"]


class Floor(Contender):
    """The SQL script, executed by the client of the warehouse."""

    delivers = False

    def __init__(self, name: str = "floor", memory_limit: str | None = None) -> None:
        """Create the contender; `memory_limit` is the limit of DuckDB, None for its own default."""
        self.name = name
        self._memory_limit = memory_limit

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        if self._memory_limit and warehouse.name != "duckdb":
            return "a memory limit is for DuckDB only"
        return "there is no psql" if warehouse.name == "postgres" and psql() is None else None

    def command(self, setup: RunSetup) -> list[str]:
        script = write_floor_script(setup)
        if isinstance(setup.warehouse, DuckDBFiles):
            return module_command(
                "contenders.floor", _database(setup), str(script), *filter(None, [self._memory_limit])
            )
        client = psql()
        assert client is not None
        return [client, _database(setup), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]

    def check(self, setup: RunSetup, counts: Counts, report: dict[str, Any]) -> None:
        super().check(setup, counts, report)
        number = 1 if setup.churn.first else 2
        found = dict(
            setup.warehouse.rows(
                setup.state, f"SELECT operation, count(*) FROM floor.changes_{number} GROUP BY operation"
            )
        )
        if (found.get("ADD", 0), found.get("REMOVE", 0)) != (setup.churn.adds, setup.churn.removes):
            raise WrongResult(f"{self.name}: found {found}, but {setup.churn} was expected")


class ByHand(Contender):
    """The fastest script for a first sync."""

    name = "by hand"
    only_first = True

    def command(self, setup: RunSetup) -> list[str]:
        return module_command(
            "contenders.by_hand", setup.warehouse.name, _database(setup), str(write_floor_script(setup)), setup.sink.url
        )


class ExternalContender(Contender):
    """A script with packages that the product does not need, in the environment of the benchmarks."""

    def __init__(self, name: str, module: str, package: str, *, only_first: bool) -> None:
        """Create the contender from its module and the package that must be installed."""
        self.name = name
        self.only_first = only_first
        self._module = module
        self._package = package

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        if not BENCH_PYTHON.exists():
            return f"there is no {BENCH_PYTHON}; create it with `make .venv-bench/installed`"
        result = subprocess.run([BENCH_PYTHON, "-c", f"import {self._package}"], capture_output=True, check=False)
        return f"{self._package} is not installed in {BENCH_PYTHON.parents[1]}" if result.returncode else None

    def command(self, setup: RunSetup) -> list[str]:
        arguments = (setup.warehouse.name, _database(setup), str(setup.files), setup.sink.url)
        return module_command(f"contenders.{self._module}", *arguments, python=str(BENCH_PYTHON))


def write_floor_script(setup: RunSetup) -> Path:
    """Write the script of the floor for this run; return its path."""
    path = setup.files / "floor.sql"
    path.write_text(floor.script(setup.warehouse.name, first=setup.churn.first))
    return path


def _database(setup: RunSetup) -> str:
    """Return the database as its clients expect it: a file, or a URL of libpq."""
    if isinstance(setup.warehouse, DuckDBFiles):
        return str(setup.warehouse.path(setup.state))
    return setup.url.replace("+psycopg", "")


CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Ours(MORE_MEMORY, memory_limit="4GB"),
        StartUp(),
        Floor(),
        Floor(LESS_MEMORY, memory_limit="512MB"),
        ByHand(),
        ExternalContender("home-made", "home_made", "polars", only_first=False),
        ExternalContender("dlt", "with_dlt", "dlt", only_first=True),
    )
}
