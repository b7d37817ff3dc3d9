"""Workers that keep their state wrongly, forget what is pending, or do not heed each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from harness.histories.injection import Trouble
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

at_commits = st.builds(Trouble, kind=st.just("crash"), place=st.just("commit"), nth=st.integers(5, 16))
"""Crashes between one thing that is on disk and the next."""

DEFERRING = ("503:users:times=0", "503:users:times=0:action=REMOVE", "503:users:times=0:action=ADD")
"""Faults that leave work for later runs."""

# --- what is on disk when


@mutation(
    "The watermark moves in a transaction of its own, before the outcomes are written.",
    "run_in_trouble",
    troubles=at_commits,
)
def watermark_first(patch: pytest.MonkeyPatch) -> None:
    def flush(self: Recorder) -> None:
        piece, upto = self._open, self._open.last
        if upto > self.watermark:
            with self.state.fenced(self.lease.key, self.lease.token, "move the watermark") as connection:
                self._move_watermark(connection, upto)
            with self.state.fenced(self.lease.key, self.lease.token, "record outcomes") as connection:
                self._write(connection, piece)
            self.watermark = upto
            self._open = recording._Unrecorded(upto)
        self._written = time.monotonic()

    patch.setattr(Recorder, "flush", flush)


@mutation("A run is promoted when it has delivered.", "run", "run_in_trouble")
def promote_last(patch: pytest.MonkeyPatch) -> None:
    promote, finished = steps.promote, RunEnding.finished
    late: list[Callable[[], Run]] = []

    def not_yet(active: ActiveRun, *values: Any) -> Run:
        late.append(lambda: promote(active, *values))
        changes = values[3]
        return replace(active.row, watermark=changes.counts.held, last_seq=changes.counts.last_seq)

    def promoted_late(self: RunEnding, *values: Any) -> RunReport:
        late.pop()()
        return finished(self, *values)

    patch.setattr(steps, "promote", not_yet)
    patch.setattr(RunEnding, "finished", promoted_late)


@mutation("A run is promoted before its changes are on disk.", "run_in_trouble", "run", troubles=at_commits)
def promote_before_the_changes(patch: pytest.MonkeyPatch) -> None:
    promote, compute, verify = steps.promote, steps.compute_changes, steps.verify
    targets: list[Any] = []

    def noted(active: ActiveRun, target: Any) -> Baseline:
        targets.append(target)
        return verify(active, target)

    def promoted_early(active: ActiveRun, baseline: Baseline, snapshot: Any, tables: Any) -> Any:
        target = targets.pop()
        nothing = steps.Changes(tables.changes, counts.ChangeCounts())
        promote(active, target, baseline, snapshot, nothing, steps.ensure_audience(active, target))
        return compute(active, baseline, snapshot, tables)

    def again(active: ActiveRun, *values: Any) -> Run:
        changes = values[3]
        return replace(active.row, last_seq=changes.counts.last_seq)

    patch.setattr(steps, "verify", noted)
    patch.setattr(steps, "compute_changes", promoted_early)
    patch.setattr(steps, "promote", again)


@mutation("What a dead worker promoted and did not send counts as sent.", "run_in_trouble", troubles=at_commits)
def forget_the_tail(patch: pytest.MonkeyPatch) -> None:
    recover = recovery.recover_dead_runs

    def forgetful(active: ActiveRun, baseline: Baseline) -> Baseline:
        if baseline.promoted:
            sent = replace(baseline.promoted, watermark=baseline.promoted.last_seq)
            baseline = replace(baseline, promoted=sent)
        return recover(active, baseline)

    patch.setattr(recovery, "recover_dead_runs", forgetful)


@mutation(
    "The retry queue of the run before is dropped by the next one.", "run_against_faults", "run", faults=DEFERRING
)
def drop_the_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "pending_operations", lambda *_: None)


@mutation(
    "The changes that the retry queue points to are dropped when a run ends.",
    "run_against_faults",
    "run",
    faults=DEFERRING,
)
def drop_the_changes(patch: pytest.MonkeyPatch) -> None:
    retire = cleanup.apply_retention

    def dropping(state: State, lease: Lease, row: Run, *rest: Any, **more: Any) -> None:
        retire(state, lease, row, *rest, **more)
        cleanup.drop_tables(state, lease, row, [row.changes_table])

    patch.setattr(cleanup, "apply_retention", dropping)


@mutation(
    "Outcomes that are not delivered are left out of the sync log.", "run_against_faults", "run", faults=DEFERRING
)
def log_only_success(patch: pytest.MonkeyPatch) -> None:
    add = sync_log.add_operations

    def quiet(*arguments: Any) -> None:
        if arguments[-1].status is OutcomeStatus.DELIVERED:
            add(*arguments)

    patch.setattr(sync_log, "add_operations", quiet)


# --- what is pending, and whom it concerns


def _unchecked(patch: pytest.MonkeyPatch, kind: OperationKind) -> None:
    undelivered = pending.pending_operations

    def taken_over(*arguments: Any) -> sa.CTE | None:
        checked = undelivered(*arguments)
        if checked is None:
            return None
        select: Any = checked.element
        (left,) = select.get_final_froms()
        everything = sa.or_(select.whereclause, left.c.operation == kind)
        return sa.select(*select.selected_columns).where(everything).cte("pending")

    patch.setattr(changes, "pending_operations", taken_over)


@mutation(
    "An ADD that waits is sent although its member has left the query.", "run_against_faults", "run", faults=DEFERRING
)
def send_stale_adds(patch: pytest.MonkeyPatch) -> None:
    _unchecked(patch, OperationKind.ADD)


@mutation("A REMOVE that waits is sent although its member is back.", "run_against_faults", "run", faults=DEFERRING)
def send_stale_removes(patch: pytest.MonkeyPatch) -> None:
    _unchecked(patch, OperationKind.REMOVE)


@mutation("Rows are compared by their primary key: a changed address stays targeted.", "run")
def remove_by_primary_key(patch: pytest.MonkeyPatch) -> None:
    def leavers(names: Sequence[str], basis: Comparison) -> sa.Select[Any] | None:
        if basis.previous is None or basis.is_retry:
            return None
        previous, current = basis.previous, basis.current
        members = sa.select(*member_columns(names, previous)).where(previous.c.reason.is_(None))
        return members.where(~sa.exists().where(current.c.primary_key == previous.c.primary_key))

    patch.setattr(changes, "_removed_members", leavers)


@mutation("A row is known again by its key alone: what it became once is carried over for ever.", "run")
def recognise_by_key(patch: pytest.MonkeyPatch) -> None:
    row_hash = DuckDBDialect.row_hash
    patch.setattr(DuckDBDialect, "row_hash", lambda self, salt, texts: row_hash(self, salt, texts[:1]))


@mutation("A snapshot takes over who was in the one before, in the query still or not.", "run")
def carry_over_the_gone(patch: pytest.MonkeyPatch) -> None:
    staged = members.staged_select

    def nobody_gone(*given: Any) -> sa.Select[Any]:
        lines = staged(*given).subquery()
        return sa.select(sa.cast(sa.null(), sa.BigInteger).label(STALE), lines.c[PACKED])

    patch.setattr(reuse, "staged_select", nobody_gone)


@mutation("Every member counts as carried over, so that nobody seems to have left where as many came.", "run")
def take_new_members_for_old(patch: pytest.MonkeyPatch) -> None:
    count = counts.count_snapshot

    def all_carried(*given: Any, **options: Any) -> SnapshotCounts:
        counts = count(*given, **options)
        return replace(counts, reused=counts.members)

    patch.setattr(snapshot, "count_snapshot", all_carried)


@mutation("Who was carried over is taken for gone, unless another row of theirs is new.", "run")
def take_the_carried_for_gone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Comparison, "unmatched_previous", property(lambda basis: basis.previous))


@mutation("A member whose fields have changed is not sent again.", "run")
def ignore_new_fields(patch: pytest.MonkeyPatch) -> None:
    joiners = changes._added_members

    def by_identity(names: Sequence[str], basis: Comparison) -> sa.Select[Any] | None:
        found = joiners(names, basis)
        if found is None or basis.full or basis.previous is None:
            return found
        known = sa.exists().where(basis.previous.c.identity == basis.current.c.identity)
        return found.where(~known)

    patch.setattr(changes, "_added_members", by_identity)


@mutation("A REMOVE names only the first identifier of its member.", "run")
def remove_the_first_identifier(patch: pytest.MonkeyPatch) -> None:
    build = wire.build_body

    def shortened(elements: Elements, positions: Sequence[int]) -> bytes:
        sent = orjson.loads(bytes(build(elements, positions)))
        for element in sent["elements"]:
            if element["action"] == "REMOVE":
                element["userIds"] = element["userIds"][:1]
        return orjson.dumps(sent)

    patch.setattr(linkedin, "build_body", shortened)


@mutation("A REMOVE that is refused for good is forgotten.", "run_against_refusals", "run")
def forget_refused_removes(patch: pytest.MonkeyPatch) -> None:
    add = retry_queue.add_operations

    def selective(*arguments: Any, **more: Any) -> None:
        if arguments[6].status is not OutcomeStatus.REJECTED:
            add(*arguments, **more)

    patch.setattr(retry_queue, "add_operations", selective)


# --- two workers


@mutation("A worker writes although another one has taken over.", "overlap")
def no_fence(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_gate(self: State, key: SyncKey, token: int, doing: str) -> Iterator[sa.Connection]:
        with self.warehouse.write(doing) as connection:
            yield connection

    patch.setattr(State, "fenced", open_gate)


@mutation("A worker sends without a look at its lease.", "overlap")
def send_without_the_lease(patch: pytest.MonkeyPatch) -> None:
    # Whichever of the two looks is left finds almost all that the other one would have found.
    patch.setattr(Lease, "permits_request", lambda self: True)
    patch.setattr(Lease, "is_valid", lambda self: True)


@mutation("The lease is taken although another worker holds it.", "overlap")
def take_any_lease(patch: pytest.MonkeyPatch) -> None:
    take = Lease.take

    def grab(state: State, key: SyncKey, stop: CancelToken | None = None) -> Lease | None:
        with state.warehouse.write("break the lease") as connection:
            syncs = state.tables.syncs
            connection.execute(sa.update(syncs).where(key.match(syncs)).values(lease_holder=None))
        return take(state, key, stop)

    patch.setattr(Lease, "take", grab)


# --- the whole


@mutation("A run that left something undone reports success.", "run_against_faults", "run", faults=DEFERRING)
def report_success(patch: pytest.MonkeyPatch) -> None:
    finished = RunEnding.finished

    def cheerful(self: RunEnding, *values: Any) -> RunReport:
        report = finished(self, *values)
        return replace(report, status=RunStatus.SUCCEEDED)

    patch.setattr(RunEnding, "finished", cheerful)
