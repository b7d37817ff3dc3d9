"""Audiences that go wrong, go away or are left: deleted, expired, archived, exchanged for another one."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import sqlalchemy as sa
from harness.processes.command import call
from harness.processes.simulated_death import dies_at
from harness.worlds.world import READINGS, SYNC, World, create_audience

from warehouse_sync.admin.status import sync_status
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.operations import OperationCounts, RunKind, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.purge import purge_sync
from warehouse_sync.sandbox import Fault

Rows = list[dict[str, Any]]

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.migrated]

NOBODY: Rows = []


def people(*numbers: int) -> Rows:
    return [{"id": number, "email": f"person{number}@example.com"} for number in numbers]


def purge(world: World) -> list[RunReport]:
    return purge_sync(world.config, SYNC)


def holds(world: World, segment: int, rows: Rows) -> None:
    """This audience holds just the members of these rows, under every reading."""
    for reading in READINGS:
        held = {frozenset(member) for member in world.sandbox.members(segment, reading=reading)}
        assert held == world.expected(rows, reading), (segment, reading)
    assert world.sandbox.violations() == []


def delete(world: World, segment: int) -> None:
    """Somebody deletes the audience in Campaign Manager."""
    answer = requests.delete(
        f"{world.sandbox.url}/rest/dmpSegments/{segment}",
        headers={
            "Authorization": f"Bearer {world.sandbox.settings.access_token}",
            "LinkedIn-Version": "202609",
            "X-Restli-Protocol-Version": "2.0.0",
        },
        timeout=10,
    )
    assert answer.status_code == 204


def own_audiences(world: World) -> list[int]:
    return [int(segment["id"]) for segment in world.sandbox.segments() if "sourceSegmentId" in segment]


def go_elsewhere(world: World) -> int:
    """The sync feeds another audience from now on, by its id."""
    other = create_audience(world.sandbox)
    world.changes = {"audience": {"type": "user", "id": other}}
    return other


def test_a_deleted_audience_is_an_error_that_offers_a_fresh_one(world: World) -> None:
    """A run into an audience that was deleted sends nothing and names --recreate; with that, a new one is filled."""
    world.fill(people(1, 2))
    world.run()
    delete(world, world.segment)
    world.fill(people(2, 3))
    for attempt in (world.run, world.retry, world.plan):
        with pytest.raises(ConfigurationError, match="--recreate"):
            attempt()
    report = world.run(recreate=True)
    assert (report.status, report.planned) == (RunStatus.SUCCEEDED, OperationCounts(add=2))
    holds(world, world.segment, people(2, 3))
    world.fill(people(3, 4))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    holds(world, world.segment, people(3, 4))


def test_recreate_fills_one_fresh_audience_however_often_it_is_cut_off(world: World) -> None:
    """A worker that dies behind the creation has made one audience, and the next --recreate fills that one."""
    world.fill(people(1, 2))
    world.run()
    (first,) = own_audiences(world)

    for _ in range(2):
        with dies_at("promote"):
            world.run(recreate=True)
    assert world.run().planned == OperationCounts()
    holds(world, first, people(1, 2))
    world.run(recreate=True)
    assert len(own_audiences(world)) == 2
    holds(world, own_audiences(world)[1], people(1, 2))
    world.run(recreate=True)
    assert len(own_audiences(world)) == 3


def test_a_renamed_destination_knows_the_fresh_audience(world: World) -> None:
    """After --recreate and a renaming of the destination, the sync goes on with the fresh audience, not the old one."""
    world.fill(people(1, 2))
    world.run()
    world.run(recreate=True)
    world.destination_name = "renamed"
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    holds(world, own_audiences(world)[1], people(2, 3))


def test_recreate_needs_an_audience_of_our_own(world: World) -> None:
    """An audience that is named by its id cannot be made anew; nothing is touched."""
    world.fill(people(1))
    go_elsewhere(world)
    with pytest.raises(ConfigurationError, match=r"audience\.id"):
        world.run(recreate=True)
    assert len(world.sandbox.segments()) == 1


def test_another_type_needs_a_fresh_audience(world: World) -> None:
    """A sync of users that becomes one of companies is refused, and --recreate gives it an audience of that type."""
    world.fill(people(1))
    world.run()
    world.changes = {
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
    holds(world, users, NOBODY)
    assert set(world.sandbox.members(companies)) == {(("companyName", "Acme"),)}


def test_what_stays_in_the_old_audience_is_told_and_purged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A sync that goes over to another audience says how many stay in the old one; a purge removes just those."""
    world.fill(people(1, 2, 3))
    world.run()
    old = world.segment
    other = go_elsewhere(world)
    world.fill(people(3, 4))
    caplog.clear()
    world.run()
    told = caplog.text
    assert "--purge" in told
    assert f"{{'{old}': 3}}" in told
    holds(world, old, people(1, 2, 3))
    (report,) = purge(world)
    assert (report.status, report.delivered) == (RunStatus.SUCCEEDED, OperationCounts(remove=3))
    holds(world, old, NOBODY)
    holds(world, other, people(3, 4))
    assert purge(world) == []
    world.fill(people(4, 5))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    holds(world, other, people(4, 5))


