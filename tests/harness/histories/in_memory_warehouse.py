"""A real warehouse that opens without delay: one engine for all runs, DuckDB in memory, statements compiled once.

Only opening and compiling are shortened. The product runs the same statements and gets the same results.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import duckdb_sqlalchemy
import pytest
import sqlalchemy as sa
import structlog

from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.duckdb.warehouse import DuckDB
from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

CACHED_STATEMENTS = 20_000
"""The size of the statement cache; it is large because the tables of each run have their own names."""

PROBED_MODULE = "pandas"
"""A module that DuckDB tries to import twice for each parameter, in case its value is a pandas type."""


@contextmanager
def share_engine(patch: pytest.MonkeyPatch, url: str) -> Iterator[sa.Engine]:
    """Yield one engine that all workers share. For DuckDB its database is in memory."""
    in_memory = url.startswith("duckdb")
    engine = sa.create_engine(
        f"duckdb:///:memory:{uuid4().hex}" if in_memory else url,
        hide_parameters=True,
        poolclass=sa.QueuePool,
        pool_size=30,
        query_cache_size=CACHED_STATEMENTS,
        **({} if in_memory else {"connect_args": {"application_name": "warehouse-sync"}}),
    )
    kind: type[Warehouse] = DuckDB if in_memory else PostgreSQL
    patch.setattr(kind, "create_engine", lambda self: engine)
    patch.setattr(kind, "open", lambda self: None)
    patch.setattr(kind, "close", lambda self: None)
    if in_memory:
        _cache_preparation(patch)
    if PROBED_MODULE not in sys.modules and find_spec(PROBED_MODULE) is None:
        # Only here: pyarrow, which is needed to hash with SHA-512, fails with this entry.
        patch.setitem(sys.modules, PROBED_MODULE, None)
    # A database in memory exists as long as it has a connection.
    with silence_logs(), engine.connect() as anchor:
        if in_memory:
            anchor.execute(sa.text("set threads = 1"))
            anchor.commit()
        yield engine
    engine.dispose()


@contextmanager
def silence_logs() -> Iterator[None]:
    """Suppress all logging during the block."""
    configured, before = structlog.is_configured(), structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        if configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()


def _cache_preparation(patch: pytest.MonkeyPatch) -> None:
    """Prepare each connection once and compile each CREATE TABLE AS once: SQLAlchemy does not cache those."""
    prepare_hashing, create_table_as = DuckDB.prepare_hashing, DuckDB.create_table_as
    compiled: dict[Any, str] = {}

    def prepare_once(self: DuckDB, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        if not connection.info.setdefault("prepared", False):
            prepare_hashing(self, connection, algorithms)
            connection.info["prepared"] = True

    def compile_once(
        self: DuckDB,
        connection: sa.Connection,
        table: sa.TableClause,
        select: sa.Select[Any],
        *,
        temporary: bool = False,
        ordered_by: str = "",
    ) -> None:
        shape = select._generate_cache_key()
        if shape is None or temporary:
            return create_table_as(self, connection, table, select, temporary=temporary, ordered_by=ordered_by)
        key = (table.fullname, shape.key, tuple(bound.value for bound in shape.bindparams))
        if key not in compiled:
            statement = sa.CreateTableAs(select, table.name, schema=table.schema)
            compiled[key] = str(statement.compile(dialect=connection.dialect))
        connection.exec_driver_sql(compiled[key])
        return None

    # The driver's dialect parses each statement character by character to find its kind.
    patch.setattr(duckdb_sqlalchemy, "_top_level_sql_words", cache(vars(duckdb_sqlalchemy)["_top_level_sql_words"]))
    patch.setattr(DuckDB, "prepare_hashing", prepare_once)
    patch.setattr(DuckDB, "create_table_as", compile_once)
