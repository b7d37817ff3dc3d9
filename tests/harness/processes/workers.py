"""Workers as real processes, forked from one that has imported all modules: a start of Python takes a second.

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
"""Seconds of a lease: the shortest that the configuration allows."""

BATCH = 50
"""Operations per request of the workers here, so that few members make many requests."""

ENDLESS_CONDITION = {
    "duckdb": "(select count(*) from range(3000000) as a, range(3000000) as b where (a.range * b.range) % 7 = 3) > 0",
    "postgresql": "pg_sleep(600)::text is not null",
}
"""For each kind of warehouse a condition that takes at least ten minutes once a row is read."""

REACTION_TIMEOUT = 15.0
"""Seconds within which a worker must react to a signal. A worker that does not react takes longer."""

PRELOADED = (
    *("warehouse_sync.cli.main", "warehouse_sync.run.run", "warehouse_sync.cli.display", "warehouse_sync.admin.status"),
    *("warehouse_sync.admin.validate", "warehouse_sync.destinations.linkedin.destination"),
    *("alembic.command", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"),
)
"""Modules that start no thread. DuckDB does: a fork does not have that thread, and would abort at its end."""


@dataclass(frozen=True)
class Worker:
    """A started process. It writes its output and its exit code into `folder`."""

    pid: int
    folder: Path

    @property
    def running(self) -> bool:
        """Whether the process has not ended. A stopped process counts as running."""
        return not (self.folder / "code").exists()

    def send(self, number: int) -> None:
        """Send a signal unless the process has ended. After SIGSTOP, return when the process is stopped."""
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        while number == signal.SIGSTOP and self.running and not self._is_stopped():
            time.sleep(0.002)

    def wait(self, seconds: float = TIMEOUT) -> CommandResult:
        """Wait until the process has ended and return its result. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.pid} has not ended in {seconds:g} s: {self.output('err')[-2000:]}")
            time.sleep(0.005)
        return CommandResult(int(self.output("code")), self.output("out"), self.output("err"))

    def output(self, name: str) -> str:
        """Return what it has written so far to `out` or `err`."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _is_stopped(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False


class Workers:
    """The process that workers are forked from. It and all workers end with the `with` block."""

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

    def run(self, world: World, *arguments: str, **settings: float) -> Worker:
        """Start a worker that runs the sync, in requests of `BATCH` operations, and reports as JSON."""
        return self.start(world.folder, "run", "--json", *arguments, **{"batch_size": BATCH, **settings})

    def start(self, folder: Path, *arguments: str, at: float = 0.0, **settings: float) -> Worker:
        """Start `warehouse-sync` as a process of its own.

        Args:
            folder: The folder of the configuration.
            arguments: The arguments of the command.
            at: The `time.time()` at which the command starts, so that many can start at once.
            settings: Arguments of `apply_settings`.
        """
        with self._lock:
            self._count += 1
            output = Path(self._folder.name) / str(self._count)
            output.mkdir()
            options = {
                "arguments": arguments,
                "cwd": str(folder),
                "env": environment(folder),
                "output": str(output),
                "at": at,
                "settings": settings,
            }
            assert self._parent.stdin is not None
            assert self._parent.stdout is not None
            self._parent.stdin.write(json.dumps(options).encode() + b"\n")
            self._parent.stdin.flush()
            return Worker(int(self._parent.stdout.readline()), output)


def prepare_world(world: World, **sync_settings: Any) -> World:
    """Create an audience, allow two requests in flight, save the configuration, and return the world.

    Args:
        world: The world; one that has an audience keeps it.
        sync_settings: Keys of the sync that change from now on.
    """
    if not world.sync_settings:
        world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
        world.destination_settings = {"max_in_flight": 2}
    world.sync_settings |= sync_settings
    written = world.raw_config
    written["warehouses"]["analytics"]["lease"] = LEASE
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))
    return world


def replace_rows(world: World, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the rows of the table, even while a transaction that has read it is open."""
    with world.connect() as connection:
        connection.execute(sa.text("delete from people"))
        connection.execute(sa.text("insert into people (id, email) values (:id, :email)"), rows)


def report_of(answer: CommandResult) -> dict[str, Any]:
    """Return the only report that a command printed."""
    (report,) = answer.json
    return dict(report)


