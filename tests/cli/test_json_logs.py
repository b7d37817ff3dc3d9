"""`--log-format json`: each line on standard error is an object that names its sync and its run."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog
from harness.processes.command import call, interrupt
from harness.worlds.world import SYNC, World, create_audience, people, shorten_timeouts

from warehouse_sync import logs
from warehouse_sync.logs import configure_logs
from warehouse_sync.run.run import run_sync


@pytest.fixture
def world(duckdb_world: World) -> World:
    return duckdb_world


def objects(text: str) -> list[dict[str, Any]]:
    """Return every line as an object; fail if one is not JSON or a key that every line has is missing."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"timestamp", "level", "event", "logger"} <= line.keys() for line in lines)
    return lines


def write(world: World) -> None:
    world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    world.save_with_access_token()


def test_every_line_of_a_run_names_its_sync_and_its_run(world: World) -> None:
    """Also lines from delivery threads while LinkedIn fails and throttles; standard output stays JSON."""
    world.fill(people(*range(50)))
    write(world)
    world.sandbox.inject("503:users:times=1")
    world.sandbox.inject("429:users:times=1:after=1")
    answer = call(world.folder, "--log-format", "json", "--log-level", "debug", "run", "--json")
    assert answer.code == 0, answer.err
    lines = objects(answer.err)
    run_id = answer.json[0]["run_id"]
    started = [line["event"] for line in lines].index("run started")
    assert all(line["sync"] == SYNC for line in lines)
    assert all("run" not in line for line in lines[:started])
    assert all(line["run"] == run_id for line in lines[started:])
    assert {"linkedin_request_failed", "linkedin_response"} <= {line["event"] for line in lines[started:]}


def test_the_thread_that_renews_the_lease_logs_the_run_too(world: World) -> None:
    """It starts before the run has a number, and it logs that the worker stops."""
    world.fill(people(*range(3)))
    write(world)
    world.sandbox.inject("slow:users:seconds=1")
    answer = interrupt(
        world.folder, "--log-format", "json", "run", "--json", when=lambda: bool(world.sandbox.requests("users"))
    )
    lines = objects(answer.err)
    (stopping,) = (line for line in lines if line["event"].startswith("stopping"))
    assert (stopping["sync"], stopping["run"]) == (SYNC, json.loads(answer.out)[0]["run_id"])


def test_errors_of_the_operator_are_objects_too(world: World) -> None:
    """A configuration that cannot be read, and a warehouse that does not exist."""
    (world.folder / "config.yaml").write_text("syncs: 7\n")
    answer = call(world.folder, "run", WAREHOUSE_SYNC_LOG_FORMAT="json")
    assert answer.code == 2
    assert [line["level"] for line in objects(answer.err)] == ["error"]
    world.url = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
    world.config  # noqa: B018 - writes the file
    answer = call(world.folder, "--log-format", "json", "run", "--all")
    assert answer.code == 1
    (line,) = objects(answer.err)
    assert line["sync"] == SYNC
    assert line["level"] == "error"


def test_log_values_of_a_run_do_not_leak_into_later_lines(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one process: a run that succeeds, one that fails, and lines of this thread in between."""
    shorten_timeouts(monkeypatch)
    monkeypatch.setattr(logs, "_json", False)
    root, ours = logging.getLogger(), logging.getLogger("warehouse_sync")
    before = list(root.handlers), root.level, ours.level
    log = structlog.get_logger("warehouse_sync.test")
    try:
        configure_logs(json=True)
        world.fill(people(*range(5)))
        run_sync(world.config, SYNC)
        log.info("between")
        world.sync_settings = {
            "model": {"sql": "select 1/0 as id, 'x' as email, 'y' as device from people_", "primary_key": "id"}
        }
        with pytest.raises(Exception, match="could not"):
            run_sync(world.config, SYNC)
        log.info("between")
    finally:
        root.handlers[:], root.level, ours.level = before
        structlog.reset_defaults()
        logging.captureWarnings(False)
    lines = objects(capsys.readouterr().err)
    assert [line.keys() & {"sync", "run"} for line in lines if line["event"] == "between"] == [set(), set()]
