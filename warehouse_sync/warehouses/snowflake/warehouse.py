"""Snowflake, through its connector.

Each statement takes a tenth of a second and may resume the virtual warehouse, which is billed by the second.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa

from warehouse_sync.config.types import QuotedName
from warehouse_sync.errors import ConfigurationError, WarehouseSyncError, WarehouseUnavailable
from warehouse_sync.warehouses.base import ModelColumn, Warehouse, driver_message
from warehouse_sync.warehouses.capabilities import Capabilities
from warehouse_sync.warehouses.normalisers import HOST, JSON_ARRAY, JSON_START
from warehouse_sync.warehouses.snowflake.dialect import SnowflakeDialect
from warehouse_sync.warehouses.snowflake.engine import login_arguments, make_engine

APPLICATION = "warehouse_sync"
"""The name of our sessions in the login history and the query history of the account."""

SAFE_SQLSTATE_CLASSES = ("02", "08", "0A", "28", "3D", "3F", "42", "57")
"""SQLSTATE classes whose messages describe names, permissions and resources, not values of rows."""

NO_CURRENT_SCHEMA = (90105, 90106)
"""The session has no current database or schema."""

DOES_NOT_EXIST = (2003, 2043)
"""The object does not exist, or the role may not see it."""

SESSION_OVER = range(390100, 390400)
"""The session, or the token that it was opened with, is not valid any more."""

ALREADY_EXISTS = 2002

MIGRATION_LOCK_TABLE = "migrating"
"""The table that exists while a worker migrates: of two workers that create it, Snowflake lets one succeed."""

MIGRATION_LOCK_TIMEOUT = 60.0
"""Seconds to wait for another worker that migrates."""

MIGRATION_LOCK_EXPIRY = 600.0
"""Seconds after which a worker that migrates counts as dead."""

REGEX_PROBES = (
    (HOST, "https://user@www.example.com:443/x", True),
    (HOST, "[example].com", False),
    (HOST, "exa\x01mple.com", False),
    (JSON_ARRAY, r'["a\\b", "c\"d", "\u00e9"]', True),
    (JSON_ARRAY, r'["\ud800"]', False),
    (JSON_ARRAY, r'["a\b"c]', False),
    (JSON_START, " [a", True),
    ("^[0-9a-f]{4}$", "00ff", True),
    ("^[0-9a-f]{4}$", "x00ff", False),
)
"""Patterns, texts, and whether the pattern matches: engines read brackets and escapes differently."""


class Snowflake(Warehouse):
    """A Snowflake database."""

    dialect = SnowflakeDialect()

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
        lease_seconds: float,
        *,
        private_key: bytes | None = None,
        oauth_token: str | None = None,
    ) -> None:
        """Create the engine.

        Args:
            name: Its name in the configuration.
            url: The address.
            schema: The schema of the worker's own tables.
            lease_seconds: The seconds after which a worker that does not renew its lease loses it.
            private_key: The key to log in with: DER of PKCS #8, not encrypted.
            oauth_token: The access token to log in with. Without both, the URL says how to log in.
        """
        self._login = login_arguments(private_key, oauth_token)
        self._tag = ""
        # Without quotes and in any case, as users write it in their queries.
        super().__init__(name, url, schema.lower(), lease_seconds)

    def create_engine(self) -> sa.Engine:
        arguments = {
            **self._login,
            "application": APPLICATION,
            # Bounded, so that without a network a run ends long before its lease expires.
            "login_timeout": 30,
            # An idle session may end, and the virtual warehouse may suspend.
            "client_session_keep_alive": False,
            "session_parameters": {
                # Long enough for another worker to commit, short enough not to wait for a suspended one.
                "LOCK_TIMEOUT": max(round(self.lease_seconds), 10),
                "TIMEZONE": "UTC",
                "CLIENT_TELEMETRY_ENABLED": False,
                # The formats of keys in the log, independent of the settings of the account.
                "BINARY_OUTPUT_FORMAT": "HEX",
                "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
                "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
            },
        }
        # A login takes a second, so connections are reused; an hour is well below the lifetime of a session.
        engine = make_engine(self.url, arguments, pool_recycle=3600)
        sa.event.listen(engine, "do_connect", self._log_in_tagged)
        sa.event.listen(engine, "checkout", self._update_tag)
        return engine

    def tag_session(self, sync: str, run: int | None = None) -> None:
        self._tag = f"warehouse_sync:{sync}" if run is None else f"warehouse_sync:{sync}:{run}"

    def _log_in_tagged(self, _: Any, record: Any, __: Any, arguments: dict[str, Any]) -> None:
        if self._tag:
            arguments["session_parameters"] = {**arguments["session_parameters"], "QUERY_TAG": self._tag}
        record.info["tag"] = self._tag

    def _update_tag(self, driver: Any, record: Any, _: Any) -> None:
        if record.info.get("tag") != self._tag:
            tag = self._tag.replace("\\", "\\\\").replace("'", "\\'")
            with driver.cursor() as cursor:
                cursor.execute(f"ALTER SESSION SET QUERY_TAG = '{tag}'")
            record.info["tag"] = self._tag

    @property
    def role(self) -> str | None:
        found = self.url.query.get("role")
        return found if isinstance(found, str) else None

    def grant_statements(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        database, _, schema = (self.url.database or "").partition("/")
        worker, home_database, home_schema = (
            _url_identifier(role),
            _url_identifier(database),
            _url_identifier(schema or "PUBLIC"),
        )
        own_schema = f"{home_database}.{self.schema.upper()}"
        warehouse = self.url.query.get("warehouse")
        named = [(home_database, home_schema)[: 3 - len(table)] + tuple(map(_quote_part, table)) for table in tables]
        homes = dict.fromkeys(f"{database}.{schema}" for database, schema, _ in named)
        models = dict.fromkeys(".".join(parts) for parts in named)
        databases = dict.fromkeys((home_database, *(database for database, _, _ in named)))
        own = [
            f"CREATE SCHEMA IF NOT EXISTS {own_schema}",
            f"GRANT USAGE, CREATE TABLE ON SCHEMA {own_schema} TO ROLE {worker}",
        ]
        return [
            *(
                [f"GRANT USAGE ON WAREHOUSE {_url_identifier(warehouse)} TO ROLE {worker}"]
                if isinstance(warehouse, str)
                else []
            ),
            *(f"GRANT USAGE ON DATABASE {name} TO ROLE {worker}" for name in databases),
            *([f"GRANT CREATE SCHEMA ON DATABASE {home_database} TO ROLE {worker}"] if may_create_schema else own),
            *(f"GRANT USAGE ON SCHEMA {home} TO ROLE {worker}" for home in homes),
            *(f"GRANT SELECT ON TABLE {model} TO ROLE {worker}" for model in models),
        ]

    def is_unreachable(self, error: sa.exc.DBAPIError) -> bool:
        # A refused login has the same error number.
        return "HTTP request failed" in str(error.orig)

    @property
    def address(self) -> str:
        url = self.url
        return sa.URL.create(url.drivername, host=url.host, database=url.database).render_as_string()

    def cancel(self, driver: Any) -> None:
        with self.engine.connect() as other:
            other.exec_driver_sql(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({int(driver.session_id)})")

    def translate_error(self, error: sa.exc.DBAPIError, action: str) -> WarehouseSyncError:
        number, state = _error_number(error), _sqlstate(error)
        if "lock" in str(error.orig).lower() and state == "57014":
            return WarehouseUnavailable(
                f"warehouse {self.name}: could not {action}: another session has held a lock for longer "
                f"than {self.lease_seconds:g} s. Nothing is lost; try again. Snowflake ends the transaction of a lost "
                "session after five minutes; `SHOW LOCKS` shows whose it is, SYSTEM$ABORT_TRANSACTION ends it at once."
            )
        unreachable = isinstance(error, sa.exc.OperationalError) and not state
        if unreachable or state.startswith("08") or number in SESSION_OVER:
            return self.connection_lost(action)
        return super().translate_error(error, action)

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        state, number = _sqlstate(error), _error_number(error)
        if state.startswith(SAFE_SQLSTATE_CLASSES) or number in (*NO_CURRENT_SCHEMA, *SESSION_OVER) or not state:
            message = re.sub(r"^(?:\d{6}(?: \(\w{5}\))?: )+| \(request_id=[^)]*\)$", "", str(error.orig).strip())
            hint = "; name one in the URL: snowflake://…/database/schema" if number in NO_CURRENT_SCHEMA else ""
            return driver_message(message) + hint
        kind = type(error.orig).__name__
        return f"{kind} {number}, SQLSTATE {state} (the message is not shown because it may hold values of rows)"

    def has_schema(self, connection: sa.Connection) -> bool:
        return self._exists(connection, "SCHEMA", connection.dialect.identifier_preparer.quote_schema(self.schema))

    def has_table(self, connection: sa.Connection, name: str) -> bool:
        table = sa.table(name, schema=self.schema)
        return self._exists(connection, "TABLE", connection.dialect.identifier_preparer.format_table(table))

    def _exists(self, connection: sa.Connection, kind: str, name: str) -> bool:
        # SQLAlchemy's inspector lists all schemas, and the information schema needs a running virtual warehouse.
        try:
            connection.exec_driver_sql(f"DESCRIBE {kind} {name}")
        except sa.exc.DBAPIError as error:
            if _error_number(error) in DOES_NOT_EXIST:
                return False
            raise
        return True

    def create_schema(self, connection: sa.Connection) -> None:
        if self.has_schema(connection):
            return
        # A session switches to the schema that it creates, and the user's query would search its tables there.
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
        table = sa.table(MIGRATION_LOCK_TABLE, sa.column("since", sa.DateTime), schema=self.schema)
        deadline = time.monotonic() + MIGRATION_LOCK_TIMEOUT
        while not self._take_migration_lock(table):
            if time.monotonic() >= deadline:
                raise WarehouseUnavailable(
                    f"warehouse {self.name}: another worker has been migrating schema {self.schema} for over a minute. "
                    "Nothing was touched; try again. If none is alive, drop table "
                    f"{self.schema}.{MIGRATION_LOCK_TABLE}."
                )
            time.sleep(1)
        try:
            yield
        finally:
            # This commits what the migrations wrote, before other workers may migrate.
            self.drop_table(connection, MIGRATION_LOCK_TABLE)

    def _take_migration_lock(self, table: sa.TableClause) -> bool:
        # On a separate connection, because everything here is committed at once.
        with self.engine.connect() as other:
            try:
                self.create_table_as(other, table, sa.select(self.dialect.utc_now().label("since")))
            except sa.exc.DBAPIError as error:
                if _error_number(error) != ALREADY_EXISTS:
                    raise
            else:
                return True
            stale = table.c.since < self.dialect.utc_now(-MIGRATION_LOCK_EXPIRY)
            try:
                taken = other.execute(sa.update(table).where(stale).values(since=self.dialect.utc_now()))
            except sa.exc.DBAPIError as error:
                # The other worker may have finished, and dropped the table, since the statement above.
                if _error_number(error) in DOES_NOT_EXIST:
                    return False
                raise
            other.commit()
            return taken.rowcount == 1

    def serialise_writers(self, connection: sa.Connection, table: sa.Table) -> None:
        # Keys are not enforced, and inserts do not wait for each other. Updates of one table do.
        column = table.columns[0]
        connection.execute(sa.update(table).values({column: column}))

    def model_columns(self, sql: str) -> list[ModelColumn]:
        with self.connect("read the columns of the query") as connection:
            result = connection.execute(sa.select(sa.text("*")).select_from(self.model(sql)).where(sa.false()))
            # Not the keys of the result: SQLAlchemy's dialect returns EMAIL as email.
            names = [column[0] for column in result.cursor.description] if result.cursor else []
        return [ModelColumn(name, name) for name in names]

    def table_name(self, parts: Sequence[str]) -> str:
        return ".".join(map(_quote_part, parts))

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
        # Transient, without time travel: a table that is dropped soon is stored, and billed, only once.
        kind = f"OR REPLACE TEMPORARY TABLE {name}" if temporary else f"TRANSIENT TABLE {name}"
        body = select.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        # In order, so that a range of it is in few micro-partitions.
        order = f"\nORDER BY {connection.dialect.identifier_preparer.quote(ordered_by)}" if ordered_by else ""
        connection.exec_driver_sql(f"CREATE {kind} AS\n{body}{order}")

    def check_server(self, connection: sa.Connection) -> None:
        matches = [self.dialect.matches(sa.literal(text, sa.Text), pattern) for pattern, text, _ in REGEX_PROBES]
        host = self.dialect.extract(sa.literal("http://www.example.com/", sa.Text), HOST)
        *found, extracted = connection.execute(sa.select(*matches, host)).one()
        if list(map(bool, found)) != [expected for *_, expected in REGEX_PROBES] or extracted != "www.example.com":
            raise ConfigurationError(
                f"warehouses.{self.name}.url: this server reads regular expressions in a way that would take wrong "
                "values for right ones (its test came out wrong). Nothing was touched; please report this."
            )

    def prepare_hashing(self, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        if "sha512" not in algorithms:
            return
        expected = hashlib.sha512(b"warehouse-sync").hexdigest()
        try:
            found = connection.scalar(
                sa.select(self.dialect.hash_text(sa.literal("warehouse-sync", sa.Text), "sha512"))
            )
        except sa.exc.DBAPIError:
            found = None
        if found != expected:
            raise ConfigurationError(
                f"warehouses.{self.name}: this server cannot take SHA-512 (SHA2(…, 512) came out wrong), and hashing "
                "elsewhere would take addresses out of it. Nothing was touched; leave out identifiers.sha512_email, or "
                "have the query yield the hashes and set hash_pii: false."
            )


def _url_identifier(name: str) -> str:
    """Return a name of the URL quoted as Snowflake reads it: upper-cased if it is plain, otherwise unchanged."""
    return name.upper() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", name) else '"' + name.strip('"') + '"'


def _quote_part(part: str) -> str:
    """Return a part of a table's name quoted as Snowflake reads it: without quotes it is in upper case."""
    return '"' + str(part if isinstance(part, QuotedName) else part.upper()).replace('"', '""') + '"'


def _error_number(error: sa.exc.DBAPIError) -> int:
    return cast(int, getattr(error.orig, "errno", None) or 0)


def _sqlstate(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
