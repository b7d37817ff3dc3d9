"""The model's rows become members: mapped, normalised and hashed, each identity once. All of it is one SELECT.

Where the same row stood in the previous snapshot already, what it became is carried over instead of being made again:
hashing and normalising is most of the work, and between two runs most rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field, Normaliser
from warehouse_sync.pipeline.model import Model, query_text
from warehouse_sync.warehouses import normalisers
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.dialect import Text
from warehouse_sync.warehouses.tables import MEMBER_NUMBER

KEY = "key "
"""How the primary key's columns begin inside the statement; no identifier or field has a space in its name."""

RAW = "raw "
KEPT = "kept "
PLACE = "known place"
GONE = "gone"
MADE = "made"
CARRIED = ("identity", "fingerprint", "left_out")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The rows that members are made of.

    spelling: what each column that the configuration names is called inside of `model()`.
    salt: stands for all that decides what becomes of a row, so that equal row hashes mean equal members.
    """

    warehouse: Warehouse
    model: Model
    spelling: Mapping[str, str]
    salt: str = ""

    @property
    def mapped(self) -> list[Field]:
        """The fields that a column is mapped to."""
        return [taken for taken in self.model.fields.all if taken.name in self.model.mapping]


def snapshot_select(
    query: ResolvedModel, previous: sa.TableClause | None = None, *, ranked: bool = True, numbered: bool = False
) -> sa.Select[Any]:
    """The SELECT whose rows are the snapshot, in the columns of `StateTables.snapshot`.

    previous: an earlier snapshot of the same salt, from which unchanged rows are carried over.
    ranked: each identity comes once, whatever the query yields; else it comes as often as there are rows of it.
    numbered: members keep a number as LINE, where the engine does not number rows by itself.
    """
    rows = _rows(query)
    if previous is not None:
        names = (*CARRIED, *(taken.name for taken in query.mapped))
        rows = _recognised(query.warehouse, rows, previous, {name: previous.c[name] for name in names})
    made = _made(query, rows)
    lines = _distinct(query.model, made) if ranked else _as_they_are(query.model, made)
    number = query.warehouse.member_number(sa.column("reason").is_(None)) if numbered else None
    return lines if number is None else lines.add_columns(number.label(MEMBER_NUMBER))


def staged_select(query: ResolvedModel, previous: sa.FromClause, place: sa.ColumnElement[int]) -> sa.Select[Any]:
    """What becomes of each row of the query, packed, as MADE, unless it was in `previous` as it is: then it is NULL.

    Besides, the place of each row of `previous` that is not in the query as it was, as GONE; else that is NULL.
    place: of a row of `previous`. What is packed are the columns of a snapshot.
    """
    beside = _recognised(query.warehouse, _rows(query), previous, {PLACE: place}, full=True)
    lines = _as_they_are(query.model, _made(query, beside)).subquery("lines")
    found = lines.c[PLACE]
    # Each row of the query has a hash, so without one there is no such row.
    gone = sa.case((lines.c.row_hash.is_(None), found))
    made = query.warehouse.dialect.pack_columns({column.name: column for column in lines.c if column is not found})
    return sa.select(gone.label(GONE), sa.case((found.is_(None), made)).label(MADE))


def _made(query: ResolvedModel, rows: sa.Subquery) -> sa.Subquery:
    """What becomes of each row."""
    warehouse, model, mapped = query.warehouse, query.model, query.mapped
    cleaned = _cleaned(warehouse, mapped, rows)
    examined = _examined(warehouse, model, mapped, cleaned)
    judged = _judged(warehouse, model, mapped, examined)
    return _keyed(warehouse, model, mapped, judged)


def _rows(query: ResolvedModel) -> sa.Subquery:
    """The query's rows as they are: the key, the mapped columns, and a hash of all that."""
    warehouse, model, spelling = query.warehouse, query.model, query.spelling
    keys = [_column(spelling[name]) for name in model.primary_key]
    columns = {taken.name: _column(spelling[model.mapping[taken.name]]) for taken in query.mapped}
    texts = [warehouse.dialect.to_text(key) for key in keys]
    for taken in query.mapped:
        as_text = (
            warehouse.dialect.list_to_text if taken.normaliser is Normaliser.TEXT_LIST else warehouse.dialect.to_text
        )
        texts.append(as_text(columns[taken.name]))
    return warehouse.dialect.evaluated_once(
        sa.select(
            *(key.label(f"{KEY}{place}") for place, key in enumerate(keys)),
            _primary_key(warehouse, model, spelling).label("primary_key"),
            *(column.label(f"{RAW}{name}") for name, column in columns.items()),
            warehouse.dialect.row_hash(query.salt, texts).label("row_hash"),
        ).select_from(warehouse.model(query_text(warehouse, model))),
        "rows",
    )


