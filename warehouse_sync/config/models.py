"""The objects of a configuration: frozen, and valid once they exist.

`loader.py` shows how they belong together. Editors show the descriptions of the keys. Durations are in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationInfo, field_validator, model_validator

from warehouse_sync.config import snowflake_login
from warehouse_sync.config.destination_types import FIELD_SECTIONS, FieldSection, known_field_names
from warehouse_sync.config.files import UnreadableFile, read_text
from warehouse_sync.config.secrets import PrivateKey, Secret, WarehouseUrl, WebhookUrl
from warehouse_sync.config.types import (
    NOT_EMPTY_AND_DISTINCT,
    AudienceId,
    ColumnNames,
    Count,
    CronExpression,
    MemoryLimit,
    Name,
    Percent,
    QueryText,
    SchemaName,
    Seconds,
    TableName,
    Text,
    TimeOfDay,
    TimezoneName,
    base_folder,
    find_schema_problem,
    parse_table_name,
)
from warehouse_sync.config.validation import (
    ConfigObject,
    Violation,
    invalid_value,
    join_names,
    suggest,
    validate_with_rules,
)
from warehouse_sync.schedule import Schedule

AlertKind = Literal["failed", "blocked", "dead", "recovered"]

ALERT_KINDS: tuple[AlertKind, ...] = ("failed", "blocked", "dead", "recovered")


class WarehouseConfig(ConfigObject):
    """Where the data is, and with it the worker's own tables."""

    named_by_key: ClassVar[bool] = True

    name: Name
    url: Annotated[
        WarehouseUrl,
        Field(
            description="SQLAlchemy address: duckdb:///file.duckdb, postgresql+psycopg://user:password@host/db or "
            "snowflake://user@account/db/schema?warehouse=w&role=r"
        ),
    ]
    schema_: Annotated[
        SchemaName,
        Field(alias="schema", description="Where the worker keeps its own tables; the first run creates it"),
    ] = "warehouse_sync"
    lease: Annotated[
        Seconds,
        Field(ge=5, description="How long a worker that no longer responds keeps its sync; at least 5s"),
    ] = 60.0
    memory_limit: Annotated[
        MemoryLimit | None,
        Field(description="DuckDB only: what the engine may use in the worker; 512MB by default"),
    ] = None
    private_key: Annotated[
        PrivateKey | None,
        Field(description="Snowflake only: the user's private key in PEM, instead of a password"),
    ] = None
    private_key_passphrase: Annotated[
        Secret | None,
        Field(description="Snowflake only: decrypts private_key"),
    ] = None
    oauth_token: Annotated[
        Secret | None,
        Field(description="Snowflake only: an OAuth access token, instead of a password; it is not renewed"),
    ] = None

    @property
    def login_secrets(self) -> tuple[str | None, str | None, str | None]:
        """Return the private key, its passphrase and the OAuth token."""
        secrets = (self.private_key, self.private_key_passphrase, self.oauth_token)
        key, passphrase, token = (None if secret is None else secret.get_secret_value() for secret in secrets)
        return key, passphrase, token

    @model_validator(mode="wrap")
    @classmethod
    def _check_url_dependent_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        warehouse = handler(data)
        url = warehouse.url.get_secret_value()
        problem = find_schema_problem(url, warehouse.schema_)
        violations: list[Violation] = [(("schema",), problem)] if problem else []
        if warehouse.memory_limit is not None and not url.startswith("duckdb:"):
            violations.append(
                (("memory_limit",), "is for DuckDB only: elsewhere the warehouse's own server does the work")
            )
        violations += snowflake_login.check_login(url, *warehouse.login_secrets)
        return validate_with_rules(lambda _: warehouse, data, violations)


