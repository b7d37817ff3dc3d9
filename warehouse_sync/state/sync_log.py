"""The sync log: one line per operation and outcome, and one per newly rejected row of the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import DELIVERED, Outcome
from warehouse_sync.state.store import State, SyncKey

ROW_MESSAGES = {
    "already_hashed": "hash_pii is on but the value is hashed already: turn hash_pii off or send plain addresses",
    "not_hashed": "hash_pii is off but the value is not hashed: turn hash_pii on or send hashed data",
    "no_identifier": "the row has no identifier that the destination takes",
}
"""What the operator can do about a row that cannot be a member, by reason."""


def add_operations(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    condition: sa.ColumnElement[bool],
    outcome: Outcome,
) -> None:
    """Log the outcome of the latest attempt of the operations in `changes` that match `condition`."""
    _add_lines(
        state,
        connection,
        key,
        run_id,
        condition,
        {
            **_operation_columns(changes),
            "outcome": sa.literal(outcome.status.value, sa.String),
            "reason": sa.literal(outcome.reason or None, sa.String),
            "message": sa.literal(outcome.message or None, sa.Text),
            "attempt": changes.c.attempt + int(outcome.attempted),
        },
    )


def add_delivered(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    changes: sa.TableClause,
    condition: sa.ColumnElement[bool],
) -> None:
    """Log the operations in `changes` that match `condition` as delivered."""
    add_operations(state, connection, key, run_id, changes, condition, DELIVERED)


def add_held(
    state: State, connection: sa.Connection, key: SyncKey, run_id: int, changes: sa.TableClause, last_held: int
) -> None:
    """Log the operations that the run holds back (seq 1 to `last_held`) as deferred, with the reason they had last."""
    _add_lines(
        state,
        connection,
        key,
        run_id,
        changes.c.seq <= last_held,
        {
            **_operation_columns(changes),
            "outcome": sa.literal("deferred", sa.String),
            "reason": changes.c.last_reason,
            "message": changes.c.last_message,
            "attempt": changes.c.attempt,
        },
    )


def add_rejected_rows(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    current: sa.TableClause,
    previous: sa.TableClause | None,
    rejected: int,
) -> None:
    """Log each row that cannot be a member, except those that the previous snapshot rejected for the same reason.

    Args:
        state: The state schema.
        connection: A fenced transaction.
        key: The sync.
        run_id: The run that found the rows.
        current: The snapshot of the run.
        previous: The snapshot before; None when there is none.
        rejected: The number of such rows in `current`. With 0 the statement inserts nothing without a scan, but still
            fails when the log cannot be written.
    """
    condition: sa.ColumnElement[bool] = current.c.reason.is_not(None) if rejected else sa.false()
    if rejected and previous is not None:
        known = sa.exists().where(
            previous.c.reason == current.c.reason,
            sa.func.coalesce(previous.c.primary_key, "") == sa.func.coalesce(current.c.primary_key, ""),
        )
        condition = condition & ~known
    _add_lines(
        state,
        connection,
        key,
        run_id,
        condition,
        {
            "seq": sa.cast(sa.null(), sa.BigInteger),
            "operation": sa.cast(sa.null(), sa.String),
            "outcome": sa.literal("rejected", sa.String),
            "reason": current.c.reason,
            "message": sa.case(*((current.c.reason == reason, text) for reason, text in ROW_MESSAGES.items())),
            "primary_key": current.c.primary_key,
            "identity": sa.cast(sa.null(), sa.Uuid),
            "attempt": sa.cast(sa.null(), sa.Integer),
        },
    )


def _operation_columns(changes: sa.TableClause) -> dict[str, sa.ColumnElement[Any]]:
    return {name: changes.c[name] for name in ("seq", "operation", "primary_key", "identity")}


def _add_lines(
    state: State,
    connection: sa.Connection,
    key: SyncKey,
    run_id: int,
    condition: sa.ColumnElement[bool],
    columns: Mapping[str, sa.ColumnElement[Any]],
) -> None:
    """Insert one line per row that matches `condition`; `columns` are all but the time, the run and the key."""
    log = state.tables.sync_log
    values: dict[str, sa.ColumnElement[Any]] = {
        "logged_at": _once(state.warehouse.dialect.utc_now()),
        "run_id": sa.literal(run_id, sa.BigInteger),
        **dict(zip(key.values(), key.columns(), strict=True)),
        **columns,
    }
    names = [column.name for column in log.c]
    lines = sa.select(*(values[name] for name in names)).where(condition)
    connection.execute(sa.insert(log).from_select(names, lines))


def _once(time: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    """Return `time` as a subquery that is evaluated once per statement.

    Otherwise PostgreSQL reads the clock for each row and cannot use an index.
    """
    return sa.select(time).scalar_subquery()


def delete_older(state: State, connection: sa.Connection, key: SyncKey, days: int) -> None:
    """Delete the lines of the sync that are older than `days`; 0 deletes all."""
    log = state.tables.sync_log
    old = log.c.logged_at < _once(state.warehouse.dialect.utc_now(-86400.0 * days))
    connection.execute(sa.delete(log).where(key.match(log), old))


def read(state: State, key: SyncKey, *, failed: bool, limit: int) -> list[dict[str, Any]]:
    """Return the newest `limit` lines of the sync, newest first; with `failed` only those that were not delivered."""
    log = state.tables.sync_log
    select = sa.select(log).where(key.match(log))
    if failed:
        select = select.where(log.c.outcome != "delivered")
    select = select.order_by(log.c.logged_at.desc(), log.c.run_id.desc(), log.c.seq.desc()).limit(limit)
    with state.warehouse.connect("read the sync log") as connection:
        return [dict(row._mapping) for row in connection.execute(select)]
