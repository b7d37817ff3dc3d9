"""Audiences that were deleted, expired, archived or replaced by another audience."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import sqlalchemy as sa
from harness.processes.command import call
from harness.processes.simulated_death import dies_at
from harness.worlds.world import READINGS, SYNC, World, create_audience, people

from warehouse_sync.admin.status import sync_status
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.operations import OperationCounts, RunKind, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.purge import purge_sync
from warehouse_sync.sandbox import Fault

Rows = list[dict[str, Any]]

pytestmark = [pytest.mark.usefixtures("short_timeouts"), pytest.mark.migrated]

NO_MEMBERS: Rows = []


def purge(world: World) -> list[RunReport]:
    return purge_sync(world.config, SYNC)


def check_members(world: World, segment: int, rows: Rows) -> None:
    """Check that the audience check_members exactly the members of these rows, under every reading of REMOVE."""
    for reading in READINGS:
        held = {frozenset(member) for member in world.sandbox.members(segment, reading=reading)}
        assert held == world.expected_members(rows, reading), (segment, reading)
    assert world.sandbox.violations() == []


def delete_audience(world: World, segment: int) -> None:
    """Delete the audience, as an operator can in Campaign Manager."""
    answer = requests.delete(
        f"{world.sandbox.url}/rest/dmpSegments/{segment}",
        headers={
            "Authorization": f"Bearer {world.sandbox.settings.access_token}",
            "LinkedIn-Version": "202609",
            "X-Restli-Protocol-Version": "2.0.0",
        },
        timeout=300,
    )
    assert answer.status_code == 204


def own_audiences(world: World) -> list[int]:
    return [int(segment["id"]) for segment in world.sandbox.segments() if "sourceSegmentId" in segment]


def switch_audience(world: World) -> int:
    """Configure another audience for the sync, by its id, and return that id."""
    other = create_audience(world.sandbox)
    world.sync_settings = {"audience": {"type": "user", "id": other}}
    return other


def test_a_deleted_audience_is_an_error_that_suggests_recreate(world: World) -> None:
    """A run to a deleted audience sends nothing and suggests --recreate, which fills a new audience."""
    world.fill(people(1, 2))
    world.run()
    delete_audience(world, world.audience_id)
    world.fill(people(2, 3))
    for attempt in (world.run, world.retry, world.plan):
        with pytest.raises(ConfigurationError, match="--recreate"):
            attempt()
    report = world.run(recreate=True)
    assert (report.status, report.planned) == (RunStatus.SUCCEEDED, OperationCounts(add=2))
    check_members(world, world.audience_id, people(2, 3))
    world.fill(people(3, 4))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_members(world, world.audience_id, people(3, 4))


def test_an_interrupted_recreate_creates_only_one_audience(world: World) -> None:
    """A worker that dies after it created the audience leaves one audience, and the next --recreate fills that one."""
    world.fill(people(1, 2))
    world.run()
    (first,) = own_audiences(world)

    for _ in range(2):
        with dies_at("promote"):
            world.run(recreate=True)
    assert world.run().planned == OperationCounts()
    check_members(world, first, people(1, 2))
    world.run(recreate=True)
    assert len(own_audiences(world)) == 2
    check_members(world, own_audiences(world)[1], people(1, 2))
    world.run(recreate=True)
    assert len(own_audiences(world)) == 3


def test_a_renamed_destination_keeps_the_recreated_audience(world: World) -> None:
    """After --recreate and a new name for the destination, the sync continues with the new audience."""
    world.fill(people(1, 2))
    world.run()
    world.run(recreate=True)
    world.destination_name = "renamed"
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_members(world, own_audiences(world)[1], people(2, 3))


def test_recreate_needs_an_audience_that_the_sync_created(world: World) -> None:
    """An audience that is configured by its id cannot be recreated; nothing changes."""
    world.fill(people(1))
    switch_audience(world)
    with pytest.raises(ConfigurationError, match=r"audience\.id"):
        world.run(recreate=True)
    assert len(world.sandbox.segments()) == 1


def test_another_type_needs_a_new_audience(world: World) -> None:
    """A user sync that becomes a company sync is refused, and --recreate creates an audience of that type."""
    world.fill(people(1))
    world.run()
    world.sync_settings = {
        "audience": {"type": "company", "name": "Companies"},
        "identifiers": {"company_name": "first_name"},
        "fields": {},
    }
    world.fill([{"id": 1, "first_name": "Acme"}])
    with pytest.raises(ConfigurationError, match="--recreate"):
        world.run()
    assert world.run(recreate=True).delivered == OperationCounts(add=1)
    (report,) = purge(world)
    assert report.delivered == OperationCounts(remove=1)
    users, companies = own_audiences(world)
    check_members(world, users, NO_MEMBERS)
    assert set(world.sandbox.members(companies)) == {(("companyName", "Acme"),)}


def test_members_in_the_old_audience_are_logged_and_purged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A sync that changes its audience logs how many members stay in the old one; a purge removes exactly those."""
    world.fill(people(1, 2, 3))
    world.run()
    old = world.audience_id
    other = switch_audience(world)
    world.fill(people(3, 4))
    caplog.clear()
    world.run()
    log = caplog.text
    assert "--purge" in log
    assert f"{{'{old}': 3}}" in log
    check_members(world, old, people(1, 2, 3))
    (report,) = purge(world)
    assert (report.status, report.delivered) == (RunStatus.SUCCEEDED, OperationCounts(remove=3))
    check_members(world, old, NO_MEMBERS)
    check_members(world, other, people(3, 4))
    assert purge(world) == []
    world.fill(people(4, 5))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_members(world, other, people(4, 5))


