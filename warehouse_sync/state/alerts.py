"""What the webhooks know of a sync: a column that workers change by compare-and-set."""

from __future__ import annotations

import json

import sqlalchemy as sa

from warehouse_sync.errors import QueryFailed
from warehouse_sync.operations import RunStatus
from warehouse_sync.state import runs
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ensure_row

MAX_ATTEMPTS = 5
"""How often a worker compares, if another one changes the column in between."""


def read(state: State, key: SyncKey) -> dict[str, str]:
    """Return the state that was last sent, by webhook; a missing webhook knows the sync as ok."""
    return _parse(_read_column(state, key))


def compare_and_set(state: State, key: SyncKey, before: dict[str, str], after: dict[str, str]) -> bool:
    """Replace `before` by `after`; return False, without a change, when the column does not hold `before`."""
    if before == after:
        return True
    syncs = state.tables.syncs
    ensure_row(state, key)
    for _ in range(MAX_ATTEMPTS):
        found = _read_column(state, key)
        if _parse(found) != before:
            return False
        same = syncs.c.alerted.is_(None) if found is None else syncs.c.alerted == found
        text = json.dumps(after, sort_keys=True) if after else None
        try:
            with state.warehouse.write("record what was sent to the webhooks") as connection:
                updated = connection.execute(sa.update(syncs).where(key.match(syncs), same).values(alerted=text))
                if updated.rowcount == 1:
                    return True
        except QueryFailed:  # DuckDB's error when another connection writes this row.
            continue
    return False


def is_outdated(state: State, key: SyncKey, run_id: int | None) -> bool:
    """Return whether a later run of the sync has ended since: then that run's alert counts."""
    if run_id is None:
        return False
    latest = runs.find_latest(state, key)
    return latest is not None and latest.run_id > run_id and latest.status != RunStatus.RUNNING


def _read_column(state: State, key: SyncKey) -> str | None:
    syncs = state.tables.syncs
    with state.warehouse.connect("read what was sent to the webhooks") as connection:
        text: str | None = connection.scalar(sa.select(syncs.c.alerted).where(key.match(syncs)))
    return text


def _parse(text: str | None) -> dict[str, str]:
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(state) for name, state in known.items()} if isinstance(known, dict) else {}
