"""A real warehouse that costs no time to open: one engine for all runs, DuckDB in memory, statements compiled once.

Only the ways around the warehouse are shortened. What it is asked, and what it answers, is the product's own.
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

STATEMENTS = 20_000
"""Compiled statements that are kept: each run's tables have names of their own."""

LOOKED_FOR = "pandas"
"""DuckDB tries to import it twice for each parameter, whose value might be one of pandas' own."""


@contextmanager
def swift(patch: pytest.MonkeyPatch, url: str) -> Iterator[sa.Engine]:
    """Workers that open the warehouse at `url` share the engine that this yields; DuckDB's is in memory."""
    in_memory = url.startswith("duckdb")
    engine = sa.create_engine(
        f"duckdb:///:memory:{uuid4().hex}" if in_memory else url,
        hide_parameters=True,
        poolclass=sa.QueuePool,
        pool_size=30,
        query_cache_size=STATEMENTS,
        **({} if in_memory else {"connect_args": {"application_name": "warehouse-sync"}}),
    )
    kind: type[Warehouse] = DuckDB if in_memory else PostgreSQL
    patch.setattr(kind, "create_engine", lambda self: engine)
    patch.setattr(kind, "open", lambda self: None)
    patch.setattr(kind, "close", lambda self: None)
    if in_memory:
        _once_each(patch)
    if LOOKED_FOR not in sys.modules and find_spec(LOOKED_FOR) is None:
        # Here only: pyarrow, which hashes with SHA-512, does not bear it.
        patch.setitem(sys.modules, LOOKED_FOR, None)
    # The database in memory lasts as long as a connection to it.
    with silence(), engine.connect() as anchor:
        if in_memory:
            anchor.execute(sa.text("set threads = 1"))
            anchor.commit()
        yield engine
    engine.dispose()


@contextmanager
def silence() -> Iterator[None]:
    """No line is logged for the time of the block."""
    configured, before = structlog.is_configured(), structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        if configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()


def _once_each(patch: pytest.MonkeyPatch) -> None:
    """Functions are lent to a connection once, and a CREATE TABLE AS is compiled once: SQLAlchemy keeps only others."""
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

    # The driver's dialect reads each statement letter by letter to tell what kind it is.
    patch.setattr(duckdb_sqlalchemy, "_top_level_sql_words", cache(vars(duckdb_sqlalchemy)["_top_level_sql_words"]))
    patch.setattr(DuckDB, "prepare_hashing", prepare_once)
    patch.setattr(DuckDB, "create_table_as", compile_once)
