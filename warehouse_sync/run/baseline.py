"""Where a sync stands before a run: its audience, what that holds by the state tables, and what others still hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa
import structlog

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import ConfigurationError, StateDamaged
from warehouse_sync.operations import OperationKind
from warehouse_sync.pipeline.snapshot import make_recipe
from warehouse_sync.run.context import RunContext, located_at
from warehouse_sync.state import retry_queue, runs, syncs
from warehouse_sync.state.runs import Run

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TargetState:
    """What a run of the sync starts from.

    audience: None when it has to be created. promoted: the run whose snapshot it holds once pending work is done; None
    for an audience that the sync never fed. generation: of the sync's own audience. left: the newest runs into other
    audiences that may still hold members. moved: this audience is not the one that the sync fed last.
    """

    audience: Audience | None
    promoted: Run | None = None
    generation: int = 1
    left: tuple[Run, ...] = ()
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the run may build on, its tables checked.

    previous: the promoted snapshot; None where the audience holds nobody. promoted: the run whose pending work is taken
    over; its changes are there if it has any. everyone: all members must be sent, since pending ADDs are not known any
    more.
    """

    promoted: Run | None = None
    previous: sa.TableClause | None = None
    resend_all: bool = False

    def of_recipe(self, recipe: str | None) -> sa.TableClause | None:
        """The promoted snapshot if it was made by this recipe, so that what has not changed may be taken over."""
        made_by = self.promoted.recipe if self.promoted else None
        return self.previous if recipe is not None and recipe == made_by else None


def current_recipe(job: RunContext) -> str | None:
    """What makes members of the sync's rows now; None where rows are not recognised. The state schema is there."""
    if not job.warehouse.capabilities.row_hashes:
        return None
    return make_recipe(job.warehouse, job.model, job.spelling, syncs.installation_id(job.state))


def target_state(job: RunContext, *, recreate: bool = False) -> TargetState:
    """Where the sync stands, by its state and the destination.

    recreate: its own audience is given up; a fresh one is found or will be created. Raises ConfigurationError.
    """
    name, state = job.sync.name, job.state
    if recreate and job.existing is not None:
        raise ConfigurationError(
            f"syncs.{name}.audience.id: this audience was named by its id, so --recreate has none to create. Nothing "
            "was touched; put audience.name in its place, or the id of another audience."
        )
    row, fed = syncs.read(state, job.key), runs.latest_per_audience(state, name)
    known = {row.audience_id, *(run.audience_id for run in fed)} - {None}
    generation = row.generation + 1 if recreate and known else row.generation
    audience = job.existing or _own(job, generation, None if recreate else row.audience_id)
    while recreate and audience is not None and audience.id in known:
        generation += 1
        audience = _own(job, generation, None)
    if audience is not None and row.promoted_run is not None and audience.id == row.audience_id:
        promoted: Run | None = runs.load(state, row.promoted_run)
    else:
        # An audience that this sync fed before, perhaps under another name of its destination, holds what it held then.
        promoted = next((run for run in fed if audience is not None and run.audience_id == audience.id), None)
    left = tuple(run for run in fed if run.may_hold_members and (audience is None or run.audience_id != audience.id))
    moved = promoted is None or promoted.run_id != row.promoted_run
    return TargetState(audience, promoted, generation, left, moved)


def _own(job: RunContext, generation: int, known_id: str | None) -> Audience | None:
    with located_at(job.sync.name):
        return job.destination.find(job.spec(syncs.installation_id(job.state), generation), known_id)


def verify_baseline(job: RunContext, audience: Audience | None, promoted: Run | None, way_out: str = "") -> Baseline:
    """The promoted run's tables, which must be what its row says.

    Raises StateDamaged, which ends in `way_out`, by default a fresh audience: whom to remove is not known.
    """
    if promoted is None:
        return Baseline()
    names, tables = job.model.fields.names, job.state.tables
    with job.warehouse.connect("look at the tables of the promoted run") as connection:

        def count(shape: Callable[..., sa.TableClause], table: str | None) -> int | None:
            if table is None or not job.warehouse.has_table(connection, table):
                return None
            counted = shape(table, names)
            rows = sa.select(sa.func.count()).select_from(counted)
            return connection.scalar(rows.where(counted.c.reason.is_(None)) if "reason" in counted.c else rows)

        members = count(tables.snapshot, promoted.snapshot_table)
        queued = retry_queue.operation_kinds(job.state, connection, promoted.run_id)
        pending = bool(queued) or promoted.watermark < promoted.last_seq
        # Changes may be a view of the snapshot, which nothing can be read from without it.
        operations = count(tables.changes, promoted.changes_table) if pending and members is not None else None
    if members != promoted.members or promoted.snapshot_table is None:
        if audience is not None and audience.emptied:
            return Baseline()
        raise StateDamaged(f"{_lost_snapshot(job, promoted, members)} {way_out or _fresh_audience(job)}")
    previous = tables.snapshot(promoted.snapshot_table, names)
    # Without its changes nothing of its pending work can be sent; where there is none they are not needed.
    if not pending or operations == promoted.last_seq:
        return Baseline(promoted, previous)
    finished = replace(promoted, changes_table=None, watermark=promoted.last_seq)
    if OperationKind.REMOVE in queued or promoted.watermark < promoted.last_remove_seq:
        raise StateDamaged(f"{_lost_changes(job, promoted)} {way_out or _fresh_audience(job)}")
    log.warning("the changes of the promoted run are gone, only ADDs waited: every member is sent again")
    return Baseline(finished, previous, resend_all=True)


def _lost_snapshot(job: RunContext, promoted: Run, members: int | None) -> str:
    table = f"{job.warehouse.schema}.{promoted.snapshot_table or 'snapshot'}"
    fault = "is gone" if members is None else f"holds {members:,} members where there were {promoted.members:,}"
    return (
        f"sync {job.sync.name}: table {table} {fault}, so whom audience {promoted.audience_id} holds is not known and "
        f"nobody can be removed from it. Nothing was sent."
    )


def _lost_changes(job: RunContext, promoted: Run) -> str:
    table = f"{job.warehouse.schema}.{promoted.changes_table or 'changes'}"
    return (
        f"sync {job.sync.name}: table {table} is gone or not whole, and REMOVEs of it wait: they cannot be sent, so "
        f"audience {promoted.audience_id} would keep members who have left. Nothing was sent."
    )


def _fresh_audience(job: RunContext) -> str:
    fresh = "put audience.name in place of audience.id and run" if job.existing is not None else "run"
    return (
        f"Restore it from a backup; or have a fresh audience filled: {fresh} `warehouse-sync run {job.sync.name} "
        "--recreate`, take it into the campaigns, and delete the old one at the destination."
    )
