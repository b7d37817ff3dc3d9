"""The snapshot of a run: the members of the model as they are now, by one statement of the warehouse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.pipeline.carrying import carry_over
from warehouse_sync.pipeline.members import Query, snapshot_select
from warehouse_sync.pipeline.model import Model, found_columns, query_text
from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts, count_snapshot
from warehouse_sync.pipeline.twins import had_twins, has_twins
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
    *,
    recipe: str | None = None,
    previous: sa.TableClause | None = None,
    numbered: bool = False,
    temporary: bool = False,
) -> SnapshotCounts:
    """`table` holds the members of the query as it is now, and the rows that cannot be members. Raises QueryFailed.

    previous: a snapshot of the same recipe; what it says of rows that are as they were is taken over.
    numbered: its members are sent as they stand there, see `changes.make_changes`.
    """
    hashed = [taken.hash for taken in model.fields.all if taken.hash and taken.name in model.mapping]
    warehouse.prepare_hashing(connection, hashed)
    if model.hash_pii and any(taken.hash for taken in model.fields.identifiers):
        check_hashing(warehouse, connection)
    query = Query(warehouse, model, spelling, recipe or "")
    counts = None
    # Ranking all rows to find those of one identity costs as much as the rest. So where there were none last time rows
    # are taken as they are, and only if there are some now, once more by rank.
    if warehouse.recognises_rows and (previous is None or not had_twins(connection, previous)):
        counts = _take_rows(query, connection, table, previous, numbered=numbered, temporary=temporary)
    if counts is None:
        select = snapshot_select(query, previous, numbered=numbered)
        warehouse.create_table_as(connection, table, select, temporary=temporary)
        counts = count_snapshot(connection, table, carried=True)
    identifiers = (taken.name for taken in query.mapped if taken in model.fields.identifiers)
    columns = ("identity", "fingerprint", "row_hash", "carried", "reason", *identifiers, *([LINE] if numbered else []))
    warehouse.after_load(connection, table, *columns, ordered_by=LINE if numbered else "")
    if not temporary:
        connection.commit()
    return counts


def _take_rows(
    query: Query,
    connection: sa.Connection,
    table: sa.TableClause,
    previous: sa.TableClause | None,
    *,
    numbered: bool,
    temporary: bool,
) -> SnapshotCounts | None:
    """`table` holds each row as a line of its own; None, and there is no such table, where several are one member."""
    warehouse = query.warehouse
    rows = None
    if previous is not None and warehouse.finds_rows:
        rows = carry_over(query, connection, previous, table, temporary=temporary)
    else:
        select = snapshot_select(query, previous, ranked=False, numbered=numbered)
        warehouse.create_table_as(connection, table, select, temporary=temporary)
    counts = count_snapshot(connection, table, carried=True)
    fewer = rows is not None and counts.rows < rows
    if not fewer and not has_twins(connection, table, counts, fresh=rows is not None and counts.carried > 0):
        return counts
    warehouse.drop_own(connection, table)
    return None
