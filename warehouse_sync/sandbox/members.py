"""The members of a segment, under each of the three possible meanings of REMOVE. Pure.

LinkedIn does not document what a REMOVE removes. So a client must be right under every reading:

    reading       a segment is               REMOVE removes
    identifiers   a set of identifiers       the identifiers that it names
    elements      a set of elements          the element with exactly these identifiers
    persons       a set of elements          every element that shares any identifier with it

An identifier is (idType, idValue) for users and (field, value) for companies. An element without identifiers is
identified by its names, as ("NAME", "first last").
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
    """What a REMOVE is taken to mean."""

    IDENTIFIERS = "identifiers"
    ELEMENTS = "elements"
    PERSONS = "persons"


class SegmentMembers:
    """The members of one segment under all three readings at once. Not thread-safe.

    A key consists of sorted, distinct identifiers. Fields are those of the last ADD.
    """

    def __init__(self) -> None:
        self.identifiers: dict[Identifier, Fields] = {}
        self.elements: dict[ElementKey, Fields] = {}
        self.persons: dict[ElementKey, Fields] = {}
        # The elements with an identifier. Mostly it is one, and a set for each would double the memory.
        self._keys_by_identifier: dict[Identifier, ElementKey | set[ElementKey]] = {}

    def add(self, elements: Iterable[tuple[ElementKey, Fields]]) -> None:
        """Add elements; one that exists already gets the new fields."""
        identifiers, keys_by_identifier = self.identifiers, self._keys_by_identifier
        for key, fields in elements:
            for identifier in key:
                identifiers[identifier] = fields
                others = keys_by_identifier.setdefault(identifier, key)
                if isinstance(others, set):
                    others.add(key)
                elif others != key:
                    keys_by_identifier[identifier] = {others, key}
            self.elements[key] = fields
            self.persons[key] = fields

    def remove(self, keys: Iterable[ElementKey]) -> None:
        """Remove elements, each reading in its own way; an unknown element is no error."""
        for key in keys:
            self.elements.pop(key, None)
            for identifier in key:
                self.identifiers.pop(identifier, None)
                for sharing in _as_keys(self._keys_by_identifier.pop(identifier, ())):
                    self._remove_person(sharing)

    def _remove_person(self, key: ElementKey) -> None:
        self.persons.pop(key, None)
        for identifier in key:
            others = self._keys_by_identifier.get(identifier)
            if isinstance(others, set):
                others.discard(key)
            if others == key or not others:
                self._keys_by_identifier.pop(identifier, None)

    def clear(self) -> None:
        """Remove all members."""
        self.identifiers.clear()
        self.elements.clear()
        self.persons.clear()
        self._keys_by_identifier.clear()

    def under(self, reading: Reading) -> dict[ElementKey, Fields]:
        """Return the members under `reading`, with their fields; an identifier counts as one element."""
        if reading is Reading.IDENTIFIERS:
            return {(identifier,): fields for identifier, fields in self.identifiers.items()}
        return dict(self.elements if reading is Reading.ELEMENTS else self.persons)

    def __len__(self) -> int:
        return len(self.elements)


def _as_keys(keys: ElementKey | set[ElementKey]) -> Iterable[ElementKey]:
    if isinstance(keys, set):
        return keys
    return (keys,) if keys else ()
