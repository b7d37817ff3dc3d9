"""DuckDB: an embedded database file, used by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import re
from array import array
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa
import stamina

from warehouse_sync.errors import ConfigurationError, WarehouseSyncError, WarehouseUnavailable
from warehouse_sync.operations import Elements
from warehouse_sync.redaction import redact
from warehouse_sync.warehouses.base import ModelColumn, Warehouse, driver_message, select_operations
from warehouse_sync.warehouses.capabilities import Capabilities
from warehouse_sync.warehouses.dialect import Text
from warehouse_sync.warehouses.duckdb.dialect import DuckDBDialect

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another process to close the file before the run fails and names the process."""

DEFAULT_MEMORY_LIMIT = 512_000_000
"""Bytes that the engine may use by default; what does not fit goes to a folder next to the file."""

ROWS_SUFFIX = "_rows"
"""The suffix of the table that holds the rows of a numbered view: see `DuckDB.create_numbered_table`."""

ROW_NUMBER = sa.literal_column("rowid", sa.BigInteger) + 1
"""The number of a row in a table from which no row was ever deleted. row_number() would run in a single thread."""

SAFE_ERROR_KINDS = ("Parser Error", "Catalog Error", "Binder Error", "Permission Error")
"""Kinds of errors whose messages describe the query, not the values of rows."""


