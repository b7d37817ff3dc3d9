"""A sync's own row: the audience it owns, the promoted run, the lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import structlog

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import QueryFailed, StateDamaged
from warehouse_sync.operations import RunStatus
from warehouse_sync.state import retry_queue
from warehouse_sync.state.store import State, SyncKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SyncRow:
    """What the last promoted run left: which audience it fed, and its number; None before the first one.

    generation: of the sync's own audience, from 1; raised when it is given up for a fresh one.
    """

    audience_type: str | None = None
    audience_id: str | None = None
    promoted_run: int | None = None
    generation: int = 1


def installation_id(state: State) -> str:
    """The id of this state schema. Raises StateDamaged when its row is gone."""
    with state.warehouse.connect("read the installation's id") as connection:
        found: str | None = connection.scalar(sa.select(state.tables.installation.c.id))
    if found is None:
        raise StateDamaged(
            f"warehouse {state.warehouse.name}: table {state.warehouse.schema}.installation is empty, so our audiences "
            "cannot be told from others'. Nothing was sent; restore the row from a backup."
        )
    return found


def read(state: State, key: SyncKey) -> SyncRow:
    """The sync's row; the defaults when it has never run, but of the generation that it has reached elsewhere."""
    syncs = state.tables.syncs
    columns = (syncs.c.audience_type, syncs.c.audience_id, syncs.c.promoted_run, syncs.c.generation)
    with state.warehouse.connect("read the sync's state") as connection:
        row = connection.execute(sa.select(*columns).where(key.match(syncs))).one_or_none()
        if row is not None and row.promoted_run is not None:
            return SyncRow(*row)
        # Renamed, a destination has no row yet, and the sync's own audience goes by its latest name.
        same = syncs.c.sync == key.sync, syncs.c.audience_key == key.audience_key
        reached = connection.scalar(sa.select(sa.func.max(syncs.c.generation)).where(*same))
    return SyncRow(generation=reached or 1)


def is_leased(state: State) -> sa.ColumnElement[bool]:
    """The condition that a worker runs the sync of a row now."""
    syncs = state.tables.syncs
    return syncs.c.lease_holder.is_not(None) & (syncs.c.lease_expires_at > state.warehouse.dialect.utc_now())


def ensure_row(state: State, key: SyncKey) -> None:
    """The sync has its row, whoever else makes it at the same time."""
    warehouse, syncs = state.warehouse, state.tables.syncs
    present = sa.select(syncs.c.sync).where(key.match(syncs))
    with warehouse.connect("look for the sync's row") as connection:
        if connection.scalar(present) is not None:
            return
    # The key is unique only where the warehouse keeps constraints; there it may be refused as made meanwhile.
    first = sa.select(*key.columns(), sa.literal(0), warehouse.dialect.utc_now(), sa.literal(1)).where(
        ~sa.exists(present)
    )
    names = [*key.values(), "lease_token", "created_at", "generation"]
    try:
        with warehouse.write("make the sync's row") as connection:
            warehouse.serialise_writers(connection, state.tables.installation)
            connection.execute(sa.insert(syncs).from_select(names, first))
    except QueryFailed:
        with warehouse.connect("look for the sync's row") as connection:
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
    """What the state tables say of a sync at one moment.

    last_tick: the newest tick whose run has ended, in UTC; None while nobody has served it. is_leased: a worker runs it
    now. retry_in: seconds until something of the retry queue is due, 0 and less when it is; None when nothing waits.
    """

    last_tick: datetime | None = None
    is_leased: bool = False
    retry_in: float | None = None

    def has_run(self, tick: datetime) -> bool:
        """Whether this tick, or a later one, was run."""
        return self.last_tick is not None and self.last_tick >= tick

    @property
    def retry_is_due(self) -> bool:
        return self.retry_in is not None and self.retry_in <= 0


def schedule_state(state: State, key: SyncKey) -> ScheduleState:
    """How the sync stands, by one statement and the warehouse's clock."""
    syncs, runs = state.tables.syncs, state.tables.runs
    now = state.warehouse.dialect.utc_now()
    waiting = retry_queue.select_next_due(state, key).subquery("waiting")
    columns = (
        syncs.c.last_tick,
        is_leased(state).label("is_leased"),
        waiting.c.next_due,
        # Of a run whose worker died behind its commit point, what was not sent is in no queue yet.
        ((runs.c.watermark < runs.c.last_seq) | (runs.c.status == RunStatus.RUNNING)).label("left_open"),
        now.label("now"),
    )
    joined = syncs.outerjoin(runs, runs.c.run_id == syncs.c.promoted_run).outerjoin(
        waiting, waiting.c.run_id == syncs.c.promoted_run
    )
    with state.warehouse.connect("look for what is due") as connection:
        row = connection.execute(sa.select(*columns).select_from(joined).where(key.match(syncs))).one_or_none()
    if row is None:
        return ScheduleState()
    retry_in = 0.0 if row.left_open else (row.next_due - row.now).total_seconds() if row.next_due else None
    last_tick = None if row.last_tick is None else row.last_tick.replace(tzinfo=UTC)
    return ScheduleState(last_tick, bool(row.is_leased), retry_in)


def initialise_last_tick(state: State, key: SyncKey, tick: datetime) -> None:
    """A sync that nobody has served counts as run up to `tick`; any other stays as it is. Its row is there."""
    syncs = state.tables.syncs
    with state.warehouse.write("note where the schedule begins") as connection:
        connection.execute(
            sa.update(syncs).where(key.match(syncs), syncs.c.last_tick.is_(None)).values(last_tick=to_stored_time(tick))
        )


def record_tick(state: State, connection: sa.Connection, key: SyncKey, tick: datetime) -> None:
    """The tick was run; to be called inside a fenced transaction."""
    syncs = state.tables.syncs
    older = syncs.c.last_tick.is_(None) | (syncs.c.last_tick < to_stored_time(tick))
    connection.execute(sa.update(syncs).where(key.match(syncs), older).values(last_tick=to_stored_time(tick)))


def to_stored_time(tick: datetime) -> datetime:
    """The tick as the state tables hold times: UTC without a zone."""
    return tick.astimezone(UTC).replace(tzinfo=None)
