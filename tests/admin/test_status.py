"""`status` shows a sync from its state tables, and its audience from the destination."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from harness.worlds.world import SYNC, World, create_audience, people, sandbox
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.admin.status import expiry_warning, sync_log_lines, sync_status, to_audience_status
from warehouse_sync.admin.validate import validate
from warehouse_sync.cli.formatting import status_facts
from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.reports import SyncStatus
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.registry import make_warehouse

TODAY = date(2026, 11, 22)


pytestmark = pytest.mark.usefixtures("short_timeouts")


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    with sandbox(build_seconds=0.0) as running:
        yield World(warehouse_url, running, tmp_path)


@pytest.fixture
def duckdb_world(tmp_path: Path) -> Iterator[World]:
    with sandbox(build_seconds=0.0) as running:
        yield World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)


def status_of(world: World) -> SyncStatus:
    return sync_status(world.config, SYNC)


def test_the_next_run_is_that_of_the_schedule(duckdb_world: World) -> None:
    """Without a schedule, or disabled, a sync has none."""
    world = duckdb_world
    world.fill(people(1))
    world.sync_settings = {"schedule": {"every": "24h", "at": "02:30", "timezone": "Asia/Kathmandu"}}
    status = status_of(world)
    assert status.next_run is not None
    assert status.next_run.endswith("T20:45:00Z")  # Nepal is 5:45 ahead.
    assert timedelta() < datetime.fromisoformat(status.next_run) - datetime.now(UTC) <= timedelta(days=1)
    assert status_facts(status)["next run"] == status.next_run
    world.sync_settings |= {"enabled": False}
    assert status_of(world).next_run is None
    world.sync_settings = {}
    assert status_facts(status_of(world))["next run"] == "not scheduled"


def test_a_sync_that_has_never_run_has_neither_run_nor_audience(world: World) -> None:
    world.fill(people(1))
    status = status_of(world)
    assert (status.last_run, status.members, status.audience, status.audience_error) == (None, 0, None, None)
    assert "warehouse_sync" not in str(world.query("select schema_name from information_schema.schemata"))


def test_after_a_run_its_counts_and_the_audience_are_shown(world: World) -> None:
    world.fill([*people(1, 2), {"id": 3}])
    report = world.run()
    status = status_of(world)
    assert status.last_run is not None
    assert {key: status.last_run[key] for key in ("run_id", "kind", "status", "planned", "delivered", "rejected")} == {
        "run_id": report.run_id,
        "kind": "diff",
        "status": "succeeded",
        "planned": {"add": 2, "remove": 0},
        "delivered": {"add": 2, "remove": 0},
        "rejected": 1,
    }
    assert (status.members, status.pending, status.dead, status.running) == (2, 0, 0, False)
    assert status.audience is not None
    assert status.audience.id == str(world.audience_id)
    assert status.audience.usable == "fewer than the 300 members LinkedIn needs"
    json.dumps(status.as_dict())


def test_waiting_and_dead_operations_are_counted(world: World) -> None:
    world.fill(people(1, 2))
    world.run()
    world.sandbox.inject("refuse_elements:users:action=REMOVE:times=0")
    world.fill(people(2))
    world.run()
    world.sandbox.clear_faults()
    world.sandbox.inject("503:users:times=0")
    world.fill(people(2, 3))
    world.run()
    status = status_of(world)
    assert (status.pending, status.dead, status.dead_removes) == (1, 1, 1)
    assert status_facts(status)["members"] == (
        "2; 1 operations wait, 1 is dead, a REMOVE: that member is still in the audience"
    )


def test_a_dead_add_is_distinguished_from_a_dead_remove(world: World) -> None:
    """Only a dead REMOVE means that a member is targeted who should not be."""
    world.sync_settings["retry"] = {"enabled": False}
    world.fill(people(1, 2))
    world.run()
    world.sandbox.inject("503:users:times=0")
    world.fill(people(2, 3, 4))
    world.run()
    status = status_of(world)
    assert (status.pending, status.dead, status.dead_removes) == (0, 3, 1)
    assert status_facts(status)["members"].endswith(
        "3 are dead, 1 of them a REMOVE: that member is still in the audience"
    )
    world.sandbox.clear_faults()
    world.sandbox.inject("503:users:action=ADD:times=0")
    world.retry(dead=True)
    status = status_of(world)
    assert (status.dead, status.dead_removes) == (2, 0)
    assert status_facts(status)["members"].endswith("2 are dead")


@pytest.mark.parametrize(
    ("dead", "removes", "expected"),
    [
        (0, 0, "0 are dead"),
        (1, 0, "1 is dead"),
        (3, 2, "3 are dead, 2 of them REMOVEs: those members are still in the audience"),
        (3, 3, "3 are dead, all of them REMOVEs: those members are still in the audience"),
    ],
)
def test_dead_operations_are_counted_in_words(dead: int, removes: int, expected: str) -> None:
    """The sentence is correct for one or many, all or some."""
    facts = status_facts(SyncStatus("people", enabled=True, dead=dead, dead_removes=removes))
    assert facts["members"] == f"0; 0 operations wait, {expected}"


def test_size_matches_and_match_rate_are_shown(tmp_path: Path) -> None:
    """A hash without a LinkedIn member counts as sent and not as matched."""
    unmatched = hashlib.sha256(b"person3@example.com").hexdigest()
    with sandbox(build_seconds=0.0, update_seconds=0.0, unmatched_values=frozenset({unmatched})) as running:
        world = World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        world.fill(people(1, 2, 3))
        world.run()
        status = status_of(world)
    audience = status.audience
    assert audience is not None
    assert (audience.size, audience.matched, audience.input_count, audience.match_rate) == (3, 2, 3, 67)
    assert json.loads(json.dumps(status.as_dict()))["audience"]["match_rate"] == 67
    text = status_facts(status)["audience"]
    assert "3 reachable, 2 matched in 7 days, 3 sent in 7 days, match rate 67 %" in text
    assert text.endswith("fewer than the 300 members LinkedIn needs")


def test_a_match_rate_needs_both_numbers() -> None:
    """If a number is unknown or nothing was sent there is none, and the text omits it."""
    for matched, sent, rate in ((None, 5, None), (2, None, None), (0, 0, None), (0, 5, 0), (5, 5, 100), (1, 3, 33)):
        audience = Audience("1", "user", "x", "READY", 5, matched, sent)
        assert audience.match_rate == rate
        facts = status_facts(SyncStatus("people", enabled=True, audience=to_audience_status(audience)))
        assert ("match rate" in facts["audience"]) == (rate is not None)


def test_an_audience_with_a_problem_is_shown_with_what_to_do(duckdb_world: World) -> None:
    """The warning is in the JSON and in the text."""
    duckdb_world.fill(people(1))
    duckdb_world.run()
    duckdb_world.sandbox.force_status(duckdb_world.audience_id, "FAILED")
    status = status_of(duckdb_world)
    assert status.audience is not None
    assert status.audience.warning is not None
    assert "Campaign Manager" in status.audience.warning
    assert status_facts(status)["warning"] == status.audience.warning
    assert status.audience.usable == "LinkedIn reports that it failed; no campaign can use it"


def test_operations_that_a_dead_worker_has_not_sent_are_pending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise SystemExit("killed")

    world.fill(people(1, 2))
    with monkeypatch.context() as patched:
        patched.setattr("warehouse_sync.run.steps.deliver", die)
        with pytest.raises(SystemExit):
            world.run()
    assert status_of(world).pending == 2


def test_a_held_lease_is_a_running_sync(world: World) -> None:
    world.fill(people(1))
    world.run()
    config = world.config
    warehouse = make_warehouse(config.warehouses["analytics"])
    warehouse.open()
    lease = Lease.take(State(warehouse), SyncKey(SYNC, "ads"))
    assert lease is not None
    warehouse.close()
    assert status_of(world).running
    warehouse.open()
    lease.release()
    warehouse.close()
    assert not status_of(world).running


def test_without_the_destination_the_stored_part_is_still_shown(world: World) -> None:
    world.fill(people(1, 2))
    world.run()
    config = world.config
    world.sandbox.stop()
    status = sync_status(config, SYNC)
    assert (status.members, status.audience) == (2, None)
    assert status.audience_error is not None
    assert "did not answer" in status.audience_error


def test_a_deleted_audience_is_shown_as_an_error(duckdb_world: World) -> None:
    duckdb_world.fill(people(1))
    duckdb_world.run()
    answer = requests.delete(
        f"{duckdb_world.sandbox.url}/rest/dmpSegments/{duckdb_world.audience_id}",
        headers={"Authorization": "Bearer sandbox-access", "LinkedIn-Version": "202609"},
        timeout=300,
    )
    assert answer.status_code == 204
    status = status_of(duckdb_world)
    assert status.audience is None
    assert status.audience_error is not None
    assert "deleted" in status.audience_error


def test_the_end_of_the_refresh_token_is_shown_with_a_warning_in_its_last_month(tmp_path: Path) -> None:
    with sandbox(refresh_token_life=10 * 86400.0) as running:
        world = World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        world.fill(people(1))
        status = status_of(world)
    assert status.refresh_token_expires is not None
    assert status.refresh_token_warning is not None
    assert status.refresh_token_expires in status.refresh_token_warning
    assert "authorise the app again" in status.refresh_token_warning


@pytest.mark.parametrize(("days", "warned"), [(365, False), (32, False), (29, True)])
def test_validate_shows_the_end_of_the_refresh_token(tmp_path: Path, days: int, warned: bool) -> None:
    """The day is always shown; in the last month also what to do."""
    with sandbox(refresh_token_life=days * 86400.0) as running:
        world = World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        world.fill(people(1))
        (check,) = [check for check in validate(world.config) if check.subject == "destinations.ads"]
    ends = (datetime.now(UTC) + timedelta(days=days)).date()
    assert (check.ok, check.warning) == (True, warned)
    assert any(str(ends + timedelta(days=off)) in check.message for off in (-1, 0))  # midnight may pass meanwhile
    assert ("authorise the app again" in check.message) == warned


@pytest.mark.parametrize(("status", "warned"), [("READY", False), ("ARCHIVED", True), ("ERROR", True)])
def test_validate_shows_the_status_of_an_audience_with_an_id(duckdb_world: World, status: str, warned: bool) -> None:
    """It exists, and its problems are shown before the first run into it."""
    duckdb_world.fill(people(1))
    audience = create_audience(duckdb_world.sandbox)
    duckdb_world.sync_settings["audience"] = {"type": "user", "id": audience}
    duckdb_world.sandbox.force_status(audience, status)
    (check,) = [check for check in validate(duckdb_world.config) if check.subject.endswith(".audience")]
    assert (check.ok, check.warning) == (True, warned)
    assert f"audience {audience} exists: Somebody's" in check.message
    assert (status in check.message.upper()) == warned


@given(st.integers(-400, 400))
def test_a_warning_comes_from_30_days_before_the_end_of_a_token(days: int) -> None:
    warning = expiry_warning(TODAY + timedelta(days=days), TODAY)
    assert (warning is not None) == (days <= 30)


def test_a_token_without_known_end_has_no_warning() -> None:
    assert expiry_warning(None, TODAY) is None


def test_an_expired_audience_needs_to_be_filled_again(duckdb_world: World) -> None:
    duckdb_world.fill(people(1))
    duckdb_world.run()
    duckdb_world.sandbox.force_status(duckdb_world.audience_id, "EXPIRED")
    audience = status_of(duckdb_world).audience
    assert audience is not None
    assert "the next run sends all of them again" in audience.usable


def test_log_lines_are_ready_for_json_and_newest_first(world: World) -> None:
    world.fill([*people(1), {"id": 2}])
    world.run()
    world.fill([{"id": 2}])
    world.run()
    lines = sync_log_lines(world.config, SYNC, failed=False, limit=10)
    json.dumps(lines)
    logged = [(line["run_id"], line["operation"], line["outcome"]) for line in lines]
    assert logged[0] == (2, "REMOVE", "delivered")
    assert set(logged[1:]) == {(1, "ADD", "delivered"), (1, None, "rejected")}
    assert all(line["logged_at"].endswith("Z") for line in lines)
    assert uuid.UUID(lines[0]["identity"])
    assert len(sync_log_lines(world.config, SYNC, failed=False, limit=1)) == 1
    (failed,) = sync_log_lines(world.config, SYNC, failed=True, limit=10)
    assert (failed["reason"], failed["primary_key"], failed["identity"]) == ("no_identifier", "2", None)


def test_the_log_of_a_sync_that_has_never_run_is_empty(world: World) -> None:
    world.fill(people(1))
    assert sync_log_lines(world.config, SYNC, failed=False, limit=10) == []


def test_a_warehouse_that_cannot_be_read_is_an_error(duckdb_world: World) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        status_of(duckdb_world)
