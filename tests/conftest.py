from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness.servers.postgres import NoPostgres, Server, postgres_server
from harness.servers.snowflake import SnowflakeServer, snowflake_server
from harness.worlds.world import World, make_impatient, sandbox
from hypothesis import HealthCheck, settings

from warehouse_sync import redaction
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.duckdb.warehouse import DuckDB
from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL
from warehouse_sync.warehouses.snowflake.warehouse import Snowflake

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that one test announces as secrets do not eat holes into another one's messages."""
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())


@pytest.fixture(autouse=True)
def every_error_message_is_clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of whatever goes wrong in any test, no message holds an e-mail address or a token."""
    messages: list[str] = []

    def noted(self: WarehouseSyncError, *arguments: object) -> None:
        messages.extend(map(str, arguments))
        Exception.__init__(self, *arguments)

    monkeypatch.setattr(WarehouseSyncError, "__init__", noted, raising=False)
    yield
    for message in messages:
        assert not re.search(r"[^\s@]@[^\s@]+[.][^\s@]", message), message
        assert not re.search(r"sandbox-(refresh|access)|Bearer \S", message), message


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    try:
        with postgres_server() as server:
            yield server
    except NoPostgres as reason:
        if os.environ.get("WAREHOUSE_SYNC_REQUIRE_POSTGRES"):
            pytest.fail(f"PostgreSQL is required here: {reason}")
        pytest.skip(f"NO POSTGRESQL, half of the warehouse tests do not run: {reason}")


@pytest.fixture(scope="session")
def snowflake() -> Iterator[SnowflakeServer]:
    with snowflake_server() as server:
        yield server


ALWAYS_ON_SNOWFLAKE = (
    "test_warehouse_contract", "test_element_sql", "test_mirror", "test_lease", "test_migrations", "test_statements",
)  # fmt: skip
ON_SNOWFLAKE = (*ALWAYS_ON_SNOWFLAKE, "test_normalisers", "test_pending", "test_plan", "test_status")
"""What runs on the local Snowflake too, all of it with SNOWFLAKE=all. A run takes two seconds there."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever wants a warehouse runs on each kind."""
    chosen = any("warehouse_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "warehouse_url" in metafunc.fixturenames and not chosen:
        chosen_files = ON_SNOWFLAKE if os.environ.get("SNOWFLAKE") == "all" else ALWAYS_ON_SNOWFLAKE
        too = metafunc.module.__name__.endswith(chosen_files)
        metafunc.parametrize("warehouse_url", ["duckdb", "postgres", *(["snowflake"] if too else [])], indirect=True)


@pytest.fixture
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database on each kind of warehouse."""
    if request.param == "duckdb":
        path = tmp_path / "warehouse.duckdb"
        sa.create_engine(f"duckdb:///{path}", poolclass=sa.NullPool).connect().close()
        yield f"duckdb:///{path}"
    elif request.param == "snowflake":
        local: SnowflakeServer = request.getfixturevalue("snowflake")
        with local.database(f"t{uuid.uuid4().hex[:12]}") as url:
            yield url
    else:
        server: Server = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
def warehouse(warehouse_url: str) -> Iterator[Warehouse]:
    """An open warehouse of each kind, without any table."""
    kinds = {"duckdb": DuckDB, "postgresql": PostgreSQL, "snowflake": Snowflake}
    opened = kinds[re.split("[+:]", warehouse_url)[0]]("analytics", warehouse_url, "warehouse_sync", 60.0)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker bears out none of LinkedIn's pauses."""
    make_impatient(monkeypatch)


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    """A sync of users on each kind of warehouse, and its sandbox."""
    with sandbox() as running:
        yield World(warehouse_url, running, tmp_path)
