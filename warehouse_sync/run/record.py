"""The record of a run: its row in the state tables from its beginning to its end, whichever way it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from warehouse_sync.errors import LeaseLost, TryLater, WarehouseSyncError
from warehouse_sync.events import OperationsEnded, Phase, PhaseStarted, RetryQueueCounted
from warehouse_sync.operations import OperationCounts, RunKind, RunStatus
from warehouse_sync.pipeline import cleanup
from warehouse_sync.pipeline.counts import ChangeCounts, SnapshotCounts
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.reports import RunReport
from warehouse_sync.run.baseline import TargetState
from warehouse_sync.run.context import RunContext
from warehouse_sync.state import retry_queue, runs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is asked of a run.

    Attributes:
        kind: What it sends.
        force: Pass the guard.
        include_dead: Send dead operations too.
        due_only: Hold back waiting operations whose time has not come.
        recreate: Fill a new audience instead of the sync's own.
        trigger: Who asked for it: manual, schedule or library.
        tick: The time of the schedule that it is run for.
    """

    kind: RunKind = RunKind.DIFF
    force: bool = False
    include_dead: bool = False
    due_only: bool = False
    recreate: bool = False
    trigger: str = "library"
    tick: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run under way.

    Attributes:
        context: The sync, opened and checked.
        lease: The lease of the sync.
        options: What is asked of the run.
        row: Its row, as it began.
    """

    context: RunContext
    lease: Lease
    options: RunOptions
    row: Run

    @property
    def state(self) -> State:
        """Return the state tables."""
        return self.context.state

    @property
    def kind(self) -> RunKind:
        """Return what is asked of the run; its row may say `full` where all members had to be sent."""
        return self.options.kind

    def update_row(self, **values: Any) -> None:
        """Write these values into the row of the run. Raises LeaseLost."""
        runs.update(self.state, self.lease, self.row.run_id, **values)


def begin(context: RunContext, lease: Lease, options: RunOptions, target: TargetState) -> ActiveRun:
    """Give the run a number and a row; from now on its destination asks the lease before it sends.

    Raises:
        LeaseLost: Another worker has taken over.
    """
    previous = target.promoted.run_id if target.promoted else None
    row = runs.begin(
        context.state, lease, options.kind, options.trigger, context.sync.fingerprint(), previous, options.tick
    )
    structlog.contextvars.bind_contextvars(run=row.run_id)
    context.warehouse.tag_session(context.sync.name, row.run_id)
    lease.log_with_current_context()
    tick = {} if options.tick is None else {"tick": options.tick.isoformat()}
    log.info("run started", kind=options.kind.value, **tick)
    if options.kind is not RunKind.RETRY:
        return ActiveRun(context, lease, options, row)
    # A retry pass has no snapshot of its own.
    shared = target.promoted.snapshot_table if target.promoted else None
    active = ActiveRun(context, lease, options, replace(row, snapshot_table=shared))
    active.update_row(snapshot_table=shared)
    return active


def make_recorder(active: ActiveRun, run: Run, changes: sa.TableClause) -> Recorder:
    """Return what records outcomes of `run`: of the run under way, or of one that it completes.

    Args:
        active: The run under way, whose lease fences every write.
        run: The run that planned the operations.
        changes: Its changes.
    """
    context = active.context
    return Recorder(
        active.state,
        active.lease,
        run.run_id,
        changes,
        context.retry_policy,
        watermark=run.watermark,
        keeps_log=context.keeps_log,
        settled=lambda *ended: context.events.publish(OperationsEnded(*ended)),
    )


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run has come, for its report.

    Attributes:
        snapshot: The numbers of its snapshot.
        changes: The numbers of its changes.
        recorder: What has recorded outcomes; None before the delivery.
        is_promoted: The run is promoted.
    """

    snapshot: SnapshotCounts = field(default_factory=SnapshotCounts)
    changes: ChangeCounts = field(default_factory=ChangeCounts)
    recorder: Recorder | None = None
    is_promoted: bool = False


