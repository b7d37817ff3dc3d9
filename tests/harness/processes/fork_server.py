"""Real workers, cheaply: a process that has imported everything and opened nothing forks one child per command.

A child runs the real command line in a process of its own, with its own files, signals and exit code; only the second
that Python takes to start is saved. The parent has no threads, no sockets and no database, so that a fork is safe;
DuckDB starts threads when it is imported, so each child imports that by itself.
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
"""What takes the time at a start; none of it begins a thread."""

HUNG = "hung"
LEFT_THREADS = 86
"""The exit code of a worker that would not have ended: threads of its own kept it alive."""


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """One command for a worker.

    words: what stands behind `warehouse-sync`. name: of its files in `folder`. often: outcomes are recorded batch by
    batch instead of every second. calm: patient with slow answers, as a worker without faults may be on a busy machine.
    """

    arguments: tuple[str, ...]
    folder: str
    name: str
    url: str
    fault: WorkerFault | None = None
    record_every_batch: bool = False
    long_read_timeout: bool = False

    def file(self, ending: str) -> Path:
        """Where the worker leaves `out`, `err`, `mark` (what struck it) and `counts` (of the points it passed)."""
        return Path(self.folder, f"{self.name}.{ending}")


class ForkedWorker:
    """A worker that was started; the harness's end of it."""

    def __init__(self, workers: ForkServer, order: WorkerCommand, pid: int) -> None:
        self.command = order
        self.pid = pid
        self._server = workers

    def send(self, number: int) -> None:
        """Send it a signal; it may have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code; minus the number of the signal that ended it. Raises TimeoutError after ending a hung one."""
        return self._server.wait(self)

    @property
    def out(self) -> str:
        return self.command.file("out").read_text()

    @property
    def err(self) -> str:
        return self.command.file("err").read_text()

    @property
    def injected_fault(self) -> dict[str, Any] | None:
        """What its upset did, None when it never got that far."""
        mark = self.command.file("mark")
        return json.loads(mark.read_text() or "{}") if mark.exists() else None

    @property
    def counts(self) -> dict[str, int]:
        """The points that it passed; empty when it was killed."""
        counts = self.command.file("counts")
        return json.loads(counts.read_text()) if counts.exists() else {}


class ForkServer:
    """The process that forks workers, for the time of the block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.processes.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=harness_environment(OPENBLAS_NUM_THREADS="1"),
            start_new_session=True,  # Ctrl-C is for the harness, which then ends the pipe.
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

    def start(self, order: WorkerCommand) -> ForkedWorker:
        """A new process is on its way."""
        request = {**asdict(order), "environment": environment(Path(order.folder))}
        return ForkedWorker(self, order, int(self._ask({"start": request}, TIMEOUT)))

    def wait(self, worker: ForkedWorker) -> int:
        """See Worker.wait."""
        code = self._ask({"wait": worker.pid}, TIMEOUT)
        if code == HUNG:
            worker.send(signal.SIGUSR1)
            select.select([], [], [], 0.5)
            worker.send(signal.SIGKILL)
            self._read_answer(TIMEOUT)
            raise TimeoutError(f"{worker.command.arguments} hung; its threads stand in {worker.command.file('err')}")
        return int(code)

    def _ask(self, question: dict[str, Any], patience: float) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self._read_answer(patience)

    def _read_answer(self, patience: float) -> Any:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        if not ready:
            return HUNG
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks workers has ended")
        return json.loads(line)


def serve() -> None:
    """Answer `{"start": order}` with a process id and `{"wait": id}` with an exit code, until the pipe ends."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    _import_everything()
    gc.freeze()
    for line in iter(questions.readline, b""):
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        else:
            _check_threads()
            answer = os.fork()
            if answer == 0:
                questions.close()
                answers.close()
                _run_worker(question["start"])
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _check_threads() -> None:
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a fork would lose the other threads"


def _import_everything() -> None:
    for name in PRELOADED_MODULES:
        importlib.import_module(name)
    pydantic.TypeAdapter(int)  # What pydantic looks for once, it has found.


def _run_worker(request: dict[str, Any]) -> None:
    """Become the command line of this order. Never returns."""
    code = 70
    try:
        # Until the command line heeds it, Ctrl-C ends the process: Python's own handler prints a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        given = request.pop("environment")
        fault = request.pop("fault")
        order = WorkerCommand(
            **{**request, "arguments": tuple(request["arguments"])}, fault=WorkerFault(**fault) if fault else None
        )
        os.environ.clear()
        os.environ.update(given)
        os.chdir(order.folder)
        for number, ending in ((1, "out"), (2, "err")):
            os.dup2(os.open(order.file(ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        faulthandler.register(signal.SIGUSR1)
        code = _run_command_line(order)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - as Python does at the end of a program
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run_command_line(order: WorkerCommand) -> int:
    random.seed(order.name)  # Pauses are jittered; again the same way when the history is performed again.
    watch = FaultInjector(order.fault, order.file("mark"))
    _shorten_timeouts_and_batches(order)
    install_hooks(watch, order.url)
    from warehouse_sync.cli.main import main

    sys.argv = ["warehouse-sync", *order.arguments]
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    order.file("counts").write_text(json.dumps(watch.counts))
    left = [
        thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    if left:
        sys.stderr.write(f"threads are left: {left}\n")
        return LEFT_THREADS
    return int(code)


def _shorten_timeouts_and_batches(order: WorkerCommand) -> None:
    """Small batches for a handful of members; none of LinkedIn's long pauses."""
    from warehouse_sync.destinations.linkedin.destination import LinkedIn
    from warehouse_sync.warehouses.base import Warehouse

    patch = pytest.MonkeyPatch()
    shorten_timeouts(patch, read_timeout=15.0 if order.long_read_timeout else 1.0)
    patch.setattr(LinkedIn, "batch_size", 2)
    if order.record_every_batch:
        patch.setattr(Warehouse, "record_interval", 0.0)


if __name__ == "__main__":
    serve()