def _primary_key(warehouse: Warehouse, model: Model, spelling: Mapping[str, str]) -> Text:
    """The key as text for the log; hashed where it is a column that is hashed, holds an at sign, or is very long."""
    hashed_fields = {taken.name for taken in model.fields.all if taken.hash}
    private = {spelling[column] for name, column in model.mapping.items() if name in hashed_fields}
    parts: list[Text] = []
    for name in model.primary_key:
        text = warehouse.dialect.to_text(_column(spelling[name]))
        hashed = sa.literal("sha256:", sa.Text) + warehouse.dialect.hash_text(text, "sha256")
        odd = text.contains("@") | (sa.func.length(text) > normalisers.MAX_KEY_LENGTH)
        parts.append(hashed if spelling[name] in private else sa.case((odd, hashed), else_=text))
    key = parts[0]
    for part in parts[1:]:
        key = sa.func.coalesce(key, "") + ", " + sa.func.coalesce(part, "")
    return key


def _column(name: str) -> sa.ColumnElement[Any]:
    return sa.column(sa.sql.quoted_name(name, quote=True))


def _recognised(
    warehouse: Warehouse,
    rows: sa.Subquery,
    previous: sa.FromClause,
    kept: Mapping[str, sa.ColumnElement[Any]],
    *,
    full: bool = False,
) -> sa.Subquery:
    """The rows, beside each these columns of the member that it was in `previous` if nothing of it has changed.

    full: also those columns of all other rows of `previous`, beside nothing.
    """
    # The key takes part so that a row is held against its own past only, whatever the width of the hash.
    same = (previous.c.row_hash == rows.c.row_hash) & (previous.c.primary_key == rows.c.primary_key)
    beside = [column.label(f"{KEPT}{name}") for name, column in kept.items()]
    joined = sa.select(rows, *beside).outerjoin_from(rows, previous, same, full=full)
    return warehouse.dialect.evaluated_once(joined, "recognised")


def _kept(source: sa.Subquery) -> list[sa.ColumnElement[Any]]:
    return [column for column in source.c if column.name.startswith(KEPT)]


def _unless_kept(source: sa.Subquery, made: sa.ColumnElement[Any], name: str = "") -> sa.ColumnElement[Any]:
    """What was carried over under `name`, and `made`, which is not even computed then, for all other rows."""
    known = _is_known(source)
    if known is None:
        return made
    kept = source.c.get(KEPT + name)
    return sa.case((~known, made)) if kept is None else sa.case((known, kept), else_=made)


def _is_known(source: sa.Subquery) -> sa.ColumnElement[bool] | None:
    """Whether a row was in the previous snapshot as it is; None where there is no such."""
    kept = _kept(source)
    return kept[0].is_not(None) if kept else None


def _cleaned(warehouse: Warehouse, mapped: Sequence[Field], rows: sa.Subquery) -> sa.Subquery:
    raw = {taken.name: rows.c[f"{RAW}{taken.name}"] for taken in mapped}
    plain = [warehouse.dialect.to_text(raw[taken.name]) for taken in mapped if taken.normaliser is Normaliser.TEXT]
    suspicious = normalisers.may_contain_address(warehouse.dialect, plain) if plain else sa.false()
    return warehouse.dialect.evaluated_once(
        sa.select(
            *_keys(rows),
            *_kept(rows),
            rows.c.primary_key,
            rows.c.row_hash,
            *(
                _unless_kept(rows, normalisers.clean(warehouse.dialect, taken, raw[taken.name])).label(taken.name)
                for taken in mapped
            ),
            _unless_kept(rows, suspicious).label("suspicious row"),
        ),
        "cleaned",
    )


def _examined(warehouse: Warehouse, model: Model, mapped: Sequence[Field], cleaned: sa.Subquery) -> sa.Subquery:
    """Each field's cleaned value under its name, and why it is left out under its name and a suffix."""
    suspicious = cleaned.c["suspicious row"]
    return warehouse.dialect.evaluated_once(
        sa.select(
            *(column for column in cleaned.c if column is not suspicious),
            *(
                normalisers.problem(
                    warehouse.dialect, taken, cleaned.c[taken.name], hash_pii=model.hash_pii, suspicious=suspicious
                ).label(f"{taken.name} problem")
                for taken in mapped
            ),
        ),
        "examined",
    )


