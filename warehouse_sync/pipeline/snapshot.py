"""The snapshot of a run: the members of the model as they are now, by one statement of the warehouse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.pipeline.carrying import carry_over, leave_behind
from warehouse_sync.pipeline.members import Query, snapshot_select
from warehouse_sync.pipeline.model import Model, found_columns, query_text
from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts, count_snapshot
from warehouse_sync.pipeline.twins import Earlier, earlier, has_twins
from warehouse_sync.warehouses import values
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.tables import LINE


def check_model(warehouse: Warehouse, model: Model) -> dict[str, str]:
    """The query works and has the columns that are mapped, each once; no row of it is read.

    Returns what each column that the configuration names is called inside of `model()`. Raises ConfigurationError.
    """
    try:
        found = found_columns(model, warehouse.model_columns(query_text(warehouse, model)))
        with warehouse.connect("use the columns of the query") as connection:
            warehouse.try_select(connection, snapshot_select(Query(warehouse, model, found)))
    except QueryFailed as error:
        raise ConfigurationError(f"syncs.{model.sync}.model: {error}. Nothing was touched.") from error
    return found


def check_hashing(warehouse: Warehouse, connection: sa.Connection) -> None:
    """Raise ConfigurationError unless the warehouse hashes the test vector right: wrong hashes match nobody."""
    address = sa.column("address", sa.Text)
    vector = sa.values(address, name="vector").data([(text,) for text, _ in values.TEST_VECTOR])
    cleaned = warehouse.lower(warehouse.remove_blanks(vector.c.address))
    found = set(connection.scalars(sa.select(warehouse.hash_text(cleaned, "sha256"))).all())
    if found != {expected for _, expected in values.TEST_VECTOR}:
        raise ConfigurationError(
            f"warehouses.{warehouse.name}: this server normalises or hashes text in a way that would match nobody "
            "at the destination (its test vector came out wrong). Nothing was touched; please report its version."
        )


def make_recipe(warehouse: Warehouse, model: Model, spelling: Mapping[str, str], installation: str) -> str:
    """What decides what becomes of a row of the query, as a digest: equal ones make equal members of equal rows.

    It covers the mapping, the normalisers of this release, and the engine.
    """
    anything = replace(model, sql="SELECT 1", table=None)
    select = snapshot_select(Query(warehouse, anything, spelling))
    sql = select.compile(dialect=warehouse.engine.dialect, compile_kwargs={"literal_binds": True})
    return hashlib.sha256("\0".join((installation, warehouse.version, str(sql))).encode()).hexdigest()


def take_snapshot(
    warehouse: Warehouse,
    connection: sa.Connection,
    model: Model,
    spelling: Mapping[str, str],
    table: sa.TableClause,
    gone: sa.TableClause,
    *,
    recipe: str | None = None,
    previous: sa.TableClause | None = None,
    numbered: bool = False,
    temporary: bool = False,
) -> SnapshotCounts:
    """`table` holds the members of the query as it is now, and the rows that cannot be members. Raises QueryFailed.

    previous: a snapshot of the same recipe; what it says of rows that are as they were is taken over. Where any was,
    `gone` holds the members of it that were not, in columns like its own; else there is no such table.
    numbered: its members are sent as they stand there, see `changes.make_changes`.
    """
    hashed = [taken.hash for taken in model.fields.all if taken.hash and taken.name in model.mapping]
    warehouse.prepare_hashing(connection, hashed)
    if model.hash_pii and any(taken.hash for taken in model.fields.identifiers):
        check_hashing(warehouse, connection)
    query = Query(warehouse, model, spelling, recipe or "")
    before = None if previous is None else earlier(connection, previous)
    counts = None
    # Ranking all rows to find those of one identity costs as much as the rest. So where there were none last time rows
    # are taken as they are, and only if there are some now, once more by rank.
    if warehouse.recognises_rows and (before is None or not before.twins):
        counts = _take_rows(query, connection, before, table, gone, numbered=numbered, temporary=temporary)
    if counts is None:
        select = snapshot_select(query, previous, numbered=numbered)
        warehouse.create_table_as(connection, table, select, temporary=temporary)
        counts = _settled(query, connection, table, numbered=numbered)
        if before is not None and counts.carried:
            leave_behind(warehouse, connection, before.table, table, gone, temporary=temporary)
    if counts.carried:
        warehouse.after_load(connection, gone, *_joined(query))
    if not temporary:
        connection.commit()
    return counts


def _take_rows(
    query: Query,
    connection: sa.Connection,
    before: Earlier | None,
    table: sa.TableClause,
    gone: sa.TableClause,
    *,
    numbered: bool,
    temporary: bool,
) -> SnapshotCounts | None:
    """`table` holds each row as a line of its own; None, and there is no such table, where several are one member."""
    warehouse = query.warehouse
    rows = None
    if before is not None and warehouse.finds_rows:
        rows = carry_over(query, connection, before.table, table, gone, temporary=temporary)
    else:
        previous = None if before is None else before.table
        select = snapshot_select(query, previous, ranked=False, numbered=numbered)
        warehouse.create_table_as(connection, table, select, temporary=temporary)
    counts = _settled(query, connection, table, numbered=numbered)
    twice = rows is not None and counts.rows < rows
    if before is not None and counts.carried:
        if rows is None:
            leave_behind(warehouse, connection, before.table, table, gone, temporary=temporary)
        # Of a member that several rows have carried over all but one are too many.
        left = connection.scalar(sa.select(sa.func.count()).select_from(gone))
        twice = twice or counts.carried + int(left or 0) > before.members
    if not twice and not has_twins(warehouse, connection, table, counts, fresh=counts.carried > 0):
        return counts
    if counts.carried:
        warehouse.drop_own(connection, gone)
    warehouse.drop_own(connection, table)
    return None


def _settled(query: Query, connection: sa.Connection, table: sa.TableClause, *, numbered: bool) -> SnapshotCounts:
    """The numbers of a snapshot that is ready to be joined."""
    columns = [*_joined(query), "row_hash", "carried", *([LINE] if numbered else [])]
    query.warehouse.after_load(connection, table, *columns, ordered_by=LINE if numbered else "")
    return count_snapshot(connection, table, carried=True)


def _joined(query: Query) -> list[str]:
    """The columns by which changes are found."""
    identifiers = [taken.name for taken in query.mapped if taken in query.model.fields.identifiers]
    return ["identity", "fingerprint", "reason", *identifiers]
