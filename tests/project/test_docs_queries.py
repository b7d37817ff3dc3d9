"""The SQL of the documentation, run on the tables of real runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.worlds.world import SYNC, World, person, sandbox, shorten_timeouts

from warehouse_sync.admin.setup import list_grants
from warehouse_sync.cli import formatting
from warehouse_sync.operations import RunStatus
from warehouse_sync.sandbox import Fault

DOCS = Path(__file__).parents[2] / "docs"

EXPECTED: dict[str, list[set[str]]] = {
    "Who was added yesterday": [{"1", "2", "3", "4"}],
    "What waits": [{"ADD"}],
    "What is dead and why": [{"1"}],
    "Which rows were rejected and why": [{"5", "8", "9", "1"}],
    "Who is in the audience now": [set(), {"3", "4", "5"}, {"1"}],
    "How the size has changed": [set()],
    "Runs that need attention": [set()],
    "Why a member was sent": [{"1", "2", "6"}],
    "What became of one e-mail address": [{"2"}, {"2"}],
}
"""The values of column `primary_key` that each query finds; without it those of `operation`, or none."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Return each SQL example of a page with its heading."""
    found: list[tuple[str, str]] = []
    heading = ""
    text = (DOCS / page).read_text()
    for match in re.finditer(r"^(?:#+ (?P<heading>[^\n]+)|```sql\n(?P<sql>.*?)^```)", text, re.MULTILINE | re.DOTALL):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.append((heading, match["sql"]))
    return found


def hashed(number: int) -> str:
    return hashlib.sha256(f"person{number}@example.com".encode()).hexdigest()


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Yield a world after two runs with every outcome: delivered, rejected, waiting, dead, and rejected rows."""
    shorten_timeouts(monkeypatch)
    with sandbox() as running:
        made = World(warehouse_url, running, tmp_path)
        made.fill([person(1), person(2), person(3), person(4), person(5), {"id": 8}, {"id": 9, "email": "a" * 64}])
        running.inject(Fault("refuse_elements", on="users", action="ADD", values=frozenset({hashed(5)})))
        assert made.run().status is RunStatus.SUCCEEDED
        with made.connect() as connection:
            connection.exec_driver_sql("update warehouse_sync.sync_log set logged_at = logged_at - interval '1 day'")
        made.fill([person(3), person(4), person(5), person(6), {"id": 8}, {"id": 9, "email": "a" * 64}])
        running.inject(Fault("refuse_elements", on="users", action="REMOVE", values=frozenset({hashed(1)})))
        running.inject(Fault("503", on="users", action="ADD", times=0))
        assert made.run().status is RunStatus.INCOMPLETE
        yield made


def test_the_queries_of_the_state_page_find_what_they_promise(world: World) -> None:
    """Each SQL block of docs/state.md runs on its warehouses and finds the rows that its heading names."""
    tables = world.query("select snapshot_table, changes_table from warehouse_sync.runs order by run_id desc")
    names = {
        "snapshot_high_value_customers_12": tables[0].snapshot_table,
        "changes_high_value_customers_12": tables[0].changes_table,
        "high_value_customers": SYNC,
        "Person@example.com": "Person2@example.com",
    }
    seen: dict[str, list[set[str]]] = {}
    for heading, sql in blocks("state.md"):
        only = re.match(r"-- (DuckDB|PostgreSQL)\n", sql)
        if only and not world.url.startswith(only[1].lower()):
            continue
        for ours, theirs in names.items():
            sql = sql.replace(ours, theirs)
        rows = world.query(sql)
        assert rows, f"{heading}: finds nothing"
        columns = rows[0]._fields
        column = next((name for name in ("primary_key", "operation") if name in columns), None)
        seen.setdefault(heading, []).append({str(getattr(row, column)) for row in rows} if column else set())
    assert seen == EXPECTED


def test_the_history_of_an_address_has_its_removal(world: World) -> None:
    """The query finds an address by its hash: added by the first run, removed by the second."""
    kind = "DuckDB" if world.url.startswith("duckdb") else "PostgreSQL"
    (sql, *_) = [
        sql for heading, sql in blocks("state.md") if heading.startswith("What became") and f"-- {kind}\n" in sql
    ]
    rows = world.query(sql.replace("Person@example.com", "Person2@example.com"))
    assert [(row.operation, row.outcome, row.run_id) for row in rows] == [
        ("ADD", "delivered", 1),
        ("REMOVE", "delivered", 2),
    ]


def test_the_grants_of_the_operations_page_are_those_of_the_command(tmp_path: Path) -> None:
    """docs/operations.md has the grants that the command prints; tests/admin/test_grants.py tests the grants."""
    (page,) = [text for _, text in blocks("operations.md") if "GRANT" in text]
    with sandbox() as running:
        changes = {"model": {"table": "crm.customers", "primary_key": "id"}}
        world = World("postgresql+psycopg://sync_worker@db.example/shop", running, tmp_path, sync_settings=changes)
        assert formatting.grants(list_grants(world.config, "analytics")) == page.strip()
