"""Run the command line in another process, as users do, and return its exit code and its outputs."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "warehouse_sync")
TIMEOUT = 300.0
"""Seconds after which a command or a wait counts as hung. It is long, so that slow machines pass too."""


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the outputs of a command that has ended.

    Attributes:
        code: The exit code; minus the number of the signal that ended the process.
        out: Standard output; on a terminal both outputs.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return standard output as one JSON value. Raises ValueError if it is anything else."""
        return json.loads(self.out)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return a user's environment with the configuration in `folder`, without the settings of the test runner."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**inherited, "WAREHOUSE_SYNC_CONFIG": str(folder / "config.yaml"), "TERM": "xterm", **variables}


def harness_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that runs a module of the harness."""
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **variables}


def call(folder: Path, *arguments: str, **variables: str) -> CommandResult:
    """Run `warehouse-sync` with these arguments, in `folder`, without a terminal."""
    process = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return CommandResult(process.returncode, process.stdout, process.stderr)


def call_on_a_terminal(folder: Path, *arguments: str, **variables: str) -> CommandResult:
    """Run `warehouse-sync` with these arguments on a terminal of its own."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    output = bytearray()
    try:
        while chunk := os.read(controller, 65536):
            output += chunk
    except OSError:
        pass  # Linux raises this when the other end of a terminal is closed.
    os.close(controller)
    return CommandResult(process.wait(TIMEOUT), output.decode(), "")


def interrupt(
    folder: Path, *arguments: str, when: Callable[[], bool], signal_number: int = signal.SIGINT
) -> CommandResult:
    """Run `warehouse-sync` with these arguments and send it a signal as soon as `when` returns True."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not when():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=TIMEOUT)
    return CommandResult(process.returncode, out, err)
