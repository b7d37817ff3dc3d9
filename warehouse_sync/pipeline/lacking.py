"""Rows whose key another table lacks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def lacking(
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
