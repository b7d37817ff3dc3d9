"""Files of results: one JSON line per measured run, and one for the machine before the runs of a command."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT

Record = dict[str, Any]
Key = tuple[str, int, str, str]
"""Warehouse, rows, churn, contender."""

DEFAULT = Path(".bench", "results.jsonl")
PUBLISHED = Path("docs", "performance.jsonl")
"""The runs that the page shows, so that another machine can add its own runs and render the page again."""

BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""The Python of an environment with packages that the product does not need."""

PACKAGES = ("duckdb", "psycopg", "sqlalchemy", "pyarrow", "requests", "orjson")
BENCH_PACKAGES = ("polars", "connectorx", "dlt")
COLUMNS = ("warehouse", "rows", "churn", "contender", "#", "seconds", "cpu s", "rss MB", "statements", "from/to wh")


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Append the record to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Record]:
    """Return all records of a file, the oldest first, or none when the file does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def write(path: Path, records: Sequence[Record]) -> None:
    """Replace the records of the file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def describe_machine(command: Sequence[str]) -> dict[str, Any]:
    """Return the record of this machine and the command, without the paths of files."""
    paths = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    paths.add_argument("--results")
    paths.add_argument("--folder")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "kind": "machine",
        "command": paths.parse_known_args(command)[1],
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in PACKAGES}, **_bench_package_versions()},
        "commit": _commit(),
    }


def _bench_package_versions() -> dict[str, str]:
    """Return the versions of the packages in the environment of the benchmarks."""
    code = f"from importlib.metadata import version; print(*(version(name) for name in {BENCH_PACKAGES!r}))"
    if not BENCH_PYTHON.exists():
        return {}
    done = subprocess.run([BENCH_PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return dict(zip(BENCH_PACKAGES, done.stdout.split(), strict=False))


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def head() -> str:
    """Return the head of the table of runs that is printed during a command."""
    return _line(COLUMNS)


def line(record: Mapping[str, Any]) -> str:
    """Return the line of one run in that table."""
    moved = "—"
    if record["received_bytes"] is not None:
        moved = f"{record['received_bytes'] / 1e6:.1f}/{record['sent_bytes'] / 1e6:.1f} MB"
    phases = " ".join(f"{name} {seconds:.2f}" for name, seconds in record["phases"].items() if seconds >= 0.005)
    cells = (
        record["warehouse"],
        f"{record['rows']:,}",
        record["churn"],
        record["contender"],
        record["repeat"],
        f"{record['seconds']:.2f}",
        f"{record['cpu_seconds']:.2f}",
        f"{record['rss_mb']:.0f}",
        record["statements"] or "—",
        moved,
    )
    return _line(cells) + ("   " + phases if phases else "")


def _line(cells: Sequence[object]) -> str:
    widths = (9, 11, 6, 10, 2, 8, 8, 7, 10, 16)
    return "  ".join(str(cell).rjust(width) for cell, width in zip(cells, widths, strict=True))
