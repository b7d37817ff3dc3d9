"""Build the SELECT that turns the rows of a model into members: mapped, normalised, hashed, each identity once.

The statement is a chain of subqueries (`Stage`), each with the columns that the next one needs:

    rows        the query's rows as they are, with a hash of each row
    recognised  beside each row what the previous snapshot holds for it, if the row has not changed
    cleaned     each mapped value normalised
    examined    beside each value the problem for which it is left out
    judged      each value as it is sent, and the reason why a row cannot be a member
    keyed       identity and fingerprint

An unchanged row takes over what the previous snapshot holds for it instead of being computed again: hashing and
normalising is most of the work, and between two runs most rows do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field, Normaliser
from warehouse_sync.pipeline.model import ResolvedModel
from warehouse_sync.warehouses import normalisers
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.tables import MEMBER_NUMBER

STALE = "stale"
"""Column of a staged row: the row id of a row of the previous snapshot that no row of the query matches."""

PACKED = "packed"
"""Column of a staged row: a new or changed row of the query as a line of the snapshot, packed into one value."""

REUSED_COLUMNS = ("identity", "fingerprint", "left_out")
"""Columns that an unchanged row takes over from the previous snapshot, beside its values."""

MATCHED_ROW_ID = "known place"


class Kind(Enum):
    """What a column inside the statement is for.

    Members:
        KEY: A column of the primary key as the query yields it; it decides which row represents a member.
        RAW: A mapped column as the query yields it.
        REUSED: What the previous snapshot holds for an unchanged row.
        VALUE: A mapped value, normalised or as it is sent.
        PROBLEM: Why a value is left out; NULL for none.
        RESULT: A column of the snapshot that is no field.
        FLAG: Whether something holds for the row.
    """

    KEY = auto()
    RAW = auto()
    REUSED = auto()
    VALUE = auto()
    PROBLEM = auto()
    RESULT = auto()
    FLAG = auto()


LABELS = {
    Kind.KEY: "key {}",
    Kind.RAW: "raw {}",
    Kind.REUSED: "kept {}",
    Kind.PROBLEM: "{} problem",
    Kind.FLAG: "suspicious {}",
}
"""How columns are named in SQL; all other kinds by their plain name. No field has a space in its name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a stage.

    Attributes:
        kind: What it is for.
        name: Of a field, of a column of the snapshot, or the number of a column of the primary key.
        expression: What computes it; in a finished stage the column of its subquery.
    """

    kind: Kind
    name: str
    expression: sa.ColumnElement[Any]

    @property
    def label(self) -> str:
        """Return its name in SQL."""
        return LABELS.get(self.kind, "{}").format(self.name)


@dataclass(frozen=True, slots=True)
class Stage:
    """A subquery of the statement, and its columns by their kind."""

    rows: sa.Subquery
    columns: tuple[Column, ...]

    def of_kind(self, kind: Kind) -> list[Column]:
        """Return the columns of this kind, in order."""
        return [column for column in self.columns if column.kind is kind]

    def get(self, kind: Kind, name: str) -> sa.ColumnElement[Any] | None:
        """Return the column of this kind and name, or None."""
        return next((c.expression for c in self.columns if c.kind is kind and c.name == name), None)

    def value(self, kind: Kind, name: str) -> sa.ColumnElement[Any]:
        """Return the column of this kind and name, which is there."""
        found = self.get(kind, name)
        if found is None:
            raise AssertionError(f"the stage has no column {kind.name} {name}")
        return found

    @property
    def is_unchanged(self) -> sa.ColumnElement[bool] | None:
        """Return whether a row stands in the previous snapshot as it is; None where there is no such snapshot."""
        reused = self.of_kind(Kind.REUSED)
        return reused[0].expression.is_not(None) if reused else None

    def unless_unchanged(self, computed: sa.ColumnElement[Any], name: str = "") -> sa.ColumnElement[Any]:
        """Return what an unchanged row takes over under `name`, and `computed` for all other rows.

        For an unchanged row `computed` is not even evaluated. Where nothing is taken over under this name, it is NULL.
        """
        unchanged = self.is_unchanged
        if unchanged is None:
            return computed
        reused = self.get(Kind.REUSED, name)
        return sa.case((~unchanged, computed)) if reused is None else sa.case((unchanged, reused), else_=computed)


def snapshot_select(
    warehouse: Warehouse,
    model: ResolvedModel,
    salt: str = "",
    previous: sa.TableClause | None = None,
    *,
    ranked: bool = True,
    number_members: bool = False,
) -> sa.Select[Any]:
    """Return the SELECT whose rows are the snapshot, in the columns of `StateTables.snapshot`.

    Args:
        warehouse: The warehouse that runs it.
        model: The query and its mapping.
        salt: Stands for everything that decides what becomes of a row, so that equal row hashes mean equal members.
        previous: An earlier snapshot made with the same salt, from which unchanged rows are reused.
        ranked: Yield each identity once, whatever the query yields; else as often as there are rows of it.
        number_members: Number the members as MEMBER_NUMBER, where the engine does not number rows by itself.
    """
    rows = _rows(warehouse, model, salt)
    if previous is not None:
        names = (*REUSED_COLUMNS, *(field.name for field in model.mapped))
        rows = _with_previous(warehouse.dialect, rows, previous, {name: previous.c[name] for name in names})
    keyed = _keyed_rows(warehouse.dialect, model, rows)
    lines = _one_line_per_identity(model, keyed) if ranked else _one_line_per_row(model, keyed)
    number = warehouse.member_number(sa.column("reason").is_(None)) if number_members else None
    return lines if number is None else lines.add_columns(number.label(MEMBER_NUMBER))


def staged_select(
    warehouse: Warehouse,
    model: ResolvedModel,
    salt: str,
    previous: sa.FromClause,
    row_id: sa.ColumnElement[int],
) -> sa.Select[Any]:
    """Return the SELECT that compares the query with the previous snapshot, row by row.

    Each of its rows has one of two columns set: PACKED, for a row of the query that is new or has changed, its line of
    the snapshot packed into one value; STALE, for a row of `previous` that is not in the query as it was, its row id.
    Both are NULL for an unchanged row.

    Args:
        warehouse: The warehouse that runs it.
        model: The query and its mapping.
        salt: As in `snapshot_select()`.
        previous: An earlier snapshot made with the same salt.
        row_id: The row id of a row of `previous`.
    """
    beside = _with_previous(
        warehouse.dialect, _rows(warehouse, model, salt), previous, {MATCHED_ROW_ID: row_id}, full=True
    )
    lines = _one_line_per_row(model, _keyed_rows(warehouse.dialect, model, beside)).subquery("lines")
    matched = lines.c[MATCHED_ROW_ID]
    # Each row of the query has a row hash, so a line without one is a row of `previous` alone.
    stale = sa.case((lines.c.row_hash.is_(None), matched))
    packed = warehouse.dialect.pack_columns({column.name: column for column in lines.c if column is not matched})
    return sa.select(stale.label(STALE), sa.case((matched.is_(None), packed)).label(PACKED))


def _stage(dialect: Dialect, columns: Iterable[Column], title: str, source: sa.Select[Any] | None = None) -> Stage:
    """Return the stage with these columns, selected by `source` where that is more than their list."""
    made = tuple(columns)
    select = sa.select(*(column.expression.label(column.label) for column in made)) if source is None else source
    rows = dialect.evaluated_once(select, title)
    return Stage(rows, tuple(replace(column, expression=rows.c[column.label]) for column in made))


def _rows(warehouse: Warehouse, model: ResolvedModel, salt: str) -> Stage:
    """Return the query's rows as they are: the primary key, the mapped columns, and a hash of all that."""
    dialect = warehouse.dialect
    keys = [_quoted_column(name) for name in model.primary_key]
    values = {field.name: _quoted_column(model.columns[field.name]) for field in model.mapped}
    texts = [dialect.to_text(key) for key in keys]
    for field in model.mapped:
        as_text = dialect.list_to_text if field.normaliser is Normaliser.TEXT_LIST else dialect.to_text
        texts.append(as_text(values[field.name]))
    columns = [
        *(Column(Kind.KEY, str(number), key) for number, key in enumerate(keys)),
        Column(Kind.RESULT, "primary_key", _primary_key(dialect, model)),
        *(Column(Kind.RAW, name, value) for name, value in values.items()),
        Column(Kind.RESULT, "row_hash", dialect.row_hash(salt, texts)),
    ]
    source = sa.select(*(column.expression.label(column.label) for column in columns))
    return _stage(dialect, columns, "rows", source.select_from(warehouse.model(model.query)))


