"""The kinds of values in a configuration that nobody else may read: secrets, and addresses that carry one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema

from warehouse_sync.config.files import Unreadable, read_text
from warehouse_sync.config.snowflake_login import checked_url
from warehouse_sync.config.types import CONTROL, folder, web_address
from warehouse_sync.config.validation import wrong
from warehouse_sync.redaction import hide_secret

_SHORTEST_CREDENTIAL = 12


def _opened(value: Any, info: ValidationInfo, *, lines: bool = False) -> Any:
    """A secret as text, from `{file: …}` too; anything but text is left for pydantic to refuse."""
    if isinstance(value, Mapping):
        if set(value) != {"file"} or not isinstance(value["file"], str) or not value["file"]:
            raise wrong("text or {file: /path/of/a/mounted/secret} is expected here")
        try:
            value = read_text(folder(info) / value["file"]).rstrip("\r\n")
        except Unreadable as error:
            raise wrong(f"the secret's file {value['file']} {error}") from None
        if not value.strip():
            raise wrong("the secret's file is empty")
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        if not value.strip():
            raise wrong("must not be empty; is its environment variable set?")
        if CONTROL.search(value.replace("\n", "").replace("\r", "") if lines else value):
            raise wrong("must be one line without control characters")
    return value


def _read(make: Callable[[str], str], *, lines: bool = False) -> BeforeValidator:
    """Turns what is configured into what `make` makes of its text."""

    def read(value: Any, info: ValidationInfo) -> Any:
        value = _opened(value, info, lines=lines)
        return make(value) if isinstance(value, str) else value

    return BeforeValidator(read)


def _private_key(value: str) -> str:
    # Environment variables of one line carry the line breaks as escapes.
    value = value if "\n" in value else value.replace("\\n", "\n")
    for line in (value, *value.split("\n")):
        if not line.startswith("-----"):
            hide_secret(line)
    return value


def _secret(value: str) -> str:
    hide_secret(value)
    return value


def _warehouse_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    password = rest.partition("?")[0].rpartition("@")[0].partition(":")[2]
    for hidden in {password, unquote(password)}:
        hide_secret(hidden)
    backend, _, driver = scheme.lower().partition("+")
    if backend == "snowflake" and not driver and separator:
        return checked_url(rest)
    if backend == "duckdb" and not driver and separator:
        return _duckdb_url(value, rest)
    if backend in ("postgresql", "postgres") and driver in ("", "psycopg") and separator:
        return f"postgresql+psycopg://{rest}"
    raise wrong(
        "a SQLAlchemy address is expected: duckdb:///file.duckdb, postgresql+psycopg://host/database or snowflake://…"
    )


def _duckdb_url(url: str, rest: str) -> str:
    database = unquote(rest.partition("?")[0])
    if database in ("", "/") or database.lstrip("/").startswith(":memory:"):
        raise wrong("a database in memory would lose the worker's own tables; name a file: duckdb:///file.duckdb")
    if not database.startswith("/"):
        raise wrong("three slashes stand before the file: duckdb:///file.duckdb, or four when it begins at the root")
    return url


def _webhook_url(value: str) -> str:
    address, _, query = value.partition("?")
    if re.search(r"[\s#?]", query):
        raise wrong("an address is expected here, such as https://hooks.slack.com/services/…")
    web_address(address)
    hide_secret(value)
    # What comes behind the host is the credential, and some messages show that alone. Short, it is a plain word.
    for part in (urlsplit(value).path.strip("/"), query):
        if len(part) >= _SHORTEST_CREDENTIAL:
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

Secret = Annotated[SecretStr, _read(_secret), _SECRET_SCHEMA]
PrivateKey = Annotated[SecretStr, _read(_private_key, lines=True), _SECRET_SCHEMA]
SecretText = Annotated[str, BeforeValidator(_opened), _SECRET_SCHEMA]
WebhookUrl = Annotated[SecretStr, _read(_webhook_url), _SECRET_SCHEMA]
WarehouseUrl = Annotated[SecretStr, _read(_warehouse_url), _SECRET_SCHEMA]