def query_one(world: World, sql: str) -> Any:
    """Return the only row of a query."""
    (row,) = world.query(sql)
    return row


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until the condition is true; `what` describes it. Fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s, and still not true: {what}"
        time.sleep(0.01)


def wait_for_expiry(world: World) -> None:
    """Wait until the lease has expired by PostgreSQL's clock or was released."""
    now = "timezone('utc', clock_timestamp())"
    expired = f"select coalesce(lease_expires_at, '-infinity') < {now} from warehouse_sync.syncs"
    wait_until(lambda: bool(query_one(world, expired)[0]), "the lease has expired")


def check_skipped_before_expiry(workers: Workers, world: World, **settings: float) -> None:
    """Check that a worker that starts before the lease of another has expired is skipped."""
    (expiry,) = query_one(world, "select lease_expires_at from warehouse_sync.syncs")
    report = report_of(workers.run(world, **settings).wait())
    if report["status"] != "skipped":  # On a busy machine the worker may start after the expiry.
        (started,) = query_one(world, f"select started_at from warehouse_sync.runs where run_id = {report['run_id']}")
        assert started > expiry


def is_in_pg_sleep(world: World, within: str = "") -> bool:
    """Return whether PostgreSQL is in a `pg_sleep` of a worker's statement with these arguments in it."""
    sleeping = "select query from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    return any(within in query for (query,) in world.query(sleeping))


def finished_requests(world: World, action: str) -> list[RequestRecord]:
    """Return the finished requests of this action."""
    return [each for each in world.sandbox.requests("users") if each.action == action and each.finished is not None]


def open_requests(world: World, kind: str | None = None) -> int:
    """Return how many requests wait for their answer."""
    return sum(record.finished is None for record in world.sandbox.requests(kind))


def fork_workers() -> Mapping[str, Any]:
    """Fork a worker for each line of standard input until it ends. Returns only in a worker, with its options."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # A garbage collection in a worker would write to all shared pages, and so copy them.
    running: dict[int, Path] = {}
    while True:
        readable, _, _ = select.select([0], [], [], 0.01)
        if readable:
            line = sys.stdin.buffer.readline()
            if not line:
                break
            options = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return dict(options)
            running[pid] = Path(options["output"])
            os.write(1, f"{pid}\n".encode())
        _reap(running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    raise SystemExit


def _reap(running: dict[int, Path]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            output = running.pop(pid)
            (output / "code.new").write_text(str(os.waitstatus_to_exitcode(status)))
            (output / "code.new").rename(output / "code")


def run_as_worker(options: Mapping[str, Any]) -> None:
    """Prepare this process as the worker of these options, up to the call of its entry point."""
    output = Path(options["output"])
    for number, name, flags in ((0, None, os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        opened = os.open(output / name if name else os.devnull, flags | (os.O_CREAT if name else 0))
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(options["cwd"])
    os.environ.clear()
    os.environ.update(options["env"])
    sys.argv = ["warehouse-sync", *options["arguments"]]
    apply_settings(**options["settings"])
    time.sleep(max(0.0, options["at"] - time.time()))


def apply_settings(
    clock_offset: float = 0.0, batch_size: float = 0, lock_timeout: float = 0.0, backoff_initial: float = 0.0
) -> None:
    """Apply settings to this worker that the configuration does not have.

    Args:
        clock_offset: Seconds by which its wall clock is ahead.
        batch_size: Operations per request, so that few members make many requests.
        lock_timeout: Seconds that it waits for a DuckDB file.
        backoff_initial: Seconds that a scheduler waits after a failure.
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
    """Set the wall clock that the product reads in this process ahead by `offset` seconds."""
    true_time, true_datetime = time.time, datetime.datetime

    class ShiftedDatetime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return true_datetime.now(tz) + datetime.timedelta(seconds=offset)

    time.time = lambda: true_time() + offset
    for name, module in list(sys.modules.items()):
        if name.startswith("warehouse_sync") and vars(module).get("datetime") is true_datetime:
            vars(module)["datetime"] = ShiftedDatetime


if __name__ == "__main__":
    run_as_worker(fork_workers())
    from warehouse_sync.cli.main import main

    main()
