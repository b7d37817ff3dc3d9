"""Types of secret values in a configuration: secrets, and addresses that contain one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema

from warehouse_sync.config.files import UnreadableFile, read_text
from warehouse_sync.config.snowflake_login import validate_url
from warehouse_sync.config.types import CONTROL_CHARACTERS, base_folder, validate_web_address
from warehouse_sync.config.validation import invalid_value
from warehouse_sync.redaction import hide_secret

_MIN_CREDENTIAL_LENGTH = 12


def _read_secret(value: Any, info: ValidationInfo, *, multiline: bool = False) -> Any:
    """Return a secret as text, also from `{file: …}`; leave anything but text for pydantic to refuse."""
    if isinstance(value, Mapping):
        if set(value) != {"file"} or not isinstance(value["file"], str) or not value["file"]:
            raise invalid_value("text or {file: /path/of/a/mounted/secret} is expected here")
        try:
            value = read_text(base_folder(info) / value["file"]).rstrip("\r\n")
        except UnreadableFile as error:
            raise invalid_value(f"the secret's file {value['file']} {error}") from None
        if not value.strip():
            raise invalid_value("the secret's file is empty")
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        if not value.strip():
            raise invalid_value("must not be empty; is its environment variable set?")
        if CONTROL_CHARACTERS.search(value.replace("\n", "").replace("\r", "") if multiline else value):
            raise invalid_value("must be one line without control characters")
    return value


def _secret_validator(parse: Callable[[str], str], *, multiline: bool = False) -> BeforeValidator:
    """Return a validator that reads a secret and returns what `parse` makes of its text."""

    def read(value: Any, info: ValidationInfo) -> Any:
        value = _read_secret(value, info, multiline=multiline)
        return parse(value) if isinstance(value, str) else value

    return BeforeValidator(read)


def _parse_private_key(value: str) -> str:
    # In an environment variable of one line, the line breaks are escapes.
    value = value if "\n" in value else value.replace("\\n", "\n")
    for line in (value, *value.split("\n")):
        if not line.startswith("-----"):
            hide_secret(line)
    return value


def _parse_secret(value: str) -> str:
    hide_secret(value)
    return value


def _parse_warehouse_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    password = rest.partition("?")[0].rpartition("@")[0].partition(":")[2]
    for form in {password, unquote(password)}:
        hide_secret(form)
    backend, _, driver = scheme.lower().partition("+")
    if backend == "snowflake" and not driver and separator:
        return validate_url(rest)
    if backend == "duckdb" and not driver and separator:
        return _check_duckdb_url(value, rest)
    if backend in ("postgresql", "postgres") and driver in ("", "psycopg") and separator:
        return f"postgresql+psycopg://{rest}"
    raise invalid_value(
        "a SQLAlchemy address is expected: duckdb:///file.duckdb, postgresql+psycopg://host/database or snowflake://…"
    )


def _check_duckdb_url(url: str, rest: str) -> str:
    database = unquote(rest.partition("?")[0])
    if database in ("", "/") or database.lstrip("/").startswith(":memory:"):
        raise invalid_value(
            "a database in memory would lose the worker's own tables; name a file: duckdb:///file.duckdb"
        )
    if not database.startswith("/"):
        raise invalid_value(
            "three slashes come before the file: duckdb:///file.duckdb, or four before an absolute path"
        )
    return url


def _parse_webhook_url(value: str) -> str:
    address, _, query = value.partition("?")
    if re.search(r"[\s#?]", query):
        raise invalid_value("an address is expected here, such as https://hooks.slack.com/services/…")
    validate_web_address(address)
    hide_secret(value)
    # The part after the host is the credential, and some messages show only that part. A short one is a plain word.
    for part in (urlsplit(value).path.strip("/"), query):
        if len(part) >= _MIN_CREDENTIAL_LENGTH:
            hide_secret(part)
    return value


_SECRET_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "properties": {"file": {"type": "string", "description": "A mounted secret; read without its newline"}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ]
    }
)

Secret = Annotated[SecretStr, _secret_validator(_parse_secret), _SECRET_SCHEMA]
PrivateKey = Annotated[SecretStr, _secret_validator(_parse_private_key, multiline=True), _SECRET_SCHEMA]
SecretText = Annotated[str, BeforeValidator(_read_secret), _SECRET_SCHEMA]
WebhookUrl = Annotated[SecretStr, _secret_validator(_parse_webhook_url), _SECRET_SCHEMA]
WarehouseUrl = Annotated[SecretStr, _secret_validator(_parse_warehouse_url), _SECRET_SCHEMA]
