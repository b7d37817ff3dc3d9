"""The main test of the product: after any history of data, faults and crashes, calm runs make the audience equal.

HISTORIES=n       the number of histories on DuckDB, a quarter of it on PostgreSQL; default 8, in `make test-all` 24
SEED=n            the seed: the same n gives the same histories
REPRODUCE=v:blob  only the history that failed: version and blob as Hypothesis printed them in @reproduce_failure

Long runs, with statistics: PYTHONPATH=tests python -m harness.histories.machine --histories 2000 --seed 7
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.histories.environment import open_environment
from harness.histories.history import Tally
from harness.histories.machine import run_histories
from harness.selection import rounds

HISTORIES = int(os.environ.get("HISTORIES", rounds(8, 24)))
SEED = int(os.environ.get("SEED", "0"))
REPRODUCE = os.environ.get("REPRODUCE")

GROUPS = 64
"""The number of independent groups of rows in each history."""


def test_any_history_ends_equal(warehouse_url: str, tmp_path: Path) -> None:
    """After calm runs the audience equals the query, and no member was ever added that was not in the query."""
    histories = HISTORIES if warehouse_url.startswith("duckdb") else max(1, HISTORIES // 4)
    with open_environment(warehouse_url, tmp_path, in_process=True, groups=GROUPS) as environment:
        tally = run_histories(environment, histories, seed_number=SEED, blob=REPRODUCE)
    print_tally(tally)
    assert tally["histories"] >= histories or REPRODUCE


@pytest.mark.skipif(REPRODUCE is not None, reason="one history is reproduced")
def test_any_history_ends_equal_over_sockets(warehouse_url: str, tmp_path: Path) -> None:
    """The promise also holds over real HTTP, with a real file, and with the migrations in each history."""
    histories = max(3, HISTORIES // 10)
    with open_environment(warehouse_url, tmp_path, in_process=False, groups=4) as environment:
        tally = run_histories(environment, histories, seed_number=SEED + 1)
    print_tally(tally)
    assert tally["run succeeded"] >= histories


def print_tally(tally: Tally) -> None:
    """Print the statistics, to be read with `pytest -s`."""
    print(f"\n{tally.format_lines()}")  # noqa: T201
