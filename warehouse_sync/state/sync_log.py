"""The sync log: a line per operation and outcome, and per newly rejected row of the query."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import DELIVERED, Outcome
from warehouse_sync.state.store import State, SyncKey

ROW_MESSAGES = {
    "already_hashed": "hash_pii is on but the value is hashed already: turn hash_pii off or send plain addresses",
    "not_hashed": "hash_pii is off but the value is not hashed: turn hash_pii on or send hashed data",
    "no_identifier": "the row has no identifier that the destination takes",
}
"""What the operator can do about a row that cannot be a member."""


def add_operations(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    which: sa.ColumnElement[bool],
    outcome: Outcome,
) -> None:
    """These operations ended like this, in their latest attempt."""
    reason = sa.literal(outcome.reason or None, sa.String)
    message = sa.literal(outcome.message or None, sa.Text)
    source = sa.select(
        _once(state.warehouse.dialect.utc_now()),
        sa.literal(run_id, sa.BigInteger),
        *key.columns(),
        changes.c.seq,
        changes.c.operation,
        sa.literal(outcome.status.value, sa.String),
        reason,
        message,
        changes.c.primary_key,
        changes.c.identity,
        changes.c.attempt + int(outcome.attempted),
    ).where(which)
    _insert(state, connection, source)


def add_delivered(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    which: sa.ColumnElement[bool],
) -> None:
    """These operations were delivered."""
    add_operations(state, connection, key, run_id, changes, which, DELIVERED)


def add_held(
    state: State, connection: sa.Connection, key: SyncKey, run_id: int, changes: sa.TableClause, upto: int
) -> None:
    """The operations that the run holds back (seq 1 to `upto`) are deferred, for the reason of their last attempt."""
    source = sa.select(
        _once(state.warehouse.dialect.utc_now()),
        sa.literal(run_id, sa.BigInteger),
        *key.columns(),
        changes.c.seq,
        changes.c.operation,
        sa.literal("deferred", sa.String),
        changes.c.last_reason,
        changes.c.last_message,
        changes.c.primary_key,
        changes.c.identity,
        changes.c.attempt,
    ).where(changes.c.seq <= upto)
    _insert(state, connection, source)


def add_rejected_rows(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    current: sa.TableClause,
    previous: sa.TableClause | None,
    rejected: int,
) -> None:
    """A line for each row that cannot be a member and was not already so in the previous snapshot.

    rejected: how many there are. Without any they are not looked for, but a log that cannot be written shows.
    """
    nothing = sa.null()
    source = sa.select(
        _once(state.warehouse.dialect.utc_now()),
        sa.literal(run_id, sa.BigInteger),
        *key.columns(),
        sa.cast(nothing, sa.BigInteger),
        sa.cast(nothing, sa.String),
        sa.literal("rejected", sa.String),
        current.c.reason,
        sa.case(*((current.c.reason == reason, text) for reason, text in ROW_MESSAGES.items())),
        current.c.primary_key,
        sa.cast(nothing, sa.Uuid),
        sa.cast(nothing, sa.Integer),
    ).where(current.c.reason.is_not(None) if rejected else sa.false())
    if rejected and previous is not None:
        known = sa.exists().where(
            previous.c.reason == current.c.reason,
            sa.func.coalesce(previous.c.primary_key, "") == sa.func.coalesce(current.c.primary_key, ""),
        )
        source = source.where(~known)
    _insert(state, connection, source)


def _once(time: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    """The clock read once for a statement: PostgreSQL reads it for each row else, and can use no index."""
    return sa.select(time).scalar_subquery()


def _insert(state: State, connection: sa.Connection, source: sa.Select[Any]) -> None:
    log = state.tables.sync_log
    connection.execute(sa.insert(log).from_select([column.name for column in log.c], source))


def delete_older(state: State, connection: sa.Connection, key: SyncKey, days: int) -> None:
    """Lines older than `days` are gone; 0 keeps none."""
    log = state.tables.sync_log
    old = log.c.logged_at < _once(state.warehouse.dialect.utc_now(-86400.0 * days))
    connection.execute(sa.delete(log).where(key.match(log), old))


def read(state: State, key: SyncKey, *, failed: bool, limit: int) -> list[dict[str, Any]]:
    """The newest lines, newest first; only those that were not delivered if `failed`."""
    log = state.tables.sync_log
    select = sa.select(log).where(key.match(log))
    if failed:
        select = select.where(log.c.outcome != "delivered")
    select = select.order_by(log.c.logged_at.desc(), log.c.run_id.desc(), log.c.seq.desc()).limit(limit)
    with state.warehouse.connect("read the sync log") as connection:
        return [dict(row._mapping) for row in connection.execute(select)]
