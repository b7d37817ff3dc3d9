"""The steps of a run: each takes values and returns values; `run.execute()` calls them in order."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa
import structlog

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import DestinationUnavailable, LeaseLost, StopRun
from warehouse_sync.events import (
    MembersProcessed,
    NoteAdded,
    Phase,
    PhaseStarted,
    RowsRejected,
    RunPromoted,
)
from warehouse_sync.operations import OperationKind, RunKind, deferred
from warehouse_sync.pipeline import snapshot as pipeline_snapshot
from warehouse_sync.pipeline.changes import make_changes
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.counts import ChangeCounts, SnapshotCounts, count_snapshot
from warehouse_sync.pipeline.delivery import Delivery, batches
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.pipeline.reuse import SnapshotTables
from warehouse_sync.run.baseline import Baseline, TargetState, current_recipe, verify_baseline, warn_about
from warehouse_sync.run.context import RunContext
from warehouse_sync.run.record import ActiveRun, RunOptions
from warehouse_sync.state import retry_queue, runs, sync_log, syncs
from warehouse_sync.state.runs import Run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunTables:
    """The tables that a run makes.

    Attributes:
        snapshot: Its snapshot; of a retry pass the promoted one.
        not_reused: Members of the previous snapshot that were not reused; it exists until the changes do.
        changes: Its changes.
        temporary: The tables belong to the session.
    """

    snapshot: sa.TableClause
    not_reused: sa.TableClause
    changes: sa.TableClause
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The current snapshot of a run.

    Attributes:
        table: Its table.
        counts: Its numbers.
        recipe: What decided what became of each row; None where rows have no hashes.
    """

    table: sa.TableClause
    counts: SnapshotCounts
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a run.

    Attributes:
        table: Their table.
        counts: Their numbers.
    """

    table: sa.TableClause
    counts: ChangeCounts


def tables_of(active: ActiveRun) -> RunTables:
    """Return the tables of a run by the names in its row."""
    row, tables, names = active.row, active.state.tables, active.context.fields.names
    if row.snapshot_table is None or row.changes_table is None or row.not_reused_table is None:
        raise AssertionError("a run under way has its tables")
    return RunTables(
        tables.snapshot(row.snapshot_table, names),
        tables.snapshot(row.not_reused_table, names),
        tables.changes(row.changes_table, names),
    )


def verify(active: ActiveRun, target: TargetState) -> Baseline:
    """Verify what the run builds on, and decide whether it must send all members.

    Raises:
        StateDamaged: It is not known which members to remove.
        StopRun: There is nothing to retry.
    """
    context, kind = active.context, active.kind
    if kind is RunKind.PURGE:
        audience_id = target.audience.id if target.audience else None
        remedy = f"Restore it from a backup, or delete audience {audience_id} at the destination."
        return verify_baseline(context, replace(target, audience=None), remedy)
    warn_about(target)
    baseline = verify_baseline(context, target)
    if kind is RunKind.RETRY and baseline.promoted is None:
        raise StopRun(f"sync {context.sync.name} has not run yet, so nothing waits to be sent again. Run it first.")
    resend_all = target.emptied or baseline.resend_all
    if resend_all and kind is RunKind.DIFF:
        active.update_row(kind=RunKind.FULL)
    return replace(baseline, resend_all=resend_all or kind is RunKind.FULL)


def take_snapshot(active: ActiveRun, baseline: Baseline, tables: RunTables) -> Snapshot:
    """Return the current snapshot: the query's members, of a retry pass the promoted ones, of a purge none."""
    context = active.context
    if active.kind is RunKind.PURGE:
        return _empty_snapshot(context, baseline, tables)
    if active.kind is RunKind.RETRY:
        snapshot = _promoted_snapshot(context, baseline, tables)
    else:
        # A full run is asked for where earlier work is not trusted, so it reuses nothing.
        reuse = active.kind is not RunKind.FULL
        with context.warehouse.connect("take the snapshot of the query") as connection:
            snapshot = query_snapshot(context, connection, baseline, tables, current_recipe(context), reuse=reuse)
    counts = snapshot.counts
    context.events.publish(RowsRejected(counts.reasons))
    active.update_row(
        phase=Phase.CHANGES,
        recipe=snapshot.recipe,
        query_rows=counts.rows,
        members=counts.members,
        rejected_rows=counts.rejected,
    )
    return snapshot


