"""Plan a run: its first steps, in temporary tables of one connection that is rolled back."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from warehouse_sync.config.loader import Config
from warehouse_sync.events import Events
from warehouse_sync.fields import Field, Normaliser
from warehouse_sync.operations import OperationKind, RunStatus
from warehouse_sync.reports import PlanReport
from warehouse_sync.run import steps
from warehouse_sync.run.baseline import Baseline, TargetState, current_recipe, find_target, verify_baseline
from warehouse_sync.run.context import RunContext, open_context
from warehouse_sync.run.record import RunOptions
from warehouse_sync.state.migrate import is_readable

SAMPLES = 3
"""Members shown of each kind of change."""

SHOWN = 12
"""Characters shown of an identifier that stands for a person: enough to find it in the state tables."""

SNAPSHOT, NOT_REUSED, CHANGES = (f"warehouse_sync_plan_{part}" for part in ("snapshot", "gone", "changes"))
"""A temporary table hides all others of its name, so no model may happen to read from tables of these names."""


@dataclass(frozen=True, slots=True)
class HeldCounts:
    """Pending operations that the run would keep without sending them."""

    waiting: int
    dead: int


def plan_sync(config: Config, name: str, *, events: Events | None = None) -> PlanReport:
    """Return what `run_sync` would do now. Nothing is sent to the destination or left in the warehouse.

    Args:
        config: The configuration.
        name: The sync.
        events: Publishes what happens.

    Returns:
        A plan that is succeeded, blocked when the guard would stop the run, or skipped for a disabled sync.

    Raises:
        WarehouseSyncError: As `run_sync()`.
    """
    started = time.monotonic()
    sync = config.sync(name)
    if not sync.enabled:
        return PlanReport(name, RunStatus.SKIPPED, reason="the sync is disabled (enabled: false)")
    with open_context(config, sync, (events or Events()).for_sync(name)) as context:
        target = find_target(context) if is_readable(context.state) else TargetState(context.existing)
        report = _plan(context, target)
    return replace(report, seconds=round(time.monotonic() - started, 3))


def _plan(context: RunContext, target: TargetState) -> PlanReport:
    names, shapes = context.fields.names, context.state.tables
    tables = steps.RunTables(
        shapes.snapshot(SNAPSHOT, names, temporary=True),
        shapes.snapshot(NOT_REUSED, names, temporary=True),
        shapes.changes(CHANGES, names, temporary=True),
        temporary=True,
    )
    found = verify_baseline(context, target)
    baseline = replace(found, resend_all=found.resend_all or target.emptied)
    # Without a promoted run there is nothing to reuse, and the state tables may not exist yet.
    recipe = current_recipe(context) if found.promoted else None
    with context.warehouse.connect("make the plan") as connection:
        snapshot = steps.query_snapshot(context, connection, baseline, tables, recipe, reuse=True)
        changes = steps.compare_snapshots(context, connection, RunOptions(), baseline, snapshot, tables)
        held = _count_held(connection, changes.table)
        samples = _sample_members(context, connection, changes.table)
        connection.rollback()
    return _report(context, baseline, snapshot, changes, held, samples)


def _report(
    context: RunContext,
    baseline: Baseline,
    snapshot: steps.Snapshot,
    changes: steps.Changes,
    held: HeldCounts,
    samples: list[dict[str, Any]],
) -> PlanReport:
    objection = steps.guard_objection(context, baseline, snapshot, changes)
    counts = changes.counts
    size = context.destination.batch_size
    requests = math.ceil(counts.removes / size) + math.ceil(counts.adds / size)
    return PlanReport(
        sync=context.sync.name,
        status=RunStatus.BLOCKED if objection else RunStatus.SUCCEEDED,
        reason=objection,
        rows=snapshot.counts.rows,
        members=snapshot.counts.members,
        rejected=snapshot.counts.rejected,
        planned=counts.planned,
        deferred=held.waiting,
        dead=held.dead,
        requests=requests,
        minutes=round(requests / context.destination.requests_per_minute(context.sync.audience.type), 2),
        rejections=snapshot.counts.reasons,
        readds=counts.readds,
        pending=counts.pending,
        samples=samples,
    )


def _count_held(connection: sa.Connection, changes: sa.TableClause) -> HeldCounts:
    rows = connection.execute(sa.select(changes.c.dead, sa.func.count()).where(changes.c.held).group_by(changes.c.dead))
    found = {bool(dead): int(count) for dead, count in rows}
    return HeldCounts(found.get(False, 0), found.get(True, 0))


def _sample_members(context: RunContext, connection: sa.Connection, changes: sa.TableClause) -> list[dict[str, Any]]:
    """Return a few members of each kind of change, by their key and identifiers alone."""
    identifiers = context.fields.identifiers
    shared = changes.c.cause == "shared"
    kinds = (
        changes.c.operation == OperationKind.REMOVE,
        (changes.c.operation == OperationKind.ADD) & ~shared,
        shared,
    )
    columns = [changes.c[name] for name in ("operation", "cause", "primary_key")]
    samples: list[dict[str, Any]] = []
    for kind in kinds:
        few = (
            sa.select(*columns, *(changes.c[identifier.name] for identifier in identifiers))
            .where(kind, ~changes.c.held)
            .order_by(changes.c.seq)
            .limit(SAMPLES)
        )
        for operation, cause, key, *values in connection.execute(few):
            shown = {
                identifier.name: _shortened(identifier, value)
                for identifier, value in zip(identifiers, values, strict=True)
                if value is not None
            }
            samples.append({"operation": operation, "cause": cause, "primary_key": key, "identifiers": shown})
    return samples


def _shortened(identifier: Field, value: str) -> str:
    personal = identifier.hash is not None or identifier.normaliser is Normaliser.DEVICE_ID
    return value[:SHOWN] + "…" if personal and len(value) > SHOWN else value
