"""Open destinations and look up their fields, by the `type` of an entry under `destinations:`.

Each type is a package beside this module. Its module `config` describes it (`config.destination_types`), its module
`destination` has `open_destination(config, *, events, interactive)`. Importing this module is cheap: the HTTP
library of a package is loaded when one of its destinations is opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from warehouse_sync.config.destination_types import PACKAGE, DestinationConfig, find_destination_types
from warehouse_sync.destinations.base import NO_LISTENERS, Destination
from warehouse_sync.events import Events
from warehouse_sync.fields import AudienceFields


def audience_fields(type: str, audience_type: str) -> AudienceFields:  # noqa: A002 - the name of the configuration key
    """Return the identifiers and fields that destinations of `type` take for `audience_type`.

    Raises:
        ValueError: Either of the two is unknown.

    """
    config = find_destination_types().get(type)
    if config is None:
        raise ValueError(f"there is no destination type {type!r}")
    if audience_type not in config.audience_fields:
        raise ValueError(f"destinations of type {type} have no audience type {audience_type!r}")
    return config.audience_fields[audience_type]


def open_destination(
    config: DestinationConfig, *, events: Events = NO_LISTENERS, interactive: bool = False
) -> Destination:
    """Return the destination of one entry under `destinations:`; nothing is sent yet, and `close()` releases it.

    Args:
        config: The entry.
        events: Where requests and delays are published.
        interactive: Whether somebody waits for the answer: failed calls are retried for seconds, not for minutes.

    Raises:
        ConfigurationError: The access token contains characters that no token has.

    """
    module = import_module(f"{PACKAGE}.{config.type}.destination")
    return cast(Destination, module.open_destination(config, events=events, interactive=interactive))
