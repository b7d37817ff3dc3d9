"""Undelivered operations are not lost: they wait, are checked against the query, and are sent or dropped."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from harness.histories.oracle import check_tables
from harness.processes.simulated_death import dies_at
from harness.worlds.world import SYNC, World, create_audience, people, person

from warehouse_sync.destinations.base import Audience, AudienceSpec
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.destinations.linkedin.segments import Segments
from warehouse_sync.errors import LeaseLost, StopRun, WarehouseSyncError
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.run import steps
from warehouse_sync.run.baseline import TargetState
from warehouse_sync.run.record import ActiveRun
from warehouse_sync.sandbox import Fault
from warehouse_sync.state.lease import Lease

Rows = list[dict[str, Any]]
DEVICE = "00000001-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


pytestmark = [pytest.mark.usefixtures("short_timeouts"), pytest.mark.migrated]


def queue(world: World) -> list[tuple[Any, ...]]:
    lines = world.query("select operation, state, primary_key, attempt from warehouse_sync.retry_queue")
    return sorted(map(tuple, lines))


def outcomes(world: World, run_id: int | None) -> list[tuple[Any, ...]]:
    """Return the operations of a run in the sync log."""
    lines = world.query(f"select operation, outcome, primary_key from warehouse_sync.sync_log where run_id = {run_id}")
    return sorted(tuple(line) for line in lines if line[0])


def test_an_outage_defers_all_operations_and_the_next_run_sends_them(world: World) -> None:
    """While LinkedIn is down all operations wait; the next run delivers them."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("503", on="users", times=0))
    report = world.run()
    assert (report.status, report.deferred, report.delivered) == (RunStatus.INCOMPLETE, 2, OperationCounts())
    assert queue(world) == [("ADD", "waiting", "1", 1), ("ADD", "waiting", "2", 1)]
    world.sandbox.clear_faults()
    report = world.run()
    assert (report.status, report.planned) == (RunStatus.SUCCEEDED, OperationCounts(add=2))
    assert queue(world) == []
    world.check(people(1, 2))


def test_a_run_stops_sending_after_several_failed_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few failed batches in a row the rest is deferred without a request; no operation is lost."""
    monkeypatch.setattr(LinkedIn, "batch_size", 2)
    world.destination_settings = {"max_in_flight": 1}
    world.fill(people(*range(20)))
    world.sandbox.inject(Fault("503", on="users", times=0))
    report = world.run()
    assert (report.status, report.deferred) == (RunStatus.INCOMPLETE, 20)
    assert "accepts nothing" in (report.reason or "")
    tried = {record.elements for record in world.sandbox.requests("users")}
    assert tried == {2}
    assert len(world.sandbox.requests("users")) < 10
    assert len(outcomes(world, report.run_id)) == 20
    world.sandbox.clear_faults()
    assert world.run().status is RunStatus.SUCCEEDED
    world.check(people(*range(20)))


def test_outcomes_of_many_batches_are_each_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With some refusals in many small batches, the log has the right outcome for each member."""
    monkeypatch.setattr(LinkedIn, "batch_size", 3)
    members = people(*range(40))
    world.fill(members)
    bad = {next(iter(member))[1] for member in world.expected_members(members[5:40:7], "elements")}
    world.sandbox.inject(Fault("refuse_batch_named", on="users", times=0, values=frozenset(bad)))
    report = world.run()
    assert (report.rejected, report.delivered) == (5, OperationCounts(add=35))
    refused = {key for _, outcome, key in outcomes(world, report.run_id) if outcome == "rejected"}
    assert refused == {str(row["id"]) for row in members[5:40:7]}
    world.sandbox.clear_faults()
    assert world.actual_members("elements") == world.expected_members(
        [r for r in members if str(r["id"]) not in refused], "elements"
    )


def test_elements_missing_from_a_short_answer_are_sent_again(world: World) -> None:
    """Elements that LinkedIn did not answer are deferred, and are in the audience after the next run."""
    world.fill(people(1, 2, 3))
    world.sandbox.inject(Fault("cut_short", on="users", times=1, count=2))
    report = world.run()
    assert (report.status, report.delivered, report.deferred) == (RunStatus.INCOMPLETE, OperationCounts(add=1), 2)
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(1, 2, 3))