def test_a_purge_that_is_put_off_goes_on(world: World) -> None:
    """REMOVEs of a purge that LinkedIn does not take wait through ordinary runs, and the next purge sends them."""
    world.fill(people(1, 2))
    world.run()
    old = world.segment
    other = go_elsewhere(world)
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
    holds(world, old, NOBODY)
    holds(world, other, people(2, 5))


@pytest.mark.parametrize("step", ["promote", "deliver", "finished"])
def test_a_purge_whose_worker_dies_is_finished_by_the_next(world: World, step: str) -> None:
    """Whatever a dead purge had not sent is sent by the next one, though an ordinary run came in between."""
    world.fill(people(1, 2))
    world.run()
    old = world.segment
    other = go_elsewhere(world)
    world.run()

    with dies_at(step):
        purge(world)
    world.fill(people(2, 3))
    world.run()
    purge(world)
    assert purge(world) == []
    holds(world, old, NOBODY)
    holds(world, other, people(2, 3))


def test_a_run_that_died_into_an_audience_is_gone_on_with_when_the_sync_comes_back(world: World) -> None:
    """A worker dies behind its promotion, the sync goes elsewhere and comes back: nothing of that run is forgotten."""
    world.fill(people(1, 2))
    world.run()
    own = world.segment

    world.fill(people(2, 3))
    with dies_at("deliver"):
        world.run()
    go_elsewhere(world)
    world.run()
    world.run()
    world.changes = {}
    world.run()
    holds(world, own, people(2, 3))


def test_a_retry_pass_that_died_elsewhere_takes_no_snapshot_with_it(world: World) -> None:
    """A retry pass shares its snapshot with the promoted run: cleaning up behind a dead one leaves that alone."""
    world.fill(people(1, 2))
    world.run()
    own = world.segment

    with dies_at("promote"):
        world.retry()
    go_elsewhere(world)
    world.run()
    world.changes = {}
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    holds(world, own, people(2, 3))


def test_a_purged_audience_can_be_fed_again(world: World) -> None:
    """A sync that comes back to an audience that was purged, or half of it, adds everybody and removes the rest."""
    world.fill(people(1, 2))
    world.run()
    own = world.segment
    other = go_elsewhere(world)
    world.run()
    world.sandbox.inject(Fault("refuse_elements", on="users", times=0, action="REMOVE", indices=(0,)))
    (report,) = purge(world)
    assert (report.status, report.dead) == (RunStatus.INCOMPLETE, 1)
    world.sandbox.clear_faults()
    world.changes = {}
    world.fill(people(3))
    world.run(full=True)
    holds(world, own, people(3))
    holds(world, other, people(1, 2))


def test_an_audience_that_was_deleted_is_forgotten_by_a_purge(world: World) -> None:
    """Where the old audience is gone from LinkedIn, a purge says so once and keeps nothing of it."""
    world.fill(people(1, 2))
    world.run()
    delete(world, world.segment)
    go_elsewhere(world)
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


def test_a_purge_reaches_the_destination_of_old(world: World) -> None:
    """An audience at a destination that the sync has left is purged there while it is configured, else told of."""
    world.fill(people(1, 2))
    world.run()
    old = world.segment
    world.destination_name = "second"
    world.account = {"account_id": 507404993, "source_platform": "PARTNER_API"}
    world.run()
    assert len(own_audiences(world)) == 2
    # The old destination's name is gone, but the audience is still on the account of the new one.
    (report,) = purge(world)
    assert report.delivered == OperationCounts(remove=2)
    holds(world, old, NOBODY)


