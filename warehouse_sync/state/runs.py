"""Runs: their numbers and their rows."""

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
"""Characters of the sync's part of a table name: PostgreSQL cuts names, with prefix and number, at 63 bytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its row records it.

    Attributes:
        run_id: Its number, unique in the installation.
        destination: The name of the destination.
        kind: What kind of run it is.
        status: How it stands, or how it ended.
        members: The number of members in its snapshot.
        planned_add: The number of ADDs in its changes.
        last_seq: The number of operations in its changes.
        watermark: All operations up to this `seq` are accounted for.
        snapshot_table: The table of its snapshot; None once retention has dropped it.
        changes_table: The table of its changes; None once retention has dropped it.
        previous_run: The run that was promoted before it.
        audience_id: The audience that it was promoted for.
        promoted: Whether it was promoted.
        recipe: The hash of what made its members from rows; None when rows were not hashed.
    """

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
        """The table of the previous members that the snapshot did not reuse; dropped once the changes are there."""
        return self.snapshot_table and "gone_" + self.snapshot_table.removeprefix("snapshot_")

    @property
    def last_remove_seq(self) -> int:
        """The last `seq` before the first ADD."""
        return self.last_seq - self.planned_add

    @property
    def may_hold_members(self) -> bool:
        """Whether its audience may hold members because of this run, if no later run fed the audience."""
        return self.members > 0 or self.status is not RunStatus.SUCCEEDED


def table_slug(key: SyncKey) -> str:
    """Return the sync's part of its tables' names: its name if that is plain, otherwise cleaned and with a hash."""
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
    """Insert the row of a new run, with a new number.

    The row names the tables of the run before they exist, so that the tables of a dead worker can be found.

    Args:
        state: The state schema.
        lease: The lease of the sync.
        kind: What kind of run it is.
        trigger: What started it: manual, schedule or library.
        config_fingerprint: The hash of the configuration of the sync.
        previous: The run that is promoted now.
        tick: The time of the schedule that it runs for.

    Raises:
        LeaseLost: Another worker has taken over.
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
    """Return a new run number. Numbers are unique in the installation, so that no table name is used twice."""
    installation = state.tables.installation
    while True:
        with state.fenced(lease.key, lease.token, "number the run") as connection:
            last = connection.scalar(sa.select(installation.c.last_run))
            if last is None:
                raise StateDamaged(f"table {state.warehouse.schema}.installation is empty; restore it from a backup")
            updated = connection.execute(
                sa.update(installation).where(installation.c.last_run == last).values(last_run=last + 1)
            )
            if updated.rowcount == 1:
                return int(last) + 1


def last_run_number(state: State) -> int:
    """Return the largest run number of the installation; 0 before the first run."""
    with state.warehouse.connect("read the newest run's number") as connection:
        return int(connection.scalar(sa.select(state.tables.installation.c.last_run)) or 0)


def load(state: State, run_id: int) -> Run:
    """Return a promoted run; raise StateDamaged when its row does not exist."""
    runs = state.tables.runs
    with state.warehouse.connect("read the promoted run") as connection:
        row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).one_or_none()
    if row is None:
        raise StateDamaged(
            f"warehouse {state.warehouse.name}: run {run_id} is promoted, but table {state.warehouse.schema}.runs does "
            "not have it, so the members of the audience are not known. Nothing was sent. Restore the state schema "
            "from a backup; or fill a fresh audience: run the sync once with --recreate, and delete the old one."
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
    """Update columns of the run's row; raise LeaseLost when another worker has taken over."""
    with state.fenced(lease.key, lease.token, "record the run") as connection:
        connection.execute(sa.update(state.tables.runs).where(state.tables.runs.c.run_id == run_id).values(**values))


def finish(state: State, lease: Lease, run_id: int, tick: datetime | None, **values: Any) -> None:
    """Update columns of the run's row and record the tick that it ran for, in one transaction.

    Raises:
        LeaseLost: Another worker has taken over.
    """
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
    """Return the newest promoted run into each audience that the sync has ever fed, newest first."""
    runs = state.tables.runs
    newest = (
        sa.select(sa.func.max(runs.c.run_id))
        .where(runs.c.sync == sync, runs.c.promoted_at.is_not(None))
        .group_by(runs.c.audience_id)
    )
    with state.warehouse.connect("find the audiences that were fed") as connection:
        rows = connection.execute(sa.select(runs).where(runs.c.run_id.in_(newest)).order_by(runs.c.run_id.desc())).all()
    return [_parse_row(row) for row in rows]


def find_unfinished(state: State, key: SyncKey, before: int) -> list[Run]:
    """Return runs of the sync before run `before` that did not finish: their worker died, or it lost the lease."""
    runs = state.tables.runs
    with state.warehouse.connect("find unfinished runs") as connection:
        rows = connection.execute(
            sa.select(runs)
            .where(key.match(runs), runs.c.run_id < before, runs.c.status == RunStatus.RUNNING)
            .order_by(runs.c.run_id)
        ).all()
    return [_parse_row(row) for row in rows]


def find_with_tables(state: State, key: SyncKey) -> list[Run]:
    """Return all runs of the sync whose tables still exist, newest first."""
    runs = state.tables.runs
    with state.warehouse.connect("find old tables") as connection:
        rows = connection.execute(
            sa.select(runs)
            .where(key.match(runs), runs.c.snapshot_table.is_not(None) | runs.c.changes_table.is_not(None))
            .order_by(runs.c.run_id.desc())
        ).all()
    return [_parse_row(row) for row in rows]


def last_success(state: State, key: SyncKey) -> datetime | None:
    """Return when a run with a query last succeeded, in UTC; retry passes and purges run no query."""
    runs = state.tables.runs
    ran = runs.c.kind.not_in([RunKind.RETRY, RunKind.PURGE])
    with state.warehouse.connect("read the last success") as connection:
        found: datetime | None = connection.scalar(
            sa.select(sa.func.max(runs.c.finished_at)).where(key.match(runs), runs.c.status == RunStatus.SUCCEEDED, ran)
        )
    return None if found is None else found.replace(tzinfo=UTC)


def find_latest(state: State, key: SyncKey) -> sa.Row[Any] | None:
    """Return the whole row of the newest run, for reports; purges do not concern the audience that the sync feeds."""
    runs = state.tables.runs
    with state.warehouse.connect("read the last run") as connection:
        return connection.execute(
            sa.select(runs).where(key.match(runs), runs.c.kind != RunKind.PURGE).order_by(runs.c.run_id.desc()).limit(1)
        ).one_or_none()
