"""The model's rows become members: mapped, normalised, hashed and de-duplicated in one statement of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import sqlparse
from sqlparse import tokens

from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.fields import AudienceFields, Field, Normaliser
from warehouse_sync.logs import redact
from warehouse_sync.warehouses import values
from warehouse_sync.warehouses.base import ModelColumn, Text, Warehouse

KEY = "key "
"""How the primary key's columns begin inside the statement; no identifier or field has a space in its name."""

KEY_TEXT = "text of key "


@dataclass(frozen=True, slots=True)
class Model:
    """The user's query and how its columns become a member.

    sync: for messages. sql: one SELECT, or table: the parts of a table's name. mapping: from the name of an identifier
    or field to the query's column.
    """

    sync: str
    sql: str | None
    table: tuple[str, ...] | None
    primary_key: tuple[str, ...]
    mapping: Mapping[str, str]
    fields: AudienceFields
    hash_pii: bool


@dataclass(frozen=True, slots=True)
class SnapshotCounts:
    """rows: of the query. members: distinct tuples of identifiers. rejected: rows that cannot be members.

    reasons: rejected rows by reason, and left-out values by field and reason.
    """

    rows: int = 0
    members: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def one_statement(sql: str) -> str:
    """The query without a semicolon at its end. Raises ValueError when it is empty or more than one statement."""
    kept: list[str] = []
    pending = ""
    ended = False
    for kind, text in sqlparse.lexer.tokenize(sql):  # type: ignore[no-untyped-call]
        if kind in tokens.Comment or kind in tokens.Whitespace:
            pending += text
        elif kind in tokens.Punctuation and text == ";":
            ended = ended or bool(kept)
            pending += " "
        elif ended:
            raise ValueError("it is more than one statement")
        else:
            kept.append(pending + text)
            pending = ""
    if not kept:
        raise ValueError("it is empty")
    return "".join(kept) + pending


def query_text(warehouse: Warehouse, model: Model) -> str:
    """The query that goes into brackets. Raises ConfigurationError."""
    if model.table is not None:
        return "SELECT * FROM " + warehouse.table_name(model.table)  # noqa: S608 - quoted
    try:
        return one_statement(model.sql or "")
    except ValueError as error:
        why = f"{error}; a model is one SELECT. Nothing was touched."
        raise ConfigurationError(f"syncs.{model.sync}.model: {why}") from error


def check_model(warehouse: Warehouse, model: Model) -> dict[str, str]:
    """The query works and has the columns that are mapped, each once; no row of it is read.

    Returns what each column that the configuration names is called inside of `model()`. Raises ConfigurationError.
    """
    try:
        found = _found_columns(model, warehouse.model_columns(query_text(warehouse, model)))
        with warehouse.connect("use the columns of the query") as connection:
            warehouse.try_select(connection, snapshot_select(warehouse, model, found))
    except QueryFailed as error:
        raise ConfigurationError(f"syncs.{model.sync}.model: {error}. Nothing was touched.") from error
    return found


def _found_columns(model: Model, columns: Sequence[ModelColumn]) -> dict[str, str]:
    # A pivot makes names of values, so they go through the filter.
    told = redact(", ".join(column.name for column in columns)) or "none"
    found, missing = dict[str, str](), list[str]()
    own = {identifier.name for identifier in model.fields.identifiers}
    named = [("model.primary_key", name) for name in model.primary_key]
    named += [(f"{'identifiers' if key in own else 'fields'}.{key}", name) for key, name in model.mapping.items()]
    for place, name in named:
        exact = [column for column in columns if column.name == name]
        alike = exact or [column for column in columns if column.name.lower() == name.lower()]
        if len(alike) == 1:
            found[name] = alike[0].inside
        elif alike:
            missing.append(f"syncs.{model.sync}.{place}: the query has {len(alike)} columns named {name}")
        else:
            missing.append(f"syncs.{model.sync}.{place}: the query has no column {name} (it has {told})")
    if missing:
        raise ConfigurationError("\n".join((*missing, "Nothing was touched.")))
    return found


