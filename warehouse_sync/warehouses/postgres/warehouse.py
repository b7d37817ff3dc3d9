"""PostgreSQL, version 13 or later."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
from warehouse_sync.operations import Elements
from warehouse_sync.warehouses.base import Warehouse, driver_message, select_operations
from warehouse_sync.warehouses.capabilities import Capabilities
from warehouse_sync.warehouses.dialect import Text
from warehouse_sync.warehouses.postgres.dialect import PostgreSQLDialect
from warehouse_sync.warehouses.tables import MEMBER_NUMBER

WORK_MEM_KB = 64 * 1024
"""Kilobytes that one of our sorts or joins may use on the server."""

SAFE_SQLSTATE_CLASSES = ("08", "28", "2B", "3D", "3F", "42", "53", "57")
"""SQLSTATE classes whose messages describe names, permissions and resources, not values of rows."""

LOST_CONNECTION_SQLSTATES = ("08", "25P03", "57P")
"""Prefixes of the SQLSTATEs of an ended session or server; an error without SQLSTATE comes from libpq itself."""

UNREACHABLE = re.compile(
    "refused|timeout|timed out|failed to resolve|could not translate|unreachable|No route|reset by peer|closed the "
    "connection|starting up|shutting down|too many clients|recovery mode"
)
"""Messages of libpq, and of a server that is not ready yet."""


class PostgreSQL(Warehouse):
    """A PostgreSQL database, through psycopg 3."""

    dialect = PostgreSQLDialect()

    capabilities = Capabilities(
        # hashtextextended() costs far less than normalising and hashing a row again.
        row_hashes=True,
        # A row has no number of its own: `ctid` is a page and a position on that page.
        row_ids=False,
        numbered_tables=False,
    )

    def __init__(self, name: str, url: str, schema: str, lease_seconds: float) -> None:
        super().__init__(name, url, schema, lease_seconds)
        self.cursor_seconds = lease_seconds / 3
        """Seconds that a statement stays open while its rows are sent; then a new one continues after them. An open
        statement is an open transaction, which blocks VACUUM and which the server ends after the lease."""

    def create_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            self.url,
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "application_name": "warehouse-sync"},
        )
        sa.event.listen(engine, "connect", self._prepare_session)
        sa.event.listen(engine, "handle_error", _discard_lost_connection)
        return engine

    def _prepare_session(self, driver: Any, _: Any) -> None:
        # Not as options of the connection: connection poolers refuse those.
        # idle_in_transaction_session_timeout: a suspended worker keeps its locks, for which others wait, no longer
        # than its lease.
        # jit: compiling our long expressions takes seconds and saves none.
        # work_mem: the default of 4 MB would make joins and sorts of a whole audience go to disk in dozens of parts.
        # A larger setting of the administrator is kept.
        # default_statistics_target: our columns hardly repeat a value, so a small sample says as much as a large one.
        driver.execute(
            f"SET idle_in_transaction_session_timeout = {round(self.lease_seconds * 1000)}; SET jit = off; "
            "SET default_statistics_target = 10; "
            "SELECT set_config('work_mem', "
            f"greatest({WORK_MEM_KB}, pg_size_bytes(current_setting('work_mem')) / 1024)::text || 'kB', false)"
        )
        driver.commit()

    def grant_statements(self, role: str, tables: Sequence[tuple[str, ...]], *, may_create_schema: bool) -> list[str]:
        worker, schema = self.quote(role), self.quote(self.schema)
        database = self.quote(self.url.database or role)  # As in libpq.
        on_database = "CONNECT, TEMPORARY, CREATE" if may_create_schema else "CONNECT, TEMPORARY"
        own = [f"CREATE SCHEMA IF NOT EXISTS {schema}", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {worker}"]
        homes = dict.fromkeys(self.quote(table[-2]) for table in tables if len(table) > 1)
        return [
            f"GRANT {on_database} ON DATABASE {database} TO {worker}",
            *([] if may_create_schema else own),
            *(f"GRANT USAGE ON SCHEMA {home} TO {worker}" for home in homes),
            *dict.fromkeys(f"GRANT SELECT ON TABLE {self.quote(*table)} TO {worker}" for table in tables),
        ]

    @contextmanager
    def lock_migrations(self, connection: sa.Connection) -> Iterator[None]:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("warehouse-sync " + self.schema))))
        yield

    def is_unreachable(self, error: sa.exc.DBAPIError) -> bool:
        # libpq has no code for either.
        return UNREACHABLE.search(str(error.orig)) is not None

    def check_server(self, connection: sa.Connection) -> None:
        encoding = connection.scalar(sa.text("show server_encoding"))
        if encoding != "UTF8":
            raise ConfigurationError(
                f"warehouses.{self.name}.url: the database is encoded in {encoding}, but hashes of e-mail addresses "
                "are computed from UTF-8. Nothing was touched; use a database with ENCODING 'UTF8'."
            )

    def cancel(self, driver: Any) -> None:
        driver.cancel_safe(timeout=5.0)

    def translate_error(self, error: sa.exc.DBAPIError, action: str) -> WarehouseSyncError:
        if _is_connection_lost(error):
            return self.connection_lost(action)
        return super().translate_error(error, action)

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        cause = error.orig
        state = getattr(cause, "sqlstate", None)
        if state is None:
            # No answer from a server: the text comes from libpq (no route, refused, password missing).
            return driver_message(str(cause))
        if state[:2] in SAFE_SQLSTATE_CLASSES:
            primary = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
            return driver_message(primary)
        return f"{type(cause).__name__}, SQLSTATE {state} (the message is not shown because it may hold values of rows)"

    def analyse(self, connection: sa.Connection, table: sa.TableClause, *columns: str, ordered_by: str = "") -> None:
        name = self.quote(*filter(None, (table.schema, table.name)))
        if ordered_by:
            # The rows are stored in this order, so a few bytes per quarter of a megabyte find any range of them.
            brin = f"CREATE INDEX ON {name} USING brin ({self.quote(ordered_by)}) WITH (pages_per_range = 32)"
            connection.execute(self.literal_sql(brin))
        # CREATE TABLE AS collects no statistics, and the comparison runs before autovacuum does.
        connection.execute(self.literal_sql(f"ANALYZE {name} ({', '.join(map(self.quote, columns))})"))

    @contextmanager
    def prefer_full_joins(self, connection: sa.Connection) -> Iterator[None]:
        # For the rows of one table that another does not have, the planner has no statistics and expects a single row,
        # also where there are a hundred thousand. For those a nested loop takes hours; for one row a hash join is as
        # good.
        connection.execute(sa.text("SET LOCAL enable_nestloop = off"))
        yield
        connection.execute(sa.text("SET LOCAL enable_nestloop TO DEFAULT"))

    def member_number(self, is_member: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.count().filter(is_member).over(rows=(None, 0))

    def stored_member_number(self, *, all_members: bool) -> sa.ColumnElement[int]:
        return sa.column(MEMBER_NUMBER, sa.BigInteger)

    def stream_elements(
        self, connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
    ) -> Generator[Elements, None, None]:
        # The server builds each batch as one row, so the worker has hardly any work. It reads the operations in the
        # order of the table, which was written in order; from where the order breaks the rest is sorted.
        in_order = True
        while in_order and after < last:
            opened = time.monotonic()
            try:
                with closing(_read_batches(connection, changes, text, after, last, size)) as batches:
                    for data, seqs in batches:
                        until = min(after + size, last)
                        expected = array("q", range(after + 1, until + 1))
                        expected.byteswap()
                        in_order = seqs == expected.tobytes()
                        if not in_order:
                            break
                        after, elements = until, Elements(data, until - after)
                        del data  # Only `elements` may keep the memory.
                        yield elements
                        if time.monotonic() - opened >= self.cursor_seconds:
                            break
            finally:
                connection.invalidate()  # The server may have ended the session while batches were sent.
                connection.rollback()
        if after < last:
            yield from super().stream_elements(connection, changes, text, after, last, size)


def _is_connection_lost(error: sa.exc.StatementError | None) -> bool:
    """Return whether an error means that its connection cannot be used any more."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, sa.exc.OperationalError) and (state is None or state.startswith(LOST_CONNECTION_SQLSTATES))


