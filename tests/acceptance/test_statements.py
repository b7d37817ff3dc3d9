"""What a run asks of the warehouse: statements are what some warehouses are paid by, and what keeps a run waiting."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from harness.world import World, make_impatient, sandbox

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.operations import RunStatus
from warehouse_sync.warehouses.base import Warehouse

FEW, MANY = (10_000, 1_000_000) if os.environ.get("WAREHOUSE_SYNC_MILLION") else (2_000, 12_000)
"""In the suite as few as tell one batch from several; the million takes minutes, most of them at the sandbox."""


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements of all warehouses of this process, as they are sent."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


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
    """But for what is written by the clock, a run of many members takes as many statements as one of few.

    On PostgreSQL, where statements cost nothing by themselves, each batch is read by one.
    """
    make_impatient(monkeypatch, read_timeout=30.0, patience=60.0)
    monkeypatch.setattr(Warehouse, "record_interval", math.inf)
    world.home["lease"] = "600s"
    few, many = of_three_runs(world, FEW), of_three_runs(world, MANY)
    reading = [[text for text in statements if "string_agg(" in text] for statements in (*few, *many)]
    by_batch = [math.ceil(count / LinkedIn.batch_size) for count in (FEW, FEW // 2, MANY, MANY // 2)]
    if "postgres" in world.url:
        first_few, changed_few, first_many, changed_many = by_batch
        # The second run removes as many as it adds.
        expected = [first_few, 2 * changed_few, 0, first_many, 2 * changed_many, 0]
        assert [len(statements) for statements in reading] == expected
    else:
        assert not any(reading)
    others = [len(all_of) - len(read) for all_of, read in zip((*few, *many), reading, strict=True)]
    assert others[:3] == others[3:]
    assert max(others) < 80


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