def snapshot_select(warehouse: Warehouse, model: Model, spelling: Mapping[str, str]) -> sa.Select[Any]:
    """The SELECT whose rows are the snapshot, in the columns of `StateTables.snapshot`."""
    mapped = [taken for taken in model.fields.all if taken.name in model.mapping]
    cleaned = _cleaned(warehouse, model, spelling, mapped)
    examined = _examined(warehouse, model, spelling, mapped, cleaned)
    judged = _judged(warehouse, model, mapped, examined)
    keyed = _keyed(warehouse, model, mapped, judged)
    return _distinct(model, keyed)


def _cleaned(warehouse: Warehouse, model: Model, spelling: Mapping[str, str], mapped: Sequence[Field]) -> sa.Subquery:
    columns = {taken.name: _column(spelling[model.mapping[taken.name]]) for taken in mapped}
    keys = [_column(spelling[name]) for name in model.primary_key]
    plain = [warehouse.as_text(columns[taken.name]) for taken in mapped if taken.normaliser is Normaliser.TEXT]
    cleaned = sa.select(
        *(key.label(f"{KEY}{place}") for place, key in enumerate(keys)),
        *(warehouse.as_text(key).label(f"{KEY_TEXT}{place}") for place, key in enumerate(keys)),
        *(values.clean(warehouse, taken, columns[taken.name]).label(taken.name) for taken in mapped),
        (values.may_hold_address(warehouse, plain) if plain else sa.false()).label("suspicious row"),
    ).select_from(warehouse.model(query_text(warehouse, model)))
    return warehouse.computed_once(cleaned, "cleaned")


def _column(name: str) -> sa.ColumnElement[Any]:
    return sa.column(sa.sql.quoted_name(name, quote=True))


def _examined(
    warehouse: Warehouse, model: Model, spelling: Mapping[str, str], mapped: Sequence[Field], cleaned: sa.Subquery
) -> sa.Subquery:
    """Each field's cleaned value under its name, and why it is left out under its name and a suffix."""
    suspicious = cleaned.c["suspicious row"]
    return warehouse.computed_once(
        sa.select(
            *_keys(cleaned),
            _primary_key(warehouse, model, spelling, cleaned).label("primary_key"),
            *(cleaned.c[taken.name] for taken in mapped),
            *(
                values.problem(
                    warehouse, taken, cleaned.c[taken.name], hash_pii=model.hash_pii, suspicious=suspicious
                ).label(f"{taken.name} problem")
                for taken in mapped
            ),
        ),
        "examined",
    )


def _primary_key(warehouse: Warehouse, model: Model, spelling: Mapping[str, str], cleaned: sa.Subquery) -> Text:
    """The key as text for the log; hashed where it is a column that is hashed, holds an at sign, or is very long."""
    hashed_fields = {taken.name for taken in model.fields.all if taken.hash}
    private = {spelling[column] for name, column in model.mapping.items() if name in hashed_fields}
    parts: list[Text] = []
    for place, name in enumerate(model.primary_key):
        text = cleaned.c[f"{KEY_TEXT}{place}"]
        hashed = sa.literal("sha256:", sa.Text) + warehouse.hash_text(text, "sha256")
        odd = text.contains("@") | (sa.func.length(text) > values.LONGEST_KEY)
        parts.append(hashed if spelling[name] in private else sa.case((odd, hashed), else_=text))
    key = parts[0]
    for part in parts[1:]:
        key = sa.func.coalesce(key, "") + ", " + sa.func.coalesce(part, "")
    return key


def _judged(warehouse: Warehouse, model: Model, mapped: Sequence[Field], examined: sa.Subquery) -> sa.Subquery:
    """Each field's value as it is sent, and what the row is worth."""
    cleaned = {taken.name: examined.c[taken.name] for taken in mapped}
    problems = {taken.name: examined.c[f"{taken.name} problem"] for taken in mapped}
    return warehouse.computed_once(
        sa.select(
            *_keys(examined),
            examined.c.primary_key,
            *(
                sa.case(
                    (
                        problems[taken.name].is_(None),
                        values.value(warehouse, taken, cleaned[taken.name], hash_pii=model.hash_pii),
                    )
                ).label(taken.name)
                for taken in mapped
            ),
            values.reject_reason(model.fields, cleaned, problems).label("reason"),
            values.left_out(warehouse, problems).label("left_out"),
        ),
        "judged",
    )


