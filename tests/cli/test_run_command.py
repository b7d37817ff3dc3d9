"""`warehouse-sync run`, `plan` and `retry`: exit codes, JSON, and what goes to which output."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from harness.processes.command import CommandResult, call
from harness.worlds.world import SYNC, World, create_audience, people

RUN_KEYS = {
    *("sync", "run_id", "status", "reason", "rows", "members", "rejected"),
    *("planned", "delivered", "deferred", "dead", "seconds"),
}
PLAN_KEYS = (RUN_KEYS - {"delivered"}) | {"requests", "minutes", "rejections", "readds", "pending", "samples"}


@pytest.fixture
def world(duckdb_world: World) -> World:
    return prepared(duckdb_world)


def prepared(world: World) -> World:
    """Create the audience, and a table of 200 people."""
    # A token given as such is believed at once; one fetched may be refused for seconds.
    world.destination_settings = {
        "access_token": "sandbox-access",
        "client_id": None,
        "client_secret": None,
        "refresh_token": None,
    }
    world.sync_settings = {
        "audience": {"type": "user", "id": create_audience(world.sandbox)},
        "guard": {"ignore_below": 10},
    }
    world.fill(people(*range(200)))
    return world


def write(world: World, **syncs: dict[str, Any]) -> None:
    """Write a configuration with the sync `people` and others that differ from it in the given keys."""
    written = world.raw_config
    written["destinations"]["ads"] = {key: value for key, value in written["destinations"]["ads"].items() if value}
    standard = written["syncs"][SYNC]
    written["syncs"] |= {name: {**standard, **changes} for name, changes in syncs.items()}
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))


def run(world: World, *words: str) -> CommandResult:
    write(world)
    return call(world.folder, *words)


def test_a_day_of_runs(world: World) -> None:
    """Succeeded 0, blocked 4, forced 0; a plan predicts it; standard output is JSON only."""
    first = run(world, "run", "--json")
    assert first.code == 0
    (report,) = first.json
    assert report.keys() == RUN_KEYS
    assert report | {"seconds": 0} == {
        "sync": SYNC,
        "run_id": 1,
        "status": "succeeded",
        "reason": None,
        "rows": 200,
        "members": 200,
        "rejected": 0,
        "planned": {"add": 200, "remove": 0},
        "delivered": {"add": 200, "remove": 0},
        "deferred": 0,
        "dead": 0,
        "seconds": 0,
    }
    assert 'event="run ended"' in first.err
    assert "\x1b" not in first.out + first.err

    world.fill(people(*range(100)))
    plan = run(world, "plan", "--json")
    assert plan.code == 4
    (planned,) = plan.json
    assert planned.keys() == PLAN_KEYS
    assert (planned["status"], planned["planned"], planned["requests"]) == ("blocked", {"add": 0, "remove": 100}, 1)

    blocked = run(world, "run")
    assert blocked.code == 4
    assert "100 of 200 members would be removed" in blocked.out
    assert "--force" in blocked.out

    forced = run(world, "run", SYNC, "--force")
    assert forced.code == 0
    assert "100" in forced.out
    assert 'event="guard passed by force"' in forced.err
    assert "Nothing was sent" not in forced.out + forced.err
    audience = world.sandbox.segments()[0]["id"]
    assert len(world.sandbox.members(audience)) == 100


def test_what_is_deferred_ends_with_3_and_a_retry_sends_it(world: World) -> None:
    world.sandbox.inject("short_answer:users:count=5")
    answer = run(world, "run")
    assert answer.code == 3
    assert "incomplete" in answer.out
    assert "5 operations wait in the retry queue" in answer.out

    status = run(world, "status", "--json")
    assert status.code == 0
    (shown,) = status.json
    assert (shown["sync"], shown["pending"], shown["last_run"]["status"]) == (SYNC, 5, "incomplete")

    log = run(world, "log", SYNC, "--failed", "--limit", "3", "--json")
    assert [(line["outcome"], line["run_id"]) for line in log.json] == [("deferred", 1)] * 3

    retried = run(world, "retry", SYNC, "--json")
    assert retried.code == 0
    assert [(report["status"], report["delivered"]["add"]) for report in retried.json] == [("succeeded", 5)]


def test_a_failure_during_a_run_ends_with_1_and_reports_its_progress(world: World) -> None:
    world.sandbox.inject("403:users")
    answer = run(world, "run", "--json")
    assert answer.code == 1
    (report,) = answer.json
    assert (report["status"], report["run_id"], report["planned"]) == ("failed", 1, {"add": 200, "remove": 0})
    assert "Nothing is lost" in report["reason"]
    assert "Traceback" not in answer.err


def test_of_several_syncs_the_most_severe_code_counts_and_none_stops_the_others(world: World) -> None:
    """A query that does not work is 2, and the next sync still runs; a disabled one is skipped."""
    other = {"type": "user", "id": create_audience(world.sandbox)}
    write(
        world,
        broken={"model": {"sql": "select * from nowhere", "primary_key": "id"}, "audience": other},
        disabled={"enabled": False, "audience": {"type": "user", "name": "never"}},
        last={"audience": {"type": "user", "id": create_audience(world.sandbox)}},
    )
    answer = call(world.folder, "run", "broken", "disabled", "last", "--json")
    assert answer.code == 2
    assert [(report["sync"], report["status"]) for report in answer.json] == [
        ("broken", "failed"),
        ("disabled", "skipped"),
        ("last", "succeeded"),
    ]
    assert all(report.keys() == RUN_KEYS for report in answer.json)
    assert "nowhere" in answer.json[0]["reason"]
    assert "nowhere" in answer.err

    alone = call(world.folder, "run", "disabled")
    assert alone.code == 0
    assert "skipped" in alone.out


def test_unknown_names_are_refused_before_anything_runs(world: World) -> None:
    write(world, second={"audience": {"type": "user", "name": "second"}})
    before = (world.folder / "warehouse.duckdb").read_bytes()
    requests = len(world.sandbox.requests())
    answer = call(world.folder, "run", SYNC, "secnd", "thirdly")
    assert answer.code == 2
    assert "no sync 'secnd'; did you mean second?" in answer.err
    assert "no sync 'thirdly'" in answer.err
    assert answer.out == ""

    nameless = call(world.folder, "run")
    assert nameless.code == 2
    assert "people, second" in nameless.err
    assert "--all" in nameless.err

    both = call(world.folder, "run", SYNC, "--all")
    assert both.code == 2
    assert (world.folder / "warehouse.duckdb").read_bytes() == before
    assert len(world.sandbox.requests()) == requests


def test_an_unknown_key_is_reported_with_its_path(world: World) -> None:
    world.sync_settings["gaurd"] = {}
    answer = run(world, "run", "--json")
    assert answer.code == 2
    assert answer.out == ""
    assert "config.yaml:" in answer.err
    assert "syncs.people.gaurd" in answer.err
    assert "Traceback" not in answer.err
