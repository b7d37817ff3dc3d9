"""One process from its start to its end: seconds, processor seconds, memory, and what it told about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLL = 0.01
"""Seconds between two looks at the memory of a process."""

BEGUN = "BENCHMARK_BEGUN"
"""The environment variable by which a process learns when it was started, on the monotonic clock."""


@dataclass
class Measured:
    """cpu_seconds: of the process and its children. rss_mb: its largest resident memory. told: its own report."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    told: dict[str, Any] = field(default_factory=dict)


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end. Raises RuntimeError, with what it said, when it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(environment or {}), BEGUN: repr(begun)},
        )
        largest = 0.0
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                seconds = time.monotonic() - begun
                break
            largest = max(largest, high_water(process.pid))
            time.sleep(POLL)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said = out.read().decode()
        if process.returncode:
            raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {err.read().decode()[-3000:]}{said}")
    told = json.loads(said.splitlines()[-1]) if said.rstrip().endswith("}") else {}
    memory = max(largest, told.pop("rss_mb", 0.0))
    return Measured(seconds, usage.ru_utime + usage.ru_stime, memory, told)


def high_water(pid: int | str = "self") -> float:
    """The largest resident memory so far, in MB; 0 when the process is gone.

    Not ru_maxrss: that begins with what the process held from which this one was forked.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = text.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 / 1e6 if found else 0.0


def written_bytes() -> int:
    """What this process has had written to disk so far."""
    return int(Path("/proc/self/io").read_text().partition("\nwrite_bytes:")[2].split()[0])


def since_begun() -> float:
    """Seconds since this process was started, seen from the one that started it."""
    return time.monotonic() - float(os.environ[BEGUN])


def module(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command that runs a module of the benchmarks in a process of its own."""
    return [python, "-m", f"benchmarks.{name}", *arguments]


def search_path() -> dict[str, str]:
    """The environment in which such a process finds the benchmarks and the product."""
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
