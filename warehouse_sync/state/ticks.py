"""What is due for a sync: the ticks of its schedule that were run, and the next time of its retry queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from warehouse_sync.operations import RunStatus
from warehouse_sync.state import retry_queue
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import is_leased


@dataclass(frozen=True, slots=True)
class Outlook:
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


def look(state: State, key: SyncKey) -> Outlook:
    """How the sync stands, by one statement and the warehouse's clock."""
    syncs, runs = state.tables.syncs, state.tables.runs
    now = state.warehouse.utc_now()
    waiting = retry_queue.next_due(state, key).subquery("waiting")
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
        return Outlook()
    retry_in = 0.0 if row.left_open else (row.next_due - row.now).total_seconds() if row.next_due else None
    last_tick = None if row.last_tick is None else row.last_tick.replace(tzinfo=UTC)
    return Outlook(last_tick, bool(row.is_leased), retry_in)


def found(state: State, key: SyncKey, tick: datetime) -> None:
    """A sync that nobody has served counts as run up to `tick`; any other stays as it is. Its row is there."""
    syncs = state.tables.syncs
    with state.warehouse.write("note where the schedule begins") as connection:
        connection.execute(
            sa.update(syncs).where(key.match(syncs), syncs.c.last_tick.is_(None)).values(last_tick=stored(tick))
        )


def settle(state: State, connection: sa.Connection, key: SyncKey, tick: datetime) -> None:
    """The tick was run; to be called inside a fenced transaction."""
    syncs = state.tables.syncs
    older = syncs.c.last_tick.is_(None) | (syncs.c.last_tick < stored(tick))
    connection.execute(sa.update(syncs).where(key.match(syncs), older).values(last_tick=stored(tick)))


def stored(tick: datetime) -> datetime:
    """The tick as the state tables hold times: UTC without a zone."""
    return tick.astimezone(UTC).replace(tzinfo=None)