def test_a_deferred_purge_continues(world: World) -> None:
    """REMOVEs of a purge that LinkedIn does not accept wait during ordinary runs, and the next purge sends them."""
    world.fill(people(1, 2))
    world.run()
    old = world.audience_id
    other = switch_audience(world)
    world.run()
    world.sandbox.inject(Fault("503", on="users", times=0, action="REMOVE"))
    (report,) = purge(world)
    assert (report.status, report.deferred) == (RunStatus.INCOMPLETE, 2)
    world.sandbox.clear_faults()
    for number in range(3):
        world.fill(people(2, 3 + number))
        assert world.run().status is RunStatus.SUCCEEDED
    (report,) = purge(world)
    assert report.delivered == OperationCounts(remove=2)
    check_members(world, old, NO_MEMBERS)
    check_members(world, other, people(2, 5))


@pytest.mark.parametrize("step", ["promote", "deliver", "finished"])
def test_the_next_purge_finishes_one_whose_worker_died(world: World, step: str) -> None:
    """The next purge sends what a dead purge did not send, also after an ordinary run between them."""
    world.fill(people(1, 2))
    world.run()
    old = world.audience_id
    other = switch_audience(world)
    world.run()

    with dies_at(step):
        purge(world)
    world.fill(people(2, 3))
    world.run()
    purge(world)
    assert purge(world) == []
    check_members(world, old, NO_MEMBERS)
    check_members(world, other, people(2, 3))


def test_a_dead_run_is_continued_when_the_sync_returns_to_its_audience(world: World) -> None:
    """A run whose worker died after it promoted loses no operation, though the sync left the audience in between."""
    world.fill(people(1, 2))
    world.run()
    own = world.audience_id

    world.fill(people(2, 3))
    with dies_at("deliver"):
        world.run()
    switch_audience(world)
    world.run()
    world.run()
    world.sync_settings = {}
    world.run()
    check_members(world, own, people(2, 3))


def test_cleaning_up_a_dead_retry_pass_keeps_the_snapshot(world: World) -> None:
    """A retry pass shares its snapshot with the promoted run, so the cleanup after a dead pass keeps that table."""
    world.fill(people(1, 2))
    world.run()
    own = world.audience_id

    with dies_at("promote"):
        world.retry()
    switch_audience(world)
    world.run()
    world.sync_settings = {}
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_members(world, own, people(2, 3))


def test_a_purged_audience_can_be_filled_again(world: World) -> None:
    """A sync that returns to a purged or half purged audience adds every member and removes the remaining old ones."""
    world.fill(people(1, 2))
    world.run()
    own = world.audience_id
    other = switch_audience(world)
    world.run()
    world.sandbox.inject(Fault("refuse_elements", on="users", times=0, action="REMOVE", indices=(0,)))
    (report,) = purge(world)
    assert (report.status, report.dead) == (RunStatus.INCOMPLETE, 1)
    world.sandbox.clear_faults()
    world.sync_settings = {}
    world.fill(people(3))
    world.run(full=True)
    check_members(world, own, people(3))
    check_members(world, other, people(1, 2))


def test_a_purge_drops_the_state_of_a_deleted_audience(world: World) -> None:
    """When the old audience no longer exists at LinkedIn, a purge reports that once and drops its tables."""
    world.fill(people(1, 2))
    world.run()
    delete_audience(world, world.audience_id)
    switch_audience(world)
    world.run()
    (report,) = purge(world)
    assert report.status is RunStatus.SUCCEEDED
    assert "does not exist" in str(report.reason)
    assert purge(world) == []
    assert [kind for (kind,) in world.query("select kind from warehouse_sync.runs order by run_id")] == [
        RunKind.DIFF,
        RunKind.DIFF,
        RunKind.PURGE,
    ]
    tables = world.query("select table_name from information_schema.tables where table_name like 'snapshot_%'")
    assert len(tables) == 1


