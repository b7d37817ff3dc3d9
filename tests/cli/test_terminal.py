"""On a terminal a run shows bars and a table, in colours unless NO_COLOR is set."""

from __future__ import annotations

import re

import pytest
from harness.processes.command import call_on_a_terminal
from harness.worlds.world import SYNC, World, create_audience, people

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;5;\d+)m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def world(duckdb_world: World) -> World:
    """An audience that exists, 300 people in the table, and the configuration on disk."""
    duckdb_world.sync_settings = {"audience": {"type": "user", "id": create_audience(duckdb_world.sandbox)}}
    duckdb_world.fill(people(*range(300)))
    duckdb_world.save()
    return duckdb_world


def test_a_run_on_a_terminal_shows_its_phases_and_a_table(world: World) -> None:
    answer = call_on_a_terminal(world.folder, "run")
    assert answer.code == 0
    text = CONTROL.sub("", answer.out)
    for shown in ("snapshot", "changes", "add members", "300/300", "members/s", SYNC, "succeeded"):
        assert shown in text, shown
    assert "run started" not in text
    assert COLOUR.search(answer.out)


@pytest.mark.parametrize("verb", ["run", "status"])
def test_no_color_is_respected(world: World, verb: str) -> None:
    answer = call_on_a_terminal(world.folder, verb, NO_COLOR="1")
    assert answer.code == 0
    assert CONTROL.sub("", answer.out).strip()
    assert not COLOUR.search(answer.out)
