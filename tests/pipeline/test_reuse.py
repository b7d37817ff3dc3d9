"""Members of unchanged rows are reused from the previous snapshot, and no others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from harness.selection import rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS
from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.pipeline.model import Model, ResolvedModel, query_text, resolve_columns
from warehouse_sync.pipeline.reuse import SnapshotTables
from warehouse_sync.pipeline.snapshot import make_recipe, resolve_model, take_snapshot
from warehouse_sync.state.tables import state_tables
from warehouse_sync.warehouses.base import ModelColumn, Warehouse

Row = tuple[int | None, str | None, str | None, str | None, str | None]

COLUMNS = ("id", "email", "device", "name", "country")

MODEL = Model(
    sync="people",
    sql="SELECT * FROM people",
    table=None,
    primary_key=("id",),
    mapping={"sha256_email": "email", "google_aid": "device", "first_name": "name", "country": "country"},
    fields=AUDIENCE_FIELDS["user"],
    hash_pii=True,
)

values = st.one_of(
    st.none(),
    st.sampled_from(("ann@example.com", "Ann@Example.com ", "bob@example.com", "a" * 64, "not an address", "")),
    st.sampled_from(
        (
            "DE",
            "de",
            "Ann",
            "\u0130nci",
            "write to me@example.com",
            "\u200bAnn",
            "1:a;",
            "38400000-8cf0-11bd-b23e-10b96e4ef00d",
        )
    ),
)
rows = st.lists(st.tuples(st.one_of(st.none(), st.integers(1, 6)), values, values, values, values), max_size=12)


@pytest.fixture
def reusing_warehouse(warehouse: Warehouse) -> Warehouse:
    if not warehouse.capabilities.row_hashes:
        pytest.skip("this warehouse has no row hashes and reuses no rows")
    with warehouse.connect("make a table") as connection:
        warehouse.create_schema(connection)
        columns = ", ".join(f"{name} {'INTEGER' if name == 'id' else 'TEXT'}" for name in COLUMNS)
        connection.exec_driver_sql(f"CREATE TABLE people ({columns})")
        connection.commit()
    return warehouse


def fill(warehouse: Warehouse, given_rows: Sequence[Row]) -> None:
    people = sa.table("people", *(sa.column(name) for name in COLUMNS))
    with warehouse.connect("fill a table") as connection:
        connection.execute(sa.delete(people))
        if given_rows:
            connection.execute(sa.insert(people).values([dict(zip(COLUMNS, row, strict=True)) for row in given_rows]))
        connection.commit()


def snapshot(
    warehouse: Warehouse, model: Model, name: str, recipe: str | None, previous: str | None = None
) -> tuple[SnapshotCounts, list[tuple[Any, ...]]]:
    """Take a snapshot; return its counts and its rows."""
    tables, names = state_tables(warehouse.schema), model.fields.names
    table, not_reused = tables.snapshot(name, names), tables.snapshot("not_reused", names)
    previous_table = None if previous is None else tables.snapshot(previous, names)
    with warehouse.connect("take a snapshot") as connection:
        for each in (name, not_reused.name):
            warehouse.drop_table(connection, each)
        resolved = resolve_model(warehouse, model)
        counts = take_snapshot(
            warehouse, connection, resolved, SnapshotTables(table, not_reused), recipe=recipe, previous=previous_table
        )
        lines = connection.execute(sa.select(*(column for column in table.c if column.name != "carried"))).all()
        assert connection.scalar(sa.select(sa.func.count()).where(table.c.carried)) == counts.reused
    return counts, sorted((tuple(line) for line in lines), key=repr)


@pytest.mark.parametrize("key", [("id",), ("email",), ("name", "email", "id")], ids="-".join)
@settings(max_examples=rounds(6, 15))
@given(before=rows, after=rows, kept=st.integers(0, 12))
def test_a_snapshot_with_reused_rows_equals_a_complete_one(
    reusing_warehouse: Warehouse, key: tuple[str, ...], before: list[Row], after: list[Row], kept: int
) -> None:
    """For any changes of rows, a snapshot with reused rows equals one that is computed completely, hash for hash."""
    model = replace(MODEL, primary_key=key)
    recipe = make_recipe(reusing_warehouse, resolve_model(reusing_warehouse, model), "an installation")
    fill(reusing_warehouse, before)
    snapshot(reusing_warehouse, model, "before", recipe)
    fill(reusing_warehouse, [*before[:kept], *after])
    reusing = snapshot(reusing_warehouse, model, "reusing", recipe, "before")
    complete = snapshot(reusing_warehouse, model, "complete", recipe)
    assert reusing == (replace(complete[0], reused=reusing[0].reused), complete[1])
    assert complete[0].reused == 0


@settings(max_examples=rounds(6, 15))
@given(before=rows, after=rows, kept=st.integers(0, 12))
def test_members_that_were_not_reused_are_stored(
    reusing_warehouse: Warehouse, before: list[Row], after: list[Row], kept: int
) -> None:
    """Each member of the previous snapshot is either reused or in the table of members that were not."""
    recipe = make_recipe(reusing_warehouse, resolve_model(reusing_warehouse, MODEL), "an installation")
    fill(reusing_warehouse, before)
    snapshot(reusing_warehouse, MODEL, "before", recipe)
    fill(reusing_warehouse, [*before[:kept], *after])
    counts, _ = snapshot(reusing_warehouse, MODEL, "now", recipe, "before")
    tables, names = state_tables(reusing_warehouse.schema), MODEL.fields.names
    earlier, now, not_reused = (tables.snapshot(name, names) for name in ("before", "now", "not_reused"))
    with reusing_warehouse.connect("compare tables") as connection:
        assert reusing_warehouse.has_table(connection, "not_reused") == (counts.reused > 0)
        if counts.reused:
            members = {line.identity: line for line in connection.execute(sa.select(earlier)) if line.reason is None}
            reused = set(connection.scalars(sa.select(now.c.identity).where(now.c.carried)))
            stored = connection.execute(sa.select(not_reused)).all()
            assert {line.identity: line for line in stored} == {
                identity: line for identity, line in members.items() if identity not in reused
            }
            assert len(stored) == len(members) - counts.reused


def test_an_unchanged_row_is_reused_and_a_changed_one_is_not(reusing_warehouse: Warehouse) -> None:
    """The values of the previous snapshot are used for unchanged rows, and for no others."""
    recipe = make_recipe(reusing_warehouse, resolve_model(reusing_warehouse, MODEL), "an installation")
    unchanged, changed = (1, "ann@example.com", None, "Ann", "DE"), (2, "bob@example.com", None, "Bob", "DE")
    fill(reusing_warehouse, [unchanged, changed])
    snapshot(reusing_warehouse, MODEL, "before", recipe)
    before = state_tables(reusing_warehouse.schema).snapshot("before", MODEL.fields.names)
    with reusing_warehouse.connect("mark the snapshot") as connection:
        connection.execute(sa.update(before).values(first_name="reused"))
        connection.commit()
    fill(reusing_warehouse, [unchanged, (2, "bob@example.com", None, "Bob", "FR")])
    _, lines = snapshot(reusing_warehouse, MODEL, "now", recipe, "before")
    column_index = ("identity", "fingerprint", "primary_key", "query_rows", "reason", "left_out", "row_hash").index
    names = {line[column_index("primary_key")]: line[7 + MODEL.fields.names.index("first_name")] for line in lines}
    assert names == {"1": "reused", "2": "Bob"}


@pytest.mark.parametrize("duplicate", [1, 2], ids=["the same row", "another row of the same identity"])
def test_a_new_duplicate_of_a_reused_row_is_counted(reusing_warehouse: Warehouse, duplicate: int) -> None:
    """A reused member with a new duplicate row is counted with both rows."""
    recipe = make_recipe(reusing_warehouse, resolve_model(reusing_warehouse, MODEL), "an installation")
    ann, bob = (1, "ann@example.com", None, "Ann", "DE"), (3, "bob@example.com", None, "Bob", "DE")
    fill(reusing_warehouse, [ann, bob])
    snapshot(reusing_warehouse, MODEL, "before", recipe)
    fill(reusing_warehouse, [ann, (duplicate, *ann[1:]), bob])
    counts, lines = snapshot(reusing_warehouse, MODEL, "now", recipe, "before")
    assert (counts.rows, counts.members) == (3, 2)
    assert sorted((line[2], line[3]) for line in lines) == [("1", 2), ("3", 1)]


@pytest.mark.parametrize(
    "other",
    [
        replace(MODEL, hash_pii=False),
        replace(MODEL, primary_key=("email",)),
        replace(MODEL, mapping={**MODEL.mapping, "first_name": "country"}),
        replace(MODEL, mapping={"sha256_email": "email"}),
        replace(MODEL, fields=AUDIENCE_FIELDS["company"], mapping={"company_name": "name"}),
    ],
    ids=["hash_pii", "primary_key", "mapping", "fewer", "type"],
)
def test_a_recipe_depends_on_all_that_defines_a_member(reusing_warehouse: Warehouse, other: Model) -> None:
    """A recipe changes with the mapping and the installation, and not with the query."""

    def resolve(model: Model) -> ResolvedModel:
        return resolve_columns(
            model, query_text(reusing_warehouse, model), [ModelColumn(name, name) for name in COLUMNS]
        )

    recipe = make_recipe(reusing_warehouse, resolve(MODEL), "an installation")
    assert make_recipe(reusing_warehouse, resolve(other), "an installation") != recipe
    assert make_recipe(reusing_warehouse, resolve(MODEL), "another installation") != recipe
    assert make_recipe(reusing_warehouse, resolve(replace(MODEL, sql="SELECT 5")), "an installation") == recipe
    assert resolve_model(reusing_warehouse, MODEL) == resolve(MODEL)


def test_row_hashes_differ_between_installations(reusing_warehouse: Warehouse) -> None:
    """A row has different hashes in two installations, and a row that cannot be a member has none."""
    fill(reusing_warehouse, [(1, "ann@example.com", None, "Ann", "DE"), (2, None, None, "Bob", "DE")])
    found = []
    for installation in ("one", "two"):
        recipe = make_recipe(reusing_warehouse, resolve_model(reusing_warehouse, MODEL), installation)
        _, lines = snapshot(reusing_warehouse, MODEL, "now", recipe)
        found.append({line[2]: line[6] for line in lines})
    assert found[0]["2"] is None
    assert found[1]["2"] is None
    assert found[0]["1"] != found[1]["1"]
