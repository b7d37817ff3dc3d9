"""The main task on real input: six days of the S&P 500, from PostgreSQL to a company audience."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness.servers.postgres import Server
from harness.worlds.world import World, sandbox, shorten_timeouts

from warehouse_sync.operations import OperationCounts, RunStatus

FOLDER = Path(
    os.environ.get("WAREHOUSE_SYNC_TEST_SP500")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data" / "sp500"
)
CLASSES = ("(Class A)", "(Class B)", "(Class C)")

QUERY = r"""
select symbol,
       regexp_replace(security, '\s*\(Class [A-Z]\)$', '') as name,  -- Alphabet, Fox and News Corp have two rows each
       gics_sector as sector,
       split_part(headquarters_location, ', ', 1) as city,
       regexp_replace(headquarters_location, '^[^,]*(, )?', '') as state
from sp500
"""
SYNC: dict[str, Any] = {
    "model": {"sql": QUERY, "primary_key": "symbol"},
    "audience": {"type": "company", "name": "S&P 500"},
    "identifiers": {"company_name": "name"},
    "fields": {"industries": "sector", "city": "city", "state": "state", "stock_symbol": "symbol"},
    "guard": {},
}

Members = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Day:
    """One file of the index.

    Attributes:
        date: The date of the file.
        rows: The rows of the file.
    """

    date: str
    rows: list[dict[str, str]]

    @property
    def members(self) -> Members:
        """The expected members with their fields, by company name, computed in Python."""
        found: dict[str, Mapping[str, Any]] = {}
        for row in sorted(self.rows, key=lambda row: row["Symbol"]):
            city, _, state = row["Headquarters Location"].partition(", ")
            fields = {"industries": [row["GICS Sector"]], "city": city, "stockSymbol": row["Symbol"]}
            if state:
                fields["state"] = state
            # Of a company with several symbols the first one is used.
            found.setdefault(company(row["Security"]), fields)
        return found


def company(security: str) -> str:
    for share in CLASSES:
        security = security.removesuffix(share)
    return security.strip()


@pytest.fixture(scope="module")
def days() -> list[Day]:
    files = sorted(FOLDER.glob("*.csv"))
    if len(files) < 2:
        pytest.skip(f"NO S&P 500 DATA, the main task on real input is not tested: no CSV files in {FOLDER}")
    days = []
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            days.append(Day(file.stem, list(csv.DictReader(lines))))
    return days


@pytest.fixture
def world(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    shorten_timeouts(monkeypatch)
    with postgres.database() as url, sandbox() as running:
        yield World(url, running, tmp_path, "company", SYNC)


def load(world: World, day: Day) -> None:
    """Create table sp500 with the rows of the file."""
    names = {name: name.lower().replace(" ", "_").replace("-", "_") for name in day.rows[0]}
    table = sa.Table("sp500", sa.MetaData(), *(sa.Column(name, sa.Text) for name in names.values()))
    with world.connect() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(sa.insert(table), [{names[name]: value for name, value in row.items()} for row in day.rows])


def held(world: World) -> Members:
    """Return the fields of the companies in the audience, by name."""
    found = {}
    for ((kind, name),), fields in world.sandbox.members(world.audience_id, reading="elements").items():
        assert kind == "companyName"
        found[name] = fields
    return found


def test_every_day_ends_equal_and_reports_the_changes(world: World, days: list[Day]) -> None:
    """After each day the audience equals the index with all fields, and the report counts the changes."""
    before: Members = {}
    for day in days:
        load(world, day)
        report = world.run()
        now = day.members
        joined, left = now.keys() - before.keys(), before.keys() - now.keys()
        moved = {name for name in now.keys() & before.keys() if now[name] != before[name]}
        print(  # noqa: T201 - to be read with `pytest -s`
            f"{day.date}: {len(day.rows)} rows, {len(now)} members",
            f"joined ({len(joined)}): {', '.join(sorted(joined)) if before else 'all'}",
            f"left ({len(left)}): {', '.join(sorted(left)) or 'none'}",
            f"changed ({len(moved)}): {', '.join(sorted(moved)) or 'none'}",
            sep="\n  ",
        )
        assert report.status is RunStatus.SUCCEEDED
        assert (report.rows, report.members, report.rejected) == (len(day.rows), len(now), 0)
        assert report.planned == OperationCounts(add=len(joined) + len(moved), remove=len(left))
        assert report.delivered == report.planned
        assert held(world) == now
        logged = world.query(
            "select operation, count(*) from warehouse_sync.sync_log where outcome = 'delivered' "
            f"and run_id = {report.run_id} group by operation"
        )
        expected = {"ADD": report.planned.add, "REMOVE": report.planned.remove}
        assert {str(operation): int(count) for operation, count in map(tuple, logged)} == {
            operation: count for operation, count in expected.items() if count
        }
        for reading in ("identifiers", "persons"):
            assert {name for ((_, name),) in world.sandbox.members(world.audience_id, reading=reading)} == set(now), (
                reading
            )
        before = now
    assert world.sandbox.violations() == []


def test_an_unchanged_day_sends_nothing(world: World, days: list[Day]) -> None:
    """A file that is loaded again in another order sends no request to /companies."""
    load(world, days[0])
    world.run()
    sent = len(world.sandbox.requests("companies"))
    assert sent == 1
    load(world, Day("again", days[0].rows[::-1]))
    assert world.run().planned == OperationCounts()
    assert len(world.sandbox.requests("companies")) == sent


def test_the_input_has_the_difficult_cases(days: list[Day]) -> None:
    """The input has companies with two rows, changes, renames by case alone, and irregular headquarters."""
    for day in days:
        with_two_rows = [name for name in day.members if sum(company(row["Security"]) == name for row in day.rows) > 1]
        assert with_two_rows == ["Fox Corporation", "Alphabet Inc.", "News Corp"]
    pairs = list(pairwise(days))
    for earlier, later in pairs:
        assert earlier.members.keys() - later.members.keys()
        assert later.members.keys() - earlier.members.keys()
    assert any(
        {name.lower() for name in earlier.members.keys() - later.members.keys()}
        & {name.lower() for name in later.members}
        for earlier, later in pairs
    )
    assert any(not name.isascii() for day in days for name in day.members)
    assert any(row["Headquarters Location"].count(",") != 1 for day in days for row in day.rows)


def test_half_of_a_file_is_blocked(world: World, days: list[Day]) -> None:
    """The default guard stops the run of a truncated file, and no member is removed."""
    load(world, days[0])
    world.run()
    load(world, Day("half", days[0].rows[:250]))
    report = world.run()
    assert report.status is RunStatus.BLOCKED
    assert held(world) == days[0].members
