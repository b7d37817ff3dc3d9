"""Snowflake, through its connector: every statement costs a tenth of a second, and the time that a warehouse is awake."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

from warehouse_sync.config_values import Quoted
from warehouse_sync.errors import ConfigurationError, WarehouseSyncError, WarehouseUnavailable
from warehouse_sync.fields import Field
from warehouse_sync.warehouses.base import ModelColumn, Text, Warehouse, as_told
from warehouse_sync.warehouses.letters import BLANK

APPLICATION = "warehouse_sync"
"""How sessions of ours are named in the account's login and query history."""


TELLABLE = ("02", "08", "0A", "28", "3D", "3F", "42", "57")
"""SQLSTATE classes whose messages speak of names, rights and resources, not of values."""

NO_NAMESPACE = (90105, 90106)
"""The session has no current database or schema."""

ABSENT = (2003, 2043)
"""The object does not exist, or we may not know of it."""

SESSION_OVER = range(390100, 390400)
"""The session, or the token that it was opened with, is no longer taken."""


def make_engine(url: sa.URL, arguments: Mapping[str, Any] | None = None, **options: Any) -> sa.Engine:
    """An engine for a URL of the configuration; `arguments` are the connector's.

    `host`, `port` and `protocol` may stand in the URL's query: the dialect takes them as arguments only.
    """
    given = dict(url.query)
    address = {name: str(given.pop(name)) for name in ("host", "port", "protocol") if name in given}
    return sa.create_engine(
        url.set(query=given),
        # Values go to the server beside the statement: per cent signs mean nothing, and histories hold no values.
        paramstyle="qmark",
        connect_args={"paramstyle": "qmark", **address, **(arguments or {})},
        hide_parameters=True,
        **options,
    )


