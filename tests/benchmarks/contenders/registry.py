"""All contenders, by name."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.contenders import floor, ours
from benchmarks.contenders.base import Contender, Place, WrongResult
from benchmarks.measuring import module
from benchmarks.results import PYTHON
from benchmarks.sinks import Counts
from benchmarks.warehouses import BenchWarehouse, DuckDBFiles, psql

WITH_MEMORY = "ours 4 GB"
"""The product with memory for an audience of ten million; beside it the floor takes 2.4 GB."""

LITTLE_MEMORY = "floor 512 MB"
"""The floor with no more memory than the product uses of its own accord."""


class Ours(Contender):
    """The product. memory_limit: of its DuckDB warehouse, instead of the default."""

    def __init__(self, name: str = "ours", memory_limit: str | None = None) -> None:
        self.name = name
        self._memory_limit = memory_limit

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        return "memory_limit is for DuckDB only" if self._memory_limit and warehouse.name != "duckdb" else None

    def command(self, place: Place) -> list[str]:
        config, sink = place.files / "sync.yaml", place.sink
        ours.write_config(
            config, place.url, sink.url, sink.segment, place.requests_per_minute, memory_limit=self._memory_limit
        )
        return module("contenders.ours", str(config))

    def check(self, place: Place, counts: Counts, told: dict[str, Any]) -> None:
        super().check(place, counts, told)
        if told["status"] != "succeeded":
            raise WrongResult(f"ours: the run ended as {told['status']}")


class StartUp(Contender):
    """What the product takes before a run begins: interpreter, imports, configuration."""

    name = "start-up"
    delivers = False
    only_first = True

    def command(self, place: Place) -> list[str]:
        return [*Ours().command(place), "--only-load"]


class Floor(Contender):
    """The SQL script, executed by the warehouse's own client. memory_limit: of DuckDB, instead of its default."""

    delivers = False

    def __init__(self, name: str = "floor", memory_limit: str | None = None) -> None:
        self.name = name
        self._memory_limit = memory_limit

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        if self._memory_limit and warehouse.name != "duckdb":
            return "a memory limit is for DuckDB only"
        return "there is no psql" if warehouse.name == "postgres" and psql() is None else None

    def command(self, place: Place) -> list[str]:
        script = write_script(place)
        if isinstance(place.warehouse, DuckDBFiles):
            return module("contenders.floor", _database(place), str(script), *filter(None, [self._memory_limit]))
        client = psql()
        assert client is not None
        return [client, _database(place), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]

    def check(self, place: Place, counts: Counts, told: dict[str, Any]) -> None:
        super().check(place, counts, told)
        number = 1 if place.churn.first else 2
        found = dict(
            place.warehouse.rows(
                place.state, f"SELECT operation, count(*) FROM floor.changes_{number} GROUP BY operation"
            )
        )
        if (found.get("ADD", 0), found.get("REMOVE", 0)) != (place.churn.adds, place.churn.removes):
            raise WrongResult(f"{self.name}: found {found}, but {place.churn} was made")


class ByHand(Contender):
    """The fastest script for a first sync."""

    name = "by hand"
    only_first = True

    def command(self, place: Place) -> list[str]:
        return module(
            "contenders.by_hand", place.warehouse.name, _database(place), str(write_script(place)), place.sink.url
        )


class Others(Contender):
    """One that runs in the environment of the benchmarks, which has what the product does not need."""

    def __init__(self, name: str, home: str, needs: str, *, only_first: bool) -> None:
        self.name = name
        self.only_first = only_first
        self._home = home
        self._needs = needs

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        if not PYTHON.exists():
            return f"there is no {PYTHON}; `make .venv-bench/installed` makes it"
        tried = subprocess.run([PYTHON, "-c", f"import {self._needs}"], capture_output=True, check=False)
        return f"{self._needs} is not installed in {PYTHON.parents[1]}" if tried.returncode else None

    def command(self, place: Place) -> list[str]:
        words = (place.warehouse.name, _database(place), str(place.files), place.sink.url)
        return module(f"contenders.{self._home}", *words, python=str(PYTHON))


def write_script(place: Place) -> Path:
    """The floor's script for this run, in a file."""
    path = place.files / "floor.sql"
    path.write_text(floor.script(place.warehouse.name, first=place.churn.first))
    return path


def _database(place: Place) -> str:
    """The database as its own clients take it: a file, or a URL of libpq."""
    if isinstance(place.warehouse, DuckDBFiles):
        return str(place.warehouse.path(place.state))
    return place.url.replace("+psycopg", "")


CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        Ours(),
        Ours(WITH_MEMORY, memory_limit="4GB"),
        StartUp(),
        Floor(),
        Floor(LITTLE_MEMORY, memory_limit="512MB"),
        ByHand(),
        Others("home-made", "home_made", "polars", only_first=False),
        Others("dlt", "with_dlt", "dlt", only_first=True),
    )
}
