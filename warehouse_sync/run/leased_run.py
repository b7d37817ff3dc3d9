"""One run under its lease: its row, its numbers, and every way in which it ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import LeaseLost, TryLater, WarehouseSyncError
from warehouse_sync.events import OperationsEnded, Phase, PhaseStarted, RetryQueueCounted
from warehouse_sync.operations import OperationCounts, RunKind, RunStatus
from warehouse_sync.pipeline import cleanup
from warehouse_sync.pipeline.counts import ChangeCounts, SnapshotCounts
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.reports import RunReport
from warehouse_sync.run.context import RunContext
from warehouse_sync.state import retry_queue, runs, syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is asked of a run.

    force: pass the guard. dead: send dead operations too. due_only: hold back waiting ones whose time has not come.
    recreate: fill a fresh audience instead of the sync's own. tick: the time of the schedule that it is run for.
    """

    kind: RunKind = RunKind.DIFF
    force: bool = False
    dead: bool = False
    due_only: bool = False
    recreate: bool = False
    trigger: str = "library"
    tick: datetime | None = None


def reason_to_skip(job: RunContext, wish: RunOptions) -> str | None:
    """Why nothing is left to do for `wish`, asked under the lease; None for what somebody asked for by hand."""
    if wish.tick is None and not wish.due_only:
        return None
    outlook = syncs.schedule_state(job.state, job.key)
    if wish.tick is not None:
        return "this tick was run by another worker" if outlook.has_run(wish.tick) else None
    return None if outlook.retry_is_due else "nothing in the retry queue is due"


class LeasedRun:
    """What a run knows of itself. The steps that fill it in are those of mirror.Mirror.

    promoted: the run whose snapshot the audience holds once pending work is done; None for one that holds nobody of
    ours. is_promoted: the commit point lies behind this run. ended_early: why not everything was sent.
    """

    row: Run
    audience: Audience
    promoted: Run | None

    def __init__(self, job: RunContext, lease: Lease, wish: RunOptions, stop: CancelToken) -> None:
        self.job = job
        self.lease = lease
        self.wish = wish
        self.stop = stop
        self.state = job.state
        self.rows = SnapshotCounts()
        self.counts = ChangeCounts()
        self.recorder: Recorder | None = None
        self.is_promoted = False
        self.ended_early: str | None = None

    def blocked(self, objection: str) -> RunReport:
        """The run ends here; its tables are gone, what was pending stays pending."""
        self.stop.shielded = True
        log.warning("blocked by the guard", reason=objection)
        cleanup.drop_run_tables(self.state, self.lease, self.row)
        self._end(status=RunStatus.BLOCKED, reason=objection)
        return self._report(RunStatus.BLOCKED, objection)

    def finish(self) -> RunReport:
        """Counts, status and retention; the report of a run that came to its end."""
        self.job.events.publish(PhaseStarted(Phase.FINISH))
        self._record(phase=Phase.FINISH)
        retention = self.job.sync.retention
        cleanup.apply_retention(
            self.state,
            self.lease,
            self.row,
            self.audience.id,
            snapshots=retention.snapshots,
            sync_log_days=retention.sync_log_days,
        )
        waiting, dead = self._queue()
        status = RunStatus.INCOMPLETE if waiting + dead else RunStatus.SUCCEEDED
        reason = "; ".join(part for part in (self.ended_early, self._what_waits(waiting, dead)) if part) or None
        self._end(status=status, reason=reason, deferred=waiting, dead=dead)
        report = self._report(status, reason, waiting, dead)
        log.info("run ended", status=status.value, delivered=asdict(report.delivered), deferred=waiting, dead=dead)
        return report

    def broken_off(self) -> RunReport:
        """The run ends before its commit point because a stop was wished; nothing has happened, its tables are gone.

        Its tick is still to be run.
        """
        reason = f"stopped by {self.stop.reason} before anything was sent"
        log.warning("run broken off", reason=reason)
        cleanup.drop_run_tables(self.state, self.lease, self.row)
        self._end(ran=False, status=RunStatus.INCOMPLETE, reason=reason)
        return self._report(RunStatus.INCOMPLETE, reason)

    def failed(self, error: BaseException) -> None:
        """The run's row says why it failed, unless another worker owns the sync by now."""
        known = isinstance(error, WarehouseSyncError)
        reason = str(error) if known else f"the worker was stopped by {type(error).__name__}"
        log.error("run failed", reason=reason)
        waiting = dead = 0
        try:
            if not isinstance(error, LeaseLost):
                waiting, dead = self._record_failure(reason, ran=not isinstance(error, TryLater))
            elif not self.is_promoted:
                # Whoever took over has cleaned up behind this run, perhaps before its table was there.
                cleanup.drop_unpromoted_tables(self.state, self.row)
        except WarehouseSyncError as another:
            log.warning("the failure could not be recorded; the next run sees to it", error=str(another))
        if isinstance(error, WarehouseSyncError):
            error.report = self._report(RunStatus.FAILED, reason, waiting, dead)

    def _record_failure(self, reason: str, *, ran: bool) -> tuple[int, int]:
        # An answer that was lost leaves open whether the promotion went through; the row knows.
        promoted = self.is_promoted or runs.load(self.state, self.row.run_id).promoted
        if not promoted:
            cleanup.drop_run_tables(self.state, self.lease, self.row)
        elif self.recorder is None or self.recorder.watermark < self.counts.last_seq:
            return 0, 0  # The row stays open: the next run puts what was not sent into the retry queue.
        waiting, dead = self._queue() if promoted else (0, 0)
        self._end(ran=ran or promoted, status=RunStatus.FAILED, reason=reason, deferred=waiting, dead=dead)
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
        because = self.recorder.tally.last_deferral if self.recorder and not self.ended_early else ""
        parts = (
            [f"{waiting:,} operations wait in the retry queue" + (f" ({because})" if because else "")]
            if waiting
            else []
        )
        if dead and not self.job.sync.retry.enabled:
            parts.append("retry.enabled is false, so what was not delivered is dead at once")
        if dead:
            parts.append(f"{dead:,} are dead: see `log {self.job.sync.name} --failed`, send with `retry --dead`")
        return "; ".join(parts) or None

    def _queue(self) -> tuple[int, int]:
        with self.job.warehouse.connect("count the retry queue") as connection:
            waiting, dead = retry_queue.count(self.state, connection, self.job.key, self.row.run_id)
        self.job.events.publish(RetryQueueCounted(self.wish.kind, waiting, dead))
        return waiting, dead

    def _recorder(self, run: Run, changes: sa.TableClause) -> Recorder:
        return Recorder(
            self.state,
            self.lease,
            run.run_id,
            changes,
            self.job.retry_policy,
            watermark=run.watermark,
            keeps_log=self._keeps_log(),
            settled=lambda *ended: self.job.events.publish(OperationsEnded(*ended)),
        )

    def _keeps_log(self) -> bool:
        return self.job.sync.retention.sync_log_days > 0

    def _record(self, run_id: int | None = None, **values: Any) -> None:
        runs.update(self.state, self.lease, run_id or self.row.run_id, **values)

    def _end(self, *, ran: bool = True, **values: Any) -> None:
        """The row says how the run ended. ran: its tick is done with; otherwise it comes up again."""
        tick = self.wish.tick if ran else None
        runs.finish(self.state, self.lease, self.row.run_id, tick, finished_at=self._now(), **values)

    def _now(self) -> sa.ColumnElement[Any]:
        return self.job.warehouse.dialect.utc_now()
