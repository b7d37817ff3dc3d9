"""What a run asks of the warehouse: statements are what some warehouses are paid by, and what keeps a run waiting."""

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
from harness.worlds.world import World, make_impatient, sandbox

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.operations import RunStatus
from warehouse_sync.warehouses.base import Warehouse

FEW, MANY = (10_000, 1_000_000) if os.environ.get("WAREHOUSE_SYNC_MILLION") else (2_000, 12_000)
"""In the suite as few as tell one batch from several; the million takes minutes, most of them at the sandbox."""


@contextmanager
def before_each_statement(note: Callable[..., None]) -> Iterator[None]:
    """Within the block `note` is called with whatever any warehouse of this process is about to be sent."""
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements of all warehouses of this process, as they are sent."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    with before_each_statement(note):
        yield statements


def people(world: World, count: int, first: int = 1) -> None:
    """Table `people` holds so many rows, made in the warehouse."""
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
    with counted() as statements:
        assert world.run().status is RunStatus.SUCCEEDED
    return statements


def of_three_runs(world: World, count: int) -> list[list[str]]:
    """The statements of a first run, of one after which half the members are others, and of one without changes."""
    world.begin_anew()
    with sandbox() as linkedin:
        fresh = replace(world, sandbox=linkedin)
        people(fresh, count)
        first = run(fresh)
        people(fresh, count, first=count // 2)
        return [first, run(fresh), run(fresh)]


def test_the_number_of_statements_does_not_grow_with_the_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what is written by the clock, a run of many members takes as many statements as one of few."""
    make_impatient(monkeypatch, read_timeout=30.0, retry_timeout=60.0)
    monkeypatch.setattr(Warehouse, "record_interval", math.inf)
    world.home["lease"] = "600s"
    few, many = of_three_runs(world, FEW), of_three_runs(world, MANY)
    assert [len(statements) for statements in few] == [len(statements) for statements in many]
    assert max(map(len, few)) < 80


def test_outcomes_are_written_by_the_clock(world: World, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """While batches are answered, what came of them is written once an interval and once at the end."""
    interval = 0.5
    monkeypatch.setattr(Warehouse, "record_interval", interval)
    monkeypatch.setattr(LinkedIn, "batch_size", 2)
    world.account["max_in_flight"] = 1
    world.fill({"id": number, "email": f"p{number}@example.com"} for number in range(40))
    world.sandbox.inject("slow:users:times=0:seconds=0.1")
    began = time.monotonic()
    statements = run(world)
    written = [text for text in statements if text.startswith("UPDATE") and "delivered_add=" in text]
    assert 2 <= len(written) <= (time.monotonic() - began) / interval + 1


@contextmanager
def plans_of_changes() -> Iterator[dict[str, list[str]]]:
    """How the server would make the changes of the next runs: as it is told to, and left to itself."""
    plans: dict[str, list[str]] = {"told": [], "left to itself": []}

    def note(connection: sa.Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        words = " ".join(statement.split())
        if not words.startswith("CREATE TABLE") or "changes_" not in words.split(" AS ")[0]:
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
def test_who_left_or_joined_is_not_looked_up_one_by_one(world: World) -> None:
    """The planner takes all who left or joined for one row; whole tables are joined all the same, or it takes hours."""
    people(world, 3)
    run(world)
    with world.connect() as connection:
        connection.execute(sa.text("update people set email = 'q' || id || '@example.com' where id = 2"))
    with plans_of_changes() as plans:
        run(world)
    (told,), (left_to_itself,) = plans.values()
    assert "Nested Loop" in left_to_itself, "tables as small as these are no test of it any more"
    assert "Nested Loop" not in told
    assert "Hash" in told or "Merge" in told
