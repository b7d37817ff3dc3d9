"""Start worker processes quickly: a process that has imported all modules forks one child for each command.

A child runs the real command line in a process of its own, with its own files, signals and exit code. Only the second
that Python takes to start is saved. The parent has no threads, sockets or databases, so that a fork is safe. DuckDB
starts threads when it is imported, so each child imports it.

Histories use these workers: they inject faults and count the points they pass. `workers.py` has those of single tests.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pydantic
import pytest
from harness.processes.command import environment, harness_environment
from harness.processes.kill_points import FaultInjector, WorkerFault, install_hooks
from harness.worlds.world import shorten_timeouts

TIMEOUT = 300.0
"""Seconds after which a worker counts as hung."""

PRELOADED_MODULES = (
    "alembic.command",
    "numpy",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "stamina",
    "warehouse_sync.cli.main",
    "warehouse_sync.destinations.linkedin.destination",
    "warehouse_sync.cli.display",
    "warehouse_sync.run.run",
    "warehouse_sync.warehouses.postgres.warehouse",
)
"""The modules that take most of the start. None of them starts a thread."""

HUNG = "hung"
LEFT_THREADS = 86
"""The exit code of a worker that would not have ended because it has left threads running."""


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """One command for a worker.

    Attributes:
        arguments: The arguments of `warehouse-sync`.
        folder: The folder of the configuration and of the files of the worker.
        name: The name of the files of the worker, without their ending.
        url: The URL of the warehouse.
        fault: What happens to the worker.
        record_every_batch: Record outcomes after each batch instead of once a second.
        long_read_timeout: Wait long for slow answers: a worker without faults must succeed on a busy machine too.
    """

    arguments: tuple[str, ...]
    folder: str
    name: str
    url: str
    fault: WorkerFault | None = None
    record_every_batch: bool = False
    long_read_timeout: bool = False

    def file(self, ending: str) -> Path:
        """Return the path of `out`, `err`, `mark` (the injected fault) or `counts` (the points passed)."""
        return Path(self.folder, f"{self.name}.{ending}")


class ForkedWorker:
    """A started worker, as the harness sees it."""

    def __init__(self, workers: ForkServer, command: WorkerCommand, pid: int) -> None:
        self.command = command
        self.pid = pid
        self._server = workers

    def send(self, number: int) -> None:
        """Send a signal. Do nothing if the worker has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit code, or minus the number of the signal that ended the worker.

        Raises:
            TimeoutError: The worker hung; it was killed.
        """
        return self._server.wait(self)

    @property
    def out(self) -> str:
        return self.command.file("out").read_text()

    @property
    def err(self) -> str:
        return self.command.file("err").read_text()

    @property
    def injected_fault(self) -> dict[str, Any] | None:
        """The fault that was injected; None if the worker did not reach its point."""
        mark = self.command.file("mark")
        return json.loads(mark.read_text() or "{}") if mark.exists() else None

    @property
    def counts(self) -> dict[str, int]:
        """The number of points of each kind that it passed; empty if it was killed."""
        counts = self.command.file("counts")
        return json.loads(counts.read_text()) if counts.exists() else {}


class ForkServer:
    """The process that forks workers; it ends with the `with` block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.processes.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=harness_environment(OPENBLAS_NUM_THREADS="1"),
            start_new_session=True,  # Ctrl-C goes to the harness alone, which then closes the pipe.
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def start(self, command: WorkerCommand) -> ForkedWorker:
        """Start a worker."""
        request = {**asdict(command), "environment": environment(Path(command.folder))}
        return ForkedWorker(self, command, int(self._ask({"start": request}, TIMEOUT)))

    def wait(self, worker: ForkedWorker) -> int:
        """Return the exit code as `ForkedWorker.wait` does."""
        code = self._ask({"wait": worker.pid}, TIMEOUT)
        if code == HUNG:
            worker.send(signal.SIGUSR1)
            select.select([], [], [], 0.5)
            worker.send(signal.SIGKILL)
            self._read_answer(TIMEOUT)
            raise TimeoutError(
                f"{worker.command.arguments} hung; the stacks of its threads are in {worker.command.file('err')}"
            )
        return int(code)

    def _ask(self, request: dict[str, Any], timeout: float) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read_answer(timeout)

    def _read_answer(self, timeout: float) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not ready:
            return HUNG
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks workers has ended")
        return json.loads(line)


def serve() -> None:
    """Answer `{"start": command}` with a process id and `{"wait": id}` with an exit code, until the pipe is closed."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    _import_everything()
    gc.freeze()
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            _check_threads()
            answer = os.fork()
            if answer == 0:
                requests.close()
                answers.close()
                _run_worker(request["start"])
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _check_threads() -> None:
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a fork would lose the other threads"


def _import_everything() -> None:
    for name in PRELOADED_MODULES:
        importlib.import_module(name)
    pydantic.TypeAdapter(int)  # Makes pydantic do now what it does once per process.


def _run_worker(request: dict[str, Any]) -> None:
    """Run the command line for this command. Never returns."""
    code = 70
    try:
        # Until the command line handles Ctrl-C, it ends the process: Python's own handler would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        variables = request.pop("environment")
        fault = request.pop("fault")
        command = WorkerCommand(
            **{**request, "arguments": tuple(request["arguments"])}, fault=WorkerFault(**fault) if fault else None
        )
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(command.folder)
        for number, ending in ((1, "out"), (2, "err")):
            os.dup2(os.open(command.file(ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        faulthandler.register(signal.SIGUSR1)
        code = _run_command_line(command)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - print it as Python does at the end of a program
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run_command_line(command: WorkerCommand) -> int:
    random.seed(command.name)  # Makes the jitter of pauses the same when a history is repeated.
    injector = FaultInjector(command.fault, command.file("mark"))
    _shorten_timeouts_and_batches(command)
    install_hooks(injector, command.url)
    from warehouse_sync.cli.main import main

    sys.argv = ["warehouse-sync", *command.arguments]
    exit_code: Any = 0
    try:
        main()
    except SystemExit as end:
        exit_code = end.code or 0
    command.file("counts").write_text(json.dumps(injector.counts))
    running = [
        thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    if running:
        sys.stderr.write(f"threads are left: {running}\n")
        return LEFT_THREADS
    return int(exit_code)


def _shorten_timeouts_and_batches(command: WorkerCommand) -> None:
    """Set small batches for few members and avoid LinkedIn's long pauses."""
    from warehouse_sync.destinations.linkedin.destination import LinkedIn
    from warehouse_sync.warehouses.base import Warehouse

    patch = pytest.MonkeyPatch()
    shorten_timeouts(patch, read_timeout=15.0 if command.long_read_timeout else 1.0)
    patch.setattr(LinkedIn, "batch_size", 2)
    if command.record_every_batch:
        patch.setattr(Warehouse, "record_interval", 0.0)


if __name__ == "__main__":
    serve()