class RunEnding:
    """Ends a run in one of its four ways, and holds its report afterwards."""

    def __init__(self, active: ActiveRun) -> None:
        self._active = active
        self._progress = RunProgress()
        self._report: RunReport | None = None

    @property
    def report(self) -> RunReport:
        """Return how the run ended."""
        if self._report is None:
            raise AssertionError("the run has not ended")
        return self._report

    def reached(self, progress: RunProgress) -> None:
        """Note how far the run has come, in place of what was noted before."""
        self._progress = progress

    def blocked(self, objection: str) -> RunReport:
        """End the run because of the guard: drop its tables; pending work stays pending."""
        active = self._active
        active.lease.stop.shielded = True
        log.warning("blocked by the guard", reason=objection)
        cleanup.drop_run_tables(active.state, active.lease, active.row)
        self._end(status=RunStatus.BLOCKED, reason=objection)
        return self._reported(RunStatus.BLOCKED, objection)

    def finished(self, row: Run, audience_id: str, ended_early: str | None) -> RunReport:
        """End a run that has delivered: apply retention, and record counts and status.

        Args:
            row: The row of the run, promoted.
            audience_id: The audience that it fed.
            ended_early: Why not everything was sent, if so.

        Raises:
            LeaseLost: Another worker has taken over.
        """
        active = self._active
        active.context.events.publish(PhaseStarted(Phase.FINISH))
        active.update_row(phase=Phase.FINISH)
        retention = active.context.sync.retention
        cleanup.apply_retention(
            active.state,
            active.lease,
            row,
            audience_id,
            snapshots=retention.snapshots,
            sync_log_days=retention.sync_log_days,
        )
        waiting, dead = self._count_queue()
        status = RunStatus.INCOMPLETE if waiting + dead else RunStatus.SUCCEEDED
        pending = self._describe_pending(waiting, dead, with_deferral=ended_early is None)
        reason = "; ".join(part for part in (ended_early, pending) if part) or None
        self._end(status=status, reason=reason, deferred=waiting, dead=dead)
        report = self._reported(status, reason, waiting, dead)
        log.info("run ended", status=status.value, delivered=asdict(report.delivered), deferred=waiting, dead=dead)
        return report

    def cancelled(self) -> RunReport:
        """End the run before it is promoted because a stop was requested: drop its tables; nothing has happened.

        Its tick is still to be run.
        """
        active = self._active
        reason = f"stopped by {active.lease.stop.reason} before anything was sent"
        log.warning("run cancelled", reason=reason)
        cleanup.drop_run_tables(active.state, active.lease, active.row)
        self._end(is_tick_done=False, status=RunStatus.INCOMPLETE, reason=reason)
        return self._reported(RunStatus.INCOMPLETE, reason)

    def failed(self, error: BaseException) -> None:
        """End the run because of an error: record it, unless another worker owns the sync now."""
        active = self._active
        known = isinstance(error, WarehouseSyncError)
        reason = str(error) if known else f"the worker was stopped by {type(error).__name__}"
        log.error("run failed", reason=reason)
        waiting = dead = 0
        try:
            if not isinstance(error, LeaseLost):
                waiting, dead = self._record_failure(reason, is_tick_done=not isinstance(error, TryLater))
            elif not self._progress.is_promoted:
                # The worker that took over has dropped the tables of this run, perhaps before they were there.
                cleanup.drop_unpromoted_tables(active.state, active.row)
        except WarehouseSyncError as another:
            log.warning("the failure could not be recorded; the next run handles it", error=str(another))
        report = self._reported(RunStatus.FAILED, reason, waiting, dead)
        if isinstance(error, WarehouseSyncError):
            error.report = report

    def _record_failure(self, reason: str, *, is_tick_done: bool) -> tuple[int, int]:
        active, progress = self._active, self._progress
        # When the answer to the promotion was lost, only the row knows whether it took place.
        promoted = progress.is_promoted or runs.load(active.state, active.row.run_id).promoted
        if not promoted:
            cleanup.drop_run_tables(active.state, active.lease, active.row)
        elif progress.recorder is None or progress.recorder.watermark < progress.changes.last_seq:
            return 0, 0  # The row stays open: the next run puts what was not sent into the retry queue.
        waiting, dead = self._count_queue() if promoted else (0, 0)
        is_tick_done = is_tick_done or promoted
        self._end(is_tick_done=is_tick_done, status=RunStatus.FAILED, reason=reason, deferred=waiting, dead=dead)
        return waiting, dead

    def _reported(self, status: RunStatus, reason: str | None, waiting: int = 0, dead: int = 0) -> RunReport:
        progress = self._progress
        tally = progress.recorder.tally if progress.recorder else None
        self._report = RunReport(
            sync=self._active.context.sync.name,
            status=status,
            run_id=self._active.row.run_id,
            reason=reason,
            rows=progress.snapshot.rows,
            members=progress.snapshot.members,
            rejected=progress.snapshot.rejected + (tally.rejected if tally else 0),
            planned=progress.changes.planned,
            delivered=tally.delivered if tally else OperationCounts(),
            deferred=waiting,
            dead=dead,
        )
        return self._report

    def _describe_pending(self, waiting: int, dead: int, *, with_deferral: bool) -> str | None:
        """Return what waits in the retry queue, for the operator; None when it is empty."""
        sync, recorder = self._active.context.sync, self._progress.recorder
        deferral = recorder.tally.last_deferral if recorder and with_deferral else ""
        parts: list[str] = []
        if waiting:
            parts.append(f"{waiting:,} operations wait in the retry queue" + (f" ({deferral})" if deferral else ""))
        if dead and not sync.retry.enabled:
            parts.append("retry.enabled is false, so what was not delivered is dead at once")
        if dead:
            parts.append(f"{dead:,} are dead: see `log {sync.name} --failed`, send with `retry --dead`")
        return "; ".join(parts) or None

    def _count_queue(self) -> tuple[int, int]:
        context, run_id = self._active.context, self._active.row.run_id
        with context.warehouse.connect("count the retry queue") as connection:
            waiting, dead = retry_queue.count(context.state, connection, context.key, run_id)
        context.events.publish(RetryQueueCounted(self._active.kind, waiting, dead))
        return waiting, dead

    def _end(self, *, is_tick_done: bool = True, **values: Any) -> None:
        """Record how the run ended. A tick that is not done comes up again."""
        active = self._active
        tick = active.options.tick if is_tick_done else None
        finished_at = active.context.warehouse.dialect.utc_now()
        runs.finish(active.state, active.lease, active.row.run_id, tick, finished_at=finished_at, **values)


@contextmanager
def ending(active: ActiveRun) -> Iterator[RunEnding]:
    """End the run with the block, whatever happens in it.

    The block itself ends a run that is blocked or has finished. Where a stop was requested before the run was promoted,
    it is cancelled, and the block ends without an error. Any other error is recorded and raised, with the report.
    """
    end, stop = RunEnding(active), active.lease.stop
    try:
        yield end
    except BaseException as error:
        # How the run ended is recorded whatever signal comes now.
        is_cancelled, stop.shielded = stop.may_interrupt, True
        if not is_cancelled:
            end.failed(error)
            raise
        end.cancelled()
