"""Rows of a batch to the JSON elements that LinkedIn takes. Pure.

LinkedIn does not say whether a REMOVE takes out the identifiers that it names, the element, or the person behind them.
So a REMOVE names exactly the identifiers of the ADD, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS, USER_ID_TYPES, WIRE_NAMES
from warehouse_sync.fields import Normaliser
from warehouse_sync.operations import Batch, OperationKind

Element = dict[str, Any]


def elements(audience_type: str, batch: Batch) -> list[Element]:
    """One element per row, in order; values that are None are left out.

    Raises KeyError for a column that this audience type does not have.
    """
    take = AUDIENCE_FIELDS[audience_type]
    declared = {field.name: field for field in take.all}
    identifiers = {field.name for field in take.identifiers}
    with_fields = batch.operation is OperationKind.ADD

    ids: list[tuple[int, str]] = []
    plain: list[tuple[int, str]] = []
    lists: list[tuple[int, str]] = []
    for position, column in enumerate(batch.columns):
        field = declared[column]
        if column in USER_ID_TYPES:
            ids.append((position, USER_ID_TYPES[column]))
        elif column in identifiers or with_fields:
            group = lists if field.normaliser is Normaliser.TEXT_LIST else plain
            group.append((position, WIRE_NAMES[column]))

    action = batch.operation.value
    result: list[Element] = []
    for row in batch.rows:
        element: Element = {"action": action}
        if ids:
            element["userIds"] = [
                {"idType": id_type, "idValue": value}
                for position, id_type in ids
                if (value := row[position]) is not None
            ]
        for position, name in plain:
            if (value := row[position]) is not None:
                element[name] = value
        for position, name in lists:
            if (value := row[position]) is not None and (items := orjson.loads(value)):
                element[name] = items
        result.append(element)
    return result


def body(all_elements: Sequence[Element], positions: Iterable[int]) -> bytes:
    """The request body that carries the elements at `positions`, in that order."""
    return orjson.dumps({"elements": [all_elements[position] for position in positions]})
