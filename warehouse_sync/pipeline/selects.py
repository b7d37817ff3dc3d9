"""Rows laid out as operations: the columns of `StateTables.changes`, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.operations import OperationKind
from warehouse_sync.warehouses.base import Warehouse

MEMBER = ("identity", "fingerprint", "primary_key")
RETRY = ("attempt", "deferred_since", "dead", "next_attempt_at", "last_reason", "last_message")


def member_columns(names: Sequence[str], source: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """The columns of a snapshot, or of what is taken from one, that operations carry."""
    return [source.c[name] for name in (*MEMBER, *names)]


def operation_rows(
    names: Sequence[str],
    source: sa.Select[Any],
    operation: OperationKind | None,
    cause: str,
    *,
    held: bool = False,
) -> sa.Select[Any]:
    """The rows of `source` in the columns of changes, with `seq` if it has that; without `operation` its own one."""
    rows = source.subquery()
    fresh: dict[str, sa.ColumnElement[Any]] = {
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
        *(rows.c[name] for name in (*MEMBER, *names)),
        *(rows.c.get(name, value).label(name) for name, value in fresh.items()),
    )


def no_operations(names: Sequence[str]) -> sa.Select[Any]:
    """No operation, in the columns of changes."""
    empty = [sa.cast(sa.null(), sa.Uuid).label(name) for name in ("identity", "fingerprint")]
    texts = [sa.cast(sa.null(), sa.Text).label(name) for name in ("primary_key", *names)]
    return operation_rows(names, sa.select(*empty, *texts).where(sa.false()), OperationKind.ADD, "pending")


def numbered_rows(warehouse: Warehouse, names: Sequence[str], parts: Sequence[sa.CTE]) -> sa.Select[Any]:
    """The rows of the parts, one part behind the other, each in any order.

    A part's numbers begin behind the rows of those before it, which costs no sorting.
    """
    selects: list[sa.Select[Any]] = []
    for place, part in enumerate(parts):
        seq: sa.ColumnElement[Any] = warehouse.dialect.row_number()
        for before in parts[:place]:
            seq = seq + sa.select(sa.func.count()).select_from(before).scalar_subquery()
        columns = ("operation", "cause", "held", *MEMBER, *names, *RETRY)
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
    """The rows of `select` whose `column` is not found in `other`.

    among: only these rows are wanted. found: only in these rows of the other table the key counts as found.

    The keys are compared by themselves and the few that are left fetch their rows: of a join that does not fit into
    memory both sides go to disk. An outer join, because DuckDB makes more of NOT EXISTS than that.
    """
    same = column == other if found is None else (column == other) & found
    keys = sa.select(column).outerjoin_from(column.table, other.table, same).where(other.is_(None))
    if among is not None:
        keys, select = keys.where(among), select.where(among)
    return select.where(column.in_(keys))