class ModelConfig(ConfigObject):
    """The query whose rows become members; exactly one of sql, file and table."""

    sql: Annotated[QueryText | None, Field(description="One SELECT; it is not changed")] = None
    file: Annotated[
        Path | None,
        Field(description="A file with the SELECT; relative to this YAML file"),
    ] = None
    table: Annotated[
        TableName | None,
        Field(description='A table or view: name or schema.name, other names in quotes: "My Schema"."x"'),
    ] = None
    primary_key: Annotated[ColumnNames, Field(description="Column or columns that identify a row in the log")]

    _text: str | None = PrivateAttr(default=None)

    @property
    def text(self) -> str | None:
        """Return the query, from `sql` or as the file had it when it was loaded; None for a table."""
        return self.sql or self._text

    @property
    def table_parts(self) -> tuple[str, ...] | None:
        """Return the parts of `table` without quotes, unquoted ones in lower case; None for a query."""
        return None if self.table is None else parse_table_name(self.table)

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Require exactly one source of rows."""
        sources = [key for key in ("sql", "file", "table") if written.get(key) is not None]
        if len(sources) != 1:
            yield (), f"exactly one of sql, file and table is needed, found {join_names(sources)}"

    @field_validator("file", mode="before")
    @classmethod
    def _resolve_file(cls, value: Any, info: ValidationInfo) -> Any:
        return base_folder(info) / value if isinstance(value, str) else value

    @model_validator(mode="wrap")
    @classmethod
    def _read_file(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        text, violations = None, list[Violation]()
        file = data.get("file") if isinstance(data, Mapping) else None
        if isinstance(file, str | Path):
            try:
                text = read_text(base_folder(info) / file)
            except UnreadableFile as error:
                violations.append((("file",), f"the query's file {file} {error}"))
            else:
                if not text.strip():
                    violations.append((("file",), f"the query's file {file} is empty"))
        model = validate_with_rules(handler, data, violations)
        if text is not None:
            model._text = text
        return model


class AudienceConfig(ConfigObject):
    """The audience of a sync: the first run creates one by name, id names an existing one."""

    type: Annotated[Literal["user", "company"], Field(description="What its members are")]
    name: Annotated[Name | None, Field(description="The first run creates the audience under this name")] = None
    id: Annotated[AudienceId | None, Field(description="An existing audience, of the same type")] = None
    description: Annotated[str | None, Field(description="Shown beside the name; only with name")] = None

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Require a name or an id; allow a description only with a name."""
        has_name, has_id = (written.get(key) is not None for key in ("name", "id"))
        if has_name == has_id:
            yield (), f"exactly one of name and id is needed, found {'both' if has_name else 'none'}"
        if has_id and written.get("description") is not None:
            yield ("description",), "an audience taken by id keeps its own description; leave this key out"


class ScheduleConfig(ConfigObject):
    """When `warehouse-sync serve` runs a sync; exactly one of every and cron."""

    every: Annotated[
        Literal["5m", "10m", "15m", "30m", "1h", "3h", "6h", "12h", "24h"] | None,
        Field(description="The interval, counted from `at` of each day"),
    ] = None
    at: Annotated[
        TimeOfDay | None,
        Field(description='A time of day at which the sync runs, "HH:MM"; only with every, 00:00 by default'),
    ] = None
    cron: Annotated[
        CronExpression | None,
        Field(description="Five fields as in crontab(5): minute hour day month weekday; 0 is Sunday"),
    ] = None
    timezone: Annotated[TimezoneName, Field(description="IANA name of the time zone of at and cron")] = "UTC"

    @property
    def schedule(self) -> Schedule:
        """Return the schedule that this configures."""
        if self.every is not None:
            return Schedule.every(self.every, self.at or "00:00", self.timezone)
        if self.cron is None:
            raise AssertionError("a schedule has an interval or a cron expression")
        return Schedule(self.cron, self.timezone)

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Require an interval or a cron expression; allow a time only with an interval."""
        has_every, has_cron = (written.get(key) is not None for key in ("every", "cron"))
        if has_every == has_cron:
            yield (), f"exactly one of every and cron is needed, found {'both' if has_every else 'none'}"
        if has_cron and not has_every and written.get("at") is not None:
            yield ("at",), "a cron expression contains the time; leave this key out"


class GuardConfig(ConfigObject):
    """When a run stops before it sends anything."""

    max_removed_percent: Annotated[
        Percent,
        Field(description="A run that would remove a larger share of the members is blocked"),
    ] = 30.0
    min_members: Annotated[
        Count,
        Field(ge=0, description="A query that yields fewer members is blocked, once the audience had some"),
    ] = 1
    ignore_below: Annotated[
        Count,
        Field(ge=0, description="Up to this many removals are allowed, however large their share is"),
    ] = 100


class RetryConfig(ConfigObject):
    """What happens to operations that could not be delivered."""

    enabled: Annotated[bool, Field(description="Send them again in later runs")] = True
    max_age: Annotated[
        Seconds,
        Field(
            gt=0, description="An older operation that fails is dead: it stays listed and is sent again only on request"
        ),
    ] = 13 * 3600.0


class RetentionConfig(ConfigObject):
    """How long the worker's tables keep the past."""

    sync_log_days: Annotated[Count, Field(ge=0, le=36500, description="0 keeps no log")] = 30
    snapshots: Annotated[
        Count, Field(ge=2, le=1000, description="Snapshots that are kept, including the newest; at least 2")
    ] = 2


