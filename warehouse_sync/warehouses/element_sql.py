"""Elements in SQL: the warehouse turns the operations of a run into JSON texts."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import sqlalchemy as sa

from warehouse_sync.fields import ElementTemplate, Field, ItemTemplate, Normaliser
from warehouse_sync.operations import SEPARATOR
from warehouse_sync.warehouses.dialect import Dialect, Text

NEEDS_NO_ESCAPING = frozenset({Normaliser.EMAIL, Normaliser.DEVICE_ID, Normaliser.COUNTRY, Normaliser.PREFIXED_NUMBER})
"""Normalisers whose values (an EMAIL is a hash) have only letters, digits, hyphens and colons: nothing to escape."""


def element_text(dialect: Dialect, changes: sa.TableClause, element: ElementTemplate) -> Text:
    """Return the operation of a row of `changes` as JSON, followed by SEPARATOR."""
    parts = [_literal("{" + _members(element.constants))]
    for name, items in element.lists.items():
        parts += _list_json(dialect, changes, name, items)
    parts += [_value_json(dialect, changes, f",{_json(name)}:", field, "") for name, field in element.values.items()]
    return dialect.concat(*parts, _literal("}" + SEPARATOR))


def _list_json(dialect: Dialect, changes: sa.TableClause, name: str, items: tuple[ItemTemplate, ...]) -> list[Text]:
    """Return the parts of the list, each NULL or empty when there is no item."""
    has_items = sa.or_(*(changes.c[item.field.name].is_not(None) for item in items))
    each = [
        _value_json(dialect, changes, "{" + _members(item.constants) + f",{_json(item.name)}:", item.field, "}")
        for item in items
    ]
    return [
        sa.case((has_items, _literal(f",{_json(name)}:["))),
        dialect.concat(*each, comma=True),
        sa.case((has_items, _literal("]"))),
    ]


def _value_json(dialect: Dialect, changes: sa.TableClause, before: str, field: Field, after: str) -> Text:
    """Return the value as JSON between two texts; NULL when there is no value."""
    value: Text = changes.c[field.name]
    if field.normaliser in NEEDS_NO_ESCAPING:
        before, after = before + '"', '"' + after
    elif field.normaliser is Normaliser.TEXT_LIST:
        value = sa.func.nullif(value, _literal("[]"))
    else:
        value = dialect.json_text(value)
    # As few parts as possible: the engine copies the text so far for each.
    text = _literal(before) + value
    return text + _literal(after) if after else text


def _members(constants: Mapping[str, str]) -> str:
    return ",".join(f"{_json(name)}:{_json(value)}" for name, value in constants.items())


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def _literal(text: str) -> Text:
    # In the statement's text: a parameter would need a cast at each place.
    return sa.literal(text, sa.Text, literal_execute=True)
