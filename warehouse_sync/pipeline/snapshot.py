"""Take the snapshot of a run: the members of the model as they are now, by one statement of the warehouse."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.pipeline.counts import SnapshotCounts, count_snapshot
from warehouse_sync.pipeline.members import snapshot_select
from warehouse_sync.pipeline.model import Model, ResolvedModel, query_text, resolve_columns
from warehouse_sync.pipeline.reuse import (
    PreviousSnapshot,
    SnapshotTables,
    describe_previous,
    has_duplicates,
    reuse_rows,
    store_not_reused,
)
from warehouse_sync.warehouses import normalisers
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.tables import MEMBER_NUMBER


def resolve_model(warehouse: Warehouse, model: Model) -> ResolvedModel:
    """Return the model, once the warehouse accepts its query and its columns are found. No row is read.

    Raises:
        ConfigurationError: The query fails, or a column that the configuration names is missing or ambiguous.
    """
    try:
        query = query_text(warehouse, model)
        resolved = resolve_columns(model, query, warehouse.model_columns(query))
        with warehouse.connect("use the columns of the query") as connection:
            warehouse.check_select(connection, snapshot_select(warehouse, resolved))
    except QueryFailed as error:
        raise ConfigurationError(f"syncs.{model.sync}.model: {error}. Nothing was touched.") from error
    return resolved


def check_hashing(warehouse: Warehouse, connection: sa.Connection) -> None:
    """Compare the warehouse's normalising and hashing with the test vector.

    Raises:
        ConfigurationError: They differ, so that no hash would match at the destination.
    """
    address = sa.column("address", sa.Text)
    vector = sa.values(address, name="vector").data([(text,) for text, _ in normalisers.TEST_VECTORS])
    cleaned = warehouse.dialect.lower(warehouse.dialect.remove_white_space(vector.c.address))
    found = set(connection.scalars(sa.select(warehouse.dialect.hash_text(cleaned, "sha256"))).all())
    if found != {expected for _, expected in normalisers.TEST_VECTORS}:
        raise ConfigurationError(
            f"warehouses.{warehouse.name}: this server normalises or hashes text in a way that would match no member "
            "at the destination (its test vector came out wrong). Nothing was touched; please report its version."
        )


def make_recipe(warehouse: Warehouse, model: ResolvedModel, installation: str) -> str:
    """Return a digest of everything that decides what becomes of a row: the mapping, this release, and the engine.

    Two snapshots with equal recipes make equal members of equal rows, so that one can reuse rows of the other.

    Args:
        warehouse: The warehouse.
        model: The query and its mapping. The query itself does not count: it yields rows and does not change them.
        installation: The id of the state schema; it keeps row hashes of different installations apart.
    """
    any_query = replace(model, query="SELECT 1")
    select = snapshot_select(warehouse, any_query)
    sql = select.compile(dialect=warehouse.engine.dialect, compile_kwargs={"literal_binds": True})
    return hashlib.sha256("\0".join((installation, warehouse.version, str(sql))).encode()).hexdigest()


def take_snapshot(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: ResolvedModel,
    tables: SnapshotTables,
    *,
    recipe: str | None = None,
    previous: sa.TableClause | None = None,
) -> SnapshotCounts:
    """Write the query as it is now into `tables`, and count it.

    Args:
        warehouse: The warehouse.
        connection: The connection to use; committed unless the tables are temporary.
        model: The query and its mapping.
        tables: The tables to make.
        recipe: From `make_recipe()`; None where rows have no hashes.
        previous: A snapshot with the same recipe, whose lines are reused for unchanged rows.

    Raises:
        QueryFailed: The warehouse refused a statement.
        ConfigurationError: The warehouse hashes wrongly.
    """
    warehouse.prepare_hashing(connection, model.hash_algorithms)
    if model.hash_pii and any(field.hash for field in model.fields.identifiers):
        check_hashing(warehouse, connection)
    salt = recipe or ""
    before = None if previous is None else describe_previous(connection, previous)
    counts = None
    # Ranking all rows to find those of one identity costs as much as the rest. So where there were no such rows last
    # time, rows are taken without ranking, and ranked in a second attempt only if there are some now.
    if warehouse.capabilities.row_hashes and (before is None or not before.has_duplicates):
        counts = _take_unranked(warehouse, connection, model, salt, before, tables)
    if counts is None:
        counts = _take_by_one_statement(warehouse, connection, model, salt, before, tables, ranked=True)
        if before is not None and counts.reused:
            store_not_reused(warehouse, connection, before.table, tables)
    if counts.reused:
        warehouse.analyse(connection, tables.not_reused, *_joined_columns(model))
    if not tables.temporary:
        connection.commit()
    return counts


def _take_unranked(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: ResolvedModel,
    salt: str,
    before: PreviousSnapshot | None,
    tables: SnapshotTables,
) -> SnapshotCounts | None:
    """Write each row as a line of its own; return None, and leave no table, where several rows are one member."""
    several = False
    if before is not None and warehouse.capabilities.row_ids:
        rows = reuse_rows(warehouse, connection, model, salt, before.table, tables)
        counts = _analyse_and_count(warehouse, connection, model, tables)
        several = counts.rows < rows
    else:
        counts = _take_by_one_statement(warehouse, connection, model, salt, before, tables)
        if before is not None and counts.reused:
            store_not_reused(warehouse, connection, before.table, tables)
            not_reused = connection.scalar(sa.select(sa.func.count()).select_from(tables.not_reused))
            # A line that several rows have reused is counted once for each of them.
            several = counts.reused + int(not_reused or 0) > before.members
    if not several and not has_duplicates(warehouse, connection, tables.snapshot, counts):
        return counts
    if counts.reused:
        warehouse.drop_created_table(connection, tables.not_reused)
    warehouse.drop_created_table(connection, tables.snapshot)
    return None


def _take_by_one_statement(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: ResolvedModel,
    salt: str,
    before: PreviousSnapshot | None,
    tables: SnapshotTables,
    *,
    ranked: bool = False,
) -> SnapshotCounts:
    """Write the snapshot by one statement."""
    previous = None if before is None else before.table
    select = snapshot_select(warehouse, model, salt, previous, ranked=ranked, number_members=tables.number_members)
    warehouse.create_table_as(connection, tables.snapshot, select, temporary=tables.temporary)
    return _analyse_and_count(warehouse, connection, model, tables)


def _analyse_and_count(
    warehouse: Warehouse, connection: sa.Connection, model: ResolvedModel, tables: SnapshotTables
) -> SnapshotCounts:
    """Prepare a new snapshot for joins, and return its counts."""
    number = [MEMBER_NUMBER] if tables.number_members else []
    columns = [*_joined_columns(model), "row_hash", "carried", *number]
    ordered_by = MEMBER_NUMBER if tables.number_members else ""
    warehouse.analyse(connection, tables.snapshot, *columns, ordered_by=ordered_by)
    return count_snapshot(connection, tables.snapshot, count_reused=True)


def _joined_columns(model: ResolvedModel) -> list[str]:
    """Return the columns by which changes are found."""
    return ["identity", "fingerprint", "reason", *(field.name for field in model.mapped_identifiers)]
