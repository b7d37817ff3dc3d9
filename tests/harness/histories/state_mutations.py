"""Mutations: workers that store a wrong state, lose pending operations, or ignore other workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from harness.histories.injection import SimulatedFault
from harness.histories.mutation import mutation
from hypothesis import strategies as st

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.destinations.linkedin import destination as linkedin
from warehouse_sync.destinations.linkedin import elements as wire
from warehouse_sync.operations import Elements, OperationKind, OutcomeStatus, RunStatus
from warehouse_sync.pipeline import changes, cleanup, counts, members, pending, recording, reuse, snapshot
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.pipeline.members import PACKED, STALE
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.pipeline.selects import member_columns
from warehouse_sync.reports import RunReport
from warehouse_sync.run import recovery, steps
from warehouse_sync.run.baseline import Baseline
from warehouse_sync.run.record import ActiveRun, RunEnding
from warehouse_sync.state import retry_queue, sync_log
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.duckdb.dialect import DuckDBDialect

at_commits = st.builds(SimulatedFault, kind=st.just("crash"), place=st.just("commit"), nth=st.integers(5, 16))
"""Crashes between two commits."""

DEFERRING = ("503:users:times=0", "503:users:times=0:action=REMOVE", "503:users:times=0:action=ADD")
"""Faults that leave operations for later runs."""

# --- the order of commits


@mutation(
    "The watermark moves in a separate transaction, before the outcomes are written.",
    "run_with_worker_fault",
    worker_faults=at_commits,
)
def watermark_first(patch: pytest.MonkeyPatch) -> None:
    def flush(self: Recorder) -> None:
        unrecorded, last = self._open, self._open.last
        if last > self.watermark:
            with self.state.fenced(self.lease.key, self.lease.token, "move the watermark") as connection:
                self._move_watermark(connection, last)
            with self.state.fenced(self.lease.key, self.lease.token, "record outcomes") as connection:
                self._write(connection, unrecorded)
            self.watermark = last
            self._open = recording._Unrecorded(last)
        self._written = time.monotonic()

    patch.setattr(Recorder, "flush", flush)


@mutation("A run is promoted after it has delivered.", "run", "run_with_worker_fault")
def promote_last(patch: pytest.MonkeyPatch) -> None:
    promote, finished = steps.promote, RunEnding.finished
    deferred: list[Callable[[], Run]] = []

    def defer_promotion(active: ActiveRun, *values: Any) -> Run:
        deferred.append(lambda: promote(active, *values))
        changes = values[3]
        return replace(active.row, watermark=changes.counts.held, last_seq=changes.counts.last_seq)

    def promote_and_finish(self: RunEnding, *values: Any) -> RunReport:
        deferred.pop()()
        return finished(self, *values)

    patch.setattr(steps, "promote", defer_promotion)
    patch.setattr(RunEnding, "finished", promote_and_finish)


@mutation("A run is promoted before its changes are on disk.", "run_with_worker_fault", "run", worker_faults=at_commits)
def promote_before_changes(patch: pytest.MonkeyPatch) -> None:
    promote, compute, verify = steps.promote, steps.compute_changes, steps.verify
    targets: list[Any] = []

    def keep_target(active: ActiveRun, target: Any) -> Baseline:
        targets.append(target)
        return verify(active, target)

    def promote_and_compute(active: ActiveRun, baseline: Baseline, snapshot: Any, tables: Any) -> Any:
        target = targets.pop()
        nothing = steps.Changes(tables.changes, counts.ChangeCounts())
        promote(active, target, baseline, snapshot, nothing, steps.ensure_audience(active, target))
        return compute(active, baseline, snapshot, tables)

    def skip_promotion(active: ActiveRun, *values: Any) -> Run:
        changes = values[3]
        return replace(active.row, last_seq=changes.counts.last_seq)

    patch.setattr(steps, "verify", keep_target)
    patch.setattr(steps, "compute_changes", promote_and_compute)
    patch.setattr(steps, "promote", skip_promotion)


@mutation(
    "Operations that a dead worker promoted and did not send count as sent.",
    "run_with_worker_fault",
    worker_faults=at_commits,
)
def skip_unsent_operations(patch: pytest.MonkeyPatch) -> None:
    recover = recovery.recover_dead_runs

    def recover_nothing(active: ActiveRun, baseline: Baseline) -> Baseline:
        if baseline.promoted:
            sent = replace(baseline.promoted, watermark=baseline.promoted.last_seq)
            baseline = replace(baseline, promoted=sent)
        return recover(active, baseline)

    patch.setattr(recovery, "recover_dead_runs", recover_nothing)


@mutation("A run drops the retry queue of the previous run.", "run_with_faults", "run", faults=DEFERRING)
def drop_retry_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "pending_operations", lambda *_: None)


@mutation(
    "The changes that the retry queue points to are dropped when a run ends.",
    "run_with_faults",
    "run",
    faults=DEFERRING,
)
def drop_pending_changes(patch: pytest.MonkeyPatch) -> None:
    apply_retention = cleanup.apply_retention

    def drop_changes_too(state: State, lease: Lease, row: Run, *rest: Any, **options: Any) -> None:
        apply_retention(state, lease, row, *rest, **options)
        cleanup.drop_tables(state, lease, row, [row.changes_table])

    patch.setattr(cleanup, "apply_retention", drop_changes_too)


@mutation("Rejected and deferred outcomes are missing from the sync log.", "run_with_faults", "run", faults=DEFERRING)
def log_only_success(patch: pytest.MonkeyPatch) -> None:
    add = sync_log.add_operations

    def add_delivered(*arguments: Any) -> None:
        if arguments[-1].status is OutcomeStatus.DELIVERED:
            add(*arguments)

    patch.setattr(sync_log, "add_operations", add_delivered)


# --- pending operations and members


def _skip_pending_check(patch: pytest.MonkeyPatch, kind: OperationKind) -> None:
    pending_operations = pending.pending_operations

    def skip_check(*arguments: Any) -> sa.CTE | None:
        checked = pending_operations(*arguments)
        if checked is None:
            return None
        select: Any = checked.element
        (source,) = select.get_final_froms()
        everything = sa.or_(select.whereclause, source.c.operation == kind)
        return sa.select(*select.selected_columns).where(everything).cte("pending")

    patch.setattr(changes, "pending_operations", skip_check)


@mutation(
    "An ADD that waits is sent although its member has left the query.", "run_with_faults", "run", faults=DEFERRING
)
def send_stale_adds(patch: pytest.MonkeyPatch) -> None:
    _skip_pending_check(patch, OperationKind.ADD)


@mutation("A REMOVE that waits is sent although its member is back.", "run_with_faults", "run", faults=DEFERRING)
def send_stale_removes(patch: pytest.MonkeyPatch) -> None:
    _skip_pending_check(patch, OperationKind.REMOVE)


@mutation("Rows are compared by their primary key: a changed address stays targeted.", "run")
def remove_by_primary_key(patch: pytest.MonkeyPatch) -> None:
    def compare_primary_keys(names: Sequence[str], comparison: Comparison) -> sa.Select[Any] | None:
        if comparison.previous is None or comparison.is_retry:
            return None
        previous, current = comparison.previous, comparison.current
        members = sa.select(*member_columns(names, previous)).where(previous.c.reason.is_(None))
        return members.where(~sa.exists().where(current.c.primary_key == previous.c.primary_key))

    patch.setattr(changes, "_removed_members", compare_primary_keys)


@mutation("Rows are recognised by their key alone, so a changed row is reused as if it had not changed.", "run")
def recognise_by_key(patch: pytest.MonkeyPatch) -> None:
    row_hash = DuckDBDialect.row_hash
    patch.setattr(DuckDBDialect, "row_hash", lambda self, salt, texts: row_hash(self, salt, texts[:1]))


@mutation("A snapshot reuses all members of the previous one, also those that left the query.", "run")
def reuse_removed_members(patch: pytest.MonkeyPatch) -> None:
    staged_select = members.staged_select

    def stage_all(*arguments: Any) -> sa.Select[Any]:
        rows = staged_select(*arguments).subquery()
        return sa.select(sa.cast(sa.null(), sa.BigInteger).label(STALE), rows.c[PACKED])

    patch.setattr(reuse, "staged_select", stage_all)


@mutation("Every member counts as reused, so no member seems to have left if as many joined.", "run")
def count_all_as_reused(patch: pytest.MonkeyPatch) -> None:
    count_snapshot = counts.count_snapshot

    def count_all_reused(*arguments: Any, **options: Any) -> SnapshotCounts:
        counts = count_snapshot(*arguments, **options)
        return replace(counts, reused=counts.members)

    patch.setattr(snapshot, "count_snapshot", count_all_reused)


@mutation("Reused members count as removed, unless a new row of theirs exists.", "run")
def remove_reused_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Comparison, "unmatched_previous", property(lambda comparison: comparison.previous))


@mutation("A member whose fields have changed is not sent again.", "run")
def ignore_new_fields(patch: pytest.MonkeyPatch) -> None:
    added_members = changes._added_members

    def compare_identities(names: Sequence[str], comparison: Comparison) -> sa.Select[Any] | None:
        found = added_members(names, comparison)
        if found is None or comparison.full or comparison.previous is None:
            return found
        known = sa.exists().where(comparison.previous.c.identity == comparison.current.c.identity)
        return found.where(~known)

    patch.setattr(changes, "_added_members", compare_identities)


@mutation("A REMOVE names only the first identifier of its member.", "run")
def remove_first_identifier(patch: pytest.MonkeyPatch) -> None:
    build = wire.build_body

    def build_shortened(elements: Elements, positions: Sequence[int]) -> bytes:
        body = orjson.loads(bytes(build(elements, positions)))
        for element in body["elements"]:
            if element["action"] == "REMOVE":
                element["userIds"] = element["userIds"][:1]
        return orjson.dumps(body)

    patch.setattr(linkedin, "build_body", build_shortened)


@mutation("A REMOVE that is refused permanently is not kept in the retry queue.", "run_with_refusals", "run")
def drop_rejected_removes(patch: pytest.MonkeyPatch) -> None:
    add = retry_queue.add_operations

    def add_unless_rejected(*arguments: Any, **options: Any) -> None:
        if arguments[6].status is not OutcomeStatus.REJECTED:
            add(*arguments, **options)

    patch.setattr(retry_queue, "add_operations", add_unless_rejected)


# --- two workers


@mutation("A worker writes although another worker has taken over.", "overlap_runs")
def no_fence(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def write_unfenced(self: State, key: SyncKey, token: int, doing: str) -> Iterator[sa.Connection]:
        with self.warehouse.write(doing) as connection:
            yield connection

    patch.setattr(State, "fenced", write_unfenced)


@mutation("A worker sends without checking its lease.", "overlap_runs")
def send_without_the_lease(patch: pytest.MonkeyPatch) -> None:
    # All checks are removed: each one alone prevents almost everything that the others prevent. The heartbeat ends a
    # wait too, once it has found that the lease is lost, and how soon it finds that depends on the machine.
    def wait(self: Lease, seconds: float) -> bool:
        time.sleep(seconds)
        return self.stop.requested

    patch.setattr(Lease, "wait", wait)
    patch.setattr(Lease, "permits_request", lambda self: True)
    patch.setattr(Lease, "is_valid", lambda self: True)


@mutation("The lease is taken although another worker holds it.", "overlap_runs")
def take_any_lease(patch: pytest.MonkeyPatch) -> None:
    take = Lease.take

    def take_from_holder(state: State, key: SyncKey, stop: CancelToken | None = None) -> Lease | None:
        with state.warehouse.write("break the lease") as connection:
            syncs = state.tables.syncs
            connection.execute(sa.update(syncs).where(key.match(syncs)).values(lease_holder=None))
        return take(state, key, stop)

    patch.setattr(Lease, "take", take_from_holder)


# --- the report


@mutation("A run that did not deliver everything reports success.", "run_with_faults", "run", faults=DEFERRING)
def report_success(patch: pytest.MonkeyPatch) -> None:
    finished = RunEnding.finished

    def finish_as_succeeded(self: RunEnding, *values: Any) -> RunReport:
        report = finished(self, *values)
        return replace(report, status=RunStatus.SUCCEEDED)

    patch.setattr(RunEnding, "finished", finish_as_succeeded)