def test_a_retry_pass_sends_the_queue_and_runs_no_query(world: World) -> None:
    """`retry` delivers the queue against the promoted snapshot, and ignores later changes of the table."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    world.fill(people(3))
    report = world.retry()
    assert (report.status, report.planned, report.members) == (RunStatus.SUCCEEDED, OperationCounts(add=2), 2)
    world.check(people(1, 2))
    assert world.run().status is RunStatus.SUCCEEDED
    world.check(people(3))


def test_a_retry_pass_does_not_need_the_query(world: World) -> None:
    """The queue is delivered while the query is invalid."""
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    world.sync_settings = {"model": {"sql": "select * from nowhere", "primary_key": "id"}}
    assert world.retry().status is RunStatus.SUCCEEDED
    world.check(people(1))


def test_a_pending_add_is_dropped_when_its_row_has_left_the_query(world: World) -> None:
    """A queued ADD whose row is no longer in the query is dropped and never sent."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    world.fill(people(2))
    world.run()
    world.check(people(2))
    added = [record for record in world.sandbox.requests("users") if record.action == "ADD" and record.status == 200]
    assert [record.elements for record in added] == [1]


def test_a_pending_remove_is_dropped_when_its_member_returns(world: World) -> None:
    """A queued REMOVE is not sent once its member is in the query again."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    assert world.run().deferred == 1
    world.sandbox.clear_faults()
    world.fill(people(1, 2))
    assert world.run().planned == OperationCounts(add=1)
    world.check(people(1, 2))


def test_a_late_remove_adds_members_again_that_share_an_identifier(world: World) -> None:
    """A REMOVE that is delivered in a later run is followed by an ADD of the members that share an identifier."""
    both = [person(1, device=DEVICE), person(2, device=DEVICE)]
    world.fill(both)
    world.run()
    world.fill(both[1:])
    world.sandbox.inject(Fault("503", on="users", times=0, action="REMOVE"))
    assert world.run().deferred == 1
    world.sandbox.clear_faults()
    report = world.run()
    assert report.planned == OperationCounts(add=1, remove=1)
    world.check(both[1:])


def test_a_refused_remove_is_dead_and_stays_in_the_queue(world: World) -> None:
    """A REMOVE that LinkedIn refuses stays in the queue over later runs until it is sent again and accepted."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1))
    world.sandbox.inject(Fault("refuse_elements", on="users", times=0, indices=(0,), action="REMOVE"))
    report = world.run()
    assert (report.status, report.dead) == (RunStatus.INCOMPLETE, 1)
    world.sandbox.clear_faults()
    for _ in range(2):
        report = world.run()
        assert (report.status, report.dead, report.planned) == (RunStatus.INCOMPLETE, 1, OperationCounts())
    assert queue(world) == [("REMOVE", "dead", "2", 1)]
    assert world.retry().dead == 1
    report = world.retry(dead=True)
    assert (report.status, report.dead, report.planned) == (RunStatus.SUCCEEDED, 0, OperationCounts(remove=1))
    world.check(people(1))


def test_a_full_run_sends_dead_operations(world: World) -> None:
    """--full sends dead REMOVEs again."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1))
    world.sandbox.inject(Fault("refuse_elements", on="users", times=1, indices=(0,), action="REMOVE"))
    assert world.run().dead == 1
    report = world.run(full=True)
    assert (report.status, report.planned) == (RunStatus.SUCCEEDED, OperationCounts(add=1, remove=1))
    world.check(people(1))


def test_a_refused_add_is_rejected_and_not_sent_again(world: World) -> None:
    """An ADD that LinkedIn refuses is logged as rejected, and the queue stays empty."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("refuse_elements", on="users", times=0, indices=(0,), action="ADD"))
    report = world.run()
    assert (report.status, report.rejected, report.delivered) == (RunStatus.SUCCEEDED, 1, OperationCounts(add=1))
    assert queue(world) == []
    assert sorted(outcome for _, outcome, _ in outcomes(world, report.run_id)) == ["delivered", "rejected"]
    world.sandbox.clear_faults()
    assert world.run().planned == OperationCounts()


def test_failed_operations_are_dead_at_once_without_retries(world: World) -> None:
    """With retry: {enabled: false} failed operations are not sent again automatically, and the run reports them."""
    world.sync_settings = {"retry": {"enabled": False}}
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    report = world.run()
    assert (report.status, report.deferred, report.dead) == (RunStatus.INCOMPLETE, 0, 1)
    assert "dead" in (report.reason or "")
    world.sandbox.clear_faults()
    assert world.run().dead == 1
    assert world.retry(dead=True).status is RunStatus.SUCCEEDED
    world.check(people(1))


def test_operations_older_than_max_age_are_dead(world: World) -> None:
    """An operation that was first deferred longer than retry.max_age ago is dead after its next failure."""
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.retry_queue set deferred_since = timestamp '2020-01-01'"))
    assert world.run().dead == 1
    assert queue(world) == [("ADD", "dead", "1", 2)]


