"""One run under its lease: its row, its numbers, and every way in which it ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import LeaseLost, WarehouseSyncError
from warehouse_sync.job import Job
from warehouse_sync.operations import OperationCounts, RunKind, RunReport, RunStatus
from warehouse_sync.pipeline import housekeeping
from warehouse_sync.pipeline.changes import ChangeCounts
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.pipeline.snapshot import SnapshotCounts
from warehouse_sync.progress import Phase
from warehouse_sync.state import retry_queue, runs
from warehouse_sync.state.runs import Run
from warehouse_sync.state.syncs import Lease
from warehouse_sync.stopping import Stop

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a run.

    force: pass the guard. dead: send dead operations too. due_only: hold back waiting ones whose time has not come.
    recreate: fill a fresh audience instead of the sync's own.
    """

    kind: RunKind = RunKind.DIFF
    force: bool = False
    dead: bool = False
    due_only: bool = False
    recreate: bool = False
    trigger: str = "library"


class LeasedRun:
    """What a run knows of itself. The steps that fill it in are those of mirror.Mirror.

    promoted: the run whose snapshot the audience holds once pending work is done; None for one that holds nobody of
    ours. is_promoted: the commit point lies behind this run. ended_early: why not everything was sent.
    """

    row: Run
    audience: Audience
    promoted: Run | None

    def __init__(self, job: Job, lease: Lease, wish: Wish, stop: Stop) -> None:
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
        self.stop.draining = True
        log.warning("blocked by the guard", reason=objection)
        housekeeping.discard(self.state, self.lease, self.row)
        self._record(status=RunStatus.BLOCKED, reason=objection, finished_at=self._now())
        return self._report(RunStatus.BLOCKED, objection)

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
        reason = "; ".join(part for part in (self.ended_early, self._what_waits(waiting, dead)) if part) or None
        self._record(status=status, reason=reason, deferred=waiting, dead=dead, finished_at=self._now())
        report = self._report(status, reason, waiting, dead)
        log.info("run ended", status=status.value, delivered=asdict(report.delivered), deferred=waiting, dead=dead)
        return report

    def broken_off(self) -> RunReport:
        """The run ends before its commit point because a stop was wished; nothing has happened, its tables are gone."""
        reason = f"stopped by {self.stop.why} before anything was sent"
        log.warning("run broken off", reason=reason)
        housekeeping.discard(self.state, self.lease, self.row)
        self._record(status=RunStatus.INCOMPLETE, reason=reason, finished_at=self._now())
        return self._report(RunStatus.INCOMPLETE, reason)

    def failed(self, error: BaseException) -> None:
        """The run's row says why it failed, unless another worker owns the sync by now."""
        known = isinstance(error, WarehouseSyncError)
        reason = str(error) if known else f"the worker was stopped by {type(error).__name__}"
        log.error("run failed", reason=reason)
        waiting = dead = 0
        try:
            if not isinstance(error, LeaseLost):
                waiting, dead = self._record_failure(reason)
            elif not self.is_promoted:
                # Whoever took over has cleaned up behind this run, perhaps before its table was there.
                housekeeping.drop_rubbish(self.state, self.row)
        except WarehouseSyncError as another:
            log.warning("the failure could not be recorded; the next run sees to it", error=str(another))
        if isinstance(error, WarehouseSyncError):
            error.report = self._report(RunStatus.FAILED, reason, waiting, dead)

    def _record_failure(self, reason: str) -> tuple[int, int]:
        # An answer that was lost leaves open whether the promotion went through; the row knows.
        promoted = self.is_promoted or runs.load(self.state, self.row.run_id).promoted
        if not promoted:
            housekeeping.discard(self.state, self.lease, self.row)
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
        because = self.recorder.tally.deferred_because if self.recorder and not self.ended_early else ""
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
        self.job.progress.queued(self.wish.kind, waiting, dead)
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
            settled=self.job.progress.settled,
        )

    def _keeps_log(self) -> bool:
        return self.job.sync.retention.sync_log_days > 0

    def _record(self, run_id: int | None = None, **values: Any) -> None:
        runs.update(self.state, self.lease, run_id or self.row.run_id, **values)

    def _now(self) -> sa.ColumnElement[Any]:
        return self.job.warehouse.utc_now()
