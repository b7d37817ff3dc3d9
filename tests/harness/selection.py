"""What a run of the tests includes: the tests for each change (`make test`), or all (`make test-all`).

Only this module reads the environment variables that select them:

WAREHOUSE_SYNC_TESTS=all   Everything: every suite on every engine, all mutations, the large rounds of random tests.
SNOWFLAKE=all              Also all suites that can run on the local Snowflake.
MUTATIONS=all              Also all mutations of the worker.
"""

from __future__ import annotations

import os

import pytest

ALL = os.environ.get("WAREHOUSE_SYNC_TESTS") == "all"
ALL_ON_SNOWFLAKE = ALL or os.environ.get("SNOWFLAKE") == "all"
ALL_MUTATIONS = ALL or os.environ.get("MUTATIONS") == "all"

ON_SNOWFLAKE_TOO = frozenset(
    {"test_warehouse_contract", "test_element_sql", "test_mirror", "test_lease", "test_migrations"}
)
"""Contracts that hold on all three engines in every run of the tests."""

CAN_RUN_ON_SNOWFLAKE = ON_SNOWFLAKE_TOO | {
    "test_statements", "test_normalisers", "test_pending", "test_plan", "test_status",
}  # fmt: skip
"""A run of a sync takes about two seconds on the local Snowflake."""

LOGIC = frozenset(
    {
        "test_audiences",
        "test_damaged_state",
        "test_docs_queries",
        "test_hostile_data",
        "test_pending",
        "test_plan",
        "test_privacy",
        "test_retention",
        "test_statements",
        "test_status",
        "test_syncs",
    }
)
"""Suites of decisions of the worker that do not depend on the engine: `make test` runs them on `LOGIC_ENGINE`."""

LOGIC_ENGINE = "postgres"
"""The engine that needs the least processor time for a run, its server included."""

thorough = pytest.mark.skipif(not ALL, reason="runs in make test-all")
"""The mark of a test that takes too long for `make test`."""


def rounds(quick: int, full: int) -> int:
    """Return `quick` in `make test` and `full` in `make test-all`: a number of examples, moments or histories."""
    return full if ALL else quick


def engines(module: str) -> list[str]:
    """Return the kinds of warehouse that the tests of a module run on; `module` is the last part of its name."""
    on_snowflake = CAN_RUN_ON_SNOWFLAKE if ALL_ON_SNOWFLAKE else ON_SNOWFLAKE_TOO
    common = [LOGIC_ENGINE] if module in LOGIC and not ALL else ["duckdb", "postgres"]
    return [*common, "snowflake"] if module in on_snowflake else common
