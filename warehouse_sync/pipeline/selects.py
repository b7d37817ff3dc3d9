"""Parts of the statements that make changes: rows laid out as operations, their numbers, and the anti-join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import OperationKind
from warehouse_sync.warehouses.base import Warehouse

MEMBER_COLUMNS = ("identity", "fingerprint", "primary_key")
"""Columns of changes that a member brings along, beside its identifiers and fields."""

RETRY_COLUMNS = ("attempt", "deferred_since", "dead", "next_attempt_at", "last_reason", "last_message")
"""Columns of changes that an operation keeps from run to run while it is pending."""


def member_columns(names: Sequence[str], source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a snapshot, or of a part of one, that operations carry."""
    return [source.c[name] for name in (*MEMBER_COLUMNS, *names)]


def operation_rows(
    names: Sequence[str],
    source: sa.Select[Any],
    operation: OperationKind | None,
    cause: str,
    *,
    held: bool = False,
) -> sa.Select[Any]:
    """Return the rows of `source` in the columns of changes.

    Args:
        names: The identifiers and fields of the audience type.
        source: Rows with the columns of members; with `seq` and the retry columns if they have them.
        operation: The operation of each row; None takes it from the row.
        cause: Why the operations are sent.
        held: The run does not send them.
    """
    rows = source.subquery()
    defaults: dict[str, sa.ColumnElement[Any]] = {
        "attempt": sa.literal(0, sa.Integer),
        "deferred_since": sa.cast(sa.null(), sa.DateTime),
        "dead": sa.false(),
        "next_attempt_at": sa.cast(sa.null(), sa.DateTime),
        "last_reason": sa.cast(sa.null(), sa.Text),
        "last_message": sa.cast(sa.null(), sa.Text),
    }
    kind = rows.c.operation if operation is None else sa.literal(operation.value, sa.Text)
    return sa.select(
        *(rows.c[name] for name in ("seq",) if name in rows.c),
        kind.label("operation"),
        sa.literal(cause, sa.Text).label("cause"),
        (sa.true() if held else sa.false()).label("held"),
        *(rows.c[name] for name in (*MEMBER_COLUMNS, *names)),
        *(rows.c.get(name, value).label(name) for name, value in defaults.items()),
    )


def no_operations(names: Sequence[str]) -> sa.Select[Any]:
    """Return no row, in the columns of changes."""
    ids = [sa.cast(sa.null(), sa.Uuid).label(name) for name in ("identity", "fingerprint")]
    texts = [sa.cast(sa.null(), sa.Text).label(name) for name in ("primary_key", *names)]
    return operation_rows(names, sa.select(*ids, *texts).where(sa.false()), OperationKind.ADD, "pending")


def numbered_rows(warehouse: Warehouse, names: Sequence[str], parts: Sequence[sa.CTE]) -> sa.Select[Any]:
    """Return the rows of all parts, numbered as `seq` from 1: part after part, within a part in any order.

    The numbers of a part start after the counts of the parts before it, which needs no sorting.
    """
    selects: list[sa.Select[Any]] = []
    for index, part in enumerate(parts):
        seq: sa.ColumnElement[Any] = warehouse.dialect.row_number()
        for earlier in parts[:index]:
            seq = seq + sa.select(sa.func.count()).select_from(earlier).scalar_subquery()
        columns = ("operation", "cause", "held", *MEMBER_COLUMNS, *names, *RETRY_COLUMNS)
        selects.append(sa.select(sa.cast(seq, sa.BigInteger).label("seq"), *(part.c[name] for name in columns)))
    return selects[0] if len(selects) == 1 else sa.select(sa.union_all(*selects).subquery("operations"))


def anti_join(
    select: sa.Select[Any],
    column: sa.ColumnElement[Any],
    other: sa.ColumnElement[Any],
    *,
    among: sa.ColumnElement[bool] | None = None,
    found: sa.ColumnElement[bool] | None = None,
) -> sa.Select[Any]:
    """Return the rows of `select` whose `column` does not occur in `other`.

    Only the keys are joined, and the few that are left fetch their rows: of a join that does not fit into memory both
    sides go to disk. It is an outer join because DuckDB makes a more expensive plan of NOT EXISTS.

    Args:
        select: The rows to choose from.
        column: Their key.
        other: The key of the other table.
        among: Consider only these rows of `select`.
        found: Only in these rows of the other table the key counts as occurring.
    """
    same = column == other if found is None else (column == other) & found
    keys = sa.select(column).outerjoin_from(column.table, other.table, same).where(other.is_(None))
    if among is not None:
        keys, select = keys.where(among), select.where(among)
    return select.where(column.in_(keys))
