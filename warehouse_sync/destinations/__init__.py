"""The places that hold audiences, by the `type` of a destination in the configuration.

Importing this package is cheap; the HTTP stack is loaded when a destination is opened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse_sync.destinations.base import Destination
from warehouse_sync.fields import AudienceFields

if TYPE_CHECKING:
    from pydantic import SecretStr

    from warehouse_sync.config import LinkedInConfig

__all__ = ["audience_fields", "open_destination"]


def audience_fields(type: str, audience_type: str) -> AudienceFields:  # noqa: A002 - the configuration's own word
    """Identifiers and fields that destinations of `type` take for `audience_type`.

    Raises ValueError when either is unknown.
    """
    if type == "linkedin":
        from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS

        if audience_type in AUDIENCE_FIELDS:
            return AUDIENCE_FIELDS[audience_type]
        raise ValueError(f"destinations of type linkedin have no audience type {audience_type!r}")
    raise ValueError(f"there is no destination type {type!r}")


def open_destination(config: LinkedInConfig, *, patient: bool = True) -> Destination:
    """The destination of one entry under `destinations:`; nothing is sent yet, and `close()` gives it back.

    patient: bears with trouble for minutes, as a run should; otherwise a question is answered or refused in seconds.
    Raises ConfigurationError when its access token cannot be one.
    """
    from warehouse_sync.destinations.linkedin.destination import LinkedIn
    from warehouse_sync.destinations.linkedin.settings import LinkedInSettings

    def reveal(secret: SecretStr | None) -> str | None:
        return None if secret is None else secret.get_secret_value()

    settings = LinkedInSettings(
        name=config.name,
        account_id=config.account_id,
        client_id=config.client_id,
        client_secret=reveal(config.client_secret),
        refresh_token=reveal(config.refresh_token),
        access_token=reveal(config.access_token),
        api_version=config.api_version,
        source_platform=config.source_platform,
        api_url=config.api_url,
        oauth_url=config.oauth_url,
        requests_per_minute=config.requests_per_minute,
        max_in_flight=config.max_in_flight,
    )
    if not patient:
        settings = replace(settings, attempts=2, patience=5.0, token_patience=10.0, answer_timeout=10.0)
    return LinkedIn(settings)
