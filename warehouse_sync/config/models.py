"""The parts of a configuration: frozen objects that hold only what is valid. config.py is the door to them.

The descriptions are what editors show for a key. Durations are in seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from warehouse_sync.config import snowflake_login
from warehouse_sync.config import types as kind
from warehouse_sync.config.destination_types import FIELD_SECTIONS, FieldSection, known_field_names
from warehouse_sync.config.files import UnreadableFile, read_text
from warehouse_sync.config.secrets import PrivateKey, Secret, WarehouseUrl, WebhookUrl
from warehouse_sync.config.validation import (
    ConfigObject,
    Violation,
    invalid_value,
    join_names,
    suggest,
    validate_with_rules,
)
from warehouse_sync.schedule import Schedule


class ModelConfig(ConfigObject):
    """The query whose rows become members; exactly one of sql, file and table."""

    sql: Annotated[kind.QueryText | None, Field(description="One SELECT, taken as it is")] = None
    file: Annotated[
        Path | None,
        Field(description="A file that holds the SELECT; relative to this YAML file"),
    ] = None
    table: Annotated[
        kind.TableName | None,
        Field(description='A table or view: name or schema.name, odd names in quotes: "My Schema"."x"'),
    ] = None
    primary_key: Annotated[kind.ColumnNames, Field(description="Column or columns that name a row in the log")]

    _text: str | None = PrivateAttr(default=None)

    @property
    def text(self) -> str | None:
        """The query, from `sql` or as the file held it at load time; None for a table."""
        return self.sql or self._text

    @property
    def table_parts(self) -> tuple[str, ...] | None:
        """The parts of `table` without quotes, an unquoted one in lower case; None for a query."""
        return None if self.table is None else kind.parse_table_name(self.table)

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Exactly one source of rows."""
        sources = [key for key in ("sql", "file", "table") if written.get(key) is not None]
        if len(sources) != 1:
            yield (), f"exactly one of sql, file and table is needed, found {join_names(sources)}"

    @field_validator("file", mode="before")
    @classmethod
    def _resolve_file(cls, value: Any, info: ValidationInfo) -> Any:
        return kind.base_folder(info) / value if isinstance(value, str) else value

    @model_validator(mode="wrap")
    @classmethod
    def _read_file(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        text, found = None, list[Violation]()
        file = data.get("file") if isinstance(data, Mapping) else None
        if isinstance(file, str | Path):
            try:
                text = read_text(kind.base_folder(info) / file)
            except UnreadableFile as error:
                found.append((("file",), f"the query's file {file} {error}"))
            else:
                if not text.strip():
                    found.append((("file",), f"the query's file {file} is empty"))
        model = validate_with_rules(handler, data, found)
        if text is not None:
            model._text = text
        return model


class AudienceConfig(ConfigObject):
    """The audience to keep; `name` has it created by the first run, `id` takes an existing one."""

    type: Annotated[Literal["user", "company"], Field(description="What its members are")]
    name: Annotated[kind.Name | None, Field(description="Created on the first run under this name")] = None
    id: Annotated[kind.AudienceId | None, Field(description="An existing audience, of the same type")] = None
    description: Annotated[str | None, Field(description="Shown beside the name; only with name")] = None

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """A name or an id; a description belongs to a name."""
        named, taken = (written.get(key) is not None for key in ("name", "id"))
        if named == taken:
            yield (), f"exactly one of name and id is needed, found {'both' if named else 'none'}"
        if taken and written.get("description") is not None:
            yield ("description",), "an audience taken by id keeps its own description; leave this key out"


class GuardConfig(ConfigObject):
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


class RetryConfig(ConfigObject):
    """What happens to operations that could not be delivered."""

    enabled: Annotated[bool, Field(description="Send them again in later runs")] = True
    max_age: Annotated[
        kind.Seconds,
        Field(gt=0, description="Given up when this old: listed as dead, sent again only when asked"),
    ] = 13 * 3600.0


class RetentionConfig(ConfigObject):
    """How much of the past is kept in the worker's tables."""

    sync_log_days: Annotated[kind.Count, Field(ge=0, le=36500, description="0 keeps no log")] = 30
    snapshots: Annotated[
        kind.Count, Field(ge=2, le=1000, description="Snapshots kept, the newest included; at least 2")
    ] = 2


class SyncConfig(ConfigObject):
    """One query mirrored into one audience."""

    named_by_key: ClassVar[bool] = True

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
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Identifiers and fields are those of the audience's type."""
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


def _explain_unknown_field(key: str, section: FieldSection, audience_type: str) -> str:
    """Why `key` is none of the identifiers or fields of an audience type, and what may have been meant."""
    for other in FIELD_SECTIONS:
        known = known_field_names(other)
        if other != section and key in known[audience_type]:
            return f"{key} belongs under {other}"
        for elsewhere, keys in known.items():
            if elsewhere != audience_type and key in keys:
                return f"{key} belongs to {elsewhere} audiences; this audience is of type {audience_type}"
    keys = known_field_names(section)[audience_type]
    return f"{audience_type} audiences have no such key{suggest(key, keys)}; known here: {join_names(keys)}"


class WarehouseConfig(ConfigObject):
    """Where the data is, and the worker's own tables with it."""

    named_by_key: ClassVar[bool] = True

    name: kind.Name
    url: Annotated[
        WarehouseUrl,
        Field(
            description="SQLAlchemy address: duckdb:///file.duckdb, postgresql+psycopg://user:password@host/db or "
            "snowflake://user@account/db/schema?warehouse=w&role=r"
        ),
    ]
    schema_: Annotated[
        kind.SchemaName,
        Field(alias="schema", description="Where the worker keeps its own tables; made by the first run"),
    ] = "warehouse_sync"
    lease: Annotated[
        kind.Seconds,
        Field(ge=5, description="How long a worker that has fallen silent keeps its sync; at least 5s"),
    ] = 60.0
    memory_limit: Annotated[
        kind.MemoryLimit | None,
        Field(description="DuckDB only: what the engine may use in the worker, 512MB unless given"),
    ] = None
    private_key: Annotated[
        PrivateKey | None,
        Field(description="Snowflake only: the user's private key in PEM, in place of a password"),
    ] = None
    private_key_passphrase: Annotated[
        Secret | None,
        Field(description="Snowflake only: opens private_key where that is encrypted"),
    ] = None
    oauth_token: Annotated[
        Secret | None,
        Field(description="Snowflake only: an OAuth access token, in place of a password; it is not renewed"),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _check_url_dependent_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        problem = kind.find_schema_problem(made.url.get_secret_value(), made.schema_)
        found: list[Violation] = [(("schema",), problem)] if problem else []
        if made.memory_limit is not None and not made.url.get_secret_value().startswith("duckdb:"):
            found.append((("memory_limit",), "is for DuckDB only: elsewhere the warehouse's own server has the work"))
        return validate_with_rules(
            lambda _: made,
            data,
            [*found, *snowflake_login.check_login(made.url.get_secret_value(), *made.login_secrets)],
        )

    @property
    def login_secrets(self) -> tuple[str | None, str | None, str | None]:
        """Private key, its passphrase, OAuth token."""
        given = (self.private_key, self.private_key_passphrase, self.oauth_token)
        key, passphrase, token = (None if secret is None else secret.get_secret_value() for secret in given)
        return key, passphrase, token


AlertKind = Literal["failed", "blocked", "dead", "recovered"]

ALERT_KINDS: tuple[AlertKind, ...] = ("failed", "blocked", "dead", "recovered")


class WebhookConfig(ConfigObject):
    """An address that is told once when the state of a sync changes."""

    named_by_key: ClassVar[bool] = True

    name: kind.Name
    url: Annotated[
        WebhookUrl,
        Field(description="Slack's incoming webhook, or any address that takes JSON; http:// on this machine only"),
    ]
    on: Annotated[
        tuple[AlertKind, ...],
        kind.NOT_EMPTY_AND_DISTINCT,
        Field(description="What it is told: failed, blocked, dead, recovered", json_schema_extra={"minItems": 1}),
    ] = ALERT_KINDS
    syncs: Annotated[
        tuple[kind.Text, ...] | None,
        Field(min_length=1, description="Of these syncs only; left out, of all"),
    ] = None

    def applies_to(self, sync: str) -> bool:
        """Whether it is told of this sync."""
        return self.syncs is None or sync in self.syncs


_TIME = r"([01]?[0-9]|2[0-3]):[0-5][0-9]"


def _check_time(value: Any) -> Any:
    # YAML 1.1 reads 12:30 as a number to the base of 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        raise invalid_value(f'a time is expected here; put it in quotes: "{value // 60:02d}:{value % 60:02d}"')
    if isinstance(value, str) and not re.fullmatch(_TIME, value):
        raise invalid_value('a time is expected here, "00:00" to "23:59"')
    return value


def _check_cron(value: str) -> str:
    try:
        return Schedule(value).cron
    except ValueError as error:
        raise invalid_value(str(error)) from None


def _check_timezone(value: str) -> str:
    try:
        return Schedule("0 0 * * *", value).timezone
    except ValueError as error:
        raise invalid_value(str(error)) from None


class ScheduleConfig(ConfigObject):
    """When a sync runs by itself; exactly one of every and cron."""

    every: Annotated[
        Literal["5m", "10m", "15m", "30m", "1h", "3h", "6h", "12h", "24h"] | None,
        Field(description="The interval, counted from `at` of each day"),
    ] = None
    at: Annotated[
        str | None,
        BeforeValidator(_check_time),
        WithJsonSchema({"type": "string", "pattern": f"^{_TIME}$"}),
        Field(description='A time of day that is hit, "HH:MM"; only with every, 00:00 unless given'),
    ] = None
    cron: Annotated[
        str | None,
        Field(description="Five fields as in crontab(5): minute hour day month weekday; 0 is Sunday"),
        AfterValidator(lambda value: None if value is None else _check_cron(value)),
    ] = None
    timezone: Annotated[
        str, AfterValidator(_check_timezone), Field(description="IANA name of the zone that at and cron are meant in")
    ] = "UTC"

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """An interval or an expression; a time belongs to an interval."""
        every, cron = (written.get(key) is not None for key in ("every", "cron"))
        if every == cron:
            yield (), f"exactly one of every and cron is needed, found {'both' if every else 'none'}"
        if cron and not every and written.get("at") is not None:
            yield ("at",), "a cron expression says itself at what time; leave this key out"

    @property
    def schedule(self) -> Schedule:
        """The ticks of it."""
        if self.every is not None:
            return Schedule.every(self.every, self.at or "00:00", self.timezone)
        if self.cron is None:
            raise AssertionError("a schedule has an interval or an expression")
        return Schedule(self.cron, self.timezone)
