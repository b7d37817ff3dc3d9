"""The test that holds the product: for any history of data, faults and crashes, once runs get through, all is well.

HISTORIES=n       so many of them on DuckDB, a quarter as many on PostgreSQL; default 8, in `make test-all` 24
SEED=n            which ones; the same n gives the same ones
REPRODUCE=v:blob  only the one that failed: version and blob as Hypothesis printed them behind @reproduce_failure

Long runs, with figures: PYTHONPATH=tests python -m harness.histories.machine --histories 2000 --seed 7
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.histories.environment import bench
from harness.histories.history import Tally
from harness.histories.machine import run_histories
from harness.selection import rounds

HISTORIES = int(os.environ.get("HISTORIES", rounds(8, 24)))
SEED = int(os.environ.get("SEED", "0"))
REPRODUCE = os.environ.get("REPRODUCE")

GROUPS = 64
"""Independent histories of data that each history carries."""


def test_any_history_ends_equal(warehouse_url: str, tmp_path: Path) -> None:
    """After calm runs the audience equals the query, and nobody was ever added who was not in it."""
    histories = HISTORIES if warehouse_url.startswith("duckdb") else max(1, HISTORIES // 4)
    with bench(warehouse_url, tmp_path, near=True, groups=GROUPS) as place:
        tally = run_histories(place, histories, number=SEED, blob=REPRODUCE)
    told(tally)
    assert tally["histories"] >= histories or REPRODUCE


@pytest.mark.skipif(REPRODUCE is not None, reason="one history is reproduced")
def test_any_history_ends_equal_over_sockets(warehouse_url: str, tmp_path: Path) -> None:
    """The same over real HTTP, with a real file, and with the migrations in each history."""
    histories = max(3, HISTORIES // 10)
    with bench(warehouse_url, tmp_path, near=False, groups=4) as place:
        tally = run_histories(place, histories, number=SEED + 1)
    told(tally)
    assert tally["run succeeded"] >= histories


def told(tally: Tally) -> None:
    """The figures, for whoever runs pytest with -s."""
    print(f"\n{tally.told()}")  # noqa: T201
