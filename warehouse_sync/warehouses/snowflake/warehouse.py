"""Snowflake, through its connector. Each statement takes a tenth of a second, and wakes what is paid by the second."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa

from warehouse_sync.config.types import QuotedName
from warehouse_sync.errors import WarehouseSyncError, WarehouseUnavailable
from warehouse_sync.warehouses.base import ModelColumn, driver_message
from warehouse_sync.warehouses.capabilities import Capabilities
from warehouse_sync.warehouses.dialect import Text
from warehouse_sync.warehouses.snowflake.dialect import SnowflakeValues
from warehouse_sync.warehouses.snowflake.engine import login_arguments, make_engine

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


EXISTS_ALREADY = 2002

MIGRATING = "migrating"
"""The table that is there while a worker migrates: of two who make it, Snowflake lets one go through."""

MIGRATION_PATIENCE = 60.0
"""Seconds to wait for another worker that migrates."""

MIGRATION_STALE = 600.0
"""Seconds after which a worker that migrates counts as dead."""


class Snowflake(SnowflakeValues):
    """A Snowflake database."""

    capabilities = Capabilities(
        # Normalising and hashing a row again costs no more than reusing it.
        row_hashes=False,
        # Rows have neither an id nor a number by insertion.
        row_ids=False,
        numbered_tables=False,
        # Each DDL statement commits by itself.
        transactional_ddl=False,
    )

    def __init__(
        self,
        name: str,
        url: str,
        schema: str,
        lease: float,
        *,
        private_key: bytes | None = None,
        oauth_token: str | None = None,
    ) -> None:
        """private_key: DER of PKCS #8, not encrypted. oauth_token: an access token. Without both the URL says how."""
        self._login = login_arguments(private_key, oauth_token)
        self._tag = ""
        # Without quotes, in any case: so it is written in queries by hand, too.
        super().__init__(name, url, schema.lower(), lease)

    def create_engine(self) -> sa.Engine:
        arguments = {
            **self._login,
            "application": APPLICATION,
            # Bounded, so that a lost network ends a run long before its lease would be worth nothing.
            "login_timeout": 30,
            # A session that nobody uses may end, and the virtual warehouse may suspend.
            "client_session_keep_alive": False,
            "session_parameters": {
                # Long enough for another worker to commit, short enough not to hang behind one that stands still.
                "LOCK_TIMEOUT": max(round(self.lease), 10),
                "TIMEZONE": "UTC",
                "CLIENT_TELEMETRY_ENABLED": False,
                # The forms of keys in the log, whatever the account says.
                "BINARY_OUTPUT_FORMAT": "HEX",
                "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
                "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
            },
        }
        # Logging in takes a second, so connections are used again; an hour is well below the life of a session.
        engine = make_engine(self.url, arguments, pool_recycle=3600)
        sa.event.listen(engine, "do_connect", self._log_in_tagged)
        sa.event.listen(engine, "checkout", self._tag_again)
        return engine

    def tag_session(self, sync: str, run: int | None = None) -> None:
        self._tag = f"warehouse_sync:{sync}" if run is None else f"warehouse_sync:{sync}:{run}"

    def _log_in_tagged(self, _: Any, record: Any, __: Any, arguments: dict[str, Any]) -> None:
        if self._tag:
            arguments["session_parameters"] = {**arguments["session_parameters"], "QUERY_TAG": self._tag}
        record.info["tag"] = self._tag

    def _tag_again(self, driver: Any, record: Any, _: Any) -> None:
        if record.info.get("tag") != self._tag:
            tag = self._tag.replace("\\", "\\\\").replace("'", "\\'")
            with driver.cursor() as cursor:
                cursor.execute(f"ALTER SESSION SET QUERY_TAG = '{tag}'")
            record.info["tag"] = self._tag

    @property
    def role(self) -> str | None:
        found = self.url.query.get("role")
        return found if isinstance(found, str) else None

    def grants(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        database, _, schema = (self.url.database or "").partition("/")
        worker, home_database, home_schema = _name(role), _name(database), _name(schema or "PUBLIC")
        own_schema = f"{home_database}.{self.schema.upper()}"
        warehouse = self.url.query.get("warehouse")
        named = [(home_database, home_schema)[: 3 - len(table)] + tuple(map(_part, table)) for table in tables]
        homes = dict.fromkeys(f"{database}.{schema}" for database, schema, _ in named)
        models = dict.fromkeys(".".join(parts) for parts in named)
        databases = dict.fromkeys((home_database, *(database for database, _, _ in named)))
        own = [
            f"CREATE SCHEMA IF NOT EXISTS {own_schema}",
            f"GRANT USAGE, CREATE TABLE ON SCHEMA {own_schema} TO ROLE {worker}",
        ]
        return [
            *([f"GRANT USAGE ON WAREHOUSE {_name(warehouse)} TO ROLE {worker}"] if isinstance(warehouse, str) else []),
            *(f"GRANT USAGE ON DATABASE {name} TO ROLE {worker}" for name in databases),
            *([f"GRANT CREATE SCHEMA ON DATABASE {home_database} TO ROLE {worker}"] if may_create_schema else own),
            *(f"GRANT USAGE ON SCHEMA {home} TO ROLE {worker}" for home in homes),
            *(f"GRANT SELECT ON TABLE {model} TO ROLE {worker}" for model in models),
        ]

    def is_unreachable(self, error: sa.exc.DBAPIError) -> bool:
        # A refused login has the same number.
        return "HTTP request failed" in str(error.orig)

    @property
    def address(self) -> str:
        url = self.url
        return sa.URL.create(url.drivername, host=url.host, database=url.database).render_as_string()

    def cancel(self, driver: Any) -> None:
        with self.engine.connect() as other:
            other.exec_driver_sql(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({int(driver.session_id)})")

    def translate_error(self, error: sa.exc.DBAPIError, doing: str) -> WarehouseSyncError:
        number, state = _number(error), _state(error)
        if "lock" in str(error.orig).lower() and state == "57014":
            return WarehouseUnavailable(
                f"warehouse {self.name}: could not {doing}: another session has held a lock for longer than "
                f"{self.lease:g} s. Nothing is lost; try again. Snowflake ends the transaction of a session that went "
                "away after five minutes; `SHOW LOCKS` tells whose it is, SYSTEM$ABORT_TRANSACTION ends it at once."
            )
        unreachable = isinstance(error, sa.exc.OperationalError) and not state
        if unreachable or state.startswith("08") or number in SESSION_OVER:
            return self.connection_lost(doing)
        return super().translate_error(error, doing)

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        state, number = _state(error), _number(error)
        if state.startswith(TELLABLE) or number in (*NO_NAMESPACE, *SESSION_OVER) or not state:
            message = re.sub(r"^(?:\d{6}(?: \(\w{5}\))?: )+| \(request_id=[^)]*\)$", "", str(error.orig).strip())
            hint = "; name one in the URL: snowflake://…/database/schema" if number in NO_NAMESPACE else ""
            return driver_message(message) + hint
        kind = type(error.orig).__name__
        return f"{kind} {number}, SQLSTATE {state} (the message is not shown because it may hold values of rows)"

    def json_text(self, value: Text) -> Text:
        return sa.func.to_json(sa.func.to_variant(value))

    def concatenated(self, *parts: Text, comma: bool = False) -> Text:
        # One NULL makes CONCAT and CONCAT_WS as a whole NULL.
        given = [sa.literal(",", sa.Text, literal_execute=True) + part for part in parts] if comma else parts
        there = [sa.func.coalesce(part, sa.literal("", sa.Text, literal_execute=True)) for part in given]
        whole: Text = sa.func.concat(*there)
        return sa.func.substr(whole, sa.literal(2, literal_execute=True)) if comma else whole

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

    @contextmanager
    def lock_migrations(self, connection: sa.Connection) -> Iterator[None]:
        self.create_schema(connection)
        table = sa.table(MIGRATING, sa.column("since", sa.DateTime), schema=self.schema)
        patience = time.monotonic() + MIGRATION_PATIENCE
        while not self._lock(table):
            if time.monotonic() >= patience:
                raise WarehouseUnavailable(
                    f"warehouse {self.name}: another worker has been migrating schema {self.schema} for over a minute. "
                    f"Nothing was touched; try again. If none is alive, drop table {self.schema}.{MIGRATING}."
                )
            time.sleep(1)
        try:
            yield
        finally:
            # This commits what the migrations wrote, before others are let in.
            self.drop_table(connection, MIGRATING)

    def _lock(self, table: sa.TableClause) -> bool:
        # On a connection of its own, since what is done here is committed at once.
        with self.engine.connect() as other:
            try:
                self.create_table_as(other, table, sa.select(self.utc_now().label("since")))
            except sa.exc.DBAPIError as error:
                if _number(error) != EXISTS_ALREADY:
                    raise
            else:
                return True
            stale = table.c.since < self.utc_now(-MIGRATION_STALE)
            taken = other.execute(sa.update(table).where(stale).values(since=self.utc_now()))
            other.commit()
            return taken.rowcount == 1

    def serialise_writers(self, connection: sa.Connection, table: sa.Table) -> None:
        # Keys are not kept unique, and inserts do not wait for each other. Updates of one table do.
        column = table.columns[0]
        connection.execute(sa.update(table).values({column: column}))

    def model_columns(self, sql: str) -> list[ModelColumn]:
        with self.connect("read the columns of the query") as connection:
            result = connection.execute(sa.select(sa.text("*")).select_from(self.model(sql)).where(sa.false()))
            # Not the result's own keys: the dialect tells EMAIL as email.
            names = [column[0] for column in result.cursor.description] if result.cursor else []
        return [ModelColumn(name, name) for name in names]

    def table_name(self, parts: Sequence[str]) -> str:
        return ".".join(map(_part, parts))

    def row_number(self) -> sa.ColumnElement[int]:
        # Without an ORDER BY the service refuses it.
        return sa.func.row_number().over(order_by=sa.null())

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


def _name(name: str) -> str:
    """A name of the URL as the service reads it there: without quotes in any case, otherwise as it stands."""
    return name.upper() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", name) else '"' + name.strip('"') + '"'


def _part(part: str) -> str:
    """A part of a table's name as the service reads it: without quotes it is in upper case."""
    return '"' + str(part if isinstance(part, QuotedName) else part.upper()).replace('"', '""') + '"'


def _number(error: sa.exc.DBAPIError) -> int:
    return cast(int, getattr(error.orig, "errno", None) or 0)


def _state(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
