"""The JSON of operations as LinkedIn expects it, as templates, and the body of a request. Pure functions.

LinkedIn does not document whether a REMOVE deletes the identifiers that it names, the whole element, or the person
that they identify. So a REMOVE names exactly the identifiers of the ADD, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS, USER_ID_TYPES, WIRE_NAMES
from warehouse_sync.fields import ElementTemplate, ItemTemplate
from warehouse_sync.operations import Elements, OperationKind

ACTION, USER_IDS, ID_TYPE, ID_VALUE = "action", "userIds", "idType", "idValue"


def element_template(audience_type: str, operation: OperationKind) -> ElementTemplate:
    """Return the JSON of an operation on an audience of this type, as a template."""
    available = AUDIENCE_FIELDS[audience_type]
    fields = available.all if operation is OperationKind.ADD else available.identifiers
    ids = tuple(
        ItemTemplate({ID_TYPE: USER_ID_TYPES[field.name]}, ID_VALUE, field)
        for field in fields
        if field.name in USER_ID_TYPES
    )
    return ElementTemplate(
        constants={ACTION: operation.value},
        lists={USER_IDS: ids} if ids else {},
        values={WIRE_NAMES[field.name]: field for field in fields if field.name not in USER_ID_TYPES},
    )


class Body:
    """A request body in pieces, which the HTTP library sends one after another, so that elements are not copied."""

    def __init__(self, *pieces: bytes | memoryview) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)


def build_body(elements: Elements, positions: Sequence[int]) -> Body:
    """Return the request body with the elements at `positions`, in that order."""
    return Body(b'{"elements":[', elements.join(positions), b"]}")


def personal_values(element: bytes) -> list[str]:
    """Return the personal values of an element."""
    return list(_texts(orjson.loads(element)))


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for each in part:
            yield from _texts(each)
    elif isinstance(part, dict):
        for name, each in part.items():
            if name not in (ACTION, ID_TYPE):
                yield from _texts(each)