def _judged(warehouse: Warehouse, model: Model, mapped: Sequence[Field], examined: sa.Subquery) -> sa.Subquery:
    """Each field's value as it is sent, and what the row is worth."""
    cleaned = {taken.name: examined.c[taken.name] for taken in mapped}
    problems = {taken.name: examined.c[f"{taken.name} problem"] for taken in mapped}

    def value(taken: Field) -> sa.ColumnElement[Any]:
        made = normalisers.value(warehouse.dialect, taken, cleaned[taken.name], hash_pii=model.hash_pii)
        return _unless_kept(examined, sa.case((problems[taken.name].is_(None), made)), taken.name)

    return warehouse.dialect.evaluated_once(
        sa.select(
            *_keys(examined),
            *(column for column in _kept(examined) if column.name in {KEPT + name for name in (*CARRIED, PLACE)}),
            examined.c.primary_key,
            examined.c.row_hash,
            *(value(taken).label(taken.name) for taken in mapped),
            _unless_kept(examined, normalisers.reject_reason(model.fields, cleaned, problems)).label("reason"),
            _unless_kept(examined, normalisers.describe_left_out(warehouse.dialect, problems), "left_out").label(
                "left_out"
            ),
        ),
        "judged",
    )


def _keyed(warehouse: Warehouse, model: Model, mapped: Sequence[Field], judged: sa.Subquery) -> sa.Subquery:
    """Each row with its identity and fingerprint, unless it cannot be a member."""
    identifiers = {taken.name for taken in model.fields.identifiers}
    own = {taken.name: judged.c[taken.name] for taken in mapped if taken.name in identifiers}
    others = {taken.name: judged.c[taken.name] for taken in mapped if taken.name not in identifiers}

    known = _is_known(judged)

    def for_members(made: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        return _unless_kept(judged, sa.case((judged.c.reason.is_(None), made)), name).label(name)

    return warehouse.dialect.evaluated_once(
        sa.select(
            *_keys(judged),
            *(judged.c[name] for name in ("primary_key", "row_hash", "reason", "left_out")),
            *(judged.c[taken.name] for taken in mapped),
            (sa.false() if known is None else known).label("carried"),
            *(judged.c[name].label(PLACE) for name in (KEPT + PLACE,) if name in judged.c),
            for_members(warehouse.dialect.digest(warehouse.dialect.encode_values(own)), "identity"),
            for_members(warehouse.dialect.change_digest(own, others), "fingerprint"),
        ),
        "keyed",
    )


def _keys(source: sa.Subquery) -> list[sa.ColumnElement[Any]]:
    """The primary key's columns as the query gives them: they decide which row speaks for a member."""
    return [column for column in source.c if column.name.startswith(KEY)]


def _distinct(model: Model, keyed: sa.Subquery) -> sa.Select[Any]:
    """Each identity once: the row with the smallest primary key speaks for it. Rejected rows by their key."""
    keys = [column.nulls_last() for column in _keys(keyed)]
    groups = (keyed.c.identity, keyed.c.reason, sa.case((keyed.c.reason.is_not(None), keyed.c.primary_key)))
    ranked = sa.select(
        *(column for column in keyed.c if not column.name.startswith(KEY)),
        sa.func.row_number().over(partition_by=groups, order_by=[*keys, keyed.c.fingerprint]).label("place"),
        sa.func.count().over(partition_by=groups).label("query_rows"),
    ).subquery("ranked")
    return _lines(model, ranked).where(ranked.c.place == 1)


def _as_they_are(model: Model, keyed: sa.Subquery) -> sa.Select[Any]:
    """Each row as a line of its own."""
    single = sa.cast(1, sa.BigInteger).label("query_rows")
    return _lines(model, sa.select(keyed, single).subquery("single"))


def _lines(model: Model, source: sa.Subquery) -> sa.Select[Any]:
    """Without a trace of the values of rows that cannot be members: they leave their key and reason only."""
    is_member = source.c.reason.is_(None)
    nothing = sa.cast(sa.null(), sa.Text)
    fields = [sa.case((is_member, source.c[name])) if name in source.c else nothing for name in model.fields.names]
    return sa.select(
        *(source.c[name] for name in ("identity", "fingerprint", "primary_key", "query_rows", "reason", "left_out")),
        sa.case((is_member, source.c.row_hash)).label("row_hash"),
        source.c.carried,
        *(field.label(name) for name, field in zip(model.fields.names, fields, strict=True)),
        *(source.c[name] for name in (PLACE,) if name in source.c),
    )
