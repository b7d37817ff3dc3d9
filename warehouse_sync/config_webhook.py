"""The part of a configuration that says whom to tell when a sync goes wrong; config.py is the door to it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from warehouse_sync import config_values as kind
from warehouse_sync.config_problems import Part
from warehouse_sync.config_secrets import WebhookUrl

Occasion = Literal["failed", "blocked", "dead", "recovered"]

OCCASIONS: tuple[Occasion, ...] = ("failed", "blocked", "dead", "recovered")


class WebhookConfig(Part):
    """An address that is told once when the state of a sync changes."""

    named: ClassVar[bool] = True

    name: kind.Name
    url: Annotated[
        WebhookUrl,
        Field(description="Slack's incoming webhook, or any address that takes JSON; http:// on this machine only"),
    ]
    on: Annotated[
        tuple[Occasion, ...],
        kind.WORDS,
        Field(description="What it is told: failed, blocked, dead, recovered", json_schema_extra={"minItems": 1}),
    ] = OCCASIONS
    syncs: Annotated[
        tuple[kind.Text, ...] | None,
        Field(min_length=1, description="Of these syncs only; left out, of all"),
    ] = None

    def concerns(self, sync: str) -> bool:
        """Whether it is told of this sync."""
        return self.syncs is None or sync in self.syncs