def _primary_key(dialect: Dialect, model: ResolvedModel) -> Text:
    """Return the key as text for the log; hashed where it is a hashed column, holds an at sign, or is very long."""
    private = {model.columns[field.name] for field in model.mapped if field.hash}
    parts: list[Text] = []
    for name in model.primary_key:
        text = dialect.to_text(_quoted_column(name))
        hashed = sa.literal("sha256:", sa.Text) + dialect.hash_text(text, "sha256")
        unfit = text.contains("@") | (sa.func.length(text) > normalisers.MAX_KEY_LENGTH)
        parts.append(hashed if name in private else sa.case((unfit, hashed), else_=text))
    key = parts[0]
    for part in parts[1:]:
        key = sa.func.coalesce(key, "") + ", " + sa.func.coalesce(part, "")
    return key


def _quoted_column(name: str) -> sa.ColumnElement[Any]:
    return sa.column(sa.sql.quoted_name(name, quote=True))


def _with_previous(
    dialect: Dialect,
    stage: Stage,
    previous: sa.FromClause,
    reused: Mapping[str, sa.ColumnElement[Any]],
    *,
    full: bool = False,
) -> Stage:
    """Return the rows, and beside each these columns of its line in `previous`, if the row has not changed.

    Args:
        dialect: The dialect of the warehouse.
        stage: The rows of the query.
        previous: The earlier snapshot.
        reused: Columns of `previous`, by the names under which they are reused.
        full: Also yield all other rows of `previous`, beside no row.
    """
    row_hash, key = (stage.value(Kind.RESULT, name) for name in ("row_hash", "primary_key"))
    # The key takes part so that a row is compared with its own past only, whatever the width of the hash.
    same = (previous.c.row_hash == row_hash) & (previous.c.primary_key == key)
    added = [Column(Kind.REUSED, name, column) for name, column in reused.items()]
    joined = sa.select(stage.rows, *(column.expression.label(column.label) for column in added))
    source = joined.outerjoin_from(stage.rows, previous, same, full=full)
    return _stage(dialect, (*stage.columns, *added), "recognised", source)


