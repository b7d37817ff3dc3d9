"""The demo shows the main task, takes less than a minute, and checks its result."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import duckdb

DEMO = Path(__file__).parents[2] / "configs" / "quickstart" / "demo.py"


def processor_seconds() -> float:
    """Return the processor time of all child processes that have ended: other load on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_ends_with_an_audience_that_equals_the_query(tmp_path: Path) -> None:
    """The demo runs three times and reports an audience that equals the query under every reading."""
    before = processor_seconds()
    done = subprocess.run(
        [sys.executable, str(DEMO)], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert processor_seconds() - before < 60
    results = [
        line.split() for line in done.stdout.splitlines() if line.startswith(("identifiers", "elements", "persons"))
    ]
    assert [(words[0], words[-1]) for words in results if words[1] == "audience"] == [
        ("identifiers", "equal"),
        ("elements", "equal"),
        ("persons", "equal"),
    ]
    assert "requests that carried members: 0" in done.stdout
    assert done.stdout.count("$ warehouse-sync run") == 3
    with duckdb.connect(str(tmp_path / ".demo" / "customers.duckdb"), read_only=True) as connection:
        (runs,) = connection.execute("select count(*) from warehouse_sync.runs where status = 'succeeded'").fetchall()
    assert runs == (3,)
