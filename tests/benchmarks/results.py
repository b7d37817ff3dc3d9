"""Results: one JSON line per measured run, and a line about the machine before those of one command."""

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
"""The runs that the page shows, so that another machine can render it anew with runs of its own among them."""

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""The environment of those who need what the product does not."""

PACKAGES = ("duckdb", "psycopg", "sqlalchemy", "pyarrow", "requests", "orjson")
OTHERS = ("polars", "connectorx", "dlt")
COLUMNS = ("warehouse", "rows", "churn", "contender", "#", "seconds", "cpu s", "rss MB", "statements", "from/to wh")


def append(path: Path, record: Mapping[str, Any]) -> None:
    """The record is the last line of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Record]:
    """All records of a file, the oldest first; none where there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def write(path: Path, records: Sequence[Record]) -> None:
    """The file holds these records and no others."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def machine(command: Sequence[str]) -> dict[str, Any]:
    """What this runs on, and what was asked for: where it keeps its files is nobody else's."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--results")
    own.add_argument("--folder")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "kind": "machine",
        "command": own.parse_known_args(command)[1],
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in PACKAGES}, **_others()},
        "commit": _commit(),
    }


def _others() -> dict[str, str]:
    """The versions of what is installed in the other environment."""
    ask = f"from importlib.metadata import version; print(*(version(name) for name in {OTHERS!r}))"
    if not PYTHON.exists():
        return {}
    done = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=False)
    return dict(zip(OTHERS, done.stdout.split(), strict=False))


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def head() -> str:
    """The head of the table that is printed as runs end."""
    return _line(COLUMNS)


def line(record: Mapping[str, Any]) -> str:
    """One run."""
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
