"""The statements of a run: some warehouses charge for them, and a run waits for each."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from harness.worlds.world import World, sandbox, shorten_timeouts

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.operations import RunStatus
from warehouse_sync.warehouses.base import Warehouse

FEW, MANY = (10_000, 1_000_000) if os.environ.get("WAREHOUSE_SYNC_MILLION") else (2_000, 12_000)
"""Numbers of rows: the small ones give one batch and several; the million takes minutes, mostly in the sandbox."""


@contextmanager
def before_each_statement(note: Callable[..., None]) -> Iterator[None]:
    """Call `note` before each statement that this process sends to a warehouse in the block."""
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


@contextmanager
def collected_statements() -> Iterator[list[str]]:
    """Collect the statements that this process sends to warehouses in the block."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    with before_each_statement(note):
        yield statements


def people(world: World, count: int, first: int = 1) -> None:
    """Create table `people` with `count` rows in the warehouse."""
    with world.connect() as connection:
        connection.execute(sa.text("drop table if exists people"))
        connection.execute(
            sa.text(
                "create table people as select n as id, 'p' || n || '@example.com' as email, cast(null as varchar(40)) "
                "as device, 'Ann' as first_name, 'DE' as country "
                f"from generate_series({first}, {first + count - 1}) as g(n)"
            )
        )


def run(world: World) -> list[str]:
    with collected_statements() as statements:
        assert world.run().status is RunStatus.SUCCEEDED
    return statements


def statements_of_three_runs(world: World, count: int) -> list[list[str]]:
    """Return the statements of a first run, of a run that replaces half of the members, and of one without changes."""
    world.reset()
    with sandbox() as linkedin:
        fresh = replace(world, sandbox=linkedin)
        people(fresh, count)
        first = run(fresh)
        people(fresh, count, first=count // 2)
        return [first, run(fresh), run(fresh)]


def test_the_number_of_statements_does_not_grow_with_the_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of many members sends as many statements as one of few, apart from those written at intervals."""
    shorten_timeouts(monkeypatch, read_timeout=30.0, retry_timeout=60.0)
    monkeypatch.setattr(Warehouse, "record_interval", math.inf)
    world.warehouse_settings["lease"] = "600s"
    few, many = statements_of_three_runs(world, FEW), statements_of_three_runs(world, MANY)
    assert [len(statements) for statements in few] == [len(statements) for statements in many]
    assert max(map(len, few)) < 80


def test_outcomes_are_written_at_intervals(world: World, short_timeouts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """During the delivery, outcomes are written once in each interval and once at the end."""
    interval = 0.5
    monkeypatch.setattr(Warehouse, "record_interval", interval)
    monkeypatch.setattr(LinkedIn, "batch_size", 2)
    world.destination_settings["max_in_flight"] = 1
    world.fill({"id": number, "email": f"p{number}@example.com"} for number in range(40))
    world.sandbox.inject("slow:users:times=0:seconds=0.1")
    started = time.monotonic()
    statements = run(world)
    written = [text for text in statements if text.startswith("UPDATE") and "delivered_add=" in text]
    assert 2 <= len(written) <= (time.monotonic() - started) / interval + 1


@contextmanager
def plans_of_changes() -> Iterator[dict[str, list[str]]]:
    """Collect the plans of the statement that creates the changes: with the settings of the worker, and without."""
    plans: dict[str, list[str]] = {"with settings": [], "without settings": []}

    def note(connection: sa.Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        text = " ".join(statement.split())
        if not text.startswith("CREATE TABLE") or "changes_" not in text.split(" AS ")[0]:
            return
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            cursor.execute("SAVEPOINT plans")
            for explained in plans.values():
                cursor.execute(f"EXPLAIN {statement}", parameters or None)
                explained.append("\n".join(line for (line,) in cursor.fetchall()))
                cursor.execute("SET LOCAL enable_nestloop TO DEFAULT")
            cursor.execute("ROLLBACK TO SAVEPOINT plans")

    with before_each_statement(note):
        yield plans


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_changes_are_computed_without_nested_loops(world: World) -> None:
    """The planner estimates one changed row; the worker disables nested loops, with which a large run takes hours."""
    people(world, 3)
    run(world)
    with world.connect() as connection:
        connection.execute(sa.text("update people set email = 'q' || id || '@example.com' where id = 2"))
    with plans_of_changes() as plans:
        run(world)
    (with_settings,), (without_settings,) = plans.values()
    assert "Nested Loop" in without_settings, "these tables are too small for the test"
    assert "Nested Loop" not in with_settings
    assert "Hash" in with_settings or "Merge" in with_settings
