"""What a segment holds, under every reading of REMOVE that LinkedIn leaves open. Pure.

    reading       a segment is               REMOVE takes out
    identifiers   a set of identifiers       the identifiers that it names
    elements      a set of elements          the element with exactly these identifiers
    persons       a set of elements          every element that shares any identifier with it

An identifier is (idType, idValue) for users and (field, value) for companies. An element without any identifier is
known by its names, as ("NAME", "first last").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

Identifier = tuple[str, str]
ElementKey = tuple[Identifier, ...]
Fields = Mapping[str, Any]

NO_FIELDS: Fields = {}


class Reading(StrEnum):
    """Which of the three readings of REMOVE is looked at."""

    IDENTIFIERS = "identifiers"
    ELEMENTS = "elements"
    PERSONS = "persons"


class SegmentMembers:
    """The members of one segment under all three readings at once.

    A key holds sorted, distinct identifiers. Fields are those of the last ADD. Not thread-safe.
    """

    def __init__(self) -> None:
        self.identifiers: dict[Identifier, Fields] = {}
        self.elements: dict[ElementKey, Fields] = {}
        self.persons: dict[ElementKey, Fields] = {}
        # Which elements share an identifier: mostly a single one, and a set for each would double the memory.
        self._keys_by_identifier: dict[Identifier, ElementKey | set[ElementKey]] = {}

    def add(self, elements: Iterable[tuple[ElementKey, Fields]]) -> None:
        """Hold these elements; one that is held already takes the new fields."""
        identifiers, sharing, held, persons = self.identifiers, self._keys_by_identifier, self.elements, self.persons
        for key, fields in elements:
            for identifier in key:
                identifiers[identifier] = fields
                others = sharing.setdefault(identifier, key)
                if isinstance(others, set):
                    others.add(key)
                elif others != key:
                    sharing[identifier] = {others, key}
            held[key] = fields
            persons[key] = fields

    def remove(self, keys: Iterable[ElementKey]) -> None:
        """Take these out, each reading in its own way; what is not held is no error."""
        for key in keys:
            self.elements.pop(key, None)
            for identifier in key:
                self.identifiers.pop(identifier, None)
                for shared in _as_keys(self._keys_by_identifier.pop(identifier, ())):
                    self._forget_person(shared)

    def _forget_person(self, key: ElementKey) -> None:
        self.persons.pop(key, None)
        for identifier in key:
            others = self._keys_by_identifier.get(identifier)
            if isinstance(others, set):
                others.discard(key)
            if others == key or not others:
                self._keys_by_identifier.pop(identifier, None)

    def clear(self) -> None:
        """Hold nobody any more."""
        self.identifiers.clear()
        self.elements.clear()
        self.persons.clear()
        self._keys_by_identifier.clear()

    def members(self, reading: Reading) -> dict[ElementKey, Fields]:
        """Who is held under `reading`, with fields; an identifier counts as an element of its own."""
        if reading is Reading.IDENTIFIERS:
            return {(identifier,): fields for identifier, fields in self.identifiers.items()}
        return dict(self.elements if reading is Reading.ELEMENTS else self.persons)

    def __len__(self) -> int:
        return len(self.elements)


def _as_keys(sharing: ElementKey | set[ElementKey]) -> Iterable[ElementKey]:
    if isinstance(sharing, set):
        return sharing
    return (sharing,) if sharing else ()
