"""The snapshot of a run: the members of the model as they are now, by one statement of the warehouse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.pipeline.counts import SnapshotCounts, count_snapshot
from warehouse_sync.pipeline.members import ResolvedModel, snapshot_select
from warehouse_sync.pipeline.model import Model, found_columns, query_text
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


def check_model(warehouse: Warehouse, model: Model) -> dict[str, str]:
    """The query works and has the columns that are mapped, each once; no row of it is read.

    Returns what each column that the configuration names is called inside of `model()`. Raises ConfigurationError.
    """
    try:
        found = found_columns(model, warehouse.model_columns(query_text(warehouse, model)))
        with warehouse.connect("use the columns of the query") as connection:
            warehouse.check_select(connection, snapshot_select(ResolvedModel(warehouse, model, found)))
    except QueryFailed as error:
        raise ConfigurationError(f"syncs.{model.sync}.model: {error}. Nothing was touched.") from error
    return found


def check_hashing(warehouse: Warehouse, connection: sa.Connection) -> None:
    """Raise ConfigurationError unless the warehouse hashes the test vector right: wrong hashes match nobody."""
    address = sa.column("address", sa.Text)
    vector = sa.values(address, name="vector").data([(text,) for text, _ in normalisers.TEST_VECTORS])
    cleaned = warehouse.dialect.lower(warehouse.dialect.remove_white_space(vector.c.address))
    found = set(connection.scalars(sa.select(warehouse.dialect.hash_text(cleaned, "sha256"))).all())
    if found != {expected for _, expected in normalisers.TEST_VECTORS}:
        raise ConfigurationError(
            f"warehouses.{warehouse.name}: this server normalises or hashes text in a way that would match nobody "
            "at the destination (its test vector came out wrong). Nothing was touched; please report its version."
        )


def make_recipe(warehouse: Warehouse, model: Model, spelling: Mapping[str, str], installation: str) -> str:
    """What decides what becomes of a row of the query, as a digest: equal ones make equal members of equal rows.

    It covers the mapping, the normalisers of this release, and the engine.
    """
    anything = replace(model, sql="SELECT 1", table=None)
    select = snapshot_select(ResolvedModel(warehouse, anything, spelling))
    sql = select.compile(dialect=warehouse.engine.dialect, compile_kwargs={"literal_binds": True})
    return hashlib.sha256("\0".join((installation, warehouse.version, str(sql))).encode()).hexdigest()


def take_snapshot(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: Model,
    spelling: Mapping[str, str],
    target: SnapshotTables,
    *,
    recipe: str | None = None,
    previous: sa.TableClause | None = None,
) -> SnapshotCounts:
    """The tables of `target` hold the query as it is now. Raises QueryFailed.

    previous: a snapshot of the same recipe; what it says of rows that are as they were is taken over.
    """
    hashed = [taken.hash for taken in model.fields.all if taken.hash and taken.name in model.mapping]
    warehouse.prepare_hashing(connection, hashed)
    if model.hash_pii and any(taken.hash for taken in model.fields.identifiers):
        check_hashing(warehouse, connection)
    query = ResolvedModel(warehouse, model, spelling, recipe or "")
    before = None if previous is None else describe_previous(connection, previous)
    counts = None
    # Ranking all rows to find those of one identity costs as much as the rest. So where there were none last time rows
    # are taken as they are, and only if there are some now, once more by rank.
    if warehouse.capabilities.row_hashes and (before is None or not before.has_duplicates):
        counts = _take_rows(query, connection, before, target)
    if counts is None:
        counts = _make(query, connection, before, target, ranked=True)
        if before is not None and counts.reused:
            store_not_reused(query, connection, before.table, target)
    if counts.reused:
        warehouse.analyse(connection, target.not_reused, *_joined(query))
    if not target.temporary:
        connection.commit()
    return counts


def _take_rows(
    query: ResolvedModel, connection: sa.Connection, before: PreviousSnapshot | None, target: SnapshotTables
) -> SnapshotCounts | None:
    """`target` holds each row as a line of its own; None, and it holds nothing, where several are one member."""
    warehouse, table, gone = query.warehouse, target.table, target.not_reused
    several = False
    if before is not None and warehouse.capabilities.row_ids:
        rows = reuse_rows(query, connection, before.table, target)
        counts = _settled(query, connection, target)
        several = counts.rows < rows
    else:
        counts = _make(query, connection, before, target)
        if before is not None and counts.reused:
            store_not_reused(query, connection, before.table, target)
            left = connection.scalar(sa.select(sa.func.count()).select_from(gone))
            # Of a member that several rows have carried over all but one are too many.
            several = counts.reused + int(left or 0) > before.members
    if not several and not has_duplicates(warehouse, connection, table, counts):
        return counts
    if counts.reused:
        warehouse.drop_created_table(connection, gone)
    warehouse.drop_created_table(connection, table)
    return None


def _make(
    query: ResolvedModel,
    connection: sa.Connection,
    before: PreviousSnapshot | None,
    target: SnapshotTables,
    *,
    ranked: bool = False,
) -> SnapshotCounts:
    """The snapshot is there, made by one statement."""
    previous = None if before is None else before.table
    select = snapshot_select(query, previous, ranked=ranked, numbered=target.number_members)
    query.warehouse.create_table_as(connection, target.table, select, temporary=target.temporary)
    return _settled(query, connection, target)


def _settled(query: ResolvedModel, connection: sa.Connection, target: SnapshotTables) -> SnapshotCounts:
    """The numbers of a snapshot, which is ready to be joined."""
    columns = [*_joined(query), "row_hash", "carried", *([MEMBER_NUMBER] if target.number_members else [])]
    query.warehouse.analyse(
        connection, target.table, *columns, ordered_by=MEMBER_NUMBER if target.number_members else ""
    )
    return count_snapshot(connection, target.table, count_reused=True)


def _joined(query: ResolvedModel) -> list[str]:
    """The columns by which changes are found."""
    identifiers = [taken.name for taken in query.mapped if taken in query.model.fields.identifiers]
    return ["identity", "fingerprint", "reason", *identifiers]
