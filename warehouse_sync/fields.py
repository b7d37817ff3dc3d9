"""How a destination describes what it takes: each field, and how an operation is written, as data without code.

Destinations declare, warehouses compile to SQL, neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Normaliser(StrEnum):
    """What is done to a value in the snapshot statement before anything else sees it.

    Every normaliser takes NULL, the empty text, white space and characters that nobody sees (letters.py) as absent.
    """

    EMAIL = "email"
    """White space and invisible characters removed, lower-cased code point by code point, of the form x@y.z; then
    hashed with `Field.hash`."""
    DEVICE_ID = "device_id"
    """Trimmed, lower-cased; a UUID with or without hyphens; all zeros means that the person opted out."""
    TEXT = "text"
    """Trimmed; cut to `max_length`, or left out when longer if `too_long` says so."""
    TEXT_LIST = "text_list"
    """An array, a JSON array of strings or comma-separated text; the first `max_items`, each as TEXT; a JSON array."""
    DOMAIN = "domain"
    """The host of a URL or a bare domain: lower-cased, without port and trailing dot."""
    PREFIXED_NUMBER = "prefixed_number"
    """Digits behind `prefix`, one of `aliases`, or nothing; always written with `prefix`."""
    COUNTRY = "country"
    """Two letters, upper-cased."""


class LengthPolicy(StrEnum):
    """What happens to a text that is longer than its field takes."""

    TRUNCATE = "cut"
    OMIT = "leave_out"


@dataclass(frozen=True, slots=True)
class Field:
    """One identifier or descriptive field that a destination takes.

    name: the key in the configuration and the column in snapshots and changes.
    max_length: in characters; None is unlimited.
    hash: the digest of an EMAIL, `sha256` or `sha512`.
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
    """What one audience type takes, in the order in which columns stand in snapshots and changes."""

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
    """An object in a list of an element: `constants`, and the value of a field under `name`; left out without it."""

    constants: Mapping[str, str]
    name: str
    field: Field


@dataclass(frozen=True, slots=True)
class ElementTemplate:
    """How one operation is written as a JSON object: constants, lists of objects, values of fields, in this order.

    What has no value is left out, lists without items too. A TEXT_LIST is a list, every other value a text.
    """

    constants: Mapping[str, str]
    lists: Mapping[str, tuple[ItemTemplate, ...]]
    values: Mapping[str, Field]