def test_a_token_revoked_during_a_run_defers_the_rest_and_fails(world: World) -> None:
    """When LinkedIn revokes the credentials during a run, the run fails and all open operations wait."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(1, 2, 3, 4))
    world.sandbox.inject(Fault("403", on="users", times=0))
    with pytest.raises(StopRun) as failure:
        world.run()
    report = failure.value.report
    assert (report.sync, report.status, report.deferred) == (SYNC, RunStatus.FAILED, 1)
    assert queue(world) == [("ADD", "waiting", "4", 1)]
    world.sandbox.clear_faults()
    assert world.run().status is RunStatus.SUCCEEDED
    world.check(people(1, 2, 3, 4))


@pytest.mark.parametrize(
    "step", ["take_snapshot", "compute_changes", "ensure_audience", "promote", "deliver", "finished"]
)
def test_a_worker_that_dies_at_any_step_leaves_nothing_to_repair(world: World, step: str) -> None:
    """After a worker died just before any step of a run, the next run converges."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(2, 3, 4))

    with dies_at(step):
        world.run()
    report = world.run()
    assert report.status is RunStatus.SUCCEEDED
    world.check(people(2, 3, 4))
    statuses = {status for (status,) in world.query("select status from warehouse_sync.runs")}
    assert statuses == {"succeeded", "failed"}
    tables = {name.lower() for (name,) in world.query("select table_name from information_schema.tables")}
    assert sum(name.startswith(f"snapshot_{SYNC}") for name in tables) == 2
    check_tables(world)


def test_answers_that_were_not_recorded_are_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation whose answer was not recorded is sent again, which changes nothing, and logged once as delivered."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(2, 3, 4))

    def fail(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "flush", fail)
        with pytest.raises(ConnectionError):
            world.run()
    interrupted = world.query("select max(run_id) from warehouse_sync.runs")[0][0]
    report = world.run()
    assert report.planned == OperationCounts(add=1, remove=1)
    world.check(people(2, 3, 4))
    assert outcomes(world, interrupted) == [("ADD", "deferred", "4"), ("REMOVE", "deferred", "1")]
    assert outcomes(world, report.run_id) == [("ADD", "delivered", "4"), ("REMOVE", "delivered", "1")]


def test_every_operation_has_one_line_in_the_log(world: World) -> None:
    """Each planned operation of each run has exactly one line in the log, with and without faults."""
    faults = [None, Fault("503", on="users", times=0), None, Fault("cut_short", on="users", times=1), None]
    for day, fault in enumerate(faults):
        world.fill(people(*range(day, day + 5)))
        if fault:
            world.sandbox.inject(fault)
        world.run()
        world.sandbox.clear_faults()
    planned = world.query("select run_id, last_seq from warehouse_sync.runs order by run_id")
    logged = world.query(
        "select run_id, count(*), count(distinct seq) from warehouse_sync.sync_log group by run_id order by run_id"
    )
    expected = [(run, number, number) for run, number in map(tuple, planned)]
    assert expected == [tuple(line) for line in logged]
    world.check(people(*range(4, 9)))


def test_the_guard_blocks_a_run_and_force_overrides_it_once(world: World) -> None:
    """A run that would remove too many members sends nothing and leaves no table; --force executes it."""
    world.sync_settings = {"guard": {"max_removed_percent": 30, "ignore_below": 2, "min_members": 1}}
    world.fill(people(*range(10)))
    world.run()
    world.fill(people(*range(6)))
    before = len(world.sandbox.requests("users"))
    report = world.run()
    assert report.status is RunStatus.BLOCKED
    assert "40.0 %" in (report.reason or "")
    assert len(world.sandbox.requests("users")) == before
    tables = {name.lower() for (name,) in world.query("select table_name from information_schema.tables")}
    assert f"snapshot_{SYNC}_{report.run_id}" not in tables
    assert world.run(force=True).status is RunStatus.SUCCEEDED
    world.check(people(*range(6)))
    world.fill([])
    report = world.run()
    assert (report.status, "min_members" in (report.reason or "")) == (RunStatus.BLOCKED, True)


def test_a_run_is_skipped_while_another_worker_has_the_lease(world: World) -> None:
    """A run of a sync whose lease is held is skipped and starts nothing."""
    world.fill(people(1))
    world.run()
    with world.connect() as connection:
        connection.execute(
            sa.text("update warehouse_sync.syncs set lease_holder = 'x', lease_expires_at = timestamp '2999-01-01'")
        )
    report = world.run()
    assert (report.status, report.run_id) == (RunStatus.SKIPPED, None)


def test_without_a_valid_lease_nothing_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is checked again before the first byte of each request, because the worker may have been paused."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(2, 3))
    before = len(world.sandbox.requests("users"))
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "is_valid", lambda *_: False)
        assert world.run().status is RunStatus.INCOMPLETE
    assert len(world.sandbox.requests("users")) == before
    assert world.run().status is RunStatus.SUCCEEDED
    world.check(people(2, 3))


