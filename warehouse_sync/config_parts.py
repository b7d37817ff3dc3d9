"""The parts of a configuration: frozen objects that hold only what is valid. config.py is the door to them.

The descriptions are what editors show for a key. Durations are in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationInfo, field_validator, model_validator

from warehouse_sync import config_values as kind
from warehouse_sync.config_files import Unreadable, read_text
from warehouse_sync.config_problems import Found, Part, did_you_mean, listed, validate, wrong
from warehouse_sync.config_schedule import ScheduleConfig
from warehouse_sync.config_secrets import Secret, SecretText

IDENTIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("sha256_email", "sha512_email", "google_aid"),
    "company": (
        "company_name",
        "company_email_domain",
        "company_website_domain",
        "company_page_url",
        "organization_urn",
    ),
}
"""What tells one member from another, by audience type."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("first_name", "last_name", "title", "company", "country"),
    "company": ("stock_symbol", "industries", "city", "state", "country", "postal_code"),
}
"""What else is told of a member, by audience type."""


class LinkedInConfig(Part):
    """One ad account at LinkedIn, and the credentials of a member who may manage its audiences."""

    named: ClassVar[bool] = True

    name: kind.Name
    type: Annotated[Literal["linkedin"], Field(description="The kind of destination")]
    account_id: Annotated[kind.AccountId, Field(description="Number of the ad account")]
    client_id: Annotated[SecretText | None, Field(description="Of the LinkedIn app; with refresh_token")] = None
    client_secret: Annotated[Secret | None, Field(description="Of the LinkedIn app; with refresh_token")] = None
    refresh_token: Annotated[
        Secret | None,
        Field(description="Lives a year; access tokens are fetched with it"),
    ] = None
    access_token: Annotated[
        Secret | None,
        Field(description="Instead of refresh_token, for a short life: 60 days at most"),
    ] = None
    api_version: Annotated[
        kind.ApiVersion,
        Field(description="LinkedIn API version, YYYYMM; a version lives for about a year"),
    ] = "202609"
    source_platform: Annotated[
        kind.Platform,
        Field(description="DIRECT_API, or the name that LinkedIn gave to your company as a partner"),
    ] = "DIRECT_API"
    api_url: Annotated[
        kind.WebAddress,
        Field(description="For proxies and tests; http:// on this machine only"),
    ] = "https://api.linkedin.com"
    oauth_url: Annotated[
        kind.WebAddress,
        Field(description="For proxies and tests; http:// on this machine only"),
    ] = "https://www.linkedin.com"
    requests_per_minute: Annotated[
        kind.Count | None,
        Field(ge=1, description="The pace of deliveries; left out, it keeps below LinkedIn's limits"),
    ] = None
    max_in_flight: Annotated[kind.Count, Field(ge=1, le=64, description="Requests under way at once")] = 8

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """Either a refresh token with its app, or an access token."""
        renewed, short = (given.get(key) is not None for key in ("refresh_token", "access_token"))
        if renewed and short:
            yield (), "refresh_token and access_token exclude each other; leave one of them out"
        elif not renewed and not short:
            yield (), "credentials are missing: client_id, client_secret and refresh_token, or access_token"
        elif renewed:
            for key in ("client_id", "client_secret"):
                if given.get(key) is None:
                    yield (key,), f"missing; a refresh_token is of use only with {key}"


class ModelConfig(Part):
    """The query whose rows become members; exactly one of sql, file and table."""

    sql: Annotated[kind.Query | None, Field(description="One SELECT, taken as it is")] = None
    file: Annotated[
        Path | None,
        Field(description="A file that holds the SELECT; relative to this YAML file"),
    ] = None
    table: Annotated[
        kind.TableName | None,
        Field(description='A table or view: name or schema.name, odd names in quotes: "My Schema"."x"'),
    ] = None
    primary_key: Annotated[kind.Columns, Field(description="Column or columns that name a row in the log")]

    _text: str | None = PrivateAttr(default=None)

    @property
    def text(self) -> str | None:
        """The query, from `sql` or as the file held it at load time; None for a table."""
        return self.sql or self._text

    @property
    def table_parts(self) -> tuple[str, ...] | None:
        """The parts of `table` without quotes, an unquoted one in lower case; None for a query."""
        return None if self.table is None else kind.table_parts(self.table)

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """Exactly one source of rows."""
        sources = [key for key in ("sql", "file", "table") if given.get(key) is not None]
        if len(sources) != 1:
            yield (), f"exactly one of sql, file and table is needed, found {listed(sources)}"

    @field_validator("file", mode="before")
    @classmethod
    def _beside(cls, value: Any, info: ValidationInfo) -> Any:
        return kind.folder(info) / value if isinstance(value, str) else value

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        text, found = None, list[Found]()
        file = data.get("file") if isinstance(data, Mapping) else None
        if isinstance(file, str | Path):
            try:
                text = read_text(kind.folder(info) / file)
            except Unreadable as error:
                found.append((("file",), f"the query's file {file} {error}"))
            else:
                if not text.strip():
                    found.append((("file",), f"the query's file {file} is empty"))
        model = validate(handler, data, found)
        if text is not None:
            model._text = text
        return model


