"""The steps of a run: each one hands its work to a stage of the pipeline and records how far the run came."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context
from dataclasses import asdict, replace

import sqlalchemy as sa
import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.errors import DestinationUnavailable, LeaseLost, StopRun
from warehouse_sync.events import MembersProcessed, NoteAdded, Phase, PhaseStarted, RowsRejected, RunPromoted
from warehouse_sync.operations import OperationKind, RunKind, RunStatus, deferred
from warehouse_sync.pipeline.changes import make_changes
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.counts import count_snapshot
from warehouse_sync.pipeline.delivery import Delivery, batches
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.pipeline.reuse import SnapshotTables
from warehouse_sync.pipeline.snapshot import take_snapshot
from warehouse_sync.run import recovery
from warehouse_sync.run.baseline import Baseline, TargetState, current_recipe, target_state, verify_baseline
from warehouse_sync.run.context import RunContext
from warehouse_sync.run.leased_run import LeasedRun, RunOptions
from warehouse_sync.state import retry_queue, runs, sync_log, syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run

log = structlog.get_logger(__name__)


class Mirror(LeasedRun):
    """A run that makes an audience equal to a snapshot; run.mirror() calls the steps in their order.

    standing: where it starts from. previous: the promoted snapshot; None where the audience holds nobody of ours.
    everyone: each member is sent, not only what changed.
    """

    current: sa.TableClause
    changes: sa.TableClause

    def __init__(self, job: RunContext, lease: Lease, wish: RunOptions, stop: CancelToken) -> None:
        super().__init__(job, lease, wish, stop)
        self.standing = self.look_around()
        self.promoted = self.standing.promoted
        self.previous: sa.TableClause | None = None
        self.everyone = wish.kind is RunKind.FULL

    def look_around(self) -> TargetState:
        """Where the run starts from. Raises ConfigurationError."""
        return target_state(self.job, recreate=self.wish.recreate)

    def begin(self) -> None:
        """The run has a number and a row."""
        previous = self.promoted.run_id if self.promoted else None
        fingerprint = self.job.sync.fingerprint()
        wish = self.wish
        run = runs.begin(self.state, self.lease, wish.kind, wish.trigger, fingerprint, previous, wish.tick)
        structlog.contextvars.bind_contextvars(run=run.run_id)
        self.job.warehouse.tag_session(self.job.sync.name, run.run_id)
        self.lease.context = copy_context()
        log.info("run begun", kind=wish.kind.value, **({} if wish.tick is None else {"tick": wish.tick.isoformat()}))
        if self.wish.kind is RunKind.RETRY:
            run = replace(run, snapshot_table=self.promoted.snapshot_table if self.promoted else None)
            runs.update(self.state, self.lease, run.run_id, snapshot_table=run.snapshot_table)
        self.row = run

    def find_footing(self) -> None:
        """What the run builds on is whole, and the operator knows what is odd about the audience.

        Raises StateDamaged where it is not known whom to remove, StopRun where there is nothing to retry.
        """
        found, left, is_retry = self.standing.audience, self.standing.left, self.wish.kind is RunKind.RETRY
        if found is not None and found.warning:
            log.warning("the audience needs a look", id=found.id, warning=found.warning)
        if left and self.standing.moved:
            log.warning(
                "this sync feeds another audience now; what it put into earlier ones stays there until `run --purge`",
                members={run.audience_id: run.members for run in left},
            )
        footing = verify_baseline(self.job, found, self.promoted)
        self.promoted, self.previous = footing.promoted, footing.previous
        if is_retry and self.promoted is None:
            raise StopRun(
                f"sync {self.job.sync.name} has not run yet, so nothing waits to be sent again. Run it first."
            )
        emptied = found is not None and found.emptied
        if emptied:
            log.warning("the destination has emptied the audience: every member is sent again")
        if (emptied or footing.resend_all) and not self.everyone:
            self.everyone = True
            if not is_retry:
                self._record(kind=RunKind.FULL)

    def finish_dead_runs(self) -> None:
        """What a dead worker promoted but did not send is in the retry queue; what it did not promote is dropped.

        Also where it fed another audience than this run: it waits there for a purge, or for the sync to come back.
        """
        promoted = self.promoted
        for run in recovery.discard_dead_runs(self.state, self.lease, self.row.run_id):
            if promoted is None or run.run_id != promoted.run_id:
                self._finish_dead_run(run)
        if promoted and (promoted.watermark < promoted.last_seq or promoted.status is RunStatus.RUNNING):
            self._finish_dead_run(promoted)
            self.promoted = replace(promoted, watermark=promoted.last_seq)

    def _finish_dead_run(self, run: Run) -> None:
        log.info("ending a run whose worker died", run_id=run.run_id)
        # Without the snapshot, of which its changes may be a view, its audience is filled anew or not touched at all.
        if run.watermark < run.last_seq and self._has_tables(run.changes_table, run.snapshot_table):
            changes = self._table(self.state.tables.changes, run.changes_table)
            outcome = deferred("interrupted", "the worker died before the answer to this was recorded", attempted=False)
            self._recorder(run, changes).defer_rest(run.last_seq, run.last_remove_seq, outcome)
        reason = f"the worker died; run {self.row.run_id} went on"
        self._record(run.run_id, status=RunStatus.FAILED, reason=reason, finished_at=self._now())

    def _has_tables(self, *names: str | None) -> bool:
        warehouse = self.job.warehouse
        with warehouse.connect("look for tables") as connection:
            return all(name is not None and warehouse.has_table(connection, name) for name in names)

    def take_snapshot(self) -> None:
        """The current snapshot is there: the query's members now, for a retry pass those that were promoted."""
        job = self.job
        job.events.publish(PhaseStarted(Phase.SNAPSHOT))
        self.current = self._table(self.state.tables.snapshot, self.row.snapshot_table)
        if self.wish.kind is RunKind.RETRY:
            recipe = self.promoted.recipe if self.promoted else None
            with job.warehouse.connect("look at the snapshot") as connection:
                self.rows = count_snapshot(connection, self.current)
        else:
            recipe = current_recipe(job)
            # Who asks for a full run may not trust what was made before.
            trusted = self.wish.kind is not RunKind.FULL
            with job.warehouse.connect("take the snapshot of the query") as connection:
                self.rows = take_snapshot(
                    job.warehouse,
                    connection,
                    job.model,
                    job.spelling,
                    SnapshotTables(self.current, self._gone(), number_members=self.previous is None),
                    recipe=recipe,
                    previous=Baseline(self.promoted, self.previous).of_recipe(recipe) if trusted else None,
                )
        job.events.publish(RowsRejected(self.rows.reasons))
        counts = {"query_rows": self.rows.rows, "members": self.rows.members, "rejected_rows": self.rows.rejected}
        self._record(phase=Phase.CHANGES, recipe=recipe, **counts)

    def work_out_changes(self) -> None:
        """The operations of this run are on disk, in sending order."""
        job = self.job
        job.events.publish(PhaseStarted(Phase.CHANGES))
        self.changes = self._table(self.state.tables.changes, self.row.changes_table)
        wish = self.wish
        if wish.kind is RunKind.RETRY:
            self.previous = self.current
        basis = Comparison(
            self.current,
            self.previous,
            self.promoted,
            self.rows,
            self._gone(),
            full=self.everyone,
            include_dead=wish.dead,
            due_only=wish.due_only,
        )
        with job.warehouse.connect("work out the changes") as connection:
            self.counts = make_changes(
                job.warehouse, connection, self.state.tables, job.model.fields, basis, self.changes
            )
        counts = self.counts
        self._record(
            phase=Phase.GUARD, planned_add=counts.adds, planned_remove=counts.removes, last_seq=counts.last_seq
        )
        log.info("changes", members=self.rows.members, rejected=self.rows.rejected, **asdict(counts))
        if self.rows.reasons:
            log.info("rejected rows and left-out values", **self.rows.reasons)

    def objection(self) -> str | None:
        """What the guard says against this run, unless it is forced."""
        self.job.events.publish(PhaseStarted(Phase.GUARD))
        if self.wish.kind is RunKind.RETRY:
            return None  # Its operations have passed the guard in the run that planned them.
        had = self.promoted.members if self.promoted else 0
        found = self.job.guard.check(
            previous_members=had, current_members=self.rows.members, removed_members=self.counts.removed_members
        )
        if found and self.wish.force:
            # Not the objection itself: it says that nothing was sent.
            log.warning(
                "guard passed by force", members=self.rows.members, before=had, left=self.counts.removed_members
            )
            return None
        return found

    def ensure_audience(self) -> None:
        """The audience exists and can be written to."""
        if self.standing.audience is not None:
            self.audience = self.standing.audience
            return
        self.job.events.publish(PhaseStarted(Phase.AUDIENCE))
        note = "creating the audience; the destination wants it left alone for a few seconds"
        self.job.events.publish(NoteAdded(note))
        spec = self.job.spec(syncs.installation_id(self.state), self.standing.generation)
        try:
            self.audience = self.job.destination.create(spec, self.lease)
        except DestinationUnavailable:
            self.lease.require()  # Without it nothing is sent, and that is what has happened then.
            raise

    def promote(self) -> None:
        """The commit point. Before it nothing has happened; behind it everything that must be sent is on disk.

        From here on a wish to stop is heeded by ending well, not by breaking off.
        """
        self.stop.shield()
        self.job.events.publish(PhaseStarted(Phase.PROMOTE))
        key, run_id, held = self.job.key, self.row.run_id, self.counts.held
        keeps_log = self._keeps_log()
        with self.state.fenced(key, self.lease.token, "promote the run") as connection:
            if held:
                retry_queue.add_held(self.state, connection, key, run_id, self.changes, held)
            if held and keeps_log:
                sync_log.add_held(self.state, connection, key, run_id, self.changes, held)
            if keeps_log and self.wish.kind is not RunKind.RETRY:
                rejected = self.rows.rejected
                sync_log.add_rejected_rows(self.state, connection, key, run_id, self.current, self.previous, rejected)
            self._commit(connection, held)
        self.is_promoted = True
        self.job.events.publish(RunPromoted(self.wish.kind, self.rows.members))
        self.row = replace(self.row, watermark=held, last_seq=self.counts.last_seq)

    def _commit(self, connection: sa.Connection, held: int) -> None:
        generation = self.standing.generation
        runs.promote(
            self.state, self.lease, connection, self.row.run_id, self.audience, watermark=held, generation=generation
        )

    def deliver(self) -> None:
        """REMOVEs, a barrier, ADDs; everything is accounted for and on disk afterwards.

        Raises the error that ended the run, when one did; what was not sent then waits in the retry queue.
        """
        counts = self.counts
        removes_until, last = counts.held + counts.removes, counts.last_seq
        recorder = self.recorder = self._recorder(self.row, self.changes)
        delivery = Delivery(self.job.destination, self.audience, self.lease)
        try:
            for kind, after, until in (
                (OperationKind.REMOVE, counts.held, removes_until),
                (OperationKind.ADD, removes_until, last),
            ):
                if after < until and not delivery.is_stopped:
                    self._send(delivery, recorder, kind, after, until)
        except LeaseLost:
            raise
        except StopRun as error:
            recorder.defer_rest(last, removes_until, deferred("stopped", str(error)))
            raise
        if self.stop.requested and (recorder.last_taken < last or recorder.tally.not_attempted):
            self.ended_early = f"stopped by {self.stop.reason}"
            never_left = deferred("stopped", "the worker was stopped before this was sent", attempted=False)
            recorder.defer_rest(last, removes_until, never_left)
        elif delivery.outage:
            self.ended_early = f"the destination takes nothing at the moment: {delivery.outage.message}"
            recorder.defer_rest(last, removes_until, delivery.outage)
        recorder.flush()

    def _send(self, delivery: Delivery, recorder: Recorder, kind: OperationKind, after: int, until: int) -> None:
        job = self.job
        phase = Phase.REMOVE if kind is OperationKind.REMOVE else Phase.ADD
        job.events.publish(PhaseStarted(phase, until - after))
        size = job.destination.batch_size
        element = job.destination.element(self.audience.type, kind)
        with closing(batches(job.warehouse, self.changes, element, kind, after, until, size)) as work:
            for batch, outcomes in delivery.deliver(work):
                recorder.take(batch, outcomes)
                job.events.publish(MembersProcessed(len(batch)))

    def _gone(self) -> sa.TableClause:
        return self._table(self.state.tables.snapshot, self.row.not_reused_table)

    def _table(self, shape: Callable[..., sa.TableClause], name: str | None) -> sa.TableClause:
        if name is None:
            raise AssertionError("a run that goes on has its tables")
        return shape(name, self.job.model.fields.names)