def query_snapshot(
    context: RunContext,
    connection: sa.Connection,
    baseline: Baseline,
    tables: RunTables,
    recipe: str | None,
    *,
    reuse: bool,
) -> Snapshot:
    """Write the query as it is now into the snapshot table.

    Args:
        context: The sync.
        connection: The connection to use.
        baseline: What the run builds on.
        tables: The tables of the run.
        recipe: What decides what becomes of each row; None where rows have no hashes.
        reuse: Reuse lines of the previous snapshot for unchanged rows.

    Raises:
        QueryFailed: The warehouse refused a statement.
    """
    if context.model is None:
        raise AssertionError("a run that takes a snapshot has a query")
    context.events.publish(PhaseStarted(Phase.SNAPSHOT))
    targets = SnapshotTables(
        tables.snapshot,
        tables.not_reused,
        number_members=baseline.previous is None,
        temporary=tables.temporary,
    )
    previous = baseline.snapshot_with_recipe(recipe) if reuse else None
    counts = pipeline_snapshot.take_snapshot(
        context.warehouse, connection, context.model, targets, recipe=recipe, previous=previous
    )
    return Snapshot(tables.snapshot, counts, recipe)


def _promoted_snapshot(context: RunContext, baseline: Baseline, tables: RunTables) -> Snapshot:
    context.events.publish(PhaseStarted(Phase.SNAPSHOT))
    with context.warehouse.connect("look at the snapshot") as connection:
        counts = count_snapshot(connection, tables.snapshot)
    return Snapshot(tables.snapshot, counts, baseline.promoted.recipe if baseline.promoted else None)


def _empty_snapshot(context: RunContext, baseline: Baseline, tables: RunTables) -> Snapshot:
    if baseline.previous is None:
        raise AssertionError("a purge has a snapshot to remove")
    context.events.publish(PhaseStarted(Phase.SNAPSHOT))
    # Snapshots of releases before 0.4 have no row hashes.
    columns = [
        sa.cast(sa.null(), column.type).label(column.name) if column.name == "row_hash" else column
        for column in baseline.previous.c
    ]
    with context.warehouse.connect("make an empty snapshot") as connection:
        context.warehouse.create_table_as(connection, tables.snapshot, sa.select(*columns).where(sa.false()))
        connection.commit()
    return Snapshot(tables.snapshot, SnapshotCounts())


def compute_changes(active: ActiveRun, baseline: Baseline, snapshot: Snapshot, tables: RunTables) -> Changes:
    """Write the operations of the run, in sending order.

    Raises:
        QueryFailed: The warehouse refused a statement.
        LeaseLost: Another worker has taken over.
    """
    context = active.context
    with context.warehouse.connect("compute the changes") as connection:
        changes = compare_snapshots(context, connection, active.options, baseline, snapshot, tables)
    counts = changes.counts
    active.update_row(
        phase=Phase.GUARD, planned_add=counts.adds, planned_remove=counts.removes, last_seq=counts.last_seq
    )
    log.info("changes", members=snapshot.counts.members, rejected=snapshot.counts.rejected, **asdict(counts))
    if snapshot.counts.reasons:
        log.info("rejected rows and left-out values", **snapshot.counts.reasons)
    return changes


def compare_snapshots(
    context: RunContext,
    connection: sa.Connection,
    options: RunOptions,
    baseline: Baseline,
    snapshot: Snapshot,
    tables: RunTables,
) -> Changes:
    """Write the operations that follow from the current snapshot, the previous one, and the pending work.

    Args:
        context: The sync.
        connection: The connection to use.
        options: What is asked of the run.
        baseline: What the run builds on.
        snapshot: The current snapshot.
        tables: The tables of the run.

    Raises:
        QueryFailed: The warehouse refused a statement.
    """
    context.events.publish(PhaseStarted(Phase.CHANGES))
    comparison = Comparison(
        snapshot.table,
        snapshot.table if options.kind is RunKind.RETRY else baseline.previous,
        baseline.promoted,
        snapshot.counts,
        tables.not_reused,
        full=baseline.resend_all,
        include_dead=options.include_dead,
        due_only=options.due_only,
    )
    counts = make_changes(
        context.warehouse,
        connection,
        context.state.tables,
        context.fields,
        comparison,
        tables.changes,
        temporary=tables.temporary,
    )
    return Changes(tables.changes, counts)


def check_guard(active: ActiveRun, baseline: Baseline, snapshot: Snapshot, changes: Changes) -> str | None:
    """Return why the guard stops the run, unless the run is forced.

    The operations of a retry pass have passed the guard once; a purge removes all members because it was asked to.
    """
    active.context.events.publish(PhaseStarted(Phase.GUARD))
    if active.kind in (RunKind.RETRY, RunKind.PURGE):
        return None
    objection = guard_objection(active.context, baseline, snapshot, changes)
    if objection and active.options.force:
        # The objection itself is not logged: it says that nothing was sent.
        removed = changes.counts.removed_members
        log.warning("guard passed by force", members=snapshot.counts.members, before=baseline.members, left=removed)
        return None
    return objection


def guard_objection(context: RunContext, baseline: Baseline, snapshot: Snapshot, changes: Changes) -> str | None:
    """Return why the guard stops a run with these changes, or None."""
    return context.guard.check(
        previous_members=baseline.members,
        current_members=snapshot.counts.members,
        removed_members=changes.counts.removed_members,
    )


