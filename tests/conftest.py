from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness.processes.workers import Workers
from harness.selection import engines, rounds
from harness.servers.postgres import PostgresUnavailable, Server
from harness.servers.shared import shared_postgres, shared_snowflake
from harness.servers.snowflake import SnowflakeServer
from harness.worlds.world import World, create_duckdb, sandbox, shorten_timeouts
from hypothesis import HealthCheck, settings

from warehouse_sync import redaction
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.duckdb.warehouse import DuckDB
from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL
from warehouse_sync.warehouses.snowflake.warehouse import Snowflake

settings.register_profile(
    "suite",
    max_examples=rounds(25, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def fresh_secret_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own secrets, so that those of one test are not redacted in messages of another."""
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())


@pytest.fixture(autouse=True)
def check_error_messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that no error message of any test contains an e-mail address or a token."""
    messages: list[str] = []

    def record_message(self: WarehouseSyncError, *arguments: object) -> None:
        messages.extend(map(str, arguments))
        Exception.__init__(self, *arguments)

    monkeypatch.setattr(WarehouseSyncError, "__init__", record_message, raising=False)
    yield
    for message in messages:
        assert not re.search(r"[^\s@]@[^\s@]+[.][^\s@]", message), message
        assert not re.search(r"sandbox-(refresh|access)|Bearer \S", message), message


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this session share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[Server]:
    """The PostgreSQL of the session."""
    try:
        with shared_postgres(session_folder) as server:
            yield server
    except PostgresUnavailable as reason:
        if os.environ.get("WAREHOUSE_SYNC_REQUIRE_POSTGRES"):
            pytest.fail(f"PostgreSQL is required here: {reason}")
        pytest.skip(f"NO POSTGRESQL, most of the warehouse tests do not run: {reason}")


@pytest.fixture(scope="session")
def snowflake(session_folder: Path) -> Iterator[SnowflakeServer]:
    """The local Snowflake of the session."""
    with shared_snowflake(session_folder) as server:
        yield server


def open_warehouse(url: str) -> Warehouse:
    """Return an open warehouse of the kind that the URL names."""
    kinds: dict[str, type[Warehouse]] = {"duckdb": DuckDB, "postgresql": PostgreSQL, "snowflake": Snowflake}
    warehouse = kinds[re.split("[+:]", url)[0]]("analytics", url, "warehouse_sync", 60.0)
    warehouse.open()
    return warehouse


def migrate_database(url: str) -> None:
    """Create the state tables in the database of this URL."""
    warehouse = open_warehouse(url)
    migrate(State(warehouse))
    warehouse.close()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Server) -> Iterator[str]:
    """The name of a database with state tables, from which others are copied."""
    with postgres.database() as url:
        migrate_database(url)
        yield str(sa.make_url(url).database)


@pytest.fixture(scope="session")
def migrated_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with state tables, from which others are copied."""
    path = tmp_path_factory.mktemp("template") / "warehouse.duckdb"
    create_duckdb(path)
    migrate_database(f"duckdb:///{path}")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a warehouse on the engines that `harness.selection` names for its module."""
    chosen = any("warehouse_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "warehouse_url" in metafunc.fixturenames and not chosen:
        found = engines(metafunc.module.__name__.rpartition(".")[2])
        metafunc.parametrize("warehouse_url", found, indirect=True)


@pytest.fixture
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database on each kind of warehouse: empty, or with state tables where the test is marked as `migrated`."""
    migrated = request.node.get_closest_marker("migrated") is not None
    if request.param == "duckdb":
        path = tmp_path / "warehouse.duckdb"
        if migrated:
            shutil.copy(request.getfixturevalue("migrated_duckdb"), path)
        else:
            create_duckdb(path)
        yield f"duckdb:///{path}"
    elif request.param == "snowflake":
        local: SnowflakeServer = request.getfixturevalue("snowflake")
        with local.database(f"t{uuid.uuid4().hex[:12]}") as url:
            if migrated:
                migrate_database(url)
            yield url
    else:
        server: Server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("migrated_postgres") if migrated else "template0"
        with server.database(template) as url:
            yield url


@pytest.fixture
def warehouse(warehouse_url: str) -> Iterator[Warehouse]:
    """An open warehouse of each kind."""
    opened = open_warehouse(warehouse_url)
    yield opened
    opened.close()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers in this process use short timeouts and waits."""
    shorten_timeouts(monkeypatch)


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    """A sync of users on each kind of warehouse, and its sandbox."""
    with sandbox() as running:
        yield World(warehouse_url, running, tmp_path)


@pytest.fixture
def duckdb_world(tmp_path: Path) -> Iterator[World]:
    """A sync of users on a DuckDB file that does not exist yet, and its sandbox."""
    with sandbox() as running:
        yield World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)


@pytest.fixture
def postgres_world(postgres: Server, tmp_path: Path) -> Iterator[World]:
    """A sync of users on PostgreSQL, and its sandbox."""
    with postgres.database() as url, sandbox() as running:
        yield World(url, running, tmp_path)


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """The process that real workers are forked from."""
    with Workers() as started:
        yield started
