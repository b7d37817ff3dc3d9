"""Find the types of destinations.

Each type is a package `warehouse_sync/destinations/<type>`. Its module `config` has the attribute `CONFIG`: the class,
derived from `DestinationConfig`, of the entries under `destinations:`. A new type needs no change here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from warehouse_sync.config.types import Name
from warehouse_sync.config.validation import ConfigObject
from warehouse_sync.fields import AudienceFields

PACKAGE = "warehouse_sync.destinations"
"""The package that contains a package for each type."""

FieldSection = Literal["identifiers", "fields"]

FIELD_SECTIONS: tuple[FieldSection, ...] = ("identifiers", "fields")
"""The keys of a sync that map fields to columns."""


class DestinationConfig(ConfigObject):
    """Base of the entries under `destinations:`.

    Attributes:
        audience_fields: The identifiers and fields of each audience type that the destination supports.
        json_schema_rules: Keywords of JSON Schema that express the rules between the keys of an entry.
        name: The key of the entry.
        type: The type of the destination.
    """

    named_by_key: ClassVar[bool] = True
    audience_fields: ClassVar[Mapping[str, AudienceFields]] = {}
    json_schema_rules: ClassVar[Mapping[str, Any]] = {}

    name: Name
    type: str

    @property
    def account_label(self) -> str:
        """Return the name of the account in messages for operators."""
        raise NotImplementedError

    @property
    def account_key(self) -> tuple[Any, ...]:
        """Return what identifies the account; two entries with equal keys share their audiences."""
        raise NotImplementedError


@cache
def find_destination_types() -> Mapping[str, type[DestinationConfig]]:
    """Return the configuration class of each type of destination, by type."""
    package = find_spec(PACKAGE)
    folders = package.submodule_search_locations if package is not None else None
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg)
    return {name: import_module(f"{PACKAGE}.{name}.config").CONFIG for name in names}


@cache
def known_field_names(section: FieldSection) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the identifiers or fields that any destination accepts, by audience type."""
    names: dict[str, dict[str, None]] = {}
    for config in find_destination_types().values():
        for audience_type, accepted in config.audience_fields.items():
            declared = accepted.identifiers if section == "identifiers" else accepted.fields
            names.setdefault(audience_type, {}).update(dict.fromkeys(field.name for field in declared))
    return {audience_type: tuple(of_type) for audience_type, of_type in names.items()}