def ensure_audience(active: ActiveRun, target: TargetState) -> Audience:
    """Return the audience, created if need be and ready to be written to.

    Raises:
        ConfigurationError: The destination refuses to create it.
        DestinationUnavailable: The destination does not answer.
    """
    if target.audience is not None:
        return target.audience
    context = active.context
    context.events.publish(PhaseStarted(Phase.AUDIENCE))
    context.events.publish(
        NoteAdded("creating the audience; the destination needs a few seconds before it accepts members")
    )
    spec = context.spec(syncs.installation_id(context.state), target.generation)
    try:
        return context.destination.create(spec, active.lease)
    except DestinationUnavailable:
        active.lease.require()  # A lost lease is the real reason then: without it nothing is sent.
        raise


def promote(
    active: ActiveRun, target: TargetState, baseline: Baseline, snapshot: Snapshot, changes: Changes, audience: Audience
) -> Run:
    """Promote the run, and return its row.

    This is the commit point: before it nothing has happened, after it everything that must be sent is on disk. From
    here on a requested stop lets the run end in order instead of interrupting it.

    Raises:
        LeaseLost: Another worker has taken over.
    """
    active.lease.stop.shield()
    context, state, lease, run_id = active.context, active.state, active.lease, active.row.run_id
    context.events.publish(PhaseStarted(Phase.PROMOTE))
    held = changes.counts.held
    with state.fenced(context.key, lease.token, "promote the run") as connection:
        if held:
            retry_queue.add_held(state, connection, context.key, run_id, changes.table, held)
        if held and context.keeps_log:
            sync_log.add_held(state, connection, context.key, run_id, changes.table, held)
        if context.keeps_log and active.kind is not RunKind.RETRY:
            previous, rejected = baseline.previous, snapshot.counts.rejected
            sync_log.add_rejected_rows(state, connection, context.key, run_id, snapshot.table, previous, rejected)
        promote_row(active, connection, target, audience, held)
    context.events.publish(RunPromoted(active.kind, snapshot.counts.members))
    return replace(active.row, watermark=held, last_seq=changes.counts.last_seq)


def promote_row(
    active: ActiveRun, connection: sa.Connection, target: TargetState, audience: Audience, watermark: int
) -> None:
    """Mark the run as promoted, inside a fenced transaction.

    A purge leaves the sync's row alone: the sync feeds another audience. When the sync returns to this one, it
    continues from the purge, which is found by the id of the audience.
    """
    state, lease, run_id = active.state, active.lease, active.row.run_id
    if active.kind is not RunKind.PURGE:
        syncs.set_promoted_run(state, connection, lease.key, lease.token, run_id, audience, target.generation)
    runs.promote(state, connection, run_id, audience, watermark=watermark)


def deliver(active: ActiveRun, audience: Audience, changes: Changes, recorder: Recorder) -> str | None:
    """Send the REMOVEs, wait for their outcomes, send the ADDs; every outcome is on disk afterwards.

    Returns:
        Why not everything was sent, if so.

    Raises:
        StopRun: The destination refuses everything. What was not sent waits in the retry queue.
        LeaseLost: Another worker has taken over.
    """
    counts, stop = changes.counts, active.lease.stop
    delivery = Delivery(active.context.destination, audience, active.lease)
    try:
        for kind, after, last in (
            (OperationKind.REMOVE, counts.held, counts.last_remove_seq),
            (OperationKind.ADD, counts.last_remove_seq, counts.last_seq),
        ):
            if after < last and not delivery.is_stopped:
                _send(active, delivery, recorder, changes, kind, after, last)
    except LeaseLost:
        raise
    except StopRun as error:
        recorder.defer_rest(counts.last_seq, counts.last_remove_seq, deferred("stopped", str(error)))
        raise
    if stop.requested and (recorder.last_taken < counts.last_seq or recorder.tally.not_attempted):
        not_sent = deferred("stopped", "the worker was stopped before this was sent", attempted=False)
        recorder.defer_rest(counts.last_seq, counts.last_remove_seq, not_sent)
        return f"stopped by {stop.reason}"
    if delivery.outage:
        recorder.defer_rest(counts.last_seq, counts.last_remove_seq, delivery.outage)
        return f"the destination accepts nothing at the moment: {delivery.outage.message}"
    recorder.flush()
    return None


def _send(
    active: ActiveRun,
    delivery: Delivery,
    recorder: Recorder,
    changes: Changes,
    kind: OperationKind,
    after: int,
    last: int,
) -> None:
    """Send the operations with `after` < seq <= `last`, all of one kind."""
    context = active.context
    phase = Phase.REMOVE if kind is OperationKind.REMOVE else Phase.ADD
    context.events.publish(PhaseStarted(phase, last - after))
    element = context.destination.element_template(delivery.audience.type, kind)
    size = context.destination.batch_size
    with closing(batches(context.warehouse, changes.table, element, kind, after, last, size)) as work:
        for batch, outcomes in delivery.deliver(work):
            recorder.take(batch, outcomes)
            context.events.publish(MembersProcessed(len(batch)))
