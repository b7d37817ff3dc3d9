"""The kinds of single values in a configuration: durations, sizes, addresses, versions, names."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from warehouse_sync.config.validation import listed, wrong

MAX_DURATION = 366 * 86400.0

LEAST_MEMORY = 128_000_000
"""Bytes. With less even an audience of some ten thousand makes DuckDB give up."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TABLE_PART = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')


class Quoted(str):
    """A part of a table's name that was written in double quotes: its case is as it stands."""

    __slots__ = ()


def folder(info: ValidationInfo) -> Path:
    """The folder that relative file names start from: that of the YAML file, else the current one."""
    return (info.context or {}).get("folder") or Path()


def _seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong("a duration is expected here, such as 60s, 5m, 1h or a number of seconds")
    if isinstance(value, str):
        text = value.replace(" ", "").lower()
        if _DURATION.fullmatch(text):
            value = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
        elif not re.fullmatch(r"\d+(?:\.\d+)?", text):
            raise wrong("a duration is expected here, such as 60s, 5m, 1h or a number of seconds")
    return value


def _memory_limit(value: Any) -> Any:
    try:
        size = _BYTE_SIZE.validate_python("" if isinstance(value, bool) else value)
    except ValidationError:
        raise wrong("a size is expected here, such as 512MB or 2GB") from None
    if size < LEAST_MEMORY:
        raise wrong("must be at least 128MB")
    return size


def no_bool(value: Any) -> Any:
    """Return `value`; refuse true and false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise wrong("a number is expected here, found true or false")
    return value


def digits(value: Any) -> Any:
    """Return a number as text; YAML reads an identifier of digits as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise wrong("a number is expected here, digits only")
    return str(int(value))


def web_address(value: str) -> str:
    """`value` without a slash at its end; raises where it is no https address, or http of this machine."""
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise wrong("an address is expected here, such as https://api.linkedin.com") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s?#]", value) or CONTROL.search(value):
        raise wrong("an address is expected here, such as https://api.linkedin.com")
    if parts.username is not None:
        raise wrong("an address must not carry a user or a password")
    if parts.scheme == "http" and not is_loopback(host):
        raise wrong("http:// is taken for this machine only (127.0.0.1, localhost); write https://")
    return value.rstrip("/")


def _plain(value: str) -> str:
    if not value.strip():
        raise wrong("must not be empty")
    if CONTROL.search(value):
        raise wrong("must not hold control characters or line breaks")
    return value


def _query(value: str) -> str:
    if not value.strip():
        raise wrong("the query is empty")
    if "\0" in value:
        raise wrong("the query holds a NUL character")
    return value


def _schema(value: str) -> str:
    if "\0" in value:
        raise wrong("must not hold a NUL character")
    _plain(value)
    if len(value.encode()) > 63:
        raise wrong("must have at most 63 bytes, PostgreSQL cuts longer names")
    return value


def schema_problem(url: str, schema: str) -> str | None:
    """Why the warehouse at `url` cannot have a schema of this name for the worker; None when it can."""
    name = schema.lower()
    if name == "information_schema" or name.startswith("pg_"):
        return "is a schema of the warehouse's own; choose another name, such as warehouse_sync"
    if url.startswith("snowflake:") and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", schema):
        return "takes letters, digits and _ on Snowflake, where it is written without quotes, in any case"
    if not url.startswith("duckdb:"):
        return None
    if name in ("system", "temp"):
        return "is a database of DuckDB's own; choose another name, such as warehouse_sync"
    if "." in schema:
        return "must not hold a dot, DuckDB would take what stands before it for a database"
    if name == Path(unquote(url.partition("://")[2].partition("?")[0])).name.partition(".")[0].lower():
        return "must differ from the name of the DuckDB file, DuckDB could not tell the two apart"
    return None


def _key_columns(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise wrong("the name of a column, or a list of such names, is expected here")
    return [value] if isinstance(value, str) else value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    twice = [column for column in dict.fromkeys(value) if value.count(column) > 1]
    if twice:
        raise wrong(f"{listed(twice)} is named twice")
    return value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    # Not by min_length: of a list whose only word is wrong pydantic would say that it is too short as well.
    if not value:
        raise wrong("needs at least 1 entry")
    return _distinct(value)


def table_parts(name: str) -> tuple[str, ...]:
    """The parts of `table`, `schema.table` or `database.schema.table`.

    A part in double quotes is taken as it is, and `Quoted`; any other is lower-cased, which SQL and SQLAlchemy read as
    "any case".
    Raises ValueError when `name` is no such name.
    """
    parts, position = list[str](), 0
    while found := _TABLE_PART.match(name, position):
        quoted, bare = found.groups()
        parts.append(Quoted(quoted.replace('""', '"')) if quoted else bare.lower())
        position = found.end()
        if position == len(name) and len(parts) <= 3:
            return tuple(parts)
        if name[position : position + 1] != ".":
            break
        position += 1
    raise ValueError("not the name of a table")


def _table(value: str) -> str:
    try:
        table_parts(value)
    except ValueError:
        raise wrong('a table is expected here: name or schema.name, odd names in quotes: "My Schema"."x"') from None
    return _plain(value)


_SECONDS_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*|(\d+(\.\d+)?\s*[smhdSMHD]\s*)+)$"},
        ]
    }
)
_BYTE_SIZE = TypeAdapter(ByteSize)
_MEMORY_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$"},
        ]
    }
)
_COLUMN_SCHEMA = {"type": "string", "minLength": 1}
_COLUMNS_SCHEMA = WithJsonSchema(
    {"anyOf": [_COLUMN_SCHEMA, {"type": "array", "items": _COLUMN_SCHEMA, "minItems": 1, "uniqueItems": True}]}
)


def digits_schema(pattern: str) -> WithJsonSchema:
    """Return the JSON Schema of a number, or of text that matches `pattern`."""
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]})


Text = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain)]
Seconds = Annotated[float, Field(le=MAX_DURATION, allow_inf_nan=False), BeforeValidator(_seconds), _SECONDS_SCHEMA]
MemoryLimit = Annotated[int, BeforeValidator(_memory_limit), _MEMORY_SCHEMA]
Count = Annotated[int, BeforeValidator(no_bool)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), BeforeValidator(no_bool)]
AudienceId = Annotated[str, AfterValidator(_number), BeforeValidator(digits), digits_schema(r"^[0-9]{1,19}$")]
WebAddress = Annotated[str, AfterValidator(web_address)]
Schema = Annotated[str, AfterValidator(_schema)]
Query = Annotated[str, AfterValidator(_query)]
TableName = Annotated[str, AfterValidator(_table)]
WORDS = AfterValidator(_words)
Columns = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_key_columns),
    _COLUMNS_SCHEMA,
]


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host`, a name or an address, stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
