"""Types of single values in a configuration: durations, sizes, addresses, names."""

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

from warehouse_sync.config.validation import invalid_value, join_names
from warehouse_sync.schedule import Schedule

MAX_DURATION_SECONDS = 366 * 86400.0

MIN_MEMORY_LIMIT = 128_000_000
"""Bytes. With less, DuckDB fails even for an audience of about ten thousand members."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TIME_OF_DAY = r"([01]?[0-9]|2[0-3]):[0-5][0-9]"
_TABLE_PART = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')


class QuotedName(str):
    """A part of a table's name that was written in double quotes, and so is case-sensitive."""

    __slots__ = ()


def base_folder(info: ValidationInfo) -> Path:
    """Return the folder that file names are relative to: that of the YAML file, else the current one."""
    return (info.context or {}).get("folder") or Path()


def _parse_seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise invalid_value("a duration is expected here, such as 60s, 5m, 1h or a number of seconds")
    if isinstance(value, str):
        text = value.replace(" ", "").lower()
        if _DURATION.fullmatch(text):
            value = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
        elif not re.fullmatch(r"\d+(?:\.\d+)?", text):
            raise invalid_value("a duration is expected here, such as 60s, 5m, 1h or a number of seconds")
    return value


def _parse_memory_limit(value: Any) -> Any:
    try:
        size = _BYTE_SIZE.validate_python("" if isinstance(value, bool) else value)
    except ValidationError:
        raise invalid_value("a size is expected here, such as 512MB or 2GB") from None
    if size < MIN_MEMORY_LIMIT:
        raise invalid_value("must be at least 128MB")
    return size


def reject_bool(value: Any) -> Any:
    """Return `value`; refuse true and false, which are numbers to Python."""
    if isinstance(value, bool):
        raise invalid_value("a number is expected here, found true or false")
    return value


