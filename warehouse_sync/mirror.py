"""The steps of a run: each one hands its work to a stage of the pipeline and records how far the run came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
import structlog

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import LeaseLost, StateDamaged, StopRun, WarehouseSyncError
from warehouse_sync.job import Job
from warehouse_sync.operations import OperationCounts, OperationKind, RunKind, RunReport, RunStatus, deferred
from warehouse_sync.pipeline import housekeeping
from warehouse_sync.pipeline.changes import Basis, ChangeCounts, make_changes
from warehouse_sync.pipeline.delivery import Delivery, batches
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.pipeline.snapshot import SnapshotCounts, count_snapshot, take_snapshot
from warehouse_sync.progress import Phase
from warehouse_sync.state import retry_queue, runs, sync_log, syncs
from warehouse_sync.state.runs import Run
from warehouse_sync.state.syncs import Lease

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a run.

    force: pass the guard. dead: send dead operations too. due_only: hold back waiting ones whose time has not come.
    """

    kind: RunKind = RunKind.DIFF
    force: bool = False
    dead: bool = False
    due_only: bool = False
    trigger: str = "library"


class Mirror:
    """One run under its lease; run.mirror() calls the steps in their order.

    promoted: the run whose snapshot the audience holds once pending work is done; None for a new audience.
    """

    audience: Audience
    current: sa.TableClause
    previous: sa.TableClause | None
    changes: sa.TableClause

    def __init__(self, job: Job, lease: Lease, wish: Wish) -> None:
        self.job = job
        self.lease = lease
        self.wish = wish
        self.state = job.state
        standing = job.standing()
        self.found = standing.audience
        self.promoted = standing.promoted
        if standing.left:
            log.warning("going over to another audience; what this sync put into the old one stays", old=standing.left)
        if standing.expired and wish.kind is RunKind.DIFF:
            log.warning("the audience has expired, its data is gone: every member is sent again")
            self.wish = replace(wish, kind=RunKind.FULL)
        self.rows = SnapshotCounts()
        self.counts = ChangeCounts()
        self.recorder: Recorder | None = None
        self.ended_early: str | None = None

    def begin(self) -> None:
        """The run has a number and a row."""
        previous = self.promoted.run_id if self.promoted else None
        fingerprint = self.job.sync.fingerprint()
        run = runs.begin(self.state, self.lease, self.wish.kind, self.wish.trigger, fingerprint, previous)
        structlog.contextvars.bind_contextvars(run=run.run_id)
        log.info("run begun", kind=self.wish.kind.value)
        if self.wish.kind is RunKind.RETRY:
            run = replace(run, snapshot_table=self.promoted.snapshot_table if self.promoted else None)
            runs.update(self.state, self.lease, run.run_id, snapshot_table=run.snapshot_table)
        self.row = run

    def finish_dead_runs(self) -> None:
        """What a dead worker promoted but did not send is in the retry queue; what it did not promote is dropped."""
        promoted = self.promoted
        if promoted and promoted.watermark < promoted.last_seq:
            changes = self._table(self.state.tables.changes, promoted.changes_table)
            outcome = deferred("interrupted", "the worker stopped before this was sent")
            self._recorder(promoted, changes).defer_rest(promoted.last_seq, promoted.removes_until, outcome)
            self.promoted = replace(promoted, watermark=promoted.last_seq)
        if promoted and promoted.status is RunStatus.RUNNING:
            reason = f"the worker died; run {self.row.run_id} went on"
            self._record(promoted.run_id, status=RunStatus.FAILED, reason=reason, finished_at=self._now())
        housekeeping.discard_dead_runs(self.state, self.lease, promoted, self.row.run_id)

    def take_snapshot(self) -> None:
        """The current snapshot is there: the query's members now, for a retry pass those that were promoted."""
        job, retry = self.job, self.wish.kind is RunKind.RETRY
        job.progress.begin(Phase.SNAPSHOT)
        if retry and self.promoted is None:
            raise StopRun(f"sync {job.sync.name} has not run yet, so nothing waits to be sent again. Run it first.")
        self.current = self._table(self.state.tables.snapshot, self.row.snapshot_table)
        with job.warehouse.connect("take the snapshot of the query") as connection:
            if retry:
                self.rows = count_snapshot(connection, self.current)
            else:
                self.rows = take_snapshot(job.warehouse, connection, job.model, job.spelling, self.current)
        counts = {"query_rows": self.rows.rows, "members": self.rows.members, "rejected_rows": self.rows.rejected}
        self._record(phase=Phase.CHANGES, **counts)

    def work_out_changes(self) -> None:
        """The operations of this run are on disk, in sending order."""
        job = self.job
        job.progress.begin(Phase.CHANGES)
        self.changes = self._table(self.state.tables.changes, self.row.changes_table)
        if self.promoted:
            self._table(self.state.tables.changes, self.promoted.changes_table)
        if self.wish.kind is RunKind.RETRY:
            self.previous = self.current
        elif self.promoted:
            self.previous = self._table(self.state.tables.snapshot, self.promoted.snapshot_table)
        else:
            self.previous = None
        wish = self.wish
        basis = Basis(
            self.current,
            self.previous,
            self.promoted,
            full=wish.kind is RunKind.FULL,
            dead=wish.dead,
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
        self.job.progress.begin(Phase.GUARD)
        if self.wish.kind is RunKind.RETRY:
            return None  # Its operations have passed the guard in the run that planned them.
        had = self.promoted.members if self.promoted else 0
        found = self.job.guard.objection(had=had, has=self.rows.members, leaving=self.counts.left)
        if found and self.wish.force:
            log.warning("guard passed by force", objection=found)
            return None
        return found

    def blocked(self, objection: str) -> RunReport:
        """The run ends here; its tables are gone, what was pending stays pending."""
        log.warning("blocked by the guard", reason=objection)
        housekeeping.discard(self.state, self.lease, self.row, self.promoted)
        self._record(status=RunStatus.BLOCKED, reason=objection, finished_at=self._now())
        return self._report(RunStatus.BLOCKED, objection)

    def ensure_audience(self) -> None:
        """The audience exists and can be written to."""
        if self.found is not None:
            self.audience = self.found
            return
        self.job.progress.begin(Phase.AUDIENCE)
        self.job.progress.note("creating the audience; the destination wants it left alone for a few seconds")
        self.audience = self.job.destination.create(self.job.spec(syncs.installation_id(self.state)))

    def promote(self) -> None:
        """The commit point. Before it nothing has happened; behind it everything that must be sent is on disk."""
        self.job.progress.begin(Phase.PROMOTE)
        key, run_id, held = self.job.key, self.row.run_id, self.counts.held
        keeps_log = self._keeps_log()
        with self.state.fenced(key, self.lease.token, "promote the run") as connection:
            if held:
                retry_queue.carry_along(self.state, connection, key, run_id, self.changes, held)
            if held and keeps_log:
                sync_log.add_held(self.state, connection, key, run_id, self.changes, held)
            if keeps_log and self.wish.kind is not RunKind.RETRY:
                sync_log.add_rejected_rows(self.state, connection, key, run_id, self.current, self.previous)
            runs.promote(self.state, self.lease, connection, run_id, self.audience, watermark=held)
        self.row = replace(self.row, watermark=held, last_seq=self.counts.last_seq)

    def deliver(self) -> None:
        """REMOVEs, a barrier, ADDs; everything is accounted for and on disk afterwards.

        Raises the error that ended the run, when one did; what was not sent then waits in the retry queue.
        """
        counts = self.counts
        removes_until, last = counts.held + counts.removes, counts.last_seq
        recorder = self.recorder = self._recorder(self.row, self.changes)
        self.job.destination.stopping = self.lease.ending
        delivery = Delivery(self.job.destination, self.audience, self.lease)
        try:
            for kind, after, until in (
                (OperationKind.REMOVE, counts.held, removes_until),
                (OperationKind.ADD, removes_until, last),
            ):
                if after < until and delivery.given_up is None:
                    self._send(delivery, recorder, kind, after, until)
        except LeaseLost:
            raise
        except StopRun as error:
            recorder.defer_rest(last, removes_until, deferred("stopped", str(error)))
            raise
        if delivery.given_up:
            self.ended_early = f"the destination takes nothing at the moment: {delivery.given_up.message}"
            recorder.defer_rest(last, removes_until, delivery.given_up)
        recorder.flush()

    def _send(self, delivery: Delivery, recorder: Recorder, kind: OperationKind, after: int, until: int) -> None:
        job = self.job
        job.progress.begin(Phase.REMOVE if kind is OperationKind.REMOVE else Phase.ADD, until - after)
        with job.warehouse.connect("read the changes") as connection:
            size = job.destination.batch_size
            work = batches(connection, self.changes, job.model.fields, kind, after, until, size)
            for batch, outcomes in delivery.deliver(work):
                recorder.take(batch, outcomes)
                job.progress.advance(len(batch))

    def finish(self) -> RunReport:
        """Counts, status and retention; the report of a run that came to its end."""
        self.job.progress.begin(Phase.FINISH)
        self._record(phase=Phase.FINISH)
        retention = self.job.sync.retention
        housekeeping.retire(
            self.state,
            self.lease,
            self.row,
            self.audience.id,
            snapshots=retention.snapshots,
            sync_log_days=retention.sync_log_days,
        )
        waiting, dead = self._queue()
        status = RunStatus.INCOMPLETE if waiting + dead else RunStatus.SUCCEEDED
        reason = self.ended_early or self._what_waits(waiting, dead)
        self._record(status=status, reason=reason, deferred=waiting, dead=dead, finished_at=self._now())
        report = self._report(status, reason, waiting, dead)
        log.info("run ended", status=status.value, delivered=asdict(report.delivered), deferred=waiting, dead=dead)
        return report

    def failed(self, error: BaseException) -> None:
        """The run's row says why it failed, unless another worker owns the sync by now."""
        known = isinstance(error, WarehouseSyncError)
        reason = str(error) if known else f"the worker was stopped by {type(error).__name__}"
        log.error("run failed", reason=reason)
        waiting = dead = 0
        if not isinstance(error, LeaseLost):
            try:
                waiting, dead = self._record_failure(reason)
            except WarehouseSyncError as another:
                log.warning("the failure could not be recorded; the next run sees to it", error=str(another))
        if isinstance(error, WarehouseSyncError):
            error.report = self._report(RunStatus.FAILED, reason, waiting, dead)

    def _record_failure(self, reason: str) -> tuple[int, int]:
        promoted = syncs.read(self.state, self.job.key).promoted_run == self.row.run_id
        if not promoted:
            housekeeping.discard(self.state, self.lease, self.row, self.promoted)
        elif self.recorder is None or self.recorder.watermark < self.counts.last_seq:
            return 0, 0  # The row stays open: the next run puts what was not sent into the retry queue.
        waiting, dead = self._queue() if promoted else (0, 0)
        self._record(status=RunStatus.FAILED, reason=reason, deferred=waiting, dead=dead, finished_at=self._now())
        return waiting, dead

    def _report(self, status: RunStatus, reason: str | None, waiting: int = 0, dead: int = 0) -> RunReport:
        tally = self.recorder.tally if self.recorder else None
        return RunReport(
            sync=self.job.sync.name,
            status=status,
            run_id=self.row.run_id,
            reason=reason,
            rows=self.rows.rows,
            members=self.rows.members,
            rejected=self.rows.rejected + (tally.rejected if tally else 0),
            planned=self.counts.planned,
            delivered=tally.delivered if tally else OperationCounts(),
            deferred=waiting,
            dead=dead,
        )

    def _what_waits(self, waiting: int, dead: int) -> str | None:
        parts = [f"{waiting:,} operations wait in the retry queue"] if waiting else []
        if dead:
            parts.append(f"{dead:,} are dead: see `log {self.job.sync.name} --failed`, send with `retry --dead`")
        return "; ".join(parts) or None

    def _queue(self) -> tuple[int, int]:
        with self.job.warehouse.connect("count the retry queue") as connection:
            return retry_queue.count(self.state, connection, self.job.key, self.row.run_id)

    def _recorder(self, run: Run, changes: sa.TableClause) -> Recorder:
        return Recorder(
            self.state,
            self.lease,
            run.run_id,
            changes,
            self.job.retry_policy,
            watermark=run.watermark,
            keeps_log=self._keeps_log(),
        )

    def _keeps_log(self) -> bool:
        return self.job.sync.retention.sync_log_days > 0

    def _table(self, shape: Callable[..., sa.TableClause], name: str | None) -> sa.TableClause:
        if name is None:
            raise StateDamaged(
                f"sync {self.job.sync.name}: a table of the promoted run is gone from schema "
                f"{self.job.warehouse.schema}. Nothing was sent; restore the schema from a backup."
            )
        return shape(name, self.job.model.fields.names)

    def _record(self, run_id: int | None = None, **values: Any) -> None:
        runs.update(self.state, self.lease, run_id or self.row.run_id, **values)

    def _now(self) -> sa.ColumnElement[Any]:
        return self.job.warehouse.utc_now()
