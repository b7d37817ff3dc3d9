"""`make torture`: kill a worker at every point of one fixed history, then run random histories, on real warehouses.

Stops with exit code 1 at the first broken promise, or at the end with `--keep-going`. For each broken promise it prints
the command that repeats it, and keeps the folder.
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
from harness.histories import fixed_history
from harness.histories.random_histories import History, make_random_history
from harness.histories.trial import Tally, Trial
from harness.processes.fork_server import ForkServer
from harness.processes.kill_points import WorkerFault
from harness.servers.postgres import postgres_server

WAREHOUSES = ("duckdb", "postgres")
PROGRESS_INTERVAL = 10.0
"""Seconds between two progress lines."""


class PromiseBroken(AssertionError):
    """A broken promise; the message names it, the folder with the evidence, and the command that repeats it."""


class HistoryRunner:
    """Runs histories one after the other on one kind of warehouse.

    Attributes:
        url: The URL of a PostgreSQL database for this runner only; None gives each history a DuckDB file.
        workers: Starts the worker processes.
        tally: Counts what happened.
    """

    def __init__(self, url: str | None, workers: ForkServer, tally: Tally) -> None:
        self.url = url
        self.workers = workers
        self.tally = tally

    @property
    def warehouse(self) -> str:
        return "postgres" if self.url else "duckdb"

    def run(self, history: History) -> Trial:
        """Run a history.

        Raises:
            PromiseBroken: A check failed; the folder of the history is kept.
        """
        folder = Path(tempfile.mkdtemp(prefix="warehouse-sync-torture-"))
        trial = Trial(history, self.url or _create_duckdb(folder), folder, self.workers, self.tally)
        try:
            trial.run()
        except KeyboardInterrupt:
            shutil.rmtree(folder)
            raise
        except Exception as error:
            trial.write_evidence(traceback.format_exc())
            raise PromiseBroken(
                f"{history}\n\n{type(error).__name__}: {error}\n\n"
                f"evidence: {folder}\nrepeat: {self._repeat_command(history)}"
            ) from error
        shutil.rmtree(folder)
        return trial

    def _repeat_command(self, history: History) -> str:
        seed, _, number = history.name.rpartition(":")
        if history.name.startswith((fixed_history.FIRST, fixed_history.LATER)):
            return f"make torture WAREHOUSE={self.warehouse} STORY='{history.name}'"
        return f"make torture WAREHOUSE={self.warehouse} SEED={seed} FIRST={number} HISTORIES=1 POINTS=0"

    def make_random_histories(self, seed: str, first: int, count: int) -> Iterator[History]:
        """Yield random histories of a seed. Workers overlap only on PostgreSQL: a DuckDB file admits one process."""
        for number in range(first, first + count):
            yield make_random_history(seed, number, overlapping=self.url is not None)

    def make_fixed_histories(self, points: int | None) -> Iterator[History]:
        """Yield the fixed history, interrupted at `points` points, half of them in the first sync; None means all."""
        first, *_, later = self.run(fixed_history.make_dry_run()).counts
        for passed, histories in ((first, fixed_history.make_first_syncs), (later, fixed_history.make_later_syncs)):
            worker_faults: list[WorkerFault] = fixed_history.list_worker_faults(passed, remote=self.url is not None)
            chosen = worker_faults if points is None else fixed_history.sample_evenly(worker_faults, points // 2)
            yield from histories(chosen)


@contextmanager
def open_runner(warehouse: str, workers: ForkServer, tally: Tally) -> Iterator[HistoryRunner]:
    """Yield a runner on this kind of warehouse; a PostgreSQL server is started for the block if needed."""
    if warehouse == "duckdb":
        yield HistoryRunner(None, workers, tally)
        return
    with postgres_server() as server, server.database() as url:
        yield HistoryRunner(url, workers, tally)


def _create_duckdb(folder: Path) -> str:
    file = folder / "warehouse.duckdb"
    duckdb.connect(str(file)).close()
    return f"duckdb:///{file}"


def print_line(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """Progress lines and the summary at the end."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.failures = 0
        self.started = self._last_printed = time.monotonic()

    def update(self, doing: str) -> None:
        """Print a line after a finished history, at most once per interval."""
        if time.monotonic() - self._last_printed >= PROGRESS_INTERVAL:
            self._last_printed = time.monotonic()
            print_line(f"{self.seconds:6.0f} s  {doing}: {self.tally.histories} histories, {self.tally.runs} runs")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def format_summary(self) -> str:
        tally = self.tally
        lines = {
            "histories": f"{tally.histories:,}",
            "runs": f"{tally.runs:,} (exit codes: {_format_counts(tally.codes)})",
            "kills": _format_counts(tally.kills, total=True),
            "connection breaks": _format_counts(tally.breaks, total=True),
            "other signals": _format_counts(tally.signals, total=True),
            "points not reached": f"{tally.missed:,}",
            "requests": f"{tally.requests:,}",
            "faults injected": _format_counts(tally.faults, total=True),
            "failures": str(self.failures),
            "seconds": f"{self.seconds:,.0f}",
        }
        return "\n".join(f"{name:22}{value}" for name, value in lines.items())


def _format_counts(counter: Counter[str] | Counter[int], *, total: bool = False) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=lambda item: -item[1]))
    if not total:
        return parts
    return f"{sum(counter.values()):,}" + (f" ({parts})" if parts else "")


def main() -> int:
    options = _parse_arguments()
    progress = Progress(Tally())
    try:
        for _ in _run_histories(options, progress):
            if progress.failures and not options.keep_going:
                break
    except KeyboardInterrupt:
        print_line("\nstopped")
    print_line(progress.format_summary())
    return 1 if progress.failures else 0


def _run_histories(options: argparse.Namespace, progress: Progress) -> Iterator[None]:
    """Run all histories on all chosen warehouses, and yield after each."""
    with ForkServer() as workers:
        for warehouse in options.warehouse or WAREHOUSES:
            with open_runner(warehouse, workers, progress.tally) as runner:
                for history in _choose_histories(options, runner):
                    progress.failures += not _keeps_promises(runner, history)
                    progress.update(f"{warehouse} {history.name[:40]}")
                    yield


def _keeps_promises(runner: HistoryRunner, history: History) -> bool:
    try:
        runner.run(history)
    except PromiseBroken as error:
        print_line(f"\nBROKEN on {runner.warehouse}: {error}\n")
        return False
    return True


def _choose_histories(options: argparse.Namespace, runner: HistoryRunner) -> Iterator[History]:
    if options.story:
        yield fixed_history.parse_history(options.story)
        return
    if options.points != 0:
        yield from runner.make_fixed_histories(options.points)
    yield from runner.make_random_histories(options.seed, options.first, options.histories)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--histories", type=int, default=100, help="number of random histories on each warehouse")
    parser.add_argument("--seed", default=None, help="seed of the random histories; a new one by default")
    parser.add_argument("--first", type=int, default=1, help="number of the first random history")
    parser.add_argument("--warehouse", choices=WAREHOUSES, action="append", help="only this warehouse")
    parser.add_argument(
        "--points", type=int, default=None, help="number of points of the fixed history; all by default"
    )
    parser.add_argument("--keep-going", action="store_true", help="continue after a broken promise")
    parser.add_argument("--story", help="only this interrupted fixed history, as a failure named it")
    options = parser.parse_args()
    options.seed = options.seed or str(time.time_ns() // 1_000_000)
    return options


if __name__ == "__main__":
    sys.exit(main())
