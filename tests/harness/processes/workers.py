"""Many workers as real processes, forked from one that has imported everything: starting Python costs a second each.

    with Workers() as workers:
        worker = workers.start(folder, "run", "--json")
        worker.send(signal.SIGSTOP)
        answer = worker.wait()

A worker is the command line as `command.py` starts it: its own process with its own signals, files and exit code.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
import yaml
from harness.processes.command import TIMEOUT, CommandResult, environment, harness_environment
from harness.worlds.world import World, create_audience

from warehouse_sync.sandbox.state import RequestRecord

LEASE = 5.0
"""Seconds; the shortest that the configuration allows."""

BATCH = 50
"""Operations per request of the workers here, so that few members make many requests."""

ENDLESS_CONDITION = {
    "duckdb": "(select count(*) from range(3000000) as a, range(3000000) as b where (a.range * b.range) % 7 = 3) > 0",
    "postgresql": "pg_sleep(600)::text is not null",
}
"""For each kind of warehouse a condition that takes ten minutes and more as soon as a row is read."""

REACTION_TIMEOUT = 15.0
"""Seconds within which a worker must have reacted to a signal; a worker that does not react takes longer."""

PRELOADED = (
    *("warehouse_sync.cli.main", "warehouse_sync.run.run", "warehouse_sync.cli.display", "warehouse_sync.admin.status"),
    *("warehouse_sync.admin.validate", "warehouse_sync.destinations.linkedin.destination"),
    *("alembic.command", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"),
)
"""None of them begins a thread. DuckDB does, and a fork would break off at its end for want of it."""


@dataclass(frozen=True)
class Worker:
    """A process on its way. `folder` takes what it writes."""

    pid: int
    folder: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended; a stopped one runs."""
        return not (self.folder / "code").exists()

    def send(self, number: int) -> None:
        """Send it a signal unless it has ended; a SIGSTOP holds when this returns."""
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        while number == signal.SIGSTOP and self.running and not self._is_stopped():
            time.sleep(0.002)

    def wait(self, seconds: float = TIMEOUT) -> CommandResult:
        """What it left behind, once it has ended."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.pid} has not ended in {seconds:g} s: {self.output('err')[-2000:]}")
            time.sleep(0.005)
        return CommandResult(int(self.output("code")), self.output("out"), self.output("err"))

    def output(self, name: str) -> str:
        """What it has written so far, to `out` or `err`."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _is_stopped(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False


class Workers:
    """The process that workers are forked from; at the end of the block it and all of them are gone."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="workers")
        self._count = 0
        self._lock = threading.Lock()
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "harness.processes.workers"],
            env=harness_environment(OPENBLAS_NUM_THREADS="1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(TIMEOUT)
        self._parent.stdout.close()
        self._folder.cleanup()

    def run(self, world: World, *words: str, **settings: float) -> Worker:
        """A worker that runs the sync, in requests of `BATCH` operations, and reports as JSON."""
        return self.start(world.folder, "run", "--json", *words, **{"batch_size": BATCH, **settings})

    def start(self, folder: Path, *words: str, at: float = 0.0, **settings: float) -> Worker:
        """`warehouse-sync` with these words, in `folder`, as a process of its own.

        at: `time.time()` at which it begins, so that many begin at once. settings: what `Wish` takes.
        """
        with self._lock:
            self._count += 1
            place = Path(self._folder.name) / str(self._count)
            place.mkdir()
            wish = {
                "words": words,
                "cwd": str(folder),
                "env": environment(folder),
                "place": str(place),
                "at": at,
                "settings": settings,
            }
            assert self._parent.stdin is not None
            assert self._parent.stdout is not None
            self._parent.stdin.write(json.dumps(wish).encode() + b"\n")
            self._parent.stdin.flush()
            return Worker(int(self._parent.stdout.readline()), place)


def prepare_world(world: World, **changes: Any) -> World:
    """The world with an audience that needs no patience, two requests in flight, and its configuration on disk.

    changes: keys of the sync that differ from now on.
    """
    if not world.sync_settings:
        world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
        world.destination_settings = {"max_in_flight": 2}
    world.sync_settings |= changes
    written = world.raw_config
    written["warehouses"]["analytics"]["lease"] = LEASE
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))
    return world


def replace_rows(world: World, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table holds just these rows, also while a transaction that has read it is open."""
    with world.connect() as connection:
        connection.execute(sa.text("delete from people"))
        connection.execute(sa.text("insert into people (id, email) values (:id, :email)"), rows)


def report_of(answer: CommandResult) -> dict[str, Any]:
    """The only report of a run."""
    (report,) = answer.json
    return dict(report)