def test_a_disabled_sync_is_skipped(world: World) -> None:
    """A run of a sync with enabled: false is skipped and is not an error."""
    world.sync_settings = {"enabled": False}
    assert world.run().status is RunStatus.SKIPPED


def test_another_audience_gets_every_member(world: World) -> None:
    """A sync with another audience fills that one; configured by its name again, it finds the audience it created."""
    world.fill(people(1, 2))
    world.run()
    own = world.audience_id
    other = create_audience(world.sandbox)
    world.sync_settings = {"audience": {"type": "user", "id": other}}
    assert world.run().planned == OperationCounts(add=2)
    held = world.sandbox.members(other, reading="elements")
    assert {frozenset(member) for member in held} == world.expected_members(people(1, 2), "elements")
    world.sync_settings = {}
    for _ in range(3):
        world.fill(people(2, 3))
        world.run()
    assert {frozenset(member) for member in world.sandbox.members(own, reading="elements")} == world.expected_members(
        people(2, 3), "elements"
    )
    assert sorted(int(segment["id"]) for segment in world.sandbox.segments()) == sorted([own, other])


def test_a_sync_that_returns_to_an_audience_removes_its_stale_members(world: World) -> None:
    """The last snapshot of an audience is kept while the sync feeds another, so that it can remove members later."""
    world.fill(people(1, 2))
    world.run()
    own = world.audience_id
    world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    for day in range(4):
        world.fill(people(2, 3 + day))
        world.run()
    world.sync_settings = {}
    assert world.run().planned == OperationCounts(add=1, remove=1)
    assert {frozenset(member) for member in world.sandbox.members(own, reading="elements")} == world.expected_members(
        people(2, 6), "elements"
    )


def test_a_renamed_destination_is_the_same_audience(world: World) -> None:
    """After the destination was renamed in the configuration, members that left the query are still removed."""
    world.fill(people(1, 2))
    world.run()
    world.destination_name = "renamed"
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    world.check(people(2, 3))


def test_an_expired_audience_is_filled_again(world: World) -> None:
    """When LinkedIn deleted the data of an expired audience, the next run sends every member again."""
    world.fill(people(1, 2))
    world.run()
    world.sandbox.force_status(world.audience_id, "EXPIRED")
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(1, 2))


def test_a_retry_pass_with_due_only_sends_only_what_is_due(world: World) -> None:
    """With due_only, operations that are not due stay in the queue until they are.

    When no operation is due the pass is skipped and leaves no row in `runs`.
    """
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    report = world.retry(due_only=True)
    assert (report.status, report.reason, report.run_id) == (
        RunStatus.SKIPPED,
        "nothing in the retry queue is due",
        None,
    )
    past = "update warehouse_sync.retry_queue set next_attempt_at = timestamp '2020-01-01'"
    with world.connect() as connection:
        connection.execute(sa.text(f"{past} where primary_key = '1'"))
    report = world.retry(due_only=True)
    assert (report.status, report.deferred, report.planned) == (RunStatus.INCOMPLETE, 1, OperationCounts(add=1))
    assert queue(world) == [("ADD", "waiting", "2", 1)]
    with world.connect() as connection:
        connection.execute(sa.text(past))
    assert world.retry(due_only=True).status is RunStatus.SUCCEEDED
    world.check(people(1, 2))


def test_a_failure_before_the_commit_point_changes_nothing(world: World) -> None:
    """A query that fails during the run changes neither the audience nor the promoted run."""
    world.fill(people(1))
    world.run()
    world.sync_settings = {
        "model": {"sql": "select id, cast(email as int) as email, device, first_name, country from people"}
    }
    world.sync_settings["model"]["primary_key"] = "id"
    with pytest.raises(WarehouseSyncError) as failure:
        world.run()
    assert "person1" not in str(failure.value)
    assert failure.value.report.status is RunStatus.FAILED
    world.sync_settings = {}
    assert world.run().planned == OperationCounts()
    world.check(people(1))


def test_a_worker_without_its_lease_creates_no_audience(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first run that was paused before it created the audience, while another worker took over, creates none."""
    world.fill(people(1, 2))
    create, ensure = Segments._create_once, steps.ensure_audience
    leases: list[Lease] = []

    def record_lease(active: ActiveRun, target: TargetState) -> Audience:
        leases.append(active.lease)
        return ensure(active, target)

    def create_late(self: Segments, spec: AudienceSpec) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Segments, "_create_once", create)
            with world.connect() as connection:
                connection.execute(sa.text("update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"))
            assert world.run().status is RunStatus.SUCCEEDED
        leases[0]._deadline -= 3600
        return create(self, spec)

    monkeypatch.setattr(steps, "ensure_audience", record_lease)
    monkeypatch.setattr(Segments, "_create_once", create_late)
    with pytest.raises(LeaseLost):
        world.run()
    world.check(people(1, 2))