def test_a_purge_reaches_an_audience_of_a_removed_destination(world: World) -> None:
    """An audience of a destination that is no longer configured is purged through the new one of the same account."""
    world.fill(people(1, 2))
    world.run()
    old = world.audience_id
    world.destination_name = "second"
    world.destination_settings = {"account_id": 507404993, "source_platform": "PARTNER_API"}
    world.run()
    assert len(own_audiences(world)) == 2
    # The name of the old destination is no longer configured, but the new destination has the same account.
    (report,) = purge(world)
    assert report.delivered == OperationCounts(remove=2)
    check_members(world, old, NO_MEMBERS)


def test_a_purge_reports_an_old_audience_that_it_cannot_reach(world: World) -> None:
    """The purge of an audience whose destination is removed and unknown to the new one fails and names the remedy."""
    world.fill(people(1, 2))
    world.run()
    old = world.audience_id
    switch_audience(world)
    world.destination_name = "second"
    world.run()
    delete_audience(world, old)
    (report,) = purge(world)
    assert report.status is RunStatus.FAILED
    assert f"audience {old}" in str(report.reason)
    assert "destinations.ads" in str(report.reason)


def test_a_purge_reports_a_lost_snapshot_of_an_old_audience(world: World) -> None:
    """A purge without the snapshot of an audience fails for that one and still purges the other old audiences."""
    world.fill(people(1, 2))
    world.run()
    world.run(recreate=True)
    switch_audience(world)
    world.run()
    (table,) = world.query("select snapshot_table from warehouse_sync.runs where run_id = 1")[0]
    with world.connect() as connection:
        connection.execute(sa.text(f"drop table warehouse_sync.{table} cascade"))
    reports = purge(world)
    assert sorted(report.status for report in reports) == [RunStatus.FAILED, RunStatus.SUCCEEDED]
    (failed,) = (report for report in reports if report.status is RunStatus.FAILED)
    assert "delete audience" in str(failed.reason)


@pytest.mark.parametrize("command", ["run", "retry"])
def test_an_expired_audience_is_filled_by_runs_and_retries(world: World, command: str) -> None:
    """A retry pass fills an audience that LinkedIn emptied, as a run does: its requests would hide the expiry."""
    world.fill(people(1, 2, 3))
    world.run()
    world.sandbox.force_status(world.audience_id, "EXPIRED")
    report = world.run() if command == "run" else world.retry()
    assert report.delivered == OperationCounts(add=3)
    check_members(world, world.audience_id, people(1, 2, 3))
    world.fill(people(2, 3, 4))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    check_members(world, world.audience_id, people(2, 3, 4))


@pytest.mark.parametrize("status", ["ARCHIVED", "FAILED", "ERROR"])
def test_an_audience_in_a_bad_state_is_warned_about(
    world: World, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    """A run to an audience that campaigns cannot use logs a warning and continues."""
    world.fill(people(1))
    world.run()
    world.sandbox.force_status(world.audience_id, status)
    caplog.clear()
    assert world.run().status is RunStatus.SUCCEEDED
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(world.audience_id) in warning


def test_one_command_recreates_and_purges(world: World) -> None:
    """`run SYNC --recreate --purge` reports both: the new audience is filled, the old one is emptied."""
    world.fill(people(1, 2))
    assert world.config
    assert call(world.folder, "run").code == 0
    world.fill(people(2, 3))
    answer = call(world.folder, "run", SYNC, "--recreate", "--purge", "--json")
    assert answer.code == 0
    delivered = [report["delivered"] for report in answer.json]
    assert delivered == [{"add": 2, "remove": 0}, {"add": 0, "remove": 2}]
    old, new = own_audiences(world)
    check_members(world, old, NO_MEMBERS)
    check_members(world, new, people(2, 3))
    refused = call(world.folder, "run", "--all", "--purge")
    assert refused.code == 2
    assert "one sync" in refused.err


def test_status_reports_members_left_in_an_old_audience(world: World) -> None:
    """`status` reports how many members stay in the old audience, until they are purged."""
    world.fill(people(1, 2))
    world.run()
    old = world.audience_id
    switch_audience(world)
    world.run()
    for _ in range(2):
        assert sync_status(world.config, SYNC).left == {str(old): 2}
    text = call(world.folder, "status").out
    assert f"2 members in audience {old}" in text
    purge(world)
    assert sync_status(world.config, SYNC).left == {}


def test_a_schema_of_an_older_release_is_not_read(world: World) -> None:
    """Commands that only read report that the state needs a migration; they do not show a sync that never ran."""
    world.fill(people(1))
    world.run()
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.schema_version set version_num = '0001'"))
    for read in (lambda: sync_status(world.config, SYNC), world.plan):
        with pytest.raises(ConfigurationError, match="migrate"):
            read()