def _keyed_rows(dialect: Dialect, model: ResolvedModel, rows: Stage) -> Stage:
    """Return what becomes of each row."""
    cleaned = _cleaned(dialect, model, rows)
    examined = _examined(dialect, model, cleaned)
    judged = _judged(dialect, model, examined)
    return _keyed(dialect, model, judged)


def _cleaned(dialect: Dialect, model: ResolvedModel, rows: Stage) -> Stage:
    """Return each mapped value normalised, and whether the row's plain texts may contain an e-mail address."""
    raw = {field.name: rows.value(Kind.RAW, field.name) for field in model.mapped}
    plain = [dialect.to_text(raw[field.name]) for field in model.mapped if field.normaliser is Normaliser.TEXT]
    suspicious = normalisers.may_contain_address(dialect, plain) if plain else sa.false()
    return _stage(
        dialect,
        (
            *rows.of_kind(Kind.KEY),
            *rows.of_kind(Kind.REUSED),
            *rows.of_kind(Kind.RESULT),
            *(
                Column(
                    Kind.VALUE,
                    field.name,
                    rows.unless_unchanged(normalisers.clean(dialect, field, raw[field.name])),
                )
                for field in model.mapped
            ),
            Column(Kind.FLAG, "row", rows.unless_unchanged(suspicious)),
        ),
        "cleaned",
    )


def _examined(dialect: Dialect, model: ResolvedModel, cleaned: Stage) -> Stage:
    """Return each normalised value, and beside it why it is left out."""
    suspicious = cleaned.value(Kind.FLAG, "row")

    def problem(field: Field) -> Text:
        value = cleaned.value(Kind.VALUE, field.name)
        return normalisers.problem(dialect, field, value, hash_pii=model.hash_pii, suspicious=suspicious)

    return _stage(
        dialect,
        (
            *(column for column in cleaned.columns if column.kind is not Kind.FLAG),
            *(Column(Kind.PROBLEM, field.name, problem(field)) for field in model.mapped),
        ),
        "examined",
    )


