"""A complete warehouse in plain SQLAlchemy Core. The other modules hold only what one engine does differently.

All SQL of a run is made of these pieces, so that it is the same everywhere; the user's query enters in `model()` only.
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
    """A driver's message on one line, without secrets and addresses, ready to stand inside a sentence of ours."""
    return redact(" ".join(message.split())).rstrip(".!?")


def select_operations(changes: sa.TableClause, text: Text, after: Any, last: Any) -> sa.Select[int, str]:
    """`seq` and `text` of the operations with `after` < seq <= `last`; in any order."""
    seq = sa.cast(changes.c.seq, sa.BigInteger)
    return sa.select(seq, text).where(changes.c.seq > after, changes.c.seq <= last)


class ModelColumn(NamedTuple):
    """A column of the user's query. name: as the query says it. inside: as it is called inside of `model()`."""

    name: str
    inner_name: str


class Warehouse(Tables):
    """One warehouse of the configuration, open from `open()` to `close()`.

    Thread-safe. `name` is its name in the configuration, `schema` the home of the worker's own tables, `lease` the
    seconds after which a silent worker loses its sync.
    """

    record_interval = 5.0
    """Seconds between two writes of outcomes while a run delivers; few and large, as each one costs a round trip."""

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
        """The engine; parameters never appear in its messages."""
        return sa.create_engine(self.url, hide_parameters=True)

    @property
    def exclusive_resource(self) -> str | None:
        """What only one run of this process may use at a time; None where runs do not get into each other's way."""
        return None

    def create_database(self) -> bool:
        """The database exists afterwards where it is a file of our own to make; True: it was made, empty."""
        return False

    def open(self) -> None:
        """Connect for the first time.

        Raises ConfigurationError when the warehouse refuses us: nothing was touched, and somebody has to look.
        Raises WarehouseUnavailable when it does not answer, or when another process holds it.
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
        """Whether a connection failed because no server answered, which may pass; else we were refused."""
        return False

    def check_server(self, connection: sa.Connection) -> None:
        """Raise ConfigurationError when the server is set up so that hashes would come out wrong."""
        connection.execute(sa.select(1))

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    @property
    def address(self) -> str:
        """The URL without user and password, for messages."""
        url = self.url
        return sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    @contextmanager
    def connect(self, action: str) -> Iterator[sa.Connection]:
        """A connection whose errors are told as "could not <doing>"; what is not committed is rolled back.

        The driver's own error is cut off: it quotes rows, and whoever logs an exception logs its causes.
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
        """Break off the statements that are under way, from another thread: they fail in their own. Never raises."""
        for connection in list(self._connected):
            with suppress(Exception):
                self.cancel(connection.connection.dbapi_connection)

    def cancel(self, driver: Any) -> None:
        """Break off what a connection of the driver executes, if it does; it may go on where there is no way to."""

    @contextmanager
    def write(self, action: str) -> Iterator[sa.Connection]:
        """A transaction for the worker's own small tables, one at a time in this process; commits at the end."""
        with self._writing, self.connect(action) as connection, connection.begin():
            yield connection

    def translate_error(self, error: sa.exc.DBAPIError, action: str) -> WarehouseSyncError:
        """The error as the operator should read it."""
        if error.connection_invalidated or isinstance(error, sa.exc.InterfaceError):
            return self.connection_lost(action)
        return QueryFailed(f"warehouse {self.name}: could not {action}: {self.describe_error(error)}")

    def connection_lost(self, action: str) -> WarehouseUnavailable:
        """The error for a connection that went away."""
        return WarehouseUnavailable(
            f"warehouse {self.name}: the connection to {self.address} was lost, could not {action}. "
            "Nothing is lost: the next run goes on from what was recorded."
        )

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        """The driver's message without values of rows. Engines that know their messages say more."""
        return type(error.orig).__name__

    @property
    def version(self) -> str:
        """Of the engine that takes the hashes; known once the warehouse is open."""
        return ".".join(map(str, getattr(self.engine.dialect, "server_version_info", None) or ()))

    def tag_session(self, sync: str, run: int | None = None) -> None:
        """What is asked from now on is done for this run; for engines whose histories tell what for."""

    # --- rights

    @property
    def role(self) -> str | None:
        """Who the worker is to the warehouse; None where the URL does not say it, or where there are no roles."""
        return self.url.username

    def grant_statements(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        """The statements by which an administrator gives `role` what runs need, and nothing else.

        tables: what is read, in parts. may_create_schema: the role makes the schema of the worker's own tables itself;
        otherwise it is made here. Empty where the warehouse knows no roles. Nothing is connected to.
        """
        return []

    # --- the user's query

    def model(self, sql: str) -> sa.TextClause:
        """The user's query as something to select from.

        It is opaque: a colon or a per cent sign in it means nothing to us, and it ends in a newline so that a trailing
        comment does not swallow the bracket.
        """
        return self.literal_sql("(\n" + sql + "\n) AS model")

    def model_columns(self, sql: str) -> list[ModelColumn]:
        """The query's columns, in order, without reading a row. Raises QueryFailed as the server does."""
        with self.connect("read the columns of the query") as connection:
            result = connection.execute(sa.select(sa.text("*")).select_from(self.model(sql)).where(sa.false()))
            names = list(result.keys())
        return [ModelColumn(name, name) for name in names]

    def check_select(self, connection: sa.Connection, select: sa.Select[Any]) -> None:
        """The server takes the statement, the types of the user's columns included; no row is read."""
        connection.execute(select.limit(0))

    def literal_sql(self, sql: str) -> sa.TextClause:
        """SQL that reaches the server as it stands: a colon in it opens no parameter."""
        return sa.text(sql.replace(":", r"\:"))

    def quote(self, *names: str) -> str:
        """Names for `verbatim()` and the user's SQL, each one quoted as it stands."""
        # Not the dialect's own quoting: some double per cent signs, which `verbatim()` does once more.
        return ".".join('"' + name.replace('"', '""') + '"' for name in names)

    def table_name(self, parts: Sequence[str]) -> str:
        """A table that the configuration names, for the user's SQL; parts as `config_values.table_parts` tells them."""
        return self.quote(*parts)

    def prepare_hashing(self, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        """Called once per connection before `hash_text` is used on it, for engines that lack an algorithm."""

    # --- elements

    def stream_elements(
        self, connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
    ) -> Generator[Elements, None, None]:
        """The `text` of the operations with `after` < seq <= `last`, in pieces of `size`, fetched when asked for.

        text: of elements.element_text(). Each piece begins where the one before it has ended: where an operation is
        missing, or there twice, the pieces end.
        """
        select = select_operations(changes, text, after, last).order_by(changes.c.seq)
        result = connection.execution_options(stream_results=True, yield_per=size).execute(select)
        for rows in result.partitions():
            seqs, texts = zip(*rows, strict=True)
            if seqs != tuple(range(after + 1, after + 1 + len(rows))):
                break
            after += len(rows)
            yield Elements("".join(texts).encode(), len(rows))
