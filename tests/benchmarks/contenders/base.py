"""The interface of a contender."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import Churn
from benchmarks.sinks import Counts, RunningSink
from benchmarks.warehouses import BenchWarehouse


@dataclass(frozen=True)
class RunSetup:
    """The environment of a run.

    Attributes:
        warehouse: The warehouse.
        state: The state of the warehouse.
        files: A folder that is kept between the runs of a sync.
        sink: The server that receives the members.
        churn: The changes since the previous run.
        requests_per_minute: The rate limit of the product.
    """

    warehouse: BenchWarehouse
    state: str
    files: Path
    sink: RunningSink
    churn: Churn
    requests_per_minute: int

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the warehouse."""
        return self.warehouse.url(self.state)


class WrongResult(Exception):
    """A contender did not send the right operations, so that its time is invalid."""


class Contender:
    """A way to synchronise table `people` with an audience.

    Attributes:
        name: Its name in the results.
        delivers: Whether it sends to the sink.
        only_first: Whether it supports first syncs only, because it does not detect changes.
    """

    name: str
    delivers = True
    only_first = False

    def missing(self, warehouse: BenchWarehouse) -> str | None:
        """Return why the contender cannot run here, or None."""
        return None

    def command(self, setup: RunSetup) -> list[str]:
        """Return the command whose process is measured."""
        raise NotImplementedError

    def check(self, setup: RunSetup, counts: Counts, report: dict[str, Any]) -> None:
        """Check the result of a run.

        Raises:
            WrongResult: The contender did not send exactly the right operations.
        """
        expected = (setup.churn.adds, setup.churn.removes, 0) if self.delivers else (0, 0, 0)
        if (counts.add, counts.remove, counts.unclear) != expected:
            raise WrongResult(f"{self.name}: sent {counts}, but {expected} was expected")
