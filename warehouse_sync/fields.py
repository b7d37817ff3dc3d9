"""How a destination describes its fields and the JSON of an operation, as data without code.

Destinations declare the descriptions and warehouses compile them to SQL; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Normaliser(StrEnum):
    """How the snapshot statement normalises a value before anything else uses it.

    To every normaliser NULL, empty text, white space and invisible characters (warehouses/unicode.py) mean no value.
    """

    EMAIL = "email"
    """White space and invisible characters removed, lower-cased code point by code point; must have the form x@y.z;
    then hashed with `Field.hash`."""
    DEVICE_ID = "device_id"
    """Trimmed, lower-cased; a UUID with or without hyphens; all zeros means that the person opted out."""
    TEXT = "text"
    """Trimmed; a text longer than `max_length` is treated as `length_policy` says."""
    TEXT_LIST = "text_list"
    """An array, a JSON array of strings or comma-separated text; the first `max_items`, each as TEXT; a JSON array."""
    DOMAIN = "domain"
    """The host of a URL or a bare domain: lower-cased, without port and trailing dot."""
    PREFIXED_NUMBER = "prefixed_number"
    """Digits after `prefix`, one of `aliases` or no prefix; always written with `prefix`."""
    COUNTRY = "country"
    """Two letters, upper-cased."""


class LengthPolicy(StrEnum):
    """What happens to a text that is longer than its field allows."""

    TRUNCATE = "cut"
    OMIT = "leave_out"


@dataclass(frozen=True, slots=True)
class Field:
    """One identifier or descriptive field that a destination accepts.

    Attributes:
        name: The key in the configuration and the column in snapshots and changes.
        normaliser: How values are normalised.
        max_length: The greatest length in characters; None is unlimited.
        length_policy: What happens to a longer text.
        max_items: The greatest number of items of a TEXT_LIST; None is unlimited.
        hash: The digest of an EMAIL, `sha256` or `sha512`.
        prefix: What a PREFIXED_NUMBER begins with.
        aliases: Other prefixes that a PREFIXED_NUMBER may have in the warehouse.
    """

    name: str
    normaliser: Normaliser
    max_length: int | None = None
    length_policy: LengthPolicy = LengthPolicy.TRUNCATE
    max_items: int | None = None
    hash: str | None = None
    prefix: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AudienceFields:
    """The fields that one audience type accepts, in the order of their columns in snapshots and changes.

    Attributes:
        identifiers: The fields that identify a member.
        fields: The descriptive fields.
    """

    identifiers: tuple[Field, ...]
    fields: tuple[Field, ...]

    @property
    def all(self) -> tuple[Field, ...]:
        return self.identifiers + self.fields

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.all)


@dataclass(frozen=True, slots=True)
class ItemTemplate:
    """An object in a list of an element; left out when its field has no value.

    Attributes:
        constants: Keys with fixed values.
        name: The key of the field's value.
        field: The field.
    """

    constants: Mapping[str, str]
    name: str
    field: Field


@dataclass(frozen=True, slots=True)
class ElementTemplate:
    """How one operation is written as a JSON object, in the order of the attributes.

    Fields without a value and lists without items are left out. A TEXT_LIST becomes a list, every other value a text.

    Attributes:
        constants: Keys with fixed values.
        lists: Lists of objects, by key.
        values: Fields, by key.
    """

    constants: Mapping[str, str]
    lists: Mapping[str, tuple[ItemTemplate, ...]]
    values: Mapping[str, Field]