def _keyed(warehouse: Warehouse, model: Model, mapped: Sequence[Field], judged: sa.Subquery) -> sa.Subquery:
    """Each row with its identity and fingerprint, unless it cannot be a member."""
    identifiers = {taken.name for taken in model.fields.identifiers}
    own = {taken.name: judged.c[taken.name] for taken in mapped if taken.name in identifiers}
    other = {taken.name: judged.c[taken.name] for taken in mapped if taken.name not in identifiers}
    encoded = warehouse.computed_once(
        sa.select(judged, values.encode(warehouse, own).label("own"), values.encode(warehouse, other).label("other")),
        "encoded",
    )

    def for_members(digest: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.case((encoded.c.reason.is_(None), digest))

    return warehouse.computed_once(
        sa.select(
            *(column for column in encoded.c if column.name not in ("own", "other")),
            for_members(warehouse.digest(encoded.c.own)).label("identity"),
            for_members(warehouse.digest(encoded.c.own + "|" + encoded.c.other)).label("fingerprint"),
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
    nothing = sa.cast(sa.null(), sa.Text)

    def kept(name: str) -> Text:
        # A rejected row leaves no values behind, only its key and reason.
        return sa.case((ranked.c.reason.is_(None), ranked.c[name])) if name in ranked.c else nothing

    return sa.select(
        ranked.c.identity,
        ranked.c.fingerprint,
        ranked.c.primary_key,
        ranked.c.query_rows,
        ranked.c.reason,
        ranked.c.left_out,
        *(kept(name).label(name) for name in model.fields.names),
    ).where(ranked.c.place == 1)


def check_hashing(warehouse: Warehouse, connection: sa.Connection) -> None:
    """Raise ConfigurationError unless the warehouse hashes the test vector right: wrong hashes match nobody."""
    address = sa.column("address", sa.Text)
    vector = sa.values(address, name="vector").data([(text,) for text, _ in values.TEST_VECTOR])
    cleaned = warehouse.remove_blanks(warehouse.lower(vector.c.address))
    found = set(connection.scalars(sa.select(warehouse.hash_text(cleaned, "sha256"))).all())
    if found != {expected for _, expected in values.TEST_VECTOR}:
        raise ConfigurationError(
            f"warehouses.{warehouse.name}: this server normalises or hashes text in a way that would match nobody "
            "at the destination (its test vector came out wrong). Nothing was touched; please report its version."
        )


def take_snapshot(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: Model,
    spelling: Mapping[str, str],
    table: sa.TableClause,
    *,
    temporary: bool = False,
) -> SnapshotCounts:
    """`table` holds the members of the query as it is now, and the rows that cannot be members. Raises QueryFailed."""
    hashed = [taken.hash for taken in model.fields.all if taken.hash and taken.name in model.mapping]
    warehouse.prepare_hashing(connection, hashed)
    if model.hash_pii and any(taken.hash for taken in model.fields.identifiers):
        check_hashing(warehouse, connection)
    warehouse.create_table_as(connection, table, snapshot_select(warehouse, model, spelling), temporary=temporary)
    warehouse.after_load(connection, table, "identity", "fingerprint")
    if not temporary:
        connection.commit()
    return count_snapshot(connection, table)


def count_snapshot(connection: sa.Connection, table: sa.TableClause) -> SnapshotCounts:
    """The numbers of a snapshot, by one statement."""
    rows = connection.execute(
        sa.select(
            table.c.reason,
            table.c.left_out,
            sa.func.count().label("lines"),
            sa.cast(sa.func.coalesce(sa.func.sum(table.c.query_rows), 0), sa.BigInteger).label("query_rows"),
        ).group_by(table.c.reason, table.c.left_out)
    ).all()
    reasons: dict[str, int] = {}
    for row in rows:
        problems = (row.left_out or "").split()
        # A value that rejected its row is told as the row's reason already.
        told = [problem for problem in problems if problem.split(":")[1] not in values.REJECTING]
        for reason in ([row.reason] if row.reason else []) + told:
            reasons[reason] = reasons.get(reason, 0) + int(row.query_rows)
    return SnapshotCounts(
        rows=sum(int(row.query_rows) for row in rows),
        members=sum(int(row.lines) for row in rows if row.reason is None),
        rejected=sum(int(row.query_rows) for row in rows if row.reason is not None),
        reasons=dict(sorted(reasons.items())),
    )
