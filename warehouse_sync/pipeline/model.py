"""The user's query: one SELECT or a table, which columns it must have, and how they become a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlparse
from sqlparse import tokens

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.fields import AudienceFields
from warehouse_sync.redaction import redact
from warehouse_sync.warehouses.base import ModelColumn, Warehouse


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


def found_columns(model: Model, columns: Sequence[ModelColumn]) -> dict[str, str]:
    """What each column that the configuration names is called inside of `Warehouse.model()`, by its name there.

    Raises ConfigurationError for those that are missing or ambiguous.
    """
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
            found[name] = alike[0].inner_name
        elif alike:
            missing.append(f"syncs.{model.sync}.{place}: the query has {len(alike)} columns named {name}")
        else:
            missing.append(f"syncs.{model.sync}.{place}: the query has no column {name} (it has {told})")
    if missing:
        raise ConfigurationError("\n".join((*missing, "Nothing was touched.")))
    return found
