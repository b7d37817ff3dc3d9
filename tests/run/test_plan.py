"""A plan reports what the run would do, and changes neither the warehouse nor the destination."""

from __future__ import annotations

import re
from typing import Any

import pytest
from harness.worlds.world import SYNC, World, create_audience, people

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import Event, Events, Phase, PhaseStarted
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.plan import plan_sync

DEVICE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


pytestmark = pytest.mark.usefixtures("short_timeouts")


def read_everything(world: World) -> dict[str, Any]:
    """Return every table with its rows, the audiences, and every request to the sandbox that is not a read."""
    system = "('pg_catalog', 'pg_toast', 'information_schema')"
    tables = world.query(
        f"select table_schema, table_name from information_schema.tables where table_schema not in {system}"
    )
    # The server may have databases of other tests.
    schemas = world.query(
        "select schema_name from information_schema.schemata "
        f"where catalog_name = current_database() and schema_name not in {system}"
    )
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
    """Return whether the request fetches an access token: a POST that changes nothing."""
    return request.operation in ("token", "introspect")


def test_a_plan_of_a_sync_that_has_never_run_changes_nothing(world: World) -> None:
    """A plan before the first run reports every member as an ADD and creates no schema."""
    world.fill(people(1, 2, 3))
    before = read_everything(world)
    report = world.plan()
    assert report.status is RunStatus.SUCCEEDED
    assert report.planned == OperationCounts(add=3)
    assert read_everything(world) == before
    assert not any("warehouse_sync" in schema for schema in before["schemas"])


def test_a_plan_between_runs_changes_nothing(world: World) -> None:
    """A plan after a run reports the changes and leaves warehouse and destination as they were."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(2, 3, 4))
    before = read_everything(world)
    assert before["writes"]
    report = world.plan()
    assert report.planned == OperationCounts(add=1, remove=1)
    assert read_everything(world) == before


def test_a_plan_does_not_change_the_duckdb_file(duckdb_world: World) -> None:
    """The bytes of the DuckDB file are the same after a plan, and no file is left beside it."""
    world = duckdb_world
    world.fill(people(1, 2, 3))
    world.run()
    file = world.folder / "warehouse.duckdb"
    before = file.read_bytes()
    world.plan()
    assert file.read_bytes() == before
    assert [path.name for path in world.folder.iterdir() if path.name != "config.yaml"] == [file.name]


def test_a_plan_equals_the_following_run(world: World) -> None:
    """A plan equals the next run, with shared devices, rejected rows, changed fields and duplicate rows."""
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
    """A plan counts the members that share an identifier with a REMOVE and shows them as samples."""
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


def test_samples_show_only_the_start_of_identifiers(world: World) -> None:
    """Samples hold the first 12 characters of each identifier, and no address and no name."""
    world.fill(people(*range(10), first_name="Ann", country="de", device=DEVICE))
    report = world.plan()
    assert len(report.samples) == 3
    for sample in report.samples:
        assert sample.keys() == {"operation", "cause", "primary_key", "identifiers"}
        assert re.fullmatch("[0-9a-f]{12}…", sample["identifiers"]["sha256_email"])
        assert sample["identifiers"]["google_aid"] == DEVICE[:12] + "…"
    assert "Ann" not in str(report)
    assert "example.com" not in str(report)


def test_samples_show_the_names_of_companies(duckdb_world: World) -> None:
    """Samples of a company audience hold the complete names and domains, which are not personal data."""
    world = duckdb_world
    world.kind = "company"
    world.fill([{"id": 1, "name": "Hypothetical Industries", "domain": "hypothetical.example.com"}])
    (sample,) = world.plan().samples
    assert sample["identifiers"] == {
        "company_name": "Hypothetical Industries",
        "company_website_domain": "hypothetical.example.com",
    }


def test_a_plan_that_the_guard_would_stop_is_blocked(world: World) -> None:
    """A plan of a run that the guard would stop is blocked, with the reason and the planned operations."""
    world.sync_settings["guard"] = {"max_removed_percent": 30, "ignore_below": 1}
    world.fill(people(*range(10)))
    world.run()
    world.fill(people(*range(5)))
    report = world.plan()
    assert report.status is RunStatus.BLOCKED
    assert report.reason is not None
    assert "5 of 10 members" in report.reason
    assert report.planned == OperationCounts(remove=5)


def test_a_plan_of_a_disabled_sync_is_skipped(duckdb_world: World) -> None:
    """A plan of a sync with enabled: false is skipped."""
    duckdb_world.sync_settings["enabled"] = False
    duckdb_world.fill([])
    assert duckdb_world.plan().status is RunStatus.SKIPPED


def test_a_plan_counts_pending_and_dead_operations(world: World) -> None:
    """A plan counts pending and dead operations, and the next run has the same counts."""
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


def test_operations_of_a_dead_worker_are_pending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan counts the operations that a dead worker promoted and did not send as pending."""

    def die(*_: Any) -> RunReport:
        raise SystemExit("killed")

    world.fill(people(1, 2))
    with monkeypatch.context() as patched:
        patched.setattr("warehouse_sync.run.steps.deliver", die)
        with pytest.raises(SystemExit):
            world.run()
    report = world.plan()
    assert (report.planned, report.pending) == (OperationCounts(add=2), 2)


def test_a_plan_estimates_requests_and_minutes(duckdb_world: World) -> None:
    """A plan computes requests and minutes from the batch size and the rate limit of the destination."""
    world = duckdb_world
    world.destination_settings["requests_per_minute"] = 2
    world.fill([])
    world.sync_settings["model"] = {
        "sql": "select i as id, 'person' || i || '@example.com' as email, null as device, null as first_name, "
        "null as country from range(20001) as people(i)",
        "primary_key": "id",
    }
    report = world.plan()
    assert (report.requests, report.minutes) == (5, 2.5)


def test_a_plan_for_another_audience_adds_every_member(duckdb_world: World) -> None:
    """A plan after the audience was changed adds every member to the new audience."""
    world = duckdb_world
    world.fill(people(1, 2))
    world.run()
    world.sync_settings["audience"] = {"type": "user", "id": create_audience(world.sandbox)}
    assert world.plan().planned == OperationCounts(add=2)


def test_a_plan_of_an_unknown_sync_is_refused(duckdb_world: World) -> None:
    """A plan of an unknown sync is an error that suggests a known name."""
    duckdb_world.fill([])
    with pytest.raises(ConfigurationError, match="no sync 'poeple'; did you mean people"):
        plan_sync(duckdb_world.config, "poeple")


def test_a_plan_publishes_its_phases_up_to_the_changes(duckdb_world: World) -> None:
    """Listeners of a plan receive the phases audience, snapshot and changes."""
    phases: list[Phase] = []

    def listen(_sync: str, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            phases.append(event.phase)

    duckdb_world.fill(people(1))
    plan_sync(duckdb_world.config, SYNC, events=Events(listen))
    assert phases == [Phase.AUDIENCE, Phase.SNAPSHOT, Phase.CHANGES]
