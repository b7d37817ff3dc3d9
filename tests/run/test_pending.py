"""What was not delivered is not lost: it waits, is checked against the query, and is sent or dropped."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from harness.histories.oracle import check_tables
from harness.processes.simulated_death import dies_at
from harness.worlds.world import SYNC, World, create_audience

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


pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.migrated]


def person(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "email": f"person{number}@example.com", **more}


def people(*numbers: int) -> Rows:
    return [person(number) for number in numbers]


def queue(world: World) -> list[tuple[Any, ...]]:
    lines = world.query("select operation, state, primary_key, attempt from warehouse_sync.retry_queue")
    return sorted(map(tuple, lines))


def outcomes(world: World, run_id: int | None) -> list[tuple[Any, ...]]:
    """The sync log's operations of a run."""
    lines = world.query(f"select operation, outcome, primary_key from warehouse_sync.sync_log where run_id = {run_id}")
    return sorted(tuple(line) for line in lines if line[0])


def test_an_outage_defers_everything_and_the_next_run_sends_it(world: World) -> None:
    """While LinkedIn is down all operations wait; the next run delivers them without a new diff."""
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


def test_a_destination_that_takes_nothing_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few batches in a row that nobody took, the rest waits without being tried; none is lost."""
    monkeypatch.setattr(LinkedIn, "batch_size", 2)
    world.account = {"max_in_flight": 1}
    world.fill(people(*range(20)))
    world.sandbox.inject(Fault("503", on="users", times=0))
    report = world.run()
    assert (report.status, report.deferred) == (RunStatus.INCOMPLETE, 20)
    assert "takes nothing" in (report.reason or "")
    tried = {record.elements for record in world.sandbox.requests("users")}
    assert tried == {2}
    assert len(world.sandbox.requests("users")) < 10
    assert len(outcomes(world, report.run_id)) == 20
    world.sandbox.clear_faults()
    assert world.run().status is RunStatus.SUCCEEDED
    world.check(people(*range(20)))


def test_outcomes_of_many_batches_are_each_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With refusals here and there in many small batches, each member's line in the log is its own."""
    monkeypatch.setattr(LinkedIn, "batch_size", 3)
    everybody = people(*range(40))
    world.fill(everybody)
    bad = {next(iter(member))[1] for member in world.expected(everybody[5:40:7], "elements")}
    world.sandbox.inject(Fault("refuse_batch_named", on="users", times=0, values=frozenset(bad)))
    report = world.run()
    assert (report.rejected, report.delivered) == (5, OperationCounts(add=35))
    refused = {key for _, outcome, key in outcomes(world, report.run_id) if outcome == "rejected"}
    assert refused == {str(row["id"]) for row in everybody[5:40:7]}
    world.sandbox.clear_faults()
    assert world.holds("elements") == world.expected([r for r in everybody if str(r["id"]) not in refused], "elements")


def test_what_a_short_answer_leaves_out_is_sent_again(world: World) -> None:
    """Elements that LinkedIn neither took nor answered wait, and are in the audience after the next run."""
    world.fill(people(1, 2, 3))
    world.sandbox.inject(Fault("cut_short", on="users", times=1, count=2))
    report = world.run()
    assert (report.status, report.delivered, report.deferred) == (RunStatus.INCOMPLETE, OperationCounts(add=1), 2)
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(1, 2, 3))


def test_a_retry_pass_sends_what_waits_and_runs_no_query(world: World) -> None:
    """`retry` delivers the queue against the promoted snapshot, whatever the table holds by now."""
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
    """What waits is delivered even while the query is broken."""
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    world.changes = {"model": {"sql": "select * from nowhere", "primary_key": "id"}}
    assert world.retry().status is RunStatus.SUCCEEDED
    world.check(people(1))


def test_nobody_is_added_who_has_left_the_query(world: World) -> None:
    """A queued ADD whose row has gone is dropped and never sent."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    world.sandbox.clear_faults()
    world.fill(people(2))
    world.run()
    world.check(people(2))
    added = [record for record in world.sandbox.requests("users") if record.action == "ADD" and record.status == 200]
    assert [record.elements for record in added] == [1]


def test_a_waiting_remove_is_dropped_when_its_member_is_back(world: World) -> None:
    """A REMOVE that could not be delivered is not sent any more once the person is in the query again."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    assert world.run().deferred == 1
    world.sandbox.clear_faults()
    world.fill(people(1, 2))
    assert world.run().planned == OperationCounts(add=1)
    world.check(people(1, 2))


