"""Measure a process: seconds, processor seconds, memory, and the report that it prints."""

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
"""Seconds between two readings of the memory of a process."""

START_VARIABLE = "BENCHMARK_STARTED"
"""The environment variable with the start time of a process, on the monotonic clock."""


@dataclass
class Measurement:
    """The measured values of a process.

    Attributes:
        seconds: The time from start to end.
        cpu_seconds: The processor seconds of the process and its children.
        rss_mb: Its largest resident memory in MB.
        report: The JSON object that it printed on its last line.
    """

    seconds: float
    cpu_seconds: float
    rss_mb: float
    report: dict[str, Any] = field(default_factory=dict)


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measurement:
    """Run a command to its end and measure it.

    Raises:
        RuntimeError: The command failed; the message has its output.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(environment or {}), START_VARIABLE: repr(started)},
        )
        largest = 0.0
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                seconds = time.monotonic() - started
                break
            largest = max(largest, peak_memory_mb(process.pid))
            time.sleep(POLL)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output = out.read().decode()
        if process.returncode:
            raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {err.read().decode()[-3000:]}{output}")
    report = json.loads(output.splitlines()[-1]) if output.rstrip().endswith("}") else {}
    memory = max(largest, report.pop("rss_mb", 0.0))
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, memory, report)


def peak_memory_mb(pid: int | str = "self") -> float:
    """Return the largest resident memory of the process in MB; 0 when it has ended.

    ru_maxrss is not used, because it starts with the memory of the parent process.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = text.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 / 1e6 if found else 0.0


def written_bytes() -> int:
    """Return the bytes that this process has written to disk."""
    return int(Path("/proc/self/io").read_text().partition("\nwrite_bytes:")[2].split()[0])


def seconds_since_start() -> float:
    """Return the seconds since the parent process started this one."""
    return time.monotonic() - float(os.environ[START_VARIABLE])


def module_command(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """Return the command that runs a module of the benchmarks in a new process."""
    return [python, "-m", f"benchmarks.{name}", *arguments]


def module_environment() -> dict[str, str]:
    """Return the environment variables with which such a process imports the benchmarks and the product."""
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
