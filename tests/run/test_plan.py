"""A plan tells what the run would do, and leaves no trace: not in the warehouse, not at the destination."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.worlds.world import SYNC, World, create_audience, sandbox

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import Event, Events, Phase, PhaseStarted
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.plan import plan_sync

DEVICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def duckdb_world(tmp_path: Path) -> Iterator[World]:
    with sandbox() as running:
        yield World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)


def people(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": number, "email": f"person{number}@example.com", **more} for number in numbers]


def everything(world: World) -> dict[str, Any]:
    """Every table of the database with its rows, and every request that reached the sandbox, reads apart."""
    system = "('pg_catalog', 'pg_toast', 'information_schema')"
    tables = world.query(
        f"select table_schema, table_name from information_schema.tables where table_schema not in {system}"
    )
    schemas = world.query(f"select schema_name from information_schema.schemata where schema_name not in {system}")
    return {
        "schemas": sorted(map(str, schemas)),
        "tables": sorted(map(str, tables)),
        "rows": {
            (schema, name): sorted(map(str, world.query(f'select * from "{schema}"."{name}"')))
            for schema, name in (map(str, table) for table in tables)
        },
        "writes": [each.operation for each in world.sandbox.requests() if each.method != "GET" and not is_token(each)],
        "audiences": [(each["id"], world.sandbox.members(each["id"])) for each in world.sandbox.segments()],
    }


def is_token(request: Any) -> bool:
    """Fetching an access token is a POST that changes nothing."""
    return request.operation in ("token", "introspect")


def test_a_plan_of_a_sync_that_has_never_run_leaves_nothing(world: World) -> None:
    world.fill(people(1, 2, 3))
    before = everything(world)
    report = world.plan()
    assert report.status is RunStatus.SUCCEEDED
    assert report.planned == OperationCounts(add=3)
    assert everything(world) == before
    assert not any("warehouse_sync" in schema for schema in before["schemas"])


def test_a_plan_between_runs_leaves_nothing(world: World) -> None:
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(2, 3, 4))
    before = everything(world)
    assert before["writes"]
    report = world.plan()
    assert report.planned == OperationCounts(add=1, remove=1)
    assert everything(world) == before


def test_a_duckdb_file_is_the_same_to_the_byte(duckdb_world: World) -> None:
    world = duckdb_world
    world.fill(people(1, 2, 3))
    world.run()
    file = world.folder / "warehouse.duckdb"
    before = file.read_bytes()
    world.plan()
    assert file.read_bytes() == before
    assert [path.name for path in world.folder.iterdir() if path.name != "config.yaml"] == [file.name]


def test_a_plan_is_what_the_run_then_does(world: World) -> None:
    """Shared devices, rejected rows, changed fields and duplicate rows included."""
    first = [*people(1, 2, 3, 4), {"id": 5, "email": "shared@example.com", "device": DEVICE}]
    first.append({"id": 6, "email": "other@example.com", "device": DEVICE})
    second = [*people(2, 4, first_name="New"), *people(3, 3, 9), *first[5:], {"id": 7, "email": "f" * 64}, {"id": 8}]
    for day in (first, second, second):
        world.fill(day)
        report = world.plan()
        run = world.run()
        for key in ("status", "rows", "members", "rejected", "planned", "deferred", "dead"):
            assert getattr(report, key) == getattr(run, key), key
        assert report.requests == (1 if run.planned.remove else 0) + (1 if run.planned.add else 0)
    assert report.rejections == {"already_hashed": 1, "no_identifier": 1}


def test_members_to_add_again_are_counted_and_shown(world: World) -> None:
    both = [{"id": n, "email": f"person{n}@example.com", "device": DEVICE} for n in (1, 2)]
    world.fill(both)
    world.run()
    world.fill(both[1:])
    report = world.plan()
    assert (report.planned, report.readds) == (OperationCounts(add=1, remove=1), 1)
    assert [(sample["operation"], sample["cause"], sample["primary_key"]) for sample in report.samples] == [
        ("REMOVE", "left", "1"),
        ("ADD", "shared", "2"),
    ]


def test_samples_show_no_more_than_the_beginning_of_hashed_identifiers(world: World) -> None:
    world.fill(people(*range(10), first_name="Ann", country="de", device=DEVICE))
    report = world.plan()
    assert len(report.samples) == 3
    for sample in report.samples:
        assert sample.keys() == {"operation", "cause", "primary_key", "identifiers"}
        assert re.fullmatch("[0-9a-f]{12}…", sample["identifiers"]["sha256_email"])
        assert sample["identifiers"]["google_aid"] == DEVICE[:12] + "…"
    assert "Ann" not in str(report)
    assert "example.com" not in str(report)


def test_companies_are_shown_by_their_names(duckdb_world: World) -> None:
    """A company is no person: its name is what an operator knows it by."""
    world = duckdb_world
    world.kind = "company"
    world.fill([{"id": 1, "name": "Hypothetical Industries", "domain": "hypothetical.example.com"}])
    (sample,) = world.plan().samples
    assert sample["identifiers"] == {
        "company_name": "Hypothetical Industries",
        "company_website_domain": "hypothetical.example.com",
    }


def test_a_plan_that_the_guard_would_stop_is_blocked_with_the_reason(world: World) -> None:
    world.changes["guard"] = {"max_removed_percent": 30, "ignore_below": 1}
    world.fill(people(*range(10)))
    world.run()
    world.fill(people(*range(5)))
    report = world.plan()
    assert report.status is RunStatus.BLOCKED
    assert report.reason is not None
    assert "5 of 10 members" in report.reason
    assert report.planned == OperationCounts(remove=5)


def test_a_disabled_sync_is_skipped(duckdb_world: World) -> None:
    duckdb_world.changes["enabled"] = False
    duckdb_world.fill([])
    assert duckdb_world.plan().status is RunStatus.SKIPPED


def test_pending_and_dead_work_is_counted(world: World) -> None:
    world.fill(people(1, 2))
    world.run()
    world.sandbox.inject("refuse_elements:users:action=REMOVE:times=0")
    world.fill(people(2))
    world.run()
    world.sandbox.clear_faults()
    world.sandbox.inject("503:users:times=0")
    world.fill(people(2, 3))
    assert world.run().status is RunStatus.INCOMPLETE
    report = world.plan()
    assert (report.pending, report.deferred, report.dead) == (1, 0, 1)
    world.sandbox.clear_faults()
    run = world.run()
    assert (run.planned, run.deferred, run.dead) == (report.planned, report.deferred, report.dead)


def test_what_a_dead_worker_left_is_pending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> RunReport:
        raise SystemExit("killed")

    world.fill(people(1, 2))
    with monkeypatch.context() as patched:
        patched.setattr("warehouse_sync.run.steps.deliver", die)
        with pytest.raises(SystemExit):
            world.run()
    report = world.plan()
    assert (report.planned, report.pending) == (OperationCounts(add=2), 2)


def test_requests_and_minutes_follow_the_pace_of_the_destination(duckdb_world: World) -> None:
    world = duckdb_world
    world.account["requests_per_minute"] = 2
    world.fill([])
    world.changes["model"] = {
        "sql": "select i as id, 'person' || i || '@example.com' as email, null as device, null as first_name, "
        "null as country from range(20001) as people(i)",
        "primary_key": "id",
    }
    report = world.plan()
    assert (report.requests, report.minutes) == (5, 2.5)


def test_another_audience_is_planned_from_nothing(duckdb_world: World) -> None:
    """The next run fills it with everybody; what the old one holds remains there."""
    world = duckdb_world
    world.fill(people(1, 2))
    world.run()
    world.changes["audience"] = {"type": "user", "id": create_audience(world.sandbox)}
    assert world.plan().planned == OperationCounts(add=2)


def test_an_unknown_sync_is_refused(duckdb_world: World) -> None:
    duckdb_world.fill([])
    with pytest.raises(ConfigurationError, match="no sync 'poeple'; did you mean people"):
        plan_sync(duckdb_world.config, "poeple")


def test_a_plan_publishes_its_phases_up_to_the_changes(duckdb_world: World) -> None:
    phases: list[Phase] = []

    def listen(_sync: str, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            phases.append(event.phase)

    duckdb_world.fill(people(1))
    plan_sync(duckdb_world.config, SYNC, events=Events(listen))
    assert phases == [Phase.AUDIENCE, Phase.SNAPSHOT, Phase.CHANGES]
