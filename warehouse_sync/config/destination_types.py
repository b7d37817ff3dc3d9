"""Find the types of destinations.

Each type is a package `warehouse_sync/destinations/<type>`, found by its name. The module `config` in it has the
attribute `CONFIG`: the class, derived from `DestinationConfig`, of the entries under `destinations:`. So a new type
of destination needs no change here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from warehouse_sync.config import types as kind
from warehouse_sync.config.validation import ConfigObject
from warehouse_sync.fields import AudienceFields

PACKAGE = "warehouse_sync.destinations"

FieldSection = Literal["identifiers", "fields"]

FIELD_SECTIONS: tuple[FieldSection, ...] = ("identifiers", "fields")


class DestinationConfig(ConfigObject):
    """One entry under `destinations:`, whatever its type.

    Attributes:
        audience_fields: The identifiers and fields of each audience type that the destination has.
        schema_rules: Keywords of JSON Schema for the rules between the keys of an entry.

    """

    named_by_key: ClassVar[bool] = True
    audience_fields: ClassVar[Mapping[str, AudienceFields]] = {}
    json_schema_rules: ClassVar[Mapping[str, Any]] = {}

    name: kind.Name
    type: str

    @property
    def account_label(self) -> str:
        """Return what an operator calls the account, for messages."""
        raise NotImplementedError

    @property
    def account_key(self) -> tuple[Any, ...]:
        """Return what tells this account from all others; two entries with equal keys share their audiences."""
        raise NotImplementedError


@cache
def find_destination_types() -> Mapping[str, type[DestinationConfig]]:
    """Return the class of the configuration of each type of destination, by type."""
    package = find_spec(PACKAGE)
    folders = package.submodule_search_locations if package is not None else None
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg)
    return {name: import_module(f"{PACKAGE}.{name}.config").CONFIG for name in names}


@cache
def known_field_names(section: FieldSection) -> Mapping[str, tuple[str, ...]]:
    """Return the names of identifiers or fields that any destination takes, by audience type."""
    names: dict[str, dict[str, None]] = {}
    for config in find_destination_types().values():
        for audience_type, known in config.audience_fields.items():
            declared = known.identifiers if section == "identifiers" else known.fields
            names.setdefault(audience_type, {}).update(dict.fromkeys(field.name for field in declared))
    return {audience_type: tuple(found) for audience_type, found in names.items()}
