"""YAML to frozen, validated objects. The door: whoever needs the configuration imports from here.

load_config(path)  →  Config ─┬─ warehouses     WarehouseConfig
                              ├─ destinations   LinkedInConfig
                              └─ syncs          SyncConfig ─┬─ model       ModelConfig
                                                            ├─ audience    AudienceConfig
                                                            ├─ schedule    ScheduleConfig
                                                            ├─ guard       GuardConfig
                                                            ├─ retry       RetryConfig
                                                            └─ retention   RetentionConfig
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

Named = TypeVar("Named", bound=ConfigObject)


class Config(ConfigObject):
    """A whole configuration; every warehouse and destination that a sync names is there."""

    warehouses: Annotated[
        dict[str, WarehouseConfig], Field(default_factory=dict, description="Where the data is, by a name of yours")
    ]
    destinations: Annotated[
        dict[str, DestinationConfig],
        Field(default_factory=dict, description="Where the audiences are, by a name of yours"),
    ]
    syncs: Annotated[
        dict[str, SyncConfig], Field(default_factory=dict, description="Queries mirrored into audiences, by name")
    ]

    webhooks: Annotated[
        dict[str, WebhookConfig],
        Field(default_factory=dict, description="Who is told when a sync goes wrong, by a name of yours"),
    ]

    def sync(self, name: str) -> SyncConfig:
        """The sync of that name. Raises ConfigurationError that lists the known ones."""
        return _get_entry("sync", name, self.syncs)

    def warehouse(self, name: str) -> WarehouseConfig:
        """The warehouse of that name. Raises ConfigurationError that lists the known ones."""
        return _get_entry("warehouse", name, self.warehouses)

    def warehouse_of(self, sync: SyncConfig) -> WarehouseConfig:
        """The warehouse that `sync` reads from."""
        return self.warehouses[sync.warehouse]

    def destination_of(self, sync: SyncConfig) -> DestinationConfig:
        """The destination that `sync` sends to."""
        return self.destinations[sync.destination]


def _get_entry(what: str, name: str, entries: Mapping[str, Named]) -> Named:
    if name in entries:
        return entries[name]
    raise ConfigurationError(f"there is no {what} {name!r}{suggest(name, entries)}; known here: {join_names(entries)}")


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in the file or folder at `path`; variables come from `environ`, else from the process.

    Files of secrets and queries are read too, and every secret is hidden from logs and messages from then on.
    Raises ConfigurationError with everything that is wrong, in the order of files and lines.
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
        problem for document in documents for problem in sorted(document.problems, key=lambda found: found.line or 0)
    ]
    if problems:
        raise ConfigurationError(problems)
    return Config(warehouses=warehouses, destinations=destinations, syncs=syncs, webhooks=webhooks)


def _validate_entries(sections: Sections, section: str, class_of: Callable[[Any], type[Named]]) -> dict[str, Named]:
    """Return the valid entries of a section; the problems of the others are noted in their documents.

    Args:
        sections: All sections of the configuration, as written.
        section: The key of the section.
        class_of: The class of an entry, by what is written there.

    """
    valid = {}
    for name, entry in sections[section].items():
        written = entry.value
        part = class_of(written)
        if isinstance(written, dict):
            if "name" in written:
                entry.document.add_problem(unknown_key_message("name", part), (section, name, "name"))
            written = {**written, "name": name}
        try:
            valid[name] = part.model_validate(written, context={"folder": entry.document.file.parent})
        except ValidationError as error:
            for path, message in describe_errors(error, part):
                entry.document.add_problem(message, (section, name, *(() if path == ("name",) else path)))
    return valid


def _find_destination_class(written: Any) -> type[DestinationConfig]:
    """Return the class of an entry under `destinations:`, by its type.

    Of an entry whose type is missing or unknown, the first class reports the problem.
    """
    known = find_destination_types()
    named = written.get("type") if isinstance(written, Mapping) else None
    return known[named] if isinstance(named, str) and named in known else next(iter(known.values()))


def _check_references(sections: Sections) -> None:
    """Every warehouse and destination that a sync names is defined, be it validly or not."""
    for name, entry in sections["syncs"].items():
        for key, section in (("warehouse", "warehouses"), ("destination", "destinations")):
            target = entry.value.get(key) if isinstance(entry.value, dict) else None
            if isinstance(target, str) and target not in sections[section]:
                known = sections[section]
                message = f"there is no {key} {target!r}{suggest(target, known)}; known here: {join_names(known)}"
                entry.document.add_problem(message, ("syncs", name, key))


def _check_webhooks(sections: Sections) -> None:
    """Every sync that a webhook names is defined, be it validly or not."""
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
    """No two syncs feed one existing audience: each would remove what the other adds."""
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
