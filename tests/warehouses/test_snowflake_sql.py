"""The SQL that the real service gets for whole runs, pinned in a file that people can read.

Rewrite it with `WAREHOUSE_SYNC_WRITE_GOLDEN=1 python -m pytest tests/warehouses/test_snowflake_sql.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import sqlparse
from harness.worlds.world import SYNC, World

from warehouse_sync.events import Event, Events, PhaseStarted
from warehouse_sync.run.run import run_sync

GOLDEN = Path(__file__).parent / "golden" / "snowflake_run.sql"
LONG = 60
"""Characters of a constant that is shown as it is; of a longer one, such as the table of all letters, a digest is."""

pytestmark = [
    pytest.mark.usefixtures("short_timeouts"),
    pytest.mark.parametrize("warehouse_url", ["snowflake"], indirect=True),
]


class Recorded:
    """Each statement of a run as it is sent, after the phase that it belongs to."""

    def __init__(self) -> None:
        self.phase = "open and check"
        self.sent: list[tuple[str, str]] = []

    def listen(self, _sync: str, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self.phase = event.phase.value

    def note_statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.sent.append((self.phase, statement))


@contextmanager
def recorded() -> Iterator[Recorded]:
    recording = Recorded()
    sa.event.listen(sa.Engine, "before_cursor_execute", recording.note_statement)
    try:
        yield recording
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", recording.note_statement)


def shown(statement: str) -> str:
    """A statement for a reviewer: indented, long and unprintable constants by a digest."""

    def constant(found: re.Match[str]) -> str:
        if len(found[0]) <= LONG and found[0].isprintable():
            return found[0]
        digest = hashlib.sha256(found[0].encode()).hexdigest()[:8]
        return f"'… {len(found[0]) - 2} characters {digest} …'"

    short = re.sub(r"'(?:[^'\\]|\\.|'')*'", constant, statement)
    formatted = sqlparse.format(short, reindent=True, wrap_after=110)
    return "\n".join(line.rstrip() for line in formatted.strip().splitlines() if line.strip())


def render(runs: dict[str, Recorded]) -> str:
    """All runs as one file; a statement that came before is named by its number."""
    lines = [
        "-- What a mirror sends to Snowflake: written by tests/warehouses/test_snowflake_sql.py, compared by it.",
        "-- Parameters go beside the statements, as ?. COMMIT follows each group of INSERT, UPDATE and DELETE.",
    ]
    numbers: dict[str, int] = {}
    for title, run in runs.items():
        lines += ["", "", f"-- ===== {title}: {len(run.sent)} statements"]
        phase = ""
        for now, statement in run.sent:
            if now != phase:
                phase = now
                lines += ["", f"-- phase: {phase}"]
            text = shown(statement)
            if text in numbers:
                lines += ["", f"-- as statement {numbers[text]}: {' '.join(text.split())[:70]}"]
            else:
                numbers[text] = len(numbers) + 1
                lines += ["", f"-- statement {numbers[text]}", text + ";"]
    return "\n".join(lines) + "\n"


def test_the_sql_of_a_run_equals_the_reviewed_sql(world: World) -> None:
    """First run, changed run, a run with rejected rows: the file has every statement of each."""
    people: list[dict[str, Any]] = [
        {"id": n, "email": f"p{n}@example.com", "device": f"{n:032x}", "country": "de"} for n in range(1, 6)
    ]
    others = [*people[2:], {"id": 6, "email": "p6@example.com", "device": people[0]["device"]}]
    broken = [*others, {"id": 7}, {"id": 8, "email": "a" * 64}]
    runs: dict[str, Recorded] = {}
    for title, rows in (("first run", people), ("changed run", others), ("run with rejected rows", broken)):
        world.fill(rows)
        with recorded() as runs[title]:
            run_sync(world.config, SYNC, events=Events(runs[title].listen))
    found = render(runs)
    if os.environ.get("WAREHOUSE_SYNC_WRITE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), "rewrite it with WAREHOUSE_SYNC_WRITE_GOLDEN=1, then review its diff"


def test_the_tables_of_runs_are_transient_and_in_order(world: World) -> None:
    """Tables of runs have no fail-safe; changes are stored in the order of `seq`, so a range reads few partitions."""
    world.fill([{"id": 1, "email": "ann@example.com"}])
    with recorded() as run:
        run_sync(world.config, SYNC, events=Events(run.listen))
    made = [text for _, text in run.sent if text.startswith("CREATE") and "AS\n" in text and "migrating" not in text]
    assert [text.split(" AS\n")[0] for text in made] == [
        "CREATE TRANSIENT TABLE warehouse_sync.snapshot_people_1",
        "CREATE TRANSIENT TABLE warehouse_sync.changes_people_1",
    ]
    assert made[1].endswith("\nORDER BY seq")


def test_parameters_hold_all_values(world: World) -> None:
    """No statement that writes contains a name of a sync, a reason or a time: the query history shows statements."""
    world.fill([{"id": 1, "email": "ann@example.com"}, {"id": 2}])
    with recorded() as run:
        run_sync(world.config, SYNC, events=Events(run.listen))
    for _, text in run.sent:
        if text.startswith(("INSERT", "UPDATE", "DELETE")) and "version" not in text and "generation" not in text:
            assert not re.search(r"'(?:people|ads|running|succeeded|user)'", text), text