def test_a_late_remove_adds_again_whoever_it_could_hurt(world: World) -> None:
    """A REMOVE that gets through in a later run is followed by the ADD of those who share an identifier with it."""
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


def test_a_refused_remove_is_dead_and_never_forgotten(world: World) -> None:
    """A REMOVE that LinkedIn refuses stays listed over later runs until it is sent again and taken."""
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


def test_a_full_run_sends_the_dead_too(world: World) -> None:
    """--full gives dead REMOVEs another chance."""
    world.fill(people(1, 2))
    world.run()
    world.fill(people(1))
    world.sandbox.inject(Fault("refuse_elements", on="users", times=1, indices=(0,), action="REMOVE"))
    assert world.run().dead == 1
    report = world.run(full=True)
    assert (report.status, report.planned) == (RunStatus.SUCCEEDED, OperationCounts(add=1, remove=1))
    world.check(people(1))


def test_a_refused_add_is_rejected_and_not_sent_again(world: World) -> None:
    """An ADD that LinkedIn refuses is logged with its reason, and leaves the queue empty."""
    world.fill(people(1, 2))
    world.sandbox.inject(Fault("refuse_elements", on="users", times=0, indices=(0,), action="ADD"))
    report = world.run()
    assert (report.status, report.rejected, report.delivered) == (RunStatus.SUCCEEDED, 1, OperationCounts(add=1))
    assert queue(world) == []
    assert sorted(outcome for _, outcome, _ in outcomes(world, report.run_id)) == ["delivered", "rejected"]
    world.sandbox.clear_faults()
    assert world.run().planned == OperationCounts()


def test_without_retries_what_failed_is_dead_at_once(world: World) -> None:
    """retry: {enabled: false}: nothing is sent again by itself, and the run says so."""
    world.changes = {"retry": {"enabled": False}}
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    report = world.run()
    assert (report.status, report.deferred, report.dead) == (RunStatus.INCOMPLETE, 0, 1)
    assert "dead" in (report.reason or "")
    world.sandbox.clear_faults()
    assert world.run().dead == 1
    assert world.retry(dead=True).status is RunStatus.SUCCEEDED
    world.check(people(1))


def test_what_waits_for_longer_than_max_age_is_dead(world: World) -> None:
    """An operation that was first deferred longer ago than retry.max_age is given up at its next failure."""
    world.fill(people(1))
    world.sandbox.inject(Fault("503", on="users", times=0))
    world.run()
    with world.connect() as connection:
        connection.execute(sa.text("update warehouse_sync.retry_queue set deferred_since = timestamp '2020-01-01'"))
    assert world.run().dead == 1
    assert queue(world) == [("ADD", "dead", "1", 2)]


def test_a_dead_token_in_the_middle_defers_the_rest_and_fails(world: World) -> None:
    """When LinkedIn revokes the credentials during a run, the run fails and everything waits."""
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
    """A run that ends just before one of its steps, without a word: the next run converges all the same."""
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


def test_a_worker_that_dies_between_answers_and_records_sends_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What LinkedIn answered but nobody recorded is sent once more, which changes nothing, and logged once."""
    world.fill(people(1, 2, 3))
    world.run()
    world.fill(people(2, 3, 4))

    def lost(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "flush", lost)
        with pytest.raises(ConnectionError):
            world.run()
    interrupted = world.query("select max(run_id) from warehouse_sync.runs")[0][0]
    report = world.run()
    assert report.planned == OperationCounts(add=1, remove=1)
    world.check(people(2, 3, 4))
    assert outcomes(world, interrupted) == [("ADD", "deferred", "4"), ("REMOVE", "deferred", "1")]
    assert outcomes(world, report.run_id) == [("ADD", "delivered", "4"), ("REMOVE", "delivered", "1")]


def test_every_operation_has_one_final_line(world: World) -> None:
    """Over good and bad days, each planned operation of each run stands in the log exactly once."""
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


def test_the_guard_blocks_and_force_passes_once(world: World) -> None:
    """A run that would remove too many sends nothing and leaves no table; --force carries it out."""
    world.changes = {"guard": {"max_removed_percent": 30, "ignore_below": 2, "min_members": 1}}
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


def test_two_workers_at_once(world: World) -> None:
    """A run that finds its sync taken is skipped and touches nothing."""
    world.fill(people(1))
    world.run()
    with world.connect() as connection:
        connection.execute(
            sa.text("update warehouse_sync.syncs set lease_holder = 'x', lease_expires_at = timestamp '2999-01-01'")
        )
    report = world.run()
    assert (report.status, report.run_id) == (RunStatus.SKIPPED, None)


def test_without_a_fresh_lease_nothing_leaves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is looked at once more before the first byte of each request: a worker may have stood still there."""
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
    """enabled: false is not an error."""
    world.changes = {"enabled": False}
    assert world.run().status is RunStatus.SKIPPED