class Snowflake(Warehouse):
    """A Snowflake database."""

    record_interval = 5.0

    def __init__(self, name: str, url: str, schema: str, lease: float) -> None:
        # Without quotes, in any case: so it is written in queries by hand, too.
        super().__init__(name, url, schema.lower(), lease)

    def make_engine(self) -> sa.Engine:
        parameters = {"LOCK_TIMEOUT": round(self.lease), "TIMEZONE": "UTC", "CLIENT_TELEMETRY_ENABLED": False}
        arguments = {
            "application": APPLICATION,
            "login_timeout": 30,
            "session_parameters": parameters,
        }
        return make_engine(self.url, arguments)

    @property
    def address(self) -> str:
        url = self.url
        return sa.URL.create(url.drivername, host=url.host, database=url.database).render_as_string()

    def translate(self, error: sa.exc.DBAPIError, doing: str) -> WarehouseSyncError:
        number, state = _number(error), _state(error)
        if "lock" in str(error.orig).lower() and state == "57014":
            return WarehouseUnavailable(
                f"warehouse {self.name}: could not {doing}: another session has held a lock for longer than "
                f"{self.lease:g} s. Nothing is lost; try again. Snowflake ends the transaction of a session that went "
                "away after five minutes; `SHOW LOCKS` tells whose it is, SYSTEM$ABORT_TRANSACTION ends it at once."
            )
        unreachable = isinstance(error, sa.exc.OperationalError) and not state
        if unreachable or state.startswith("08") or number in SESSION_OVER:
            return self.lost(doing)
        return super().translate(error, doing)

    def explain(self, error: sa.exc.DBAPIError) -> str:
        state, number = _state(error), _number(error)
        if state.startswith(TELLABLE) or number in (*NO_NAMESPACE, *SESSION_OVER) or not state:
            message = re.sub(r"^(?:\d{6}(?: \(\w{5}\))?: )+| \(request_id=[^)]*\)$", "", str(error.orig).strip())
            hint = "; name one in the URL: snowflake://…/database/schema" if number in NO_NAMESPACE else ""
            return as_told(message) + hint
        kind = type(error.orig).__name__
        return f"{kind} {number}, SQLSTATE {state} (the message is not shown because it may hold values of rows)"

    def has_schema(self, connection: sa.Connection) -> bool:
        return self._exists(connection, "SCHEMA", connection.dialect.identifier_preparer.quote_schema(self.schema))

    def has_table(self, connection: sa.Connection, name: str) -> bool:
        table = sa.table(name, schema=self.schema)
        return self._exists(connection, "TABLE", connection.dialect.identifier_preparer.format_table(table))

    def _exists(self, connection: sa.Connection, kind: str, name: str) -> bool:
        # The dialect's inspector lists all schemas, and the information schema wants a warehouse that is awake.
        try:
            connection.exec_driver_sql(f"DESCRIBE {kind} {name}")
        except sa.exc.DBAPIError as error:
            if _number(error) in ABSENT:
                return False
            raise
        return True

    def create_schema(self, connection: sa.Connection) -> None:
        if self.has_schema(connection):
            return
        # A session goes over to the schema that it creates, and the user's query would look for its tables there.
        with self.engine.connect() as other:
            other.execute(sa.schema.CreateSchema(self.schema, if_not_exists=True))
            other.invalidate()

    def prepare_migrations(self) -> None:
        from alembic.ddl.impl import DefaultImpl

        class SnowflakeImpl(DefaultImpl):
            __dialect__ = "snowflake"

    def model_columns(self, sql: str) -> list[ModelColumn]:
        with self.connect("read the columns of the query") as connection:
            result = connection.execute(sa.select(sa.text("*")).select_from(self.model(sql)).where(sa.false()))
            # Not the result's own keys: the dialect tells EMAIL as email.
            names = [column[0] for column in result.cursor.description] if result.cursor else []
        return [ModelColumn(name, name) for name in names]

    def table_name(self, parts: Sequence[str]) -> str:
        return self.quote(*(part if isinstance(part, Quoted) else part.upper() for part in parts))

    def create_table_as(
        self,
        connection: sa.Connection,
        table: sa.TableClause,
        select: sa.SelectBase,
        *,
        temporary: bool = False,
        ordered_by: str = "",
    ) -> None:
        name = connection.dialect.identifier_preparer.format_table(table)
        # Transient and without time travel: what is made by each run and dropped soon is kept, and paid for, once.
        kind = f"OR REPLACE TEMPORARY TABLE {name}" if temporary else f"TRANSIENT TABLE {name}"
        body = select.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        # In order, so that a window of it lies in few micro-partitions.
        order = f"\nORDER BY {connection.dialect.identifier_preparer.quote(ordered_by)}" if ordered_by else ""
        connection.exec_driver_sql(f"CREATE {kind} AS\n{body}{order}")

    # --- values

    def utc_now(self, plus: float | sa.ColumnElement[Any] = 0) -> sa.ColumnElement[Any]:
        now: sa.ColumnElement[Any] = sa.func.sysdate(type_=sa.DateTime())
        if isinstance(plus, int | float) and not plus:
            return now
        return sa.func.dateadd(sa.literal_column("millisecond"), self.seconds(plus), now, type_=sa.DateTime())

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Milliseconds, for DATEADD: there are no intervals to reckon with."""
        if isinstance(count, int | float):
            return sa.literal(round(count * 1000), sa.BigInteger)
        return sa.cast(count * 1000, sa.BigInteger)

    def as_text(self, column: sa.ColumnElement[Any]) -> Text:
        # Regular expressions refuse columns with a collation.
        text = sa.func.collate(sa.cast(column, sa.Text), _constant(""))
        return sa.func.replace(text, sa.func.chr(_constant(0)), _constant(""))

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        # REGEXP_LIKE matches the whole text only.
        return sa.func.regexp_instr(value, _constant(_posix(pattern))) > _constant(0)

    def extract(self, value: Text, pattern: str) -> Text:
        once = (_constant(1), _constant(1), _constant("e"))
        return sa.func.regexp_substr(value, _constant(_posix(pattern)), *once, _constant(_wanted_group(pattern)))

    def trim(self, value: Text) -> Text:
        return sa.func.regexp_replace(value, _constant(f"^[{BLANK}]+|[{BLANK}]+$"), _constant(""))

    def remove_blanks(self, value: Text) -> Text:
        return sa.func.regexp_replace(value, _constant(f"[{BLANK}]+"), _constant(""))

    def is_ascii(self, value: Text) -> sa.ColumnElement[bool]:
        return sa.func.octet_length(value) == sa.func.length(value)

    def hash_text(self, value: Text, algorithm: str) -> Text:
        return sa.func.sha2(value, _constant(int(algorithm.removeprefix("sha"))), type_=sa.Text())


def _number(error: sa.exc.DBAPIError) -> int:
    return cast(int, getattr(error.orig, "errno", None) or 0)


def _state(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _constant(value: str | int) -> sa.ColumnElement[Any]:
    """Part of the statement's text: a parameter would keep the server from preparing patterns once."""
    return sa.literal(value, literal_execute=True)


def _posix(pattern: str) -> str:
    """The pattern as an extended regular expression of POSIX: groups that capture, characters instead of escapes."""
    characters = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), pattern)
    return characters.replace("(?:", "(")


def _wanted_group(pattern: str) -> int:
    """The number that the first capturing group has once all groups capture."""
    bare = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "_", pattern)
    before = re.split(r"\((?!\?)", bare, maxsplit=1)[0]
    return before.count("(") + 1
