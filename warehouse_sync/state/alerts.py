"""What the webhooks were told last of a sync: a column that workers change by comparing it first."""

from __future__ import annotations

import json

import sqlalchemy as sa

from warehouse_sync.errors import QueryFailed
from warehouse_sync.operations import RunStatus
from warehouse_sync.state import runs
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ensure_row

MAX_ATTEMPTS = 5
"""Times that a worker compares again because another one has changed the column in between."""


def read(state: State, key: SyncKey) -> dict[str, str]:
    """The state that each webhook knows of the sync; a webhook that is not named knows it as ok."""
    return _parse(_read_column(state, key))


def compare_and_set(state: State, key: SyncKey, before: dict[str, str], after: dict[str, str]) -> bool:
    """The webhooks know `after`. False, and nothing has changed, when they do not know just `before`."""
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
            with state.warehouse.write("record what the webhooks were told") as connection:
                done = connection.execute(sa.update(syncs).where(key.match(syncs), same).values(alerted=text))
                if done.rowcount == 1:
                    return True
        except QueryFailed:  # DuckDB's way to say that somebody else writes this row.
            continue
    return False


def is_outdated(state: State, key: SyncKey, run_id: int | None) -> bool:
    """Whether a later run of the sync has ended since: then that one tells how the sync stands."""
    if run_id is None:
        return False
    latest = runs.find_latest(state, key)
    return latest is not None and latest.run_id > run_id and latest.status != RunStatus.RUNNING


def _read_column(state: State, key: SyncKey) -> str | None:
    syncs = state.tables.syncs
    with state.warehouse.connect("read what the webhooks were told") as connection:
        text: str | None = connection.scalar(sa.select(syncs.c.alerted).where(key.match(syncs)))
    return text


def _parse(text: str | None) -> dict[str, str]:
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(state) for name, state in known.items()} if isinstance(known, dict) else {}
