"""`make torture`: a worker killed at every point of one story, then histories at random, on real warehouses.

Ends with 1 at the first broken promise, or behind all of them with `--keep-going`; for each the command that repeats it
is printed, and its folder is left in place.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from harness.histories import fixed_story as story
from harness.histories.random_histories import History, make_history
from harness.histories.trial import Tally, Trial
from harness.processes.fork_server import ForkServer
from harness.processes.kill_points import WorkerFault
from harness.servers.postgres import postgres_server

WAREHOUSES = ("duckdb", "postgres")
TELL_EVERY = 10.0
"""Seconds between two lines of progress."""


class Broken(AssertionError):
    """A promise is broken; the text tells which, where the evidence is and how to see it again."""


class Rack:
    """Puts histories to the test, one after the other, on one kind of warehouse.

    url: of a PostgreSQL database of the rack's own; None: each history has a DuckDB file.
    """

    def __init__(self, url: str | None, workers: ForkServer, tally: Tally) -> None:
        self.url = url
        self.workers = workers
        self.tally = tally

    @property
    def warehouse(self) -> str:
        return "postgres" if self.url else "duckdb"

    def put(self, history: History) -> Trial:
        """The history was performed and every promise was kept. Raises Broken."""
        folder = Path(tempfile.mkdtemp(prefix="warehouse-sync-torture-"))
        trial = Trial(history, self.url or _duckdb_in(folder), folder, self.workers, self.tally)
        try:
            trial.perform()
        except KeyboardInterrupt:
            shutil.rmtree(folder)
            raise
        except Exception as error:
            trial.leave_evidence(traceback.format_exc())
            raise Broken(
                f"{history}\n\n{type(error).__name__}: {error}\n\nevidence: {folder}\nagain: {self._again(history)}"
            ) from error
        shutil.rmtree(folder)
        return trial

    def _again(self, history: History) -> str:
        seed, _, number = history.name.rpartition(":")
        if history.name.startswith((story.FIRST, story.LATER)):
            return f"make torture WAREHOUSE={self.warehouse} STORY='{history.name}'"
        return f"make torture WAREHOUSE={self.warehouse} SEED={seed} FIRST={number} HISTORIES=1 POINTS=0"

    def random(self, seed: str, first: int, count: int) -> Iterator[History]:
        """Histories of this seed, fit for this warehouse: a DuckDB file lets one worker in at a time."""
        for number in range(first, first + count):
            yield make_history(seed, number, overlapping=self.url is not None)

    def story(self, points: int | None) -> Iterator[History]:
        """The story with an upset at so many of its points, half of them in the first sync; None: at all."""
        first, *_, later = self.put(story.dry_runs()).counts
        for passed, histories in ((first, story.first_syncs), (later, story.later_syncs)):
            upsets: list[WorkerFault] = story.points(passed, remote=self.url is not None)
            chosen = upsets if points is None else story.spread(upsets, points // 2)
            yield from histories(chosen)


@contextmanager
def rack(warehouse: str, workers: ForkServer, tally: Tally) -> Iterator[Rack]:
    """A rack on this kind of warehouse, with a PostgreSQL for the time of the block where need be."""
    if warehouse == "duckdb":
        yield Rack(None, workers, tally)
        return
    with postgres_server() as server, server.database() as url:
        yield Rack(url, workers, tally)


def _duckdb_in(folder: Path) -> str:
    file = folder / "warehouse.duckdb"
    duckdb.connect(str(file)).close()
    return f"duckdb:///{file}"


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """A line now and then, and a summary at the end."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.failures = 0
        self.started = self._told = time.monotonic()

    def step(self, doing: str) -> None:
        """A history is through."""
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            say(f"{self.seconds:6.0f} s  {doing}: {self.tally.histories} histories, {self.tally.runs} runs")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def summary(self) -> str:
        tally = self.tally
        lines = {
            "histories": f"{tally.histories:,}",
            "runs": f"{tally.runs:,} (exit codes: {_counted(tally.codes)})",
            "kills": _counted(tally.kills, total=True),
            "connection breaks": _counted(tally.breaks, total=True),
            "other signals": _counted(tally.signals, total=True),
            "points beyond the end": f"{tally.missed:,}",
            "requests": f"{tally.requests:,}",
            "faults injected": _counted(tally.faults, total=True),
            "failures": str(self.failures),
            "seconds": f"{self.seconds:,.0f}",
        }
        return "\n".join(f"{name:22}{value}" for name, value in lines.items())


def _counted(book: Counter[str] | Counter[int], *, total: bool = False) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(book.items(), key=lambda item: -item[1]))
    if not total:
        return parts
    return f"{sum(book.values()):,}" + (f" ({parts})" if parts else "")


def main() -> int:
    given = _arguments()
    progress = Progress(Tally())
    try:
        for _ in _performed(given, progress):
            if progress.failures and not given.keep_going:
                break
    except KeyboardInterrupt:
        say("\nstopped")
    say(progress.summary())
    return 1 if progress.failures else 0


def _performed(given: argparse.Namespace, progress: Progress) -> Iterator[None]:
    """One history after the other, on one warehouse after the other."""
    with ForkServer() as workers:
        for warehouse in given.warehouse or WAREHOUSES:
            with rack(warehouse, workers, progress.tally) as on:
                for history in _wanted(given, on):
                    progress.failures += not _kept(on, history)
                    progress.step(f"{warehouse} {history.name[:40]}")
                    yield


def _kept(on: Rack, history: History) -> bool:
    try:
        on.put(history)
    except Broken as broken:
        say(f"\nBROKEN on {on.warehouse}: {broken}\n")
        return False
    return True


def _wanted(given: argparse.Namespace, on: Rack) -> Iterator[History]:
    if given.story:
        yield story.told(given.story)
        return
    if given.points != 0:
        yield from on.story(given.points)
    yield from on.random(given.seed, given.first, given.histories)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--histories", type=int, default=100, help="histories at random on each warehouse")
    parser.add_argument("--seed", default=None, help="of the random histories; a new one by default")
    parser.add_argument("--first", type=int, default=1, help="number of the first random history")
    parser.add_argument("--warehouse", choices=WAREHOUSES, action="append", help="only this one")
    parser.add_argument("--points", type=int, default=None, help="at so many points of the story; all by default")
    parser.add_argument("--keep-going", action="store_true", help="go on behind a broken promise")
    parser.add_argument("--story", help="only this history of the story, as a failure has named it")
    given = parser.parse_args()
    given.seed = given.seed or str(time.time_ns() // 1_000_000)
    return given


if __name__ == "__main__":
    sys.exit(main())