def _judged(dialect: Dialect, model: ResolvedModel, examined: Stage) -> Stage:
    """Return each value as it is sent, and why the row cannot be a member."""
    cleaned = {field.name: examined.value(Kind.VALUE, field.name) for field in model.mapped}
    problems = {field.name: examined.value(Kind.PROBLEM, field.name) for field in model.mapped}

    def sent(field: Field) -> sa.ColumnElement[Any]:
        value = normalisers.value(dialect, field, cleaned[field.name], hash_pii=model.hash_pii)
        return examined.unless_unchanged(sa.case((problems[field.name].is_(None), value)), field.name)

    reason = examined.unless_unchanged(normalisers.reject_reason(model.fields, cleaned, problems))
    left_out = examined.unless_unchanged(normalisers.describe_left_out(dialect, problems), "left_out")
    return _stage(
        dialect,
        (
            *examined.of_kind(Kind.KEY),
            *(column for column in examined.of_kind(Kind.REUSED) if column.name in (*REUSED_COLUMNS, MATCHED_ROW_ID)),
            *examined.of_kind(Kind.RESULT),
            *(Column(Kind.VALUE, field.name, sent(field)) for field in model.mapped),
            Column(Kind.RESULT, "reason", reason),
            Column(Kind.RESULT, "left_out", left_out),
        ),
        "judged",
    )


def _keyed(dialect: Dialect, model: ResolvedModel, judged: Stage) -> Stage:
    """Return each row with its identity and fingerprint, unless it cannot be a member."""
    values = {field.name: judged.value(Kind.VALUE, field.name) for field in model.mapped}
    identifiers = {field.name: values[field.name] for field in model.mapped_identifiers}
    others = {name: value for name, value in values.items() if name not in identifiers}
    unchanged = judged.is_unchanged
    reason = judged.value(Kind.RESULT, "reason")

    def for_members(name: str, computed: sa.ColumnElement[Any]) -> Column:
        of_member = sa.case((reason.is_(None), computed))
        return Column(Kind.RESULT, name, judged.unless_unchanged(of_member, name))

    results = {column.name: column for column in judged.of_kind(Kind.RESULT)}
    return _stage(
        dialect,
        (
            *judged.of_kind(Kind.KEY),
            *(results[name] for name in ("primary_key", "row_hash", "reason", "left_out")),
            *judged.of_kind(Kind.VALUE),
            Column(Kind.RESULT, "carried", sa.false() if unchanged is None else unchanged),
            *(
                Column(Kind.RESULT, MATCHED_ROW_ID, column.expression)
                for column in judged.of_kind(Kind.REUSED)
                if column.name == MATCHED_ROW_ID
            ),
            for_members("identity", dialect.digest(dialect.encode_values(identifiers))),
            for_members("fingerprint", dialect.change_digest(identifiers, others)),
        ),
        "keyed",
    )


def _one_line_per_identity(model: ResolvedModel, keyed: Stage) -> sa.Select[Any]:
    """Return each identity once: the row with the smallest primary key represents it. Rejected rows by their key."""
    keys = [column.expression.nulls_last() for column in keyed.of_kind(Kind.KEY)]
    identity, fingerprint, reason, primary_key = (
        keyed.value(Kind.RESULT, name) for name in ("identity", "fingerprint", "reason", "primary_key")
    )
    groups = (identity, reason, sa.case((reason.is_not(None), primary_key)))
    ranked = sa.select(
        *(column.expression for column in keyed.columns if column.kind is not Kind.KEY),
        sa.func.row_number().over(partition_by=groups, order_by=[*keys, fingerprint]).label("place"),
        sa.func.count().over(partition_by=groups).label("query_rows"),
    ).subquery("ranked")
    return _lines(model, ranked).where(ranked.c.place == 1)


def _one_line_per_row(model: ResolvedModel, keyed: Stage) -> sa.Select[Any]:
    """Return each row as a line of its own."""
    single = sa.cast(1, sa.BigInteger).label("query_rows")
    return _lines(model, sa.select(keyed.rows, single).subquery("single"))


def _lines(model: ResolvedModel, source: sa.Subquery) -> sa.Select[Any]:
    """Return lines of a snapshot. A row that cannot be a member leaves its key and reason, and none of its values."""
    is_member = source.c.reason.is_(None)
    absent = sa.cast(sa.null(), sa.Text)
    fields = [sa.case((is_member, source.c[name])) if name in source.c else absent for name in model.fields.names]
    return sa.select(
        *(source.c[name] for name in ("identity", "fingerprint", "primary_key", "query_rows", "reason", "left_out")),
        sa.case((is_member, source.c.row_hash)).label("row_hash"),
        source.c.carried,
        *(field.label(name) for name, field in zip(model.fields.names, fields, strict=True)),
        *(source.c[name] for name in (MATCHED_ROW_ID,) if name in source.c),
    )
