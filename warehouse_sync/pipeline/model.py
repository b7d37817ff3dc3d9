"""The user's query: one SELECT or a table, the columns that it must have, and how they become a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlparse
from sqlparse import tokens

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.fields import AudienceFields, Field
from warehouse_sync.redaction import redact
from warehouse_sync.warehouses.base import ModelColumn, Warehouse


@dataclass(frozen=True, slots=True)
class Model:
    """The user's query and its mapping, as the configuration has them.

    Attributes:
        sync: The name of the sync, for messages.
        sql: One SELECT; None for a table.
        table: The parts of a table's name; None for a query.
        primary_key: The columns that name a row.
        mapping: The column of the query for each identifier or field, by the name of the identifier or field.
        fields: The identifiers and fields that the audience type takes.
        hash_pii: The e-mail addresses are hashed in the warehouse; otherwise the columns hold hashes.
    """

    sync: str
    sql: str | None
    table: tuple[str, ...] | None
    primary_key: tuple[str, ...]
    mapping: Mapping[str, str]
    fields: AudienceFields
    hash_pii: bool


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose query was read by the warehouse and whose columns were found.

    Columns are named as they are called inside `Warehouse.model()`.

    Attributes:
        query: One SELECT without a semicolon at its end.
        primary_key: The columns that name a row.
        columns: The column of each mapped identifier or field, by the name of the identifier or field.
        fields: The identifiers and fields that the audience type takes, mapped or not.
        hash_pii: The e-mail addresses are hashed in the warehouse; otherwise the columns hold hashes.
    """

    query: str
    primary_key: tuple[str, ...]
    columns: Mapping[str, str]
    fields: AudienceFields
    hash_pii: bool

    @property
    def mapped(self) -> list[Field]:
        """Return the identifiers and fields that a column is mapped to."""
        return [field for field in self.fields.all if field.name in self.columns]

    @property
    def mapped_identifiers(self) -> list[Field]:
        """Return the identifiers that a column is mapped to."""
        return [field for field in self.fields.identifiers if field.name in self.columns]

    @property
    def hash_algorithms(self) -> list[str]:
        """Return the hash algorithms of the mapped identifiers."""
        return [field.hash for field in self.mapped if field.hash]


def one_statement(sql: str) -> str:
    """Return the query without a semicolon at its end.

    Raises:
        ValueError: It is empty, or more than one statement.
    """
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
    """Return the query of a model, ready to stand in brackets.

    Raises:
        ConfigurationError: It is not one SELECT.
    """
    if model.table is not None:
        return "SELECT * FROM " + warehouse.table_name(model.table)  # noqa: S608 - quoted
    try:
        return one_statement(model.sql or "")
    except ValueError as error:
        why = f"{error}; a model is one SELECT. Nothing was touched."
        raise ConfigurationError(f"syncs.{model.sync}.model: {why}") from error


def resolve_columns(model: Model, query: str, columns: Sequence[ModelColumn]) -> ResolvedModel:
    """Return the model with the columns of its query found.

    Args:
        model: The model.
        query: Its query, from `query_text()`.
        columns: The columns of the query.

    Raises:
        ConfigurationError: Columns that the configuration names are missing or ambiguous.
    """
    # The values of a pivot become names of columns, so the names are redacted.
    existing = redact(", ".join(column.name for column in columns)) or "none"
    found, problems = dict[str, str](), list[str]()
    identifiers = {identifier.name for identifier in model.fields.identifiers}
    named = [("model.primary_key", name) for name in model.primary_key]
    named += [
        (f"{'identifiers' if key in identifiers else 'fields'}.{key}", name) for key, name in model.mapping.items()
    ]
    for path, name in named:
        exact = [column for column in columns if column.name == name]
        matches = exact or [column for column in columns if column.name.lower() == name.lower()]
        if len(matches) == 1:
            found[name] = matches[0].inner_name
        elif matches:
            problems.append(f"syncs.{model.sync}.{path}: the query has {len(matches)} columns named {name}")
        else:
            problems.append(f"syncs.{model.sync}.{path}: the query has no column {name} (it has {existing})")
    if problems:
        raise ConfigurationError("\n".join((*problems, "Nothing was touched.")))
    return ResolvedModel(
        query=query,
        primary_key=tuple(found[name] for name in model.primary_key),
        columns={key: found[name] for key, name in model.mapping.items()},
        fields=model.fields,
        hash_pii=model.hash_pii,
    )
