"""The state of a sync: from the state tables, and its audience from the destination. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import SyncConfig
from warehouse_sync.destinations.base import Audience
from warehouse_sync.destinations.registry import open_destination
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.operations import OperationKind
from warehouse_sync.reports import AudienceStatus, SyncStatus
from warehouse_sync.run.context import audience_spec, open_warehouse
from warehouse_sync.state import retry_queue, runs, sync_log, syncs
from warehouse_sync.state.migrate import is_readable
from warehouse_sync.state.store import State, SyncKey

WARN_BEFORE = timedelta(days=30)
"""Time before a refresh token expires in which to warn. It expires after a year and cannot be extended."""


def sync_status(config: Config, name: str) -> SyncStatus:
    """Return the state of a sync; without its audience if the destination does not answer.

    Raises:
        ConfigurationError: The sync does not exist, or the warehouse refuses the connection.
        WarehouseUnavailable: The warehouse cannot be read.
    """
    sync = config.sync(name)
    with open_warehouse(config, sync) as warehouse:
        state = State(warehouse)
        stored = _read_state(state, sync) if is_readable(state) else _StoredStatus()
    audience, expires, audience_error = None, None, None
    try:
        audience, expires = _read_audience(config, sync, stored)
    except WarehouseSyncError as error:
        audience_error = str(error)
    return SyncStatus(
        sync=name,
        enabled=sync.enabled,
        running=stored.running,
        last_run=stored.last_run,
        next_run=next_run(sync),
        members=stored.members,
        pending=stored.pending,
        dead=stored.dead,
        dead_removes=stored.dead_removes,
        left=stored.left,
        audience=audience,
        audience_error=audience_error,
        refresh_token_expires=expires.isoformat() if expires else None,
        refresh_token_warning=expiry_warning(expires, datetime.now(UTC).date()),
    )


def next_run(sync: SyncConfig) -> str | None:
    """Return the next tick of a sync as text; None if no schedule runs it."""
    if sync.schedule is None or not sync.enabled:
        return None
    return iso_time(sync.schedule.schedule.next_after(datetime.now(UTC)))


def sync_log_lines(config: Config, name: str, *, failed: bool, limit: int) -> list[dict[str, Any]]:
    """Return the newest lines of the sync log, newest first, as JSON objects.

    Args:
        config: The configuration.
        name: Name of the sync.
        failed: Return only operations that were not delivered.
        limit: Maximum number of lines.

    Returns:
        The lines; none for a sync that has never run.

    Raises:
        ConfigurationError: The sync does not exist, or the warehouse refuses the connection.
        WarehouseUnavailable: The warehouse cannot be read.
    """
    sync = config.sync(name)
    with open_warehouse(config, sync) as warehouse:
        state = State(warehouse)
        if not is_readable(state):
            return []
        lines = sync_log.read(state, SyncKey(sync.name, sync.destination), failed=failed, limit=limit)
    for line in lines:
        line["logged_at"] = iso_time(line["logged_at"])
        line["identity"] = None if line["identity"] is None else str(line["identity"])
    return lines


def expiry_warning(expires: date | None, today: date) -> str | None:
    """Return what to do about a refresh token that expires on `expires`; None while there is enough time."""
    if expires is None or expires - today > WARN_BEFORE:
        return None
    days = (expires - today).days
    when = f"in {days} days" if days > 1 else "tomorrow" if days == 1 else "today" if days == 0 else "already"
    return f"the refresh token ends {when} ({expires}); authorise the app again and set refresh_token"


@dataclass(frozen=True, slots=True)
class _StoredStatus:
    """What the state tables contain of a sync; the defaults are those of a sync that has never run."""

    installation: str | None = None
    generation: int = 1
    audience_id: str | None = None
    running: bool = False
    last_run: dict[str, Any] | None = None
    members: int = 0
    pending: int = 0
    dead: int = 0
    dead_removes: int = 0
    left: dict[str, int] = field(default_factory=dict)


def _read_state(state: State, sync: SyncConfig) -> _StoredStatus:
    key = SyncKey(sync.name, sync.destination)
    row = syncs.read(state, key)
    current = sync.audience.id or row.audience_id
    left = [
        run
        for run in runs.find_latest_per_audience(state, sync.name)
        if run.may_hold_members and run.audience_id != current
    ]
    members = pending = dead = dead_removes = 0
    if row.promoted_run is not None:
        promoted = runs.load(state, row.promoted_run)
        members = promoted.members
        with state.warehouse.connect("count the retry queue") as connection:
            waiting, dead = retry_queue.count(state, connection, key, promoted.run_id)
            dead_removes = _dead_removes(state, connection, key, promoted.run_id) if dead else 0
        pending = waiting + promoted.last_seq - promoted.watermark
    return _StoredStatus(
        installation=syncs.installation_id(state),
        generation=row.generation,
        audience_id=row.audience_id,
        running=_is_leased(state, key),
        last_run=_last_run(state, key),
        members=members,
        pending=pending,
        dead=dead,
        dead_removes=dead_removes,
        left={str(run.audience_id): run.members for run in left},
    )


def _dead_removes(state: State, connection: sa.Connection, key: SyncKey, run_id: int) -> int:
    queue = state.tables.retry_queue
    found = connection.scalar(
        sa.select(sa.func.count()).where(
            key.match(queue),
            queue.c.run_id == run_id,
            queue.c.state == retry_queue.DEAD,
            queue.c.operation == OperationKind.REMOVE,
        )
    )
    return int(found or 0)


def _is_leased(state: State, key: SyncKey) -> bool:
    table = state.tables.syncs
    with state.warehouse.connect("read the lease") as connection:
        return connection.scalar(sa.select(table.c.sync).where(key.match(table), syncs.is_leased(state))) is not None


def _last_run(state: State, key: SyncKey) -> dict[str, Any] | None:
    row = runs.find_latest(state, key)
    if row is None:
        return None
    return {
        "run_id": row.run_id,
        "kind": row.kind,
        "trigger": row.triggered_by,
        "status": row.status,
        "phase": row.phase,
        "reason": row.reason,
        "started_at": iso_time(row.started_at),
        "finished_at": iso_time(row.finished_at),
        "rows": row.query_rows,
        "members": row.members,
        "rejected": row.rejected_rows + row.rejected_operations,
        "planned": {"add": row.planned_add, "remove": row.planned_remove},
        "delivered": {"add": row.delivered_add, "remove": row.delivered_remove},
        "deferred": row.deferred,
        "dead": row.dead,
    }


def to_audience_status(audience: Audience) -> AudienceStatus:
    """Return the part of `status --json` about an audience."""
    return AudienceStatus(
        id=audience.id,
        status=audience.status,
        size=audience.size,
        matched=audience.matched,
        input_count=audience.input_count,
        match_rate=audience.match_rate,
        usable=audience.usability,
        warning=audience.warning,
    )


def iso_time(moment: datetime | None) -> str | None:
    """Return a time in UTC as text with seconds, such as 2026-11-22T05:04:49Z."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_audience(
    config: Config, sync: SyncConfig, stored: _StoredStatus
) -> tuple[AudienceStatus | None, date | None]:
    """Return the audience and the last day of the refresh token; with short timeouts, because a user waits."""
    destination = open_destination(config.destination_of(sync), interactive=True)
    try:
        expires = destination.check().refresh_token_expires
        if sync.audience.id is None and stored.installation is None:
            return None, expires
        spec = audience_spec(sync, SyncKey(sync.name, sync.destination), stored.installation or "", stored.generation)
        audience = destination.find(spec, stored.audience_id)
    finally:
        destination.close()
    if audience is None:
        return None, expires
    return to_audience_status(audience), expires