class SyncConfig(ConfigObject):
    """One query that is mirrored into one audience."""

    named_by_key: ClassVar[bool] = True

    name: Name
    warehouse: Annotated[str, Field(description="One of the warehouses")]
    destination: Annotated[str, Field(description="One of the destinations")]
    enabled: Annotated[bool, Field(description="false: runs skip this sync")] = True
    model: Annotated[ModelConfig, Field(description="The query whose rows become members")]
    audience: Annotated[AudienceConfig, Field(description="The audience to keep equal to the query")]
    mode: Annotated[Literal["mirror"], Field(description="The audience equals the query")] = "mirror"
    hash_pii: Annotated[
        bool,
        Field(description="E-mail addresses are hashed in the warehouse; false: the columns contain hashes already"),
    ] = True
    identifiers: Annotated[
        dict[str, Text],
        Field(min_length=1, description="What identifies a member, each with its column"),
    ]
    fields: Annotated[
        dict[str, Text],
        Field(default_factory=dict, description="What else LinkedIn receives for a member, each with its column"),
    ]
    schedule: Annotated[
        ScheduleConfig | None,
        Field(description="When `warehouse-sync serve` runs the sync; without a schedule it never does"),
    ] = None
    guard: Annotated[
        GuardConfig, Field(default_factory=GuardConfig, description="When a run stops before it sends anything")
    ]
    retry: Annotated[
        RetryConfig, Field(default_factory=RetryConfig, description="What happens to undelivered operations")
    ]
    retention: Annotated[
        RetentionConfig, Field(default_factory=RetentionConfig, description="How long the past is kept")
    ]

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of all that determines the audience and the members it should have."""
        relevant = {
            "audience": self.audience.model_dump(),
            "hash_pii": self.hash_pii,
            "identifiers": self.identifiers,
            "fields": self.fields,
            "query": self.model.text,
            "table": self.model.table_parts,
            "primary_key": self.model.primary_key,
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Allow only the identifiers and fields of the audience's type."""
        audience = written.get("audience")
        audience_type = audience.get("type") if isinstance(audience, Mapping) else getattr(audience, "type", None)
        if audience_type not in ("user", "company"):
            return
        for section in FIELD_SECTIONS:
            mapping = written.get(section)
            for key in mapping if isinstance(mapping, Mapping) else ():
                if key not in known_field_names(section)[audience_type]:
                    yield (section, key), _explain_unknown_field(str(key), section, audience_type)

    @field_validator("mode", mode="before")
    @classmethod
    def _explain_other_modes(cls, value: Any) -> Any:
        if value in ("upsert", "append", "add", "insert", "update", "delete", "remove", "full", "incremental"):
            raise invalid_value(
                f"mode {value} is not offered: an audience mirrors its query; write mirror or leave this key out"
            )
        return value


def _explain_unknown_field(key: str, section: FieldSection, audience_type: str) -> str:
    """Return why `key` is not allowed in this section for an audience type, and what may have been meant."""
    for other_section in FIELD_SECTIONS:
        names = known_field_names(other_section)
        if other_section != section and key in names[audience_type]:
            return f"{key} belongs under {other_section}"
        for other_type, names_of_type in names.items():
            if other_type != audience_type and key in names_of_type:
                return f"{key} belongs to {other_type} audiences; this audience is of type {audience_type}"
    keys = known_field_names(section)[audience_type]
    return f"{audience_type} audiences have no such key{suggest(key, keys)}; known here: {join_names(keys)}"


class WebhookConfig(ConfigObject):
    """An address that is notified once when the state of a sync changes."""

    named_by_key: ClassVar[bool] = True

    name: Name
    url: Annotated[
        WebhookUrl,
        Field(description="Slack's incoming webhook, or any address that takes JSON; http:// on this machine only"),
    ]
    on: Annotated[
        tuple[AlertKind, ...],
        NOT_EMPTY_AND_DISTINCT,
        Field(
            description="What it is notified of: failed, blocked, dead, recovered", json_schema_extra={"minItems": 1}
        ),
    ] = ALERT_KINDS
    syncs: Annotated[
        tuple[Text, ...] | None,
        Field(min_length=1, description="Only of these syncs; of all by default"),
    ] = None

    def applies_to(self, sync: str) -> bool:
        """Return whether the webhook is notified about this sync."""
        return self.syncs is None or sync in self.syncs