def number_to_text(value: Any) -> Any:
    """Return a number as text; YAML reads an identifier of digits as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _parse_audience_id(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise invalid_value("a number is expected here, digits only")
    return str(int(value))


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def validate_web_address(value: str) -> str:
    """Return an https address, or an http address of this machine, without a slash at its end; refuse any other."""
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise invalid_value("an address is expected here, such as https://api.linkedin.com") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or re.search(r"[\s?#]", value)
        or CONTROL_CHARACTERS.search(value)
    ):
        raise invalid_value("an address is expected here, such as https://api.linkedin.com")
    if parts.username is not None:
        raise invalid_value("an address must not contain a user or a password")
    if parts.scheme == "http" and not is_loopback(host):
        raise invalid_value("http:// is allowed for this machine only (127.0.0.1, localhost); write https://")
    return value.rstrip("/")


def _check_text(value: str) -> str:
    if not value.strip():
        raise invalid_value("must not be empty")
    if CONTROL_CHARACTERS.search(value):
        raise invalid_value("must not contain control characters or line breaks")
    return value


def _check_query(value: str) -> str:
    if not value.strip():
        raise invalid_value("the query is empty")
    if "\0" in value:
        raise invalid_value("the query contains a NUL character")
    return value


def _check_schema_name(value: str) -> str:
    if "\0" in value:
        raise invalid_value("must not contain a NUL character")
    _check_text(value)
    if len(value.encode()) > 63:
        raise invalid_value("must have at most 63 bytes, PostgreSQL cuts longer names")
    return value


def find_schema_problem(url: str, schema: str) -> str | None:
    """Return why the worker cannot use a schema of this name in the warehouse at `url`; None if it can."""
    name = schema.lower()
    if name == "information_schema" or name.startswith("pg_"):
        return "is a schema of the warehouse's own; choose another name, such as warehouse_sync"
    if url.startswith("snowflake:") and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", schema):
        return "may have letters, digits and _ on Snowflake, where it is written without quotes, in any case"
    if not url.startswith("duckdb:"):
        return None
    if name in ("system", "temp"):
        return "is a database of DuckDB's own; choose another name, such as warehouse_sync"
    if "." in schema:
        return "must not contain a dot, DuckDB would read the part before it as a database"
    if name == Path(unquote(url.partition("://")[2].partition("?")[0])).name.partition(".")[0].lower():
        return "must differ from the name of the DuckDB file, DuckDB could not distinguish the two"
    return None


def _one_or_many(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise invalid_value("the name of a column, or a list of such names, is expected here")
    return [value] if isinstance(value, str) else value


def _check_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    repeated = [entry for entry in dict.fromkeys(value) if value.count(entry) > 1]
    if repeated:
        raise invalid_value(f"{join_names(repeated)} is named twice")
    return value


def _check_not_empty_and_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    # Not by min_length: pydantic would call a list too short as well when its only entry is invalid.
    if not value:
        raise invalid_value("needs at least 1 entry")
    return _check_distinct(value)


def _check_time(value: Any) -> Any:
    # YAML 1.1 reads 12:30 as a number with the base 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        raise invalid_value(f'a time is expected here; put it in quotes: "{value // 60:02d}:{value % 60:02d}"')
    if isinstance(value, str) and not re.fullmatch(_TIME_OF_DAY, value):
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


def parse_table_name(name: str) -> tuple[str, ...]:
    """Return the parts of `table`, `schema.table` or `database.schema.table`.

    A part in double quotes stays as it is and becomes a QuotedName. Any other is lower-cased, which SQL and SQLAlchemy
    treat as case-insensitive.

    Raises:
        ValueError: `name` has another form.
    """
    parts, position = list[str](), 0
    while match := _TABLE_PART.match(name, position):
        quoted, bare = match.groups()
        parts.append(QuotedName(quoted.replace('""', '"')) if quoted else bare.lower())
        position = match.end()
        if position == len(name) and len(parts) <= 3:
            return tuple(parts)
        if name[position : position + 1] != ".":
            break
        position += 1
    raise ValueError("not the name of a table")


def _check_table_name(value: str) -> str:
    try:
        parse_table_name(value)
    except ValueError:
        raise invalid_value(
            'a table is expected here: name or schema.name, other names in quotes: "My Schema"."x"'
        ) from None
    return _check_text(value)


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


def digits_json_schema(pattern: str) -> WithJsonSchema:
    """Return the JSON Schema of a number, or of text that matches `pattern`."""
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]})


Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_text)]
Seconds = Annotated[
    float,
    Field(le=MAX_DURATION_SECONDS, allow_inf_nan=False),
    BeforeValidator(_parse_seconds),
    _SECONDS_SCHEMA,
]
MemoryLimit = Annotated[int, BeforeValidator(_parse_memory_limit), _MEMORY_SCHEMA]
Count = Annotated[int, BeforeValidator(reject_bool)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), BeforeValidator(reject_bool)]
AudienceId = Annotated[
    str,
    AfterValidator(_parse_audience_id),
    BeforeValidator(number_to_text),
    digits_json_schema(r"^[0-9]{1,19}$"),
]
WebAddress = Annotated[str, AfterValidator(validate_web_address)]
SchemaName = Annotated[str, AfterValidator(_check_schema_name)]
QueryText = Annotated[str, AfterValidator(_check_query)]
TableName = Annotated[str, AfterValidator(_check_table_name)]
TimeOfDay = Annotated[
    str, BeforeValidator(_check_time), WithJsonSchema({"type": "string", "pattern": f"^{_TIME_OF_DAY}$"})
]
CronExpression = Annotated[str, AfterValidator(_check_cron)]
TimezoneName = Annotated[str, AfterValidator(_check_timezone)]
ColumnNames = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    AfterValidator(_check_distinct),
    BeforeValidator(_one_or_many),
    _COLUMNS_SCHEMA,
]
NOT_EMPTY_AND_DISTINCT = AfterValidator(_check_not_empty_and_distinct)
"""Validates a tuple of texts."""