def test_an_old_audience_out_of_reach_is_told_of(world: World) -> None:
    """One whose destination is not configured any more, and that the new one cannot see, is named with what to do."""
    world.fill(people(1, 2))
    world.run()
    old = world.segment
    go_elsewhere(world)
    world.destination_name = "second"
    world.run()
    delete(world, old)
    (report,) = purge(world)
    assert report.status is RunStatus.FAILED
    assert f"audience {old}" in str(report.reason)
    assert "destinations.ads" in str(report.reason)


def test_a_lost_snapshot_of_an_old_audience_is_told_of(world: World) -> None:
    """A purge that does not know whom to remove says so, and the other old audiences are purged all the same."""
    world.fill(people(1, 2))
    world.run()
    world.run(recreate=True)
    go_elsewhere(world)
    world.run()
    (table,) = world.query("select snapshot_table from warehouse_sync.runs where run_id = 1")[0]
    with world.connect() as connection:
        connection.execute(sa.text(f"drop table warehouse_sync.{table} cascade"))
    reports = purge(world)
    assert sorted(report.status for report in reports) == [RunStatus.FAILED, RunStatus.SUCCEEDED]
    (failed,) = (report for report in reports if report.status is RunStatus.FAILED)
    assert "delete audience" in str(failed.reason)


@pytest.mark.parametrize("wish", ["run", "retry"])
def test_an_expired_audience_is_filled_whatever_runs_first(world: World, wish: str) -> None:
    """A retry pass, too, fills an audience that LinkedIn has emptied: its requests would hide that it was."""
    world.fill(people(1, 2, 3))
    world.run()
    world.sandbox.force_status(world.segment, "EXPIRED")
    report = world.run() if wish == "run" else world.retry()
    assert report.delivered == OperationCounts(add=3)
    holds(world, world.segment, people(1, 2, 3))
    world.fill(people(2, 3, 4))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    holds(world, world.segment, people(2, 3, 4))


@pytest.mark.parametrize("status", ["ARCHIVED", "FAILED", "ERROR"])
def test_an_audience_in_a_bad_state_is_warned_of(world: World, caplog: pytest.LogCaptureFixture, status: str) -> None:
    """A run into an audience that campaigns cannot use says so, with LinkedIn's word, and goes on."""
    world.fill(people(1))
    world.run()
    world.sandbox.force_status(world.segment, status)
    caplog.clear()
    assert world.run().status is RunStatus.SUCCEEDED
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(world.segment) in warning


def test_the_command_recreates_and_purges_in_one_go(world: World) -> None:
    """`run SYNC --recreate --purge` reports both: the fresh audience filled, the old one emptied."""
    world.fill(people(1, 2))
    assert world.config
    assert call(world.folder, "run").code == 0
    world.fill(people(2, 3))
    answer = call(world.folder, "run", SYNC, "--recreate", "--purge", "--json")
    assert answer.code == 0
    delivered = [report["delivered"] for report in answer.json]
    assert delivered == [{"add": 2, "remove": 0}, {"add": 0, "remove": 2}]
    old, fresh = own_audiences(world)
    holds(world, old, NOBODY)
    holds(world, fresh, people(2, 3))
    refused = call(world.folder, "run", "--all", "--purge")
    assert refused.code == 2
    assert "one sync" in refused.err


def test_status_tells_what_was_left(world: World) -> None:
    """`status` goes on saying how many members stay in the old audience, until they are purged."""
    world.fill(people(1, 2))
    world.run()
    old = world.segment
    go_elsewhere(world)
    world.run()
    for _ in range(2):
        assert sync_status(world.config, SYNC).left == {str(old): 2}
    text = call(world.folder, "status").out
    assert f"2 members in audience {old}" in text
    purge(world)
    assert sync_status(world.config, SYNC).left == {}


def test_a_schema_of_an_older_release_is_not_read(world: World) -> None:
    """Verbs that only read say that the state is to be migrated, rather than show a sync that never ran."""
    world.fill(people(1))
    world.run()
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.schema_version set version_num = '0001'"))
    for read in (lambda: sync_status(world.config, SYNC), world.plan):
        with pytest.raises(ConfigurationError, match="migrate"):
            read()
