"""What the benchmark asks of a contender."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import Churn
from benchmarks.sinks import Counts, RunningSink
from benchmarks.warehouses import BenchWarehouse


@dataclass(frozen=True)
class Place:
    """Where one run takes place.

    state: of the warehouse. files: a folder that is kept between the runs of a sync. requests_per_minute: what the
    product may send.
    """

    warehouse: BenchWarehouse
    state: str
    files: Path
    sink: RunningSink
    churn: Churn
    requests_per_minute: int

    @property
    def url(self) -> str:
        """The warehouse's SQLAlchemy URL."""
        return self.warehouse.url(self.state)


class WrongResult(Exception):
    """A contender did not do the job: its time is no result."""


class Contender:
    """One way to do the job. delivers: sends to the sink. only_first: cannot tell what changed."""

    name: str
    delivers = True
    only_first = False

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        """What it lacks to run here, or None."""
        return None

    def command(self, place: Place) -> list[str]:
        """The command whose process is measured."""
        raise NotImplementedError

    def check(self, place: Place, counts: Counts, told: dict[str, Any]) -> None:
        """Raise WrongResult unless just the right operations were sent."""
        wanted = (place.churn.adds, place.churn.removes, 0) if self.delivers else (0, 0, 0)
        if (counts.add, counts.remove, counts.unclear) != wanted:
            raise WrongResult(f"{self.name}: sent {counts}, but {wanted} was wanted")
