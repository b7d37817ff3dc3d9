"""What a run would do: its steps up to the guard, in temporary tables of one connection that is rolled back."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from warehouse_sync.config.loader import Config
from warehouse_sync.events import Events, Phase, PhaseStarted
from warehouse_sync.fields import Field, Normaliser
from warehouse_sync.operations import OperationKind, RunStatus
from warehouse_sync.pipeline.changes import make_changes
from warehouse_sync.pipeline.comparison import Comparison
from warehouse_sync.pipeline.counts import ChangeCounts, SnapshotCounts
from warehouse_sync.pipeline.reuse import SnapshotTables
from warehouse_sync.pipeline.snapshot import take_snapshot
from warehouse_sync.reports import PlanReport
from warehouse_sync.run.baseline import TargetState, current_recipe, target_state, verify_baseline
from warehouse_sync.run.context import RunContext, open_context
from warehouse_sync.state.migrate import is_readable

SAMPLES = 3
"""Members shown of each kind of change."""

SHOWN = 12
"""Characters shown of an identifier that stands for a person: enough to find it in the state tables by."""

SNAPSHOT, GONE, CHANGES = (f"warehouse_sync_plan_{part}" for part in ("snapshot", "gone", "changes"))
"""Temporary tables go before all others of their name, so no model may happen to read from these."""


@dataclass(frozen=True, slots=True)
class _Held:
    waiting: int
    dead: int


def plan_sync(config: Config, name: str, *, events: Events | None = None) -> PlanReport:
    """What `run_sync` would do now; nothing is sent to the destination and nothing is left in the warehouse.

    Returns succeeded, blocked when the guard would refuse, or skipped for a disabled sync. Raises like `run_sync`.
    """
    started = time.monotonic()
    if not config.sync(name).enabled:
        return PlanReport(name, RunStatus.SKIPPED, reason="the sync is disabled (enabled: false)")
    with open_context(config, name, (events or Events()).for_sync(name)) as job:
        report = _plan(job, target_state(job) if is_readable(job.state) else TargetState(job.existing))
    return replace(report, seconds=round(time.monotonic() - started, 3))


def _plan(job: RunContext, found: TargetState) -> PlanReport:
    tables, names = job.state.tables, job.model.fields.names
    current = tables.snapshot(SNAPSHOT, names, temporary=True)
    gone = tables.snapshot(GONE, names, temporary=True)
    changes = tables.changes(CHANGES, names, temporary=True)
    footing = verify_baseline(job, found.audience, found.promoted)
    promoted = footing.promoted
    everyone = footing.resend_all or (found.audience is not None and found.audience.emptied)
    recipe = current_recipe(job) if promoted else None
    with job.warehouse.connect("make the plan") as connection:
        job.events.publish(PhaseStarted(Phase.SNAPSHOT))
        rows = take_snapshot(
            job.warehouse,
            connection,
            job.model,
            job.spelling,
            SnapshotTables(current, gone, number_members=footing.previous is None, temporary=True),
            recipe=recipe,
            previous=footing.of_recipe(recipe),
        )
        job.events.publish(PhaseStarted(Phase.CHANGES))
        basis = Comparison(current, footing.previous, promoted, rows, gone, full=everyone)
        counts = make_changes(job.warehouse, connection, tables, job.model.fields, basis, changes, temporary=True)
        held = _held(connection, changes)
        samples = _samples(job, connection, changes)
        connection.rollback()
    objection = job.guard.check(
        previous_members=promoted.members if promoted else 0,
        current_members=rows.members,
        removed_members=counts.removed_members,
    )
    return _report(job, rows, counts, held, samples, objection)


def _report(
    job: RunContext,
    rows: SnapshotCounts,
    counts: ChangeCounts,
    held: _Held,
    samples: list[dict[str, Any]],
    objection: str | None,
) -> PlanReport:
    size = job.destination.batch_size
    requests = math.ceil(counts.removes / size) + math.ceil(counts.adds / size)
    return PlanReport(
        sync=job.sync.name,
        status=RunStatus.BLOCKED if objection else RunStatus.SUCCEEDED,
        reason=objection,
        rows=rows.rows,
        members=rows.members,
        rejected=rows.rejected,
        planned=counts.planned,
        deferred=held.waiting,
        dead=held.dead,
        requests=requests,
        minutes=round(requests / job.destination.requests_per_minute(job.sync.audience.type), 2),
        rejections=rows.reasons,
        readds=counts.readds,
        pending=counts.pending,
        samples=samples,
    )


def _held(connection: sa.Connection, changes: sa.TableClause) -> _Held:
    """Pending work that the run would carry along without sending it."""
    rows = connection.execute(sa.select(changes.c.dead, sa.func.count()).where(changes.c.held).group_by(changes.c.dead))
    found = {bool(dead): int(count) for dead, count in rows}
    return _Held(found.get(False, 0), found.get(True, 0))


def _samples(job: RunContext, connection: sa.Connection, changes: sa.TableClause) -> list[dict[str, Any]]:
    """A few members of each kind of change, by their key and identifiers alone."""
    identifiers = job.model.fields.identifiers
    shared = changes.c.cause == "shared"
    kinds = (
        changes.c.operation == OperationKind.REMOVE,
        (changes.c.operation == OperationKind.ADD) & ~shared,
        shared,
    )
    columns = [changes.c[name] for name in ("operation", "cause", "primary_key")]
    found: list[dict[str, Any]] = []
    for kind in kinds:
        few = (
            sa.select(*columns, *(changes.c[identifier.name] for identifier in identifiers))
            .where(kind, ~changes.c.held)
            .order_by(changes.c.seq)
            .limit(SAMPLES)
        )
        for operation, cause, key, *values in connection.execute(few):
            shown = {
                identifier.name: _shown(identifier, value)
                for identifier, value in zip(identifiers, values, strict=True)
                if value is not None
            }
            found.append({"operation": operation, "cause": cause, "primary_key": key, "identifiers": shown})
    return found


def _shown(identifier: Field, value: str) -> str:
    personal = identifier.hash is not None or identifier.normaliser is Normaliser.DEVICE_ID
    return value[:SHOWN] + "…" if personal and len(value) > SHOWN else value
