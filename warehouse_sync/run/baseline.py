"""Find and verify what a run starts from: its audience, and what the audience holds according to the state tables."""

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
    """Where a sync stands before a run.

    Attributes:
        audience: The audience to feed; None when it has to be created.
        promoted: The run whose snapshot the audience holds once the pending work is done; None for an audience that
            the sync never fed.
        generation: Of the sync's own audience, from 1.
        left: The newest runs into other audiences that may still hold members.
        moved: The audience is not the one that the sync fed last.
    """

    audience: Audience | None
    promoted: Run | None = None
    generation: int = 1
    left: tuple[Run, ...] = ()
    moved: bool = False

    @property
    def emptied(self) -> bool:
        """Return whether the destination has deleted the members of the audience."""
        return self.audience is not None and self.audience.emptied


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run may build on, with its tables verified.

    Attributes:
        promoted: The run whose pending work is taken over; its changes exist if it has any.
        previous: Its snapshot; None where the audience holds no member of ours.
        resend_all: All members must be sent, since the pending ADDs are not known any more.
    """

    promoted: Run | None = None
    previous: sa.TableClause | None = None
    resend_all: bool = False

    @property
    def members(self) -> int:
        """Return how many members the previous snapshot has."""
        return self.promoted.members if self.promoted else 0

    def snapshot_with_recipe(self, recipe: str | None) -> sa.TableClause | None:
        """Return the previous snapshot if it has this recipe, so that lines of it can be reused."""
        previous_recipe = self.promoted.recipe if self.promoted else None
        return self.previous if recipe is not None and recipe == previous_recipe else None


def current_recipe(context: RunContext) -> str | None:
    """Return the recipe of the snapshots that the sync makes now; None where rows have no hashes.

    The state tables must exist.
    """
    if context.model is None or not context.warehouse.capabilities.row_hashes:
        return None
    return make_recipe(context.warehouse, context.model, syncs.installation_id(context.state))


def find_target(context: RunContext, *, recreate: bool = False) -> TargetState:
    """Return where the sync stands, according to its state and the destination.

    Args:
        context: The sync.
        recreate: Give up the sync's own audience; a new one is found or will be created.

    Raises:
        ConfigurationError: The audience does not exist or is of another type, or there is none to recreate.
    """
    name, state = context.sync.name, context.state
    if recreate and context.existing is not None:
        raise ConfigurationError(
            f"syncs.{name}.audience.id: this audience was named by its id, so --recreate has none to create. Nothing "
            "was touched; put audience.name in its place, or the id of another audience."
        )
    row, fed = syncs.read(state, context.key), runs.find_latest_per_audience(state, name)
    known = {row.audience_id, *(run.audience_id for run in fed)} - {None}
    generation = row.generation + 1 if recreate and known else row.generation
    audience = context.existing or _find_own(context, generation, None if recreate else row.audience_id)
    while recreate and audience is not None and audience.id in known:
        generation += 1
        audience = _find_own(context, generation, None)
    if audience is not None and row.promoted_run is not None and audience.id == row.audience_id:
        promoted: Run | None = runs.load(state, row.promoted_run)
    else:
        # An audience that this sync fed before, perhaps under another name of its destination, holds what it held then.
        promoted = next((run for run in fed if audience is not None and run.audience_id == audience.id), None)
    left = tuple(run for run in fed if run.may_hold_members and (audience is None or run.audience_id != audience.id))
    moved = promoted is None or promoted.run_id != row.promoted_run
    return TargetState(audience, promoted, generation, left, moved)


def _find_own(context: RunContext, generation: int, known_id: str | None) -> Audience | None:
    spec = context.spec(syncs.installation_id(context.state), generation)
    with located_at(context.sync.name):
        return context.destination.find(spec, known_id)


def warn_about(target: TargetState) -> None:
    """Log what the operator should know about the audience before the run."""
    audience = target.audience
    if audience is not None and audience.warning:
        log.warning("the audience needs attention", id=audience.id, warning=audience.warning)
    if target.left and target.moved:
        log.warning(
            "this sync feeds another audience now; what it put into earlier ones stays there until `run --purge`",
            members={run.audience_id: run.members for run in target.left},
        )
    if target.emptied:
        log.warning("the destination has emptied the audience: every member is sent again")


def verify_baseline(context: RunContext, target: TargetState, remedy: str | None = None) -> Baseline:
    """Return the promoted run and its tables, once they are what its row says.

    Args:
        context: The sync.
        target: Where the sync stands.
        remedy: What the operator can do about damaged state; by default restore it, or fill a new audience.

    Raises:
        StateDamaged: They are not, so it is not known which members to remove.
    """
    promoted = target.promoted
    if promoted is None:
        return Baseline()
    advice = remedy or _recreate_advice(context)
    names, tables = context.fields.names, context.state.tables
    with context.warehouse.connect("look at the tables of the promoted run") as connection:

        def count(shape: Callable[..., sa.TableClause], table: str | None) -> int | None:
            if table is None or not context.warehouse.has_table(connection, table):
                return None
            counted = shape(table, names)
            rows = sa.select(sa.func.count()).select_from(counted)
            return connection.scalar(rows.where(counted.c.reason.is_(None)) if "reason" in counted.c else rows)

        members = count(tables.snapshot, promoted.snapshot_table)
        queued = retry_queue.operation_kinds(context.state, connection, promoted.run_id)
        pending = bool(queued) or promoted.watermark < promoted.last_seq
        # The changes may be a view of the snapshot, which cannot be read without it.
        operations = count(tables.changes, promoted.changes_table) if pending and members is not None else None
    if members != promoted.members or promoted.snapshot_table is None:
        if target.emptied:
            return Baseline()
        raise StateDamaged(f"{_snapshot_problem(context, promoted, members)} {advice}")
    previous = tables.snapshot(promoted.snapshot_table, names)
    # The changes are needed only where work is pending.
    if not pending or operations == promoted.last_seq:
        return Baseline(promoted, previous)
    if OperationKind.REMOVE in queued or promoted.watermark < promoted.last_remove_seq:
        raise StateDamaged(f"{_changes_problem(context, promoted)} {advice}")
    log.warning("the changes of the promoted run are missing, only ADDs were pending: every member is sent again")
    without_changes = replace(promoted, changes_table=None, watermark=promoted.last_seq)
    return Baseline(without_changes, previous, resend_all=True)


def _snapshot_problem(context: RunContext, promoted: Run, members: int | None) -> str:
    table = f"{context.warehouse.schema}.{promoted.snapshot_table or 'snapshot'}"
    fault = "is missing" if members is None else f"holds {members:,} members where there were {promoted.members:,}"
    return (
        f"sync {context.sync.name}: table {table} {fault}, so it is not known which members audience "
        f"{promoted.audience_id} holds, and none can be removed from it. Nothing was sent."
    )


def _changes_problem(context: RunContext, promoted: Run) -> str:
    table = f"{context.warehouse.schema}.{promoted.changes_table or 'changes'}"
    return (
        f"sync {context.sync.name}: table {table} is missing or incomplete, and REMOVEs of it are pending: they cannot "
        f"be sent, so audience {promoted.audience_id} would keep members who have left. Nothing was sent."
    )


def _recreate_advice(context: RunContext) -> str:
    how = "put audience.name in place of audience.id and run" if context.existing is not None else "run"
    return (
        f"Restore it from a backup; or have a new audience filled: {how} `warehouse-sync run {context.sync.name} "
        "--recreate`, use it in the campaigns, and delete the old one at the destination."
    )