def test_another_audience_gets_everybody(world: World) -> None:
    """A sync that is pointed to another audience fills that one; pointed back to a name, it finds its own again."""
    world.fill(people(1, 2))
    world.run()
    own = world.segment
    other = create_audience(world.sandbox)
    world.changes = {"audience": {"type": "user", "id": other}}
    assert world.run().planned == OperationCounts(add=2)
    held = world.sandbox.members(other, reading="elements")
    assert {frozenset(member) for member in held} == world.expected(people(1, 2), "elements")
    world.changes = {}
    for _ in range(3):
        world.fill(people(2, 3))
        world.run()
    assert {frozenset(member) for member in world.sandbox.members(own, reading="elements")} == world.expected(
        people(2, 3), "elements"
    )
    assert sorted(int(segment["id"]) for segment in world.sandbox.segments()) == sorted([own, other])


def test_coming_back_after_long_still_knows_who_is_in_there(world: World) -> None:
    """The last snapshot of an audience is kept while the sync feeds another one, so that leavers are removed later."""
    world.fill(people(1, 2))
    world.run()
    own = world.segment
    world.changes = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    for day in range(4):
        world.fill(people(2, 3 + day))
        world.run()
    world.changes = {}
    assert world.run().planned == OperationCounts(add=1, remove=1)
    assert {frozenset(member) for member in world.sandbox.members(own, reading="elements")} == world.expected(
        people(2, 6), "elements"
    )


def test_a_renamed_destination_is_the_same_audience(world: World) -> None:
    """After renaming the destination in the configuration leavers are still removed."""
    world.fill(people(1, 2))
    world.run()
    world.destination_name = "renamed"
    world.fill(people(2, 3))
    assert world.run().planned == OperationCounts(add=1, remove=1)
    world.check(people(2, 3))


def test_an_expired_audience_is_filled_again(world: World) -> None:
    """When LinkedIn has thrown the audience's data away, the next run sends every member by itself."""
    world.fill(people(1, 2))
    world.run()
    world.sandbox.force_status(world.segment, "EXPIRED")
    assert world.run().planned == OperationCounts(add=2)
    world.check(people(1, 2))


def test_a_retry_pass_can_wait_for_what_is_not_due(world: World) -> None:
    """With due_only, operations whose time has not come are carried along unsent, and sent when it has.

    Where none is due there is no pass, and no row of one.
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
    """A query that fails while it runs leaves the audience, the promoted run and the tables as they were."""
    world.fill(people(1))
    world.run()
    world.changes = {
        "model": {"sql": "select id, cast(email as int) as email, device, first_name, country from people"}
    }
    world.changes["model"]["primary_key"] = "id"
    with pytest.raises(WarehouseSyncError) as failure:
        world.run()
    assert "person1" not in str(failure.value)
    assert failure.value.report.status is RunStatus.FAILED
    world.changes = {}
    assert world.run().planned == OperationCounts()
    world.check(people(1))


def test_a_worker_without_its_lease_creates_no_audience(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first run that stood still between its look and its create, while another worker took over, makes none."""
    world.fill(people(1, 2))
    create, ensure = Segments._create_once, steps.ensure_audience
    leases: list[Lease] = []

    def noted(active: ActiveRun, target: TargetState) -> Audience:
        leases.append(active.lease)
        return ensure(active, target)

    def late(self: Segments, spec: AudienceSpec) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Segments, "_create_once", create)
            with world.connect() as connection:
                connection.execute(sa.text("update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"))
            assert world.run().status is RunStatus.SUCCEEDED
        leases[0]._deadline -= 3600
        return create(self, spec)

    monkeypatch.setattr(steps, "ensure_audience", noted)
    monkeypatch.setattr(Segments, "_create_once", late)
    with pytest.raises(LeaseLost):
        world.run()
    world.check(people(1, 2))
