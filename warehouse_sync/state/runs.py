"""Runs: their numbers, their rows, and what the promoted one left to do."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from warehouse_sync.destinations.base import Audience
from warehouse_sync.errors import StateDamaged
from warehouse_sync.operations import RunKind, RunStatus
from warehouse_sync.state import syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.store import State, SyncKey

MAX_SLUG_LENGTH = 40
"""Of the sync's part: PostgreSQL cuts names at 63 bytes, and a prefix and a number stand around it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as its row tells it. The tables' names are None once retention has dropped them."""

    run_id: int
    destination: str
    kind: RunKind
    status: RunStatus
    members: int
    planned_add: int
    last_seq: int
    watermark: int
    snapshot_table: str | None
    changes_table: str | None
    previous_run: int | None
    audience_id: str | None
    promoted: bool = False
    recipe: str | None = None

    @property
    def not_reused_table(self) -> str | None:
        """Who was not carried over into the snapshot; it is there from then until the run's changes are."""
        return self.snapshot_table and "gone_" + self.snapshot_table.removeprefix("snapshot_")

    @property
    def last_remove_seq(self) -> int:
        """The last `seq` before the first ADD."""
        return self.last_seq - self.planned_add

    @property
    def may_hold_members(self) -> bool:
        """Whether its audience holds somebody because of it, if no later run fed that."""
        return self.members > 0 or self.status is not RunStatus.SUCCEEDED


def table_slug(key: SyncKey) -> str:
    """The sync's part of its tables' names: its own name where that is plain, otherwise cleaned and told apart."""
    plain = re.fullmatch(rf"[a-z][a-z0-9_]{{0,{MAX_SLUG_LENGTH - 1}}}", key.sync) and not key.audience_key
    if plain:
        return key.sync
    digest = hashlib.sha256("\0".join(key.values().values()).encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^a-z0-9]+", "_", key.sync.lower()).strip("_")
    return f"{cleaned[: MAX_SLUG_LENGTH - 9]}_{digest}"


def begin(
    state: State,
    lease: Lease,
    kind: RunKind,
    trigger: str,
    config_fingerprint: str,
    previous: int | None,
    tick: datetime | None = None,
) -> Run:
    """A new run with a number of its own.

    Its tables are named in its row before they are made, so that what a dead worker leaves can be found.
    """
    number = _take_next_number(state, lease)
    slug = table_slug(lease.key)
    tables = {"snapshot_table": f"snapshot_{slug}_{number}", "changes_table": f"changes_{slug}_{number}"}
    with state.fenced(lease.key, lease.token, "begin the run") as connection:
        connection.execute(
            sa.insert(state.tables.runs).values(
                run_id=number,
                **lease.key.values(),
                kind=kind,
                triggered_by=trigger,
                status=RunStatus.RUNNING,
                phase="snapshot",
                lease_token=lease.token,
                config_fingerprint=config_fingerprint,
                previous_run=previous,
                started_at=state.warehouse.dialect.utc_now(),
                tick=None if tick is None else syncs.to_stored_time(tick),
                **tables,
            )
        )
    return Run(
        run_id=number,
        destination=lease.key.destination,
        kind=kind,
        status=RunStatus.RUNNING,
        members=0,
        planned_add=0,
        last_seq=0,
        watermark=0,
        snapshot_table=tables["snapshot_table"],
        changes_table=tables["changes_table"],
        previous_run=previous,
        audience_id=None,
    )


def _take_next_number(state: State, lease: Lease) -> int:
    """Run numbers are unique in the installation, so that a table name never comes twice."""
    installation = state.tables.installation
    while True:
        with state.fenced(lease.key, lease.token, "number the run") as connection:
            last = connection.scalar(sa.select(installation.c.last_run))
            if last is None:
                raise StateDamaged(f"table {state.warehouse.schema}.installation is empty; restore it from a backup")
            raised = connection.execute(
                sa.update(installation).where(installation.c.last_run == last).values(last_run=last + 1)
            )
            if raised.rowcount == 1:
                return int(last) + 1


def last_run_number(state: State) -> int:
    """The newest number that a run of any sync was given; 0 before the first."""
    with state.warehouse.connect("read the newest run's number") as connection:
        return int(connection.scalar(sa.select(state.tables.installation.c.last_run)) or 0)


def load(state: State, run_id: int) -> Run:
    """The row of one run. Raises StateDamaged when it is gone."""
    runs = state.tables.runs
    with state.warehouse.connect("read the promoted run") as connection:
        row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).one_or_none()
    if row is None:
        raise StateDamaged(
            f"warehouse {state.warehouse.name}: run {run_id} is promoted, but table {state.warehouse.schema}.runs does "
            "not know it, so whom the audience holds is not known. Nothing was sent. Restore the state schema from a "
            "backup; or have a fresh audience filled: run the sync once with --recreate, and delete the old one."
        )
    return _parse_row(row)


