"""The base class of all warehouses, in plain SQLAlchemy Core; each engine overrides only what differs.

The user's query enters our SQL in `Warehouse.model()` only.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, QueryFailed, WarehouseSyncError, WarehouseUnavailable
from warehouse_sync.operations import Elements
from warehouse_sync.redaction import redact
from warehouse_sync.warehouses.capabilities import Capabilities
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.tables import Tables


def driver_message(message: str) -> str:
    """Return the message of a driver on one line, without secrets, addresses and a final full stop."""
    return redact(" ".join(message.split())).rstrip(".!?")


def select_operations(changes: sa.TableClause, text: Text, after: Any, last: Any) -> sa.Select[int, str]:
    """Return a SELECT of `seq` and `text` of the operations with `after` < seq <= `last`, in any order."""
    seq = sa.cast(changes.c.seq, sa.BigInteger)
    return sa.select(seq, text).where(changes.c.seq > after, changes.c.seq <= last)


class ModelColumn(NamedTuple):
    """A column of the user's query.

    Attributes:
        name: The name that the query gives it.
        inner_name: The name under which `Warehouse.model()` yields it.
    """

    name: str
    inner_name: str


class Warehouse(Tables):
    """A warehouse of the configuration, open from `open()` to `close()`; thread-safe.

    Attributes:
        name: Its name in the configuration.
        schema: The schema of the worker's own tables.
        lease_seconds: The seconds after which a worker that does not renew its lease loses it.
        url: The address, with the credentials.
        engine: The SQLAlchemy engine.
    """

    record_interval = 5.0
    """Seconds between two writes of outcomes during delivery: few and large writes, as each costs a round trip."""

    dialect = Dialect()
    """The SQL expressions of the engine."""

    capabilities = Capabilities()
    """What the engine can do beyond what every run needs."""

    def __init__(self, name: str, url: str, schema: str, lease_seconds: float) -> None:
        self.name = name
        self.schema = schema
        self.lease_seconds = lease_seconds
        self.url = sa.make_url(url)
        self.engine = self.create_engine()
        self._writing = threading.RLock()
        self._connected: set[sa.Connection] = set()

    def create_engine(self) -> sa.Engine:
        """Return the engine; its messages never contain parameters."""
        return sa.create_engine(self.url, hide_parameters=True)

    @property
    def exclusive_resource(self) -> str | None:
        """The resource that only one run of this process may use at a time; None where runs do not conflict."""
        return None

    def create_database(self) -> bool:
        """Create the database if it is a file that does not exist yet; return whether it was created."""
        return False

    def open(self) -> None:
        """Connect for the first time.

        Raises:
            ConfigurationError: The warehouse refuses the connection; the operator must act. Nothing was touched.
            WarehouseUnavailable: The warehouse does not answer, or another process holds it.
        """
        try:
            with self.engine.connect() as connection:
                self.check_server(connection)
        except sa.exc.NoSuchModuleError as error:
            raise ConfigurationError(f"warehouses.{self.name}.url: no driver for {self.url.drivername}") from error
        except sa.exc.DBAPIError as error:
            kind = WarehouseUnavailable if self.is_unreachable(error) else ConfigurationError
            raise kind(
                f"warehouses.{self.name}.url: cannot connect to {self.address}: {self.describe_error(error)}. "
                "Nothing was touched; check the address, the user, the password and that the server runs."
            ) from None

    def is_unreachable(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether a connection failed because no server answered, which may pass; False: it was refused."""
        return False

    def check_server(self, connection: sa.Connection) -> None:
        """Raise ConfigurationError when the settings of the server would lead to wrong hashes."""
        connection.execute(sa.select(1))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @property
    def address(self) -> str:
        """The URL without user and password, for messages."""
        url = self.url
        return sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    @contextmanager
    def connect(self, action: str) -> Iterator[sa.Connection]:
        """Yield a connection whose errors read "could not <action>"; roll back at the end what is not committed.

        The driver's own error is removed from the chain: it quotes rows, and a logged exception includes its causes.

        Args:
            action: What is done, as an infinitive, such as "read the last run".

        Raises:
            WarehouseSyncError: As `translate_error` returns it.
        """
        try:
            with self.engine.connect() as connection:
                self._connected.add(connection)
                try:
                    yield connection
                finally:
                    self._connected.discard(connection)
        except sa.exc.DBAPIError as error:
            raise self.translate_error(error, action) from None

    def interrupt(self) -> None:
        """Cancel the running statements from another thread; they fail in their own threads. Never raises."""
        for connection in list(self._connected):
            with suppress(Exception):
                self.cancel(connection.connection.dbapi_connection)

    def cancel(self, driver: Any) -> None:
        """Cancel the statement that a connection of the driver executes, if any and if the driver can."""

    @contextmanager
    def write(self, action: str) -> Iterator[sa.Connection]:
        """Yield a transaction for the worker's own small tables, one at a time in this process; commit at the end."""
        with self._writing, self.connect(action) as connection, connection.begin():
            yield connection

    def translate_error(self, error: sa.exc.DBAPIError, action: str) -> WarehouseSyncError:
        """Return the error that the operator reads: "could not <action>", and why."""
        if error.connection_invalidated or isinstance(error, sa.exc.InterfaceError):
            return self.connection_lost(action)
        return QueryFailed(f"warehouse {self.name}: could not {action}: {self.describe_error(error)}")

    def connection_lost(self, action: str) -> WarehouseUnavailable:
        """Return the error for a lost connection."""
        return WarehouseUnavailable(
            f"warehouse {self.name}: the connection to {self.address} was lost, could not {action}. "
            "Nothing is lost: the next run continues from what was recorded."
        )

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        """Return the driver's message without values of rows; by default only the name of the error."""
        return type(error.orig).__name__

    @property
    def version(self) -> str:
        """The version of the engine that computes the hashes; known once the warehouse is open."""
        return ".".join(map(str, getattr(self.engine.dialect, "server_version_info", None) or ()))

    def tag_session(self, sync: str, run: int | None = None) -> None:
        """Tag all further statements with the sync and the run, on engines whose query history shows tags."""

    # --- permissions

    @property
    def role(self) -> str | None:
        """The role of the worker; None where the URL does not name it, or where there are no roles."""
        return self.url.username

    def grant_statements(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        """Return the statements by which an administrator grants `role` exactly what runs need; connect to nothing.

        Args:
            role: The role of the worker.
            tables: The tables that the queries read, each as its name's parts.
            may_create_schema: The role creates the schema of the worker's own tables itself; otherwise the statements
                create it.

        Returns:
            The statements; none where the warehouse has no roles.
        """
        return []

    # --- the user's query

    def model(self, sql: str) -> sa.TextClause:
        """Return the user's query as a FROM clause.

        The query is opaque: a colon or a per cent sign in it has no meaning. The newline after it keeps a trailing
        comment from swallowing the bracket.
        """
        return self.literal_sql("(\n" + sql + "\n) AS model")

    def model_columns(self, sql: str) -> list[ModelColumn]:
        """Return the columns of the query, in order, without reading a row.

        Raises:
            QueryFailed: The server refuses the query.
        """
        with self.connect("read the columns of the query") as connection:
            result = connection.execute(sa.select(sa.text("*")).select_from(self.model(sql)).where(sa.false()))
            names = list(result.keys())
        return [ModelColumn(name, name) for name in names]

    def check_select(self, connection: sa.Connection, select: sa.Select[Any]) -> None:
        """Let the server check the statement, including the types of the user's columns, without reading a row."""
        connection.execute(select.limit(0))

    def literal_sql(self, sql: str) -> sa.TextClause:
        """Return SQL that reaches the server unchanged: a colon in it starts no parameter."""
        return sa.text(sql.replace(":", r"\:"))

    def quote(self, *names: str) -> str:
        """Return the names quoted and joined by dots, for `literal_sql()` and the user's SQL."""
        # Not by SQLAlchemy's dialect: some double per cent signs, which `literal_sql()` does too.
        return ".".join('"' + name.replace('"', '""') + '"' for name in names)

    def table_name(self, parts: Sequence[str]) -> str:
        """Return the name of a table of the configuration for the user's SQL, from the parts of `table_parts()`."""
        return self.quote(*parts)

    def prepare_hashing(self, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        """Prepare a connection for `Dialect.hash_text`, once, on engines that lack an algorithm."""

    # --- elements

    def stream_elements(
        self, connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
    ) -> Generator[Elements, None, None]:
        """Yield the elements of the operations with `after` < seq <= `last`, in batches of `size`, fetched on demand.

        Each batch continues where the one before ended. Where a `seq` is missing or occurs twice, the stream ends.

        Args:
            connection: A connection that does nothing else meanwhile.
            changes: The changes of a run.
            text: The element of an operation, from `element_sql.element_text()`.
            after: The last `seq` before the stream.
            last: The last `seq` of the stream.
            size: The largest number of elements in a batch.
        """
        select = select_operations(changes, text, after, last).order_by(changes.c.seq)
        result = connection.execution_options(stream_results=True, yield_per=size).execute(select)
        for rows in result.partitions():
            seqs, texts = zip(*rows, strict=True)
            if seqs != tuple(range(after + 1, after + 1 + len(rows))):
                break
            after += len(rows)
            yield Elements("".join(texts).encode(), len(rows))