def query_one(world: World, sql: str) -> Any:
    """The only row that this gives."""
    (row,) = world.query(sql)
    return row


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Return once the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.01)


def wait_for_expiry(world: World) -> None:
    """Return once the lease of whoever holds it has run out, by PostgreSQL's clock, or was given back."""
    now = "timezone('utc', clock_timestamp())"
    expired = f"select coalesce(lease_expires_at, '-infinity') < {now} from warehouse_sync.syncs"
    wait_until(lambda: bool(query_one(world, expired)[0]), "the lease has run out")


def check_skipped_before_expiry(workers: Workers, world: World, **settings: float) -> None:
    """Check that a worker that starts before the lease of another has expired is skipped."""
    (expiry,) = query_one(world, "select lease_expires_at from warehouse_sync.syncs")
    report = report_of(workers.run(world, **settings).wait())
    if report["status"] != "skipped":  # On a busy machine the worker may start after the expiry.
        (started,) = query_one(world, f"select started_at from warehouse_sync.runs where run_id = {report['run_id']}")
        assert started > expiry


def is_in_pg_sleep(world: World, within: str = "") -> bool:
    """Whether PostgreSQL is in a `pg_sleep` of a worker's statement with these words in it."""
    pauses = "select query from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    return any(within in query for (query,) in world.query(pauses))


def finished_requests(world: World, action: str) -> list[RequestRecord]:
    """Requests of this action that are over."""
    return [each for each in world.sandbox.requests("users") if each.action == action and each.finished is not None]


def open_requests(world: World, kind: str | None = None) -> int:
    """How many requests wait for their answer."""
    return sum(record.finished is None for record in world.sandbox.requests(kind))


def fork_workers() -> Mapping[str, Any]:
    """Fork a worker for each line of standard input until it ends. Returns in the workers, with their wish."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # A collection in a worker would touch, and so copy, every page that they all share.
    running: dict[int, Path] = {}
    while True:
        asked, _, _ = select.select([0], [], [], 0.01)
        if asked:
            line = sys.stdin.buffer.readline()
            if not line:
                break
            wish = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return dict(wish)
            running[pid] = Path(wish["place"])
            os.write(1, f"{pid}\n".encode())
        _reap(running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    raise SystemExit


def _reap(running: dict[int, Path]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            place = running.pop(pid)
            (place / "code.new").write_text(str(os.waitstatus_to_exitcode(status)))
            (place / "code.new").rename(place / "code")


def run_as_worker(options: Mapping[str, Any]) -> None:
    """This process is the worker that was wished for, up to the call of its entry point."""
    place = Path(options["place"])
    for number, name, flags in ((0, None, os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        opened = os.open(place / name if name else os.devnull, flags | (os.O_CREAT if name else 0))
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(options["cwd"])
    os.environ.clear()
    os.environ.update(options["env"])
    sys.argv = ["warehouse-sync", *options["words"]]
    apply_settings(**options["settings"])
    time.sleep(max(0.0, options["at"] - time.time()))


def apply_settings(
    clock_offset: float = 0.0, batch_size: float = 0, lock_timeout: float = 0.0, backoff_initial: float = 0.0
) -> None:
    """Settings of a worker that no configuration has.

    clock: seconds by which its wall clock is ahead. batch_size: operations per request, so that few members make many
    requests. lock_patience: seconds for which it waits for a DuckDB file. wait_first: seconds that a scheduler waits
    after a failure.
    """
    if batch_size:
        importlib.import_module("warehouse_sync.destinations.linkedin.destination").LinkedIn.batch_size = int(
            batch_size
        )
    if lock_timeout:
        vars(importlib.import_module("warehouse_sync.warehouses.duckdb.warehouse"))["LOCK_TIMEOUT"] = lock_timeout
    if backoff_initial:
        scheduler = importlib.import_module("warehouse_sync.service.scheduler")
        vars(scheduler)["Intervals"] = functools.partial(scheduler.Intervals, backoff_initial=backoff_initial)
    if clock_offset:
        shift_clock(clock_offset)


def shift_clock(offset: float) -> None:
    """The time of day that the product reads in this process is so many seconds ahead."""
    true_time, true_datetime = time.time, datetime.datetime

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return true_datetime.now(tz) + datetime.timedelta(seconds=offset)

    time.time = lambda: true_time() + offset
    for name, module in list(sys.modules.items()):
        if name.startswith("warehouse_sync") and vars(module).get("datetime") is true_datetime:
            vars(module)["datetime"] = Shifted


if __name__ == "__main__":
    run_as_worker(fork_workers())
    from warehouse_sync.cli.main import main

    main()
