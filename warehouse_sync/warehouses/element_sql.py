"""Elements compiled to SQL: the operations of a table of changes as JSON texts, made where the values are."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import sqlalchemy as sa

from warehouse_sync.fields import ElementTemplate, Field, ItemTemplate, Normaliser
from warehouse_sync.operations import SEPARATOR
from warehouse_sync.warehouses.dialect import Dialect, Text

NEEDS_NO_ESCAPING = frozenset({Normaliser.EMAIL, Normaliser.DEVICE_ID, Normaliser.COUNTRY, Normaliser.PREFIXED_NUMBER})
"""Normalisers whose values (an EMAIL is a hash) hold letters, digits, hyphens and colons only: nothing to escape."""


def element_text(dialect: Dialect, changes: sa.TableClause, element: ElementTemplate) -> Text:
    """The operation of a row of `changes` as JSON, with SEPARATOR behind it."""
    parts = [_literal("{" + _members(element.constants))]
    for name, items in element.lists.items():
        parts += _list_json(dialect, changes, name, items)
    parts += [_value_json(dialect, changes, f",{_json(name)}:", field, "") for name, field in element.values.items()]
    return dialect.concat(*parts, _literal("}" + SEPARATOR))


def _list_json(dialect: Dialect, changes: sa.TableClause, name: str, items: tuple[ItemTemplate, ...]) -> list[Text]:
    """The list's parts, each of them NULL or empty when there is no item."""
    is_there = sa.or_(*(changes.c[item.field.name].is_not(None) for item in items))
    each = [
        _value_json(dialect, changes, "{" + _members(item.constants) + f",{_json(item.name)}:", item.field, "}")
        for item in items
    ]
    return [
        sa.case((is_there, _literal(f",{_json(name)}:["))),
        dialect.concat(*each, comma=True),
        sa.case((is_there, _literal("]"))),
    ]


def _value_json(dialect: Dialect, changes: sa.TableClause, before: str, field: Field, after: str) -> Text:
    """The value as JSON between two texts; NULL when there is none."""
    value: Text = changes.c[field.name]
    if field.normaliser in NEEDS_NO_ESCAPING:
        before, after = before + '"', '"' + after
    elif field.normaliser is Normaliser.TEXT_LIST:
        value = sa.func.nullif(value, _literal("[]"))
    else:
        value = dialect.json_text(value)
    # As few pieces as possible: the engine copies what it has so far for each.
    text = _literal(before) + value
    return text + _literal(after) if after else text


def _members(constants: Mapping[str, str]) -> str:
    return ",".join(f"{_json(name)}:{_json(value)}" for name, value in constants.items())


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def _literal(text: str) -> Text:
    # Part of the statement: as a parameter it would have to be told its type at each place.
    return sa.literal(text, sa.Text, literal_execute=True)
