"""The row of a sync: its promoted run, the audience that the run fed, and its schedule. `lease.py` has its lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import QueryFailed, StateDamaged
from warehouse_sync.operations import RunStatus
from warehouse_sync.state import retry_queue
from warehouse_sync.state.store import State, SyncKey


@dataclass(frozen=True, slots=True)
class SyncRow:
    """The promoted run of a sync and the audience that it fed.

    Attributes:
        audience_type: The type of the audience; None before the first promoted run.
        audience_id: The id of the audience; None before the first promoted run.
        promoted_run: The number of the run; None before the first.
        generation: The generation of the sync's own audience, from 1; raised when a fresh one replaces it.
    """

    audience_type: str | None = None
    audience_id: str | None = None
    promoted_run: int | None = None
    generation: int = 1


def installation_id(state: State) -> str:
    """Return the id of this state schema; raise StateDamaged when its row does not exist."""
    with state.warehouse.connect("read the installation's id") as connection:
        found: str | None = connection.scalar(sa.select(state.tables.installation.c.id))
    if found is None:
        raise StateDamaged(
            f"warehouse {state.warehouse.name}: table {state.warehouse.schema}.installation is empty, so our audiences "
            "cannot be distinguished from others. Nothing was sent; restore the row from a backup."
        )
    return found


def read(state: State, key: SyncKey) -> SyncRow:
    """Return the sync's row.

    A sync without a promoted run at this destination gets the defaults, with the latest generation that it has reached
    at any destination.
    """
    syncs = state.tables.syncs
    columns = (syncs.c.audience_type, syncs.c.audience_id, syncs.c.promoted_run, syncs.c.generation)
    with state.warehouse.connect("read the sync's state") as connection:
        row = connection.execute(sa.select(*columns).where(key.match(syncs))).one_or_none()
        if row is not None and row.promoted_run is not None:
            return SyncRow(*row)
        # A renamed destination has no row yet, but the sync's own audience has the name of its latest generation.
        same = syncs.c.sync == key.sync, syncs.c.audience_key == key.audience_key
        reached = connection.scalar(sa.select(sa.func.max(syncs.c.generation)).where(*same))
    return SyncRow(generation=reached or 1)


def is_leased(state: State) -> sa.ColumnElement[bool]:
    """Return the condition that a worker holds the lease of a row of `syncs` now."""
    syncs = state.tables.syncs
    return syncs.c.lease_holder.is_not(None) & (syncs.c.lease_expires_at > state.warehouse.dialect.utc_now())


def ensure_row(state: State, key: SyncKey) -> None:
    """Insert the row of the sync unless it exists; other workers may do so at the same time."""
    warehouse, syncs = state.warehouse, state.tables.syncs
    present = sa.select(syncs.c.sync).where(key.match(syncs))
    with warehouse.connect("find the sync's row") as connection:
        if connection.scalar(present) is not None:
            return
    # Where the warehouse enforces the unique key, the insert may fail because another worker was faster.
    first = sa.select(*key.columns(), sa.literal(0), warehouse.dialect.utc_now(), sa.literal(1)).where(
        ~sa.exists(present)
    )
    names = [*key.values(), "lease_token", "created_at", "generation"]
    try:
        with warehouse.write("create the sync's row") as connection:
            warehouse.serialise_writers(connection, state.tables.installation)
            connection.execute(sa.insert(syncs).from_select(names, first))
    except QueryFailed:
        with warehouse.connect("find the sync's row") as connection:
            if connection.scalar(present) is None:
                raise


def set_promoted_run(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    token: int,
    run_id: int,
    audience: Audience,
    generation: int,
) -> None:
    """Point the sync's row at the run that is promoted and at the audience that it feeds.

    Args:
        state: The state schema.
        connection: A fenced transaction.
        key: The sync.
        token: The token of the lease.
        run_id: The run.
        audience: The audience that the run feeds.
        generation: The generation of the sync's own audience.
    """
    syncs = state.tables.syncs
    connection.execute(
        sa.update(syncs)
        .where(key.match(syncs), syncs.c.lease_token == token)
        .values(promoted_run=run_id, audience_type=audience.type, audience_id=audience.id, generation=generation)
    )


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What the scheduler must know of a sync, at one moment.

    Attributes:
        last_tick: The newest tick whose run has ended, in UTC; None before the first.
        is_leased: A worker runs the sync now.
        retry_in: The seconds until an operation of the retry queue is due, 0 or less when one is due; None when none
            waits.
    """

    last_tick: datetime | None = None
    is_leased: bool = False
    retry_in: float | None = None

    def has_run(self, tick: datetime) -> bool:
        """Return whether this tick, or a later one, was run."""
        return self.last_tick is not None and self.last_tick >= tick

    @property
    def retry_is_due(self) -> bool:
        """Whether an operation of the retry queue is due."""
        return self.retry_in is not None and self.retry_in <= 0


def schedule_state(state: State, key: SyncKey) -> ScheduleState:
    """Return the schedule state of the sync, by one statement and the warehouse's clock."""
    syncs, runs = state.tables.syncs, state.tables.runs
    now = state.warehouse.dialect.utc_now()
    waiting = retry_queue.select_next_due(state, key).subquery("waiting")
    columns = (
        syncs.c.last_tick,
        is_leased(state).label("is_leased"),
        waiting.c.next_due,
        # When a worker died after promoting its run, what it did not send is not in the retry queue yet.
        ((runs.c.watermark < runs.c.last_seq) | (runs.c.status == RunStatus.RUNNING)).label("has_unsent"),
        now.label("now"),
    )
    joined = syncs.outerjoin(runs, runs.c.run_id == syncs.c.promoted_run).outerjoin(
        waiting, waiting.c.run_id == syncs.c.promoted_run
    )
    with state.warehouse.connect("read what is due") as connection:
        row = connection.execute(sa.select(*columns).select_from(joined).where(key.match(syncs))).one_or_none()
    if row is None:
        return ScheduleState()
    retry_in = 0.0 if row.has_unsent else (row.next_due - row.now).total_seconds() if row.next_due else None
    last_tick = None if row.last_tick is None else row.last_tick.replace(tzinfo=UTC)
    return ScheduleState(last_tick, bool(row.is_leased), retry_in)


def initialise_last_tick(state: State, key: SyncKey, tick: datetime) -> None:
    """Set the last tick of a sync that has none yet. Its row must exist."""
    syncs = state.tables.syncs
    with state.warehouse.write("record where the schedule begins") as connection:
        connection.execute(
            sa.update(syncs).where(key.match(syncs), syncs.c.last_tick.is_(None)).values(last_tick=to_stored_time(tick))
        )


def record_tick(state: State, connection: sa.Connection, key: SyncKey, tick: datetime) -> None:
    """Record, inside a fenced transaction, that the tick was run."""
    syncs = state.tables.syncs
    older = syncs.c.last_tick.is_(None) | (syncs.c.last_tick < to_stored_time(tick))
    connection.execute(sa.update(syncs).where(key.match(syncs), older).values(last_tick=to_stored_time(tick)))


def to_stored_time(tick: datetime) -> datetime:
    """Return the tick as the state tables store times: UTC without a zone."""
    return tick.astimezone(UTC).replace(tzinfo=None)
