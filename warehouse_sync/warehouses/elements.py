"""Elements compiled to SQL: the operations of a table of changes as JSON texts, made where the values are."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import sqlalchemy as sa

from warehouse_sync.fields import Element, Field, Item, Normaliser
from warehouse_sync.operations import SEPARATOR
from warehouse_sync.warehouses.base import Text, Warehouse

PLAIN = frozenset({Normaliser.EMAIL, Normaliser.DEVICE_ID, Normaliser.COUNTRY, Normaliser.PREFIXED_NUMBER})
"""Normalisers whose values (an EMAIL is a hash) hold letters, digits, hyphens and colons only: nothing to escape."""


def element_text(warehouse: Warehouse, changes: sa.TableClause, element: Element) -> Text:
    """The operation of a row of `changes` as JSON, with SEPARATOR behind it."""
    parts = [_list(warehouse, changes, name, items) for name, items in element.lists.items()]
    parts += [_value(warehouse, changes, name, field) for name, field in element.values.items()]
    return warehouse.joined(_literal("{" + _members(element.constants)), *parts, _literal("}" + SEPARATOR))


def _list(warehouse: Warehouse, changes: sa.TableClause, name: str, items: tuple[Item, ...]) -> Text:
    each = [
        _literal("{" + _members(item.constants) + f",{_json(item.name)}:")
        + _quoted(warehouse, changes, item.field)
        + _literal("}")
        for item in items
    ]
    nothing: Text = sa.func.nullif(warehouse.joined(*each, comma=True), _literal(""))
    return _literal(f",{_json(name)}:[") + nothing + _literal("]")


def _value(warehouse: Warehouse, changes: sa.TableClause, name: str, field: Field) -> Text:
    return _literal(f",{_json(name)}:") + _quoted(warehouse, changes, field)


def _quoted(warehouse: Warehouse, changes: sa.TableClause, field: Field) -> Text:
    """The value as JSON; NULL when there is none."""
    value = changes.c[field.name]
    if field.normaliser is Normaliser.TEXT_LIST:
        return sa.func.nullif(value, _literal("[]"))
    if field.normaliser in PLAIN:
        return _literal('"') + value + _literal('"')
    return warehouse.json_text(value)


def _members(constants: Mapping[str, str]) -> str:
    return ",".join(f"{_json(name)}:{_json(value)}" for name, value in constants.items())


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def _literal(text: str) -> Text:
    # Part of the statement: as a parameter it would have to be told its type at each place.
    return sa.literal(text, sa.Text, literal_execute=True)