class AudienceConfig(Part):
    """The audience to keep; `name` has it created by the first run, `id` takes an existing one."""

    type: Annotated[Literal["user", "company"], Field(description="What its members are")]
    name: Annotated[kind.Name | None, Field(description="Created on the first run under this name")] = None
    id: Annotated[kind.AudienceId | None, Field(description="An existing audience, of the same type")] = None
    description: Annotated[str | None, Field(description="Shown beside the name; only with name")] = None

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """A name or an id; a description belongs to a name."""
        named, taken = (given.get(key) is not None for key in ("name", "id"))
        if named == taken:
            yield (), f"exactly one of name and id is needed, found {'both' if named else 'none'}"
        if taken and given.get("description") is not None:
            yield ("description",), "an audience taken by id keeps its own description; leave this key out"


class GuardConfig(Part):
    """When a run stops before it sends anything."""

    max_removed_percent: Annotated[
        kind.Percent,
        Field(description="A run that would remove a larger share of the members is blocked"),
    ] = 30.0
    min_members: Annotated[
        kind.Count,
        Field(ge=0, description="A query that yields fewer members is blocked, once the audience had some"),
    ] = 1
    ignore_below: Annotated[
        kind.Count,
        Field(ge=0, description="Up to this many removals are never too large a share"),
    ] = 100


class RetryConfig(Part):
    """What happens to operations that could not be delivered."""

    enabled: Annotated[bool, Field(description="Send them again in later runs")] = True
    max_age: Annotated[
        kind.Seconds,
        Field(gt=0, description="Given up when this old: listed as dead, sent again only when asked"),
    ] = 13 * 3600.0


class RetentionConfig(Part):
    """How much of the past is kept in the worker's tables."""

    sync_log_days: Annotated[kind.Count, Field(ge=0, le=36500, description="0 keeps no log")] = 30
    snapshots: Annotated[
        kind.Count, Field(ge=2, le=1000, description="Snapshots kept, the newest included; at least 2")
    ] = 2


class SyncConfig(Part):
    """One query mirrored into one audience."""

    named: ClassVar[bool] = True

    name: kind.Name
    warehouse: Annotated[str, Field(description="One of the warehouses")]
    destination: Annotated[str, Field(description="One of the destinations")]
    enabled: Annotated[bool, Field(description="false: runs skip this sync")] = True
    model: Annotated[ModelConfig, Field(description="The query whose rows become members")]
    audience: Annotated[AudienceConfig, Field(description="The audience to keep equal to the query")]
    mode: Annotated[Literal["mirror"], Field(description="The audience equals the query")] = "mirror"
    hash_pii: Annotated[
        bool,
        Field(description="E-mail addresses are hashed in the warehouse; false: the columns hold hashes already"),
    ] = True
    identifiers: Annotated[
        dict[str, kind.Text],
        Field(min_length=1, description="What tells members apart, and the column that holds it"),
    ]
    fields: Annotated[
        dict[str, kind.Text],
        Field(default_factory=dict, description="What else LinkedIn is told of a member, and the column"),
    ]
    schedule: Annotated[
        ScheduleConfig | None, Field(description="When `warehouse-sync serve` runs it; left out: never by itself")
    ] = None
    guard: Annotated[
        GuardConfig, Field(default_factory=GuardConfig, description="When a run stops before sending anything")
    ]
    retry: Annotated[
        RetryConfig, Field(default_factory=RetryConfig, description="What happens to undelivered operations")
    ]
    retention: Annotated[
        RetentionConfig, Field(default_factory=RetentionConfig, description="How much of the past is kept")
    ]

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """Identifiers and fields are those of the audience's type."""
        audience = given.get("audience")
        audience_type = audience.get("type") if isinstance(audience, Mapping) else getattr(audience, "type", None)
        if audience_type not in ("user", "company"):
            return
        for section, known in (("identifiers", IDENTIFIERS), ("fields", FIELDS)):
            mapping = given.get(section)
            for key in mapping if isinstance(mapping, Mapping) else ():
                if key not in known[audience_type]:
                    yield (section, key), _stranger(str(key), section, audience_type)

    @field_validator("mode", mode="before")
    @classmethod
    def _only_mirror(cls, value: Any) -> Any:
        if value in ("upsert", "append", "add", "insert", "update", "delete", "remove", "full", "incremental"):
            raise wrong(
                f"mode {value} is not offered: an audience mirrors its query; write mirror or leave this key out"
            )
        return value

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that decides which members an audience should hold, and which audience."""
        meaning = {
            "audience": self.audience.model_dump(),
            "hash_pii": self.hash_pii,
            "identifiers": self.identifiers,
            "fields": self.fields,
            "query": self.model.text,
            "table": self.model.table_parts,
            "primary_key": self.model.primary_key,
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _stranger(key: str, section: str, audience_type: str) -> str:
    """Why `key` is none of the identifiers or fields of an audience type, and what may have been meant."""
    for other, known in (("identifiers", IDENTIFIERS), ("fields", FIELDS)):
        if other != section and key in known[audience_type]:
            return f"{key} belongs under {other}"
        for elsewhere, keys in known.items():
            if elsewhere != audience_type and key in keys:
                return f"{key} belongs to {elsewhere} audiences; this audience is of type {audience_type}"
    keys = (IDENTIFIERS if section == "identifiers" else FIELDS)[audience_type]
    return f"{audience_type} audiences have no such key{did_you_mean(key, keys)}; known here: {listed(keys)}"
