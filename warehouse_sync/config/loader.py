"""Load a configuration: YAML files in, frozen and valid objects out.

load_config(path)  →  Config ─┬─ warehouses     WarehouseConfig
                              ├─ destinations   DestinationConfig, a subclass for each type
                              ├─ syncs          SyncConfig ─┬─ model       ModelConfig
                              │                             ├─ audience    AudienceConfig
                              │                             ├─ schedule    ScheduleConfig
                              │                             ├─ guard       GuardConfig
                              │                             ├─ retry       RetryConfig
                              │                             └─ retention   RetentionConfig
                              └─ webhooks       WebhookConfig
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from warehouse_sync.config.destination_types import DestinationConfig, find_destination_types
from warehouse_sync.config.models import (
    SyncConfig,
    WarehouseConfig,
    WebhookConfig,
)
from warehouse_sync.config.validation import ConfigObject, describe_errors, join_names, suggest, unknown_key_message
from warehouse_sync.config.yaml_source import Sections, merge_sections, read_documents
from warehouse_sync.errors import ConfigurationError

NamedEntry = TypeVar("NamedEntry", bound=ConfigObject)


class Config(ConfigObject):
    """A whole configuration. Every warehouse and destination that a sync names exists."""

    warehouses: Annotated[
        dict[str, WarehouseConfig],
        Field(default_factory=dict, description="Where the data is, by a name of your choice"),
    ]
    destinations: Annotated[
        dict[str, DestinationConfig],
        Field(default_factory=dict, description="Where the audiences are, by a name of your choice"),
    ]
    syncs: Annotated[
        dict[str, SyncConfig],
        Field(default_factory=dict, description="Queries that are mirrored into audiences, by a name of your choice"),
    ]
    webhooks: Annotated[
        dict[str, WebhookConfig],
        Field(
            default_factory=dict,
            description="Addresses that are notified when a sync has problems, by a name of your choice",
        ),
    ]

    def sync(self, name: str) -> SyncConfig:
        """Return the sync of that name; raise ConfigurationError, with the known names, if there is none."""
        return _get_entry("sync", name, self.syncs)

    def warehouse(self, name: str) -> WarehouseConfig:
        """Return the warehouse of that name; raise ConfigurationError, with the known names, if there is none."""
        return _get_entry("warehouse", name, self.warehouses)

    def warehouse_of(self, sync: SyncConfig) -> WarehouseConfig:
        """Return the warehouse that `sync` reads from."""
        return self.warehouses[sync.warehouse]

    def destination_of(self, sync: SyncConfig) -> DestinationConfig:
        """Return the destination that `sync` sends to."""
        return self.destinations[sync.destination]


def _get_entry(kind: str, name: str, entries: Mapping[str, NamedEntry]) -> NamedEntry:
    if name in entries:
        return entries[name]
    raise ConfigurationError(f"there is no {kind} {name!r}{suggest(name, entries)}; known here: {join_names(entries)}")


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """Load the configuration in a file or folder.

    Files of secrets and queries are read too. From then on every secret is hidden in logs and messages.

    Args:
        path: The YAML file, or a folder with YAML files.
        environ: The variables that `${NAME}` refers to; those of the process by default.

    Raises:
        ConfigurationError: The configuration is invalid; the exception holds all problems in the order of files and
            lines.
    """
    documents = read_documents(Path(path), os.environ if environ is None else environ)
    sections = merge_sections(documents, Config.keys(), f"unknown key; a configuration has {join_names(Config.keys())}")
    warehouses = _validate_entries(sections, "warehouses", lambda _: WarehouseConfig)
    destinations = _validate_entries(sections, "destinations", _find_destination_class)
    syncs = _validate_entries(sections, "syncs", lambda _: SyncConfig)
    webhooks = _validate_entries(sections, "webhooks", lambda _: WebhookConfig)
    _check_references(sections)
    _check_webhooks(sections)
    _check_audiences(sections, syncs, destinations)
    problems = [
        problem
        for document in documents
        for problem in sorted(document.problems, key=lambda problem: problem.line or 0)
    ]
    if problems:
        raise ConfigurationError(problems)
    return Config(warehouses=warehouses, destinations=destinations, syncs=syncs, webhooks=webhooks)


def _validate_entries(
    sections: Sections, section: str, class_of: Callable[[Any], type[NamedEntry]]
) -> dict[str, NamedEntry]:
    """Return the valid entries of a section; add the problems of the others to their documents.

    Args:
        sections: All sections of the configuration, as written.
        section: The key of the section.
        class_of: Returns the class of an entry, given what is written there.
    """
    valid = {}
    for name, entry in sections[section].items():
        written = entry.value
        config_class = class_of(written)
        if isinstance(written, dict):
            if "name" in written:
                entry.document.add_problem(unknown_key_message("name", config_class), (section, name, "name"))
            written = {**written, "name": name}
        try:
            valid[name] = config_class.model_validate(written, context={"folder": entry.document.file.parent})
        except ValidationError as error:
            for path, message in describe_errors(error, config_class):
                entry.document.add_problem(message, (section, name, *(() if path == ("name",) else path)))
    return valid


def _find_destination_class(written: Any) -> type[DestinationConfig]:
    """Return the class of an entry under `destinations:`, by its type.

    If the type is missing or unknown, this is the first class, which then reports the problem.
    """
    known = find_destination_types()
    name = written.get("type") if isinstance(written, Mapping) else None
    return known[name] if isinstance(name, str) and name in known else next(iter(known.values()))


def _check_references(sections: Sections) -> None:
    """Require that every warehouse and destination that a sync names is defined, validly or not."""
    for name, entry in sections["syncs"].items():
        for key, section in (("warehouse", "warehouses"), ("destination", "destinations")):
            target = entry.value.get(key) if isinstance(entry.value, dict) else None
            if isinstance(target, str) and target not in sections[section]:
                known = sections[section]
                message = f"there is no {key} {target!r}{suggest(target, known)}; known here: {join_names(known)}"
                entry.document.add_problem(message, ("syncs", name, key))


def _check_webhooks(sections: Sections) -> None:
    """Require that every sync that a webhook names is defined, validly or not."""
    known = sections["syncs"]
    for name, entry in sections["webhooks"].items():
        syncs = entry.value.get("syncs") if isinstance(entry.value, dict) else None
        for index, sync in enumerate(syncs if isinstance(syncs, list) else ()):
            if isinstance(sync, str) and sync not in known:
                message = f"there is no sync {sync!r}{suggest(sync, known)}; known here: {join_names(known)}"
                entry.document.add_problem(message, ("webhooks", name, "syncs", index))


def _check_audiences(
    sections: Sections, syncs: Mapping[str, SyncConfig], destinations: Mapping[str, DestinationConfig]
) -> None:
    """Refuse two syncs with the same existing audience: each would remove what the other adds."""
    owners: dict[tuple[Any, ...], str] = {}
    for name, sync in syncs.items():
        if sync.audience.id is None:
            continue
        destination = destinations.get(sync.destination)
        account = destination.account_key if destination else (sync.destination,)
        owner = owners.setdefault((*account, int(sync.audience.id)), name)
        if owner != name:
            place = sections["syncs"][owner].document.location(("syncs", owner, "audience", "id"))
            message = f"sync {owner!r} feeds this audience already ({place}), and each would remove what the other adds"
            sections["syncs"][name].document.add_problem(message, ("syncs", name, "audience", "id"))