class DuckDB(Warehouse):
    """A DuckDB file. From `open()` to `close()` no other process can open it.

    Attributes:
        memory_limit: The number of bytes that the engine may use.
    """

    dialect = DuckDBDialect()

    capabilities = Capabilities(
        # hash() costs far less than normalising and hashing a row again.
        row_hashes=True,
        # `rowid` is the position of the row in its table: the engine reads the row there directly, and it counts the
        # rows in the order of their insertion as long as none is deleted.
        row_ids=True,
        numbered_tables=True,
    )

    def __init__(
        self, name: str, url: str, schema: str, lease_seconds: float, memory_limit: int = DEFAULT_MEMORY_LIMIT
    ) -> None:
        super().__init__(name, url, schema, lease_seconds)
        self.memory_limit = memory_limit
        self._anchor: sa.Connection | None = None

    def create_engine(self) -> sa.Engine:
        # An idle pooled connection would keep the file locked after close().
        return sa.create_engine(self.url, hide_parameters=True, poolclass=sa.NullPool)

    @property
    def role(self) -> None:
        return None

    @property
    def version(self) -> str:
        return duckdb.__version__

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.url.database or "")

    @property
    def exclusive_resource(self) -> str:
        # Writers of one process conflict, on whichever connections.
        return str(self.path.resolve())

    def open(self) -> None:
        if not self.path.exists():
            raise ConfigurationError(
                f"warehouses.{self.name}.url: there is no file {self.path}. Nothing was touched; check the path, or "
                "let `warehouse-sync migrate` create the file if it is only for the worker's own tables."
            )
        try:
            self._anchor = self._connect()
            # By default it takes four fifths of the memory.
            self._anchor.exec_driver_sql(f"SET memory_limit = '{self.memory_limit}B'")
        except sa.exc.DBAPIError as error:
            if _is_file_lock(error):
                raise WarehouseUnavailable(self._describe_file_lock(error)) from None
            raise ConfigurationError(
                f"warehouses.{self.name}.url: cannot open {self.path}: {self.describe_error(error)}. "
                "Nothing was touched."
            ) from None

    def create_database(self) -> bool:
        if self.path.exists():
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            duckdb.connect(str(self.path)).close()
        except (OSError, duckdb.Error) as error:
            raise ConfigurationError(
                f"warehouses.{self.name}.url: cannot create the file {self.path}: {redact(str(error))}. "
                "Nothing was touched."
            ) from None
        return True

    def _connect(self) -> sa.Connection:
        for attempt in stamina.retry_context(on=_is_file_lock, attempts=None, timeout=LOCK_TIMEOUT, wait_max=1.0):
            with attempt:
                return self.engine.connect()
        raise AssertionError("stamina either returns or raises")

    def _describe_file_lock(self, error: sa.exc.DBAPIError) -> str:
        found = re.search(r"\(PID (\d+)\)", str(error.orig))
        process = f"process {found[1]}" if found else "another process"
        return (
            f"warehouse {self.name}: {process} holds the file {self.path}; DuckDB lets one process in at a time. "
            "Nothing was touched; end that process or run again when it is done."
        )

    def close(self) -> None:
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None
        super().close()

    @contextlib.contextmanager
    def connect(self, action: str) -> Iterator[sa.Connection]:
        with super().connect(action) as connection:
            try:
                yield connection
            except BaseException:
                # After a signal the statement continues in the engine's threads, and closing would wait for it.
                with contextlib.suppress(Exception):
                    connection.connection.dbapi_connection.interrupt()  # type: ignore[union-attr]
                raise

    def cancel(self, driver: Any) -> None:
        driver.interrupt()

    def prepare_migrations(self) -> None:
        # The driver registers itself with Alembic only if Alembic was imported before the engine was created.
        import duckdb_sqlalchemy.alembic_impl  # noqa: F401

    def translate_error(self, error: sa.exc.DBAPIError, action: str) -> WarehouseSyncError:
        if _is_file_lock(error):
            return WarehouseUnavailable(self._describe_file_lock(error))
        return super().translate_error(error, action)

    def describe_error(self, error: sa.exc.DBAPIError) -> str:
        message = str(error.orig)
        kind = message.split(":", 1)[0]
        if kind in SAFE_ERROR_KINDS or isinstance(error.orig, duckdb.IOException):
            # The part after LINE quotes the query, which may contain personal data as constants.
            return driver_message(message.split("\nLINE ")[0])
        return f"{kind} (the message is not shown because it may hold values of rows)"

    def model_columns(self, sql: str) -> list[ModelColumn]:
        # A subquery renames the second of two columns with the same name (in any case); DESCRIBE has the given names.
        columns = super().model_columns(sql)
        described = self.literal_sql(f"(DESCRIBE (\n{sql}\n)) AS described")
        with self.connect("read the columns of the query") as connection:
            names = connection.scalars(sa.select(sa.text("column_name")).select_from(described)).all()
        return [ModelColumn(name, column.inner_name) for name, column in zip(names, columns, strict=True)]

    def check_select(self, connection: sa.Connection, select: sa.Select[Any]) -> None:
        # Every type can be cast to text and sorted, and planning such a statement takes a tenth of a second.
        pass

    def stream_elements(
        self, connection: sa.Connection, changes: sa.TableClause, text: Text, after: int, last: int, size: int
    ) -> Generator[Elements, None, None]:
        # Rows come in the order of the table, which was written in order. The engine does not guarantee that, and a
        # sort would hold all rows in memory: so the rest is sorted only from where the order breaks.
        unsorted = select_operations(changes, text, after, last)
        with contextlib.closing(_read_batches(connection, unsorted, size)) as batches:
            for seqs, elements in batches:
                if seqs != memoryview(array("q", range(after + 1, after + 1 + len(elements)))):
                    break
                after += len(elements)
                yield elements
        if after < last:
            yield from super().stream_elements(connection, changes, text, after, last, size)

    def create_table_as(
        self,
        connection: sa.Connection,
        table: sa.TableClause,
        select: sa.SelectBase,
        *,
        temporary: bool = False,
        ordered_by: str = "",
    ) -> None:
        with _compression(connection, permanent=not ordered_by):
            super().create_table_as(connection, table, select, temporary=temporary, ordered_by=ordered_by)

    def create_numbered_table(
        self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase, *, temporary: bool = False
    ) -> None:
        rows = _numbered_rows_table(table, select)
        with _compression(connection, permanent=False):
            super().create_table_as(connection, rows, select, temporary=temporary)
        self.create_view_as(connection, table, sa.select(ROW_NUMBER.label("seq"), *rows.c), temporary=temporary)

    def append_numbered_rows(self, connection: sa.Connection, table: sa.TableClause, select: sa.SelectBase) -> None:
        rows = _numbered_rows_table(table, select)
        with _compression(connection, permanent=False):
            connection.execute(sa.insert(rows).from_select(list(rows.c), select))

    def has_table(self, connection: sa.Connection, name: str) -> bool:
        # A view survives the drop of its table, and nothing can be read from it then.
        try:
            connection.execute(sa.select(sa.text("*")).select_from(sa.table(name, schema=self.schema)).limit(0))
        except sa.exc.ProgrammingError as error:
            if isinstance(error.orig, duckdb.CatalogException):
                return False
            raise
        return True

    def drop_table(self, connection: sa.Connection, name: str) -> None:
        super().drop_table(connection, name)
        super().drop_table(connection, name + ROWS_SUFFIX)

    def stored_member_number(self, *, all_members: bool) -> sa.ColumnElement[int] | None:
        return ROW_NUMBER if all_members else None

    def row_id(self, table: str) -> sa.ColumnElement[int]:
        return sa.literal_column(f"{table}.rowid", sa.BigInteger)

    def prepare_hashing(self, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        if "sha512" not in algorithms:
            return
        driver = connection.connection.dbapi_connection
        # DuckDB has no sha512(). The function runs inside the engine, on its vectors, and belongs to the file:
        # another connection of this process may have registered it already.
        with contextlib.suppress(duckdb.CatalogException):
            driver.create_function("sha512", _sha512, ["VARCHAR"], "VARCHAR", type="arrow")  # type: ignore[union-attr]


def _numbered_rows_table(view: sa.TableClause, select: sa.SelectBase) -> sa.TableClause:
    """Return the table that holds the rows of a numbered view, with the columns of `select`."""
    return sa.table(
        view.name + ROWS_SUFFIX, *(sa.column(column.name) for column in select.selected_columns), schema=view.schema
    )


@contextlib.contextmanager
def _compression(connection: sa.Connection, *, permanent: bool) -> Iterator[None]:
    """Set the compression for a table that stays, or for one that is read once and soon dropped."""
    # Choosing the best compression per column costs as much as computing the rows. A fixed one for texts takes a
    # quarter more space; a table that is read once and soon dropped needs none.
    connection.exec_driver_sql(f"SET force_compression = '{'fsst' if permanent else 'uncompressed'}'")
    yield
    # Not after a failure: after a signal the statement continues, and this would wait for it.
    connection.exec_driver_sql("SET force_compression = 'auto'")


def _read_batches(
    connection: sa.Connection, select: sa.Select[int, str], size: int
) -> Generator[tuple[memoryview, Elements], None, None]:
    """Yield the rows of `select`, 64-bit numbers and texts, in batches of at most `size`.

    Arrow reads a million texts as a few buffers, without a Python object per row.
    """
    import pyarrow

    statement = str(select.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    driver: Any = connection.connection.dbapi_connection
    try:
        # sql() yields rows while the statement runs; execute() would compute all of them first.
        with driver.sql(statement).to_arrow_reader(size) as reader:
            for rows in reader:
                for start in range(0, len(rows), size):
                    yield _to_elements(rows.slice(start, size), pyarrow.string())
    except (duckdb.Error, pyarrow.ArrowException, OSError) as error:
        raise sa.exc.DBAPIError(None, None, error) from None


def _to_elements(rows: Any, text: Any) -> tuple[memoryview, Elements]:
    seqs, elements = rows.columns
    if elements.type != text:  # Settings of the engine choose between text types.
        elements = elements.cast(text)
    numbers = memoryview(seqs.buffers()[1]).cast("q")[seqs.offset :][: len(seqs)]
    bounds = memoryview(elements.buffers()[1]).cast("i")[elements.offset :][: len(elements) + 1]
    data = memoryview(elements.buffers()[2])[bounds[0] : bounds[-1]]
    return numbers, Elements(data, len(elements))


def _is_file_lock(error: Exception) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and "Could not set lock on file" in str(error.orig)


def _sha512(values: Any) -> Any:
    import pyarrow

    return pyarrow.array(
        [None if value is None else hashlib.sha512(value.encode()).hexdigest() for value in values.to_pylist()],
        pyarrow.string(),
    )
