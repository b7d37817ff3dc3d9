"""The command line as a user has it: another process, judged by its exit code and its two outputs."""

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
"""Seconds after which a command or a wait counts as hung; long, so that no verdict depends on the machine's speed."""


@dataclass(frozen=True)
class CommandResult:
    """What a command left behind. On a terminal `out` holds both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value; fails when anything else stands there."""
        return json.loads(self.out)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """A user's environment with the configuration in `folder`, free of the test runner's own settings."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "WAREHOUSE_SYNC_CONFIG": str(folder / "config.yaml"), "TERM": "xterm", **variables}


def harness_environment(**variables: str) -> dict[str, str]:
    """The environment of a process that runs a module of the harness."""
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **variables}


def call(folder: Path, *words: str, **more: str) -> CommandResult:
    """Run `warehouse-sync` with these words, in `folder`, without a terminal."""
    done = subprocess.run(
        [*PROGRAM, *words],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def call_on_a_terminal(folder: Path, *words: str, **more: str) -> CommandResult:
    """Run `warehouse-sync` with these words on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *words], cwd=folder, env=environment(folder, **more), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = bytearray()
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # Linux's way to say that the other end of a terminal was closed.
    os.close(ours)
    return CommandResult(process.wait(TIMEOUT), shown.decode(), "")


def interrupt(folder: Path, *words: str, when: Callable[[], bool], signal_number: int = signal.SIGINT) -> CommandResult:
    """Run `warehouse-sync` with these words and send it a signal as soon as `when` holds."""
    process = subprocess.Popen(
        [*PROGRAM, *words],
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