def _parse_row(row: sa.Row[Any]) -> Run:
    return Run(
        run_id=row.run_id,
        destination=row.destination,
        kind=RunKind(row.kind),
        status=RunStatus(row.status),
        members=row.members,
        planned_add=row.planned_add,
        last_seq=row.last_seq,
        watermark=row.watermark,
        snapshot_table=row.snapshot_table,
        changes_table=row.changes_table,
        previous_run=row.previous_run,
        audience_id=row.audience_id,
        promoted=row.promoted_at is not None,
        recipe=row.recipe,
    )


def update(state: State, lease: Lease, run_id: int, **values: Any) -> None:
    """The run's row holds these values. Raises LeaseLost."""
    with state.fenced(lease.key, lease.token, "record the run") as connection:
        connection.execute(sa.update(state.tables.runs).where(state.tables.runs.c.run_id == run_id).values(**values))


def finish(state: State, lease: Lease, run_id: int, tick: datetime | None, **values: Any) -> None:
    """The run's row holds these values, and the tick that it was run for counts as run. Raises LeaseLost."""
    with state.fenced(lease.key, lease.token, "record the end of the run") as connection:
        connection.execute(sa.update(state.tables.runs).where(state.tables.runs.c.run_id == run_id).values(**values))
        if tick is not None:
            syncs.record_tick(state, connection, lease.key, tick)


def promote(state: State, connection: sa.Connection, run_id: int, audience: Audience, *, watermark: int) -> None:
    """Mark the run as promoted: its snapshot is what the audience must hold from now on.

    Args:
        state: The state schema.
        connection: A fenced transaction.
        run_id: The run.
        audience: The audience that the run feeds.
        watermark: The last `seq` that needs no delivery.

    """
    runs = state.tables.runs
    connection.execute(
        sa.update(runs)
        .where(runs.c.run_id == run_id)
        .values(
            promoted_at=state.warehouse.dialect.utc_now(), phase="deliver", watermark=watermark, audience_id=audience.id
        )
    )


def find_latest_per_audience(state: State, sync: str) -> list[Run]:
    """The newest promoted run into each audience that the sync has ever fed, the newest first."""
    runs = state.tables.runs
    newest = (
        sa.select(sa.func.max(runs.c.run_id))
        .where(runs.c.sync == sync, runs.c.promoted_at.is_not(None))
        .group_by(runs.c.audience_id)
    )
    with state.warehouse.connect("look for the audiences that were fed") as connection:
        rows = connection.execute(sa.select(runs).where(runs.c.run_id.in_(newest)).order_by(runs.c.run_id.desc())).all()
    return [_parse_row(row) for row in rows]


def find_unfinished(state: State, key: SyncKey, before: int) -> list[Run]:
    """Earlier runs of the sync that nobody finished: their worker died, or it went over to a later run."""
    runs = state.tables.runs
    with state.warehouse.connect("look for unfinished runs") as connection:
        rows = connection.execute(
            sa.select(runs)
            .where(key.match(runs), runs.c.run_id < before, runs.c.status == RunStatus.RUNNING)
            .order_by(runs.c.run_id)
        ).all()
    return [_parse_row(row) for row in rows]


def find_with_tables(state: State, key: SyncKey) -> list[Run]:
    """All runs of the sync whose tables are still there, newest first."""
    runs = state.tables.runs
    with state.warehouse.connect("look for old tables") as connection:
        rows = connection.execute(
            sa.select(runs)
            .where(key.match(runs), runs.c.snapshot_table.is_not(None) | runs.c.changes_table.is_not(None))
            .order_by(runs.c.run_id.desc())
        ).all()
    return [_parse_row(row) for row in rows]


def last_success(state: State, key: SyncKey) -> datetime | None:
    """When a run of the sync last ended as succeeded, in UTC; retry passes and purges run no query."""
    runs = state.tables.runs
    ran = runs.c.kind.not_in([RunKind.RETRY, RunKind.PURGE])
    with state.warehouse.connect("read the last success") as connection:
        found: datetime | None = connection.scalar(
            sa.select(sa.func.max(runs.c.finished_at)).where(key.match(runs), runs.c.status == RunStatus.SUCCEEDED, ran)
        )
    return None if found is None else found.replace(tzinfo=UTC)


def find_latest(state: State, key: SyncKey) -> sa.Row[Any] | None:
    """The newest run's whole row, for reports; a purge says nothing of the audience that the sync feeds."""
    runs = state.tables.runs
    with state.warehouse.connect("read the last run") as connection:
        return connection.execute(
            sa.select(runs).where(key.match(runs), runs.c.kind != RunKind.PURGE).order_by(runs.c.run_id.desc()).limit(1)
        ).one_or_none()