def _discard_lost_connection(context: sa.engine.ExceptionContext) -> None:
    # After a break in the middle of a statement the driver may take the connection for sound: a rollback on it would
    # fail, and the failure would be logged with a traceback.
    context.is_disconnect = context.is_disconnect or _is_connection_lost(context.sqlalchemy_exception)


def _read_batches(
    connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
) -> Generator[tuple[bytes, bytes], None, None]:
    """Yield per batch of `size` operations the joined texts, and the numbers of eight bytes each, in the same order."""
    select = _select_batches(changes, text, after, last, size)
    compiled = str(select.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    driver: Any = connection.connection.driver_connection
    driver_error = connection.dialect.loaded_dbapi.Error
    # Binary, so that the bytes are never decoded to text, which would take up to four times the memory.
    cursor = driver.cursor("pieces", binary=True)
    try:
        cursor.execute(compiled, ())
        yield from iter(cursor.fetchone, None)
    except driver_error as error:
        raise sa.exc.DBAPIError.instance(compiled, None, error, driver_error) from None
    finally:
        with suppress(driver_error):
            cursor.close()


def _select_batches(changes: sa.TableClause, text: Text, after: int, last: int, size: int) -> sa.Select[bytes, bytes]:
    """Return a SELECT of one row per batch.

    A lateral join reads one batch after the other by the index; GROUP BY would build all before the first.
    """
    bounds = (sa.literal(number, sa.BigInteger) for number in (after, last - 1, size))
    first = sa.func.generate_series(*bounds).table_valued("after", name="pieces").render_derived()
    until = sa.func.least(first.c.after + sa.literal(size, sa.BigInteger), sa.literal(last, sa.BigInteger))
    seq, each = select_operations(changes, text, first.c.after, until).correlate(first).subquery().c
    piece = sa.select(
        sa.func.convert_to(sa.func.string_agg(each, sa.literal("", sa.Text)), "UTF8").label("texts"),
        sa.func.string_agg(sa.func.int8send(seq), sa.literal(b"", sa.LargeBinary)).label("seqs"),
    ).lateral("piece")
    return sa.select(piece.c.texts, piece.c.seqs).join_from(first, piece, sa.true())
