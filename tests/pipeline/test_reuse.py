"""What an unchanged row became is carried over from one snapshot to the next, and nothing else is."""

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
def recognising(warehouse: Warehouse) -> Warehouse:
    if not warehouse.capabilities.row_hashes:
        pytest.skip("nothing is carried over on this warehouse")
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
    """The counts of a snapshot that is taken now, and its lines."""
    tables, names = state_tables(warehouse.schema), model.fields.names
    table, gone = tables.snapshot(name, names), tables.snapshot("gone", names)
    carried = None if previous is None else tables.snapshot(previous, names)
    with warehouse.connect("take a snapshot") as connection:
        for each in (name, gone.name):
            warehouse.drop_table(connection, each)
        resolved = resolve_model(warehouse, model)
        counts = take_snapshot(
            warehouse, connection, resolved, SnapshotTables(table, gone), recipe=recipe, previous=carried
        )
        lines = connection.execute(sa.select(*(column for column in table.c if column.name != "carried"))).all()
        assert connection.scalar(sa.select(sa.func.count()).where(table.c.carried)) == counts.reused
    return counts, sorted((tuple(line) for line in lines), key=repr)


@pytest.mark.parametrize("key", [("id",), ("email",), ("name", "email", "id")], ids="-".join)
@settings(max_examples=rounds(6, 15))
@given(before=rows, after=rows, kept=st.integers(0, 12))
def test_a_snapshot_that_carries_over_equals_one_made_anew(
    recognising: Warehouse, key: tuple[str, ...], before: list[Row], after: list[Row], kept: int
) -> None:
    """Whatever rows stay, change, double or go: what is taken over is what would be made, hash for hash."""
    model = replace(MODEL, primary_key=key)
    recipe = make_recipe(recognising, resolve_model(recognising, model), "an installation")
    fill(recognising, before)
    snapshot(recognising, model, "before", recipe)
    fill(recognising, [*before[:kept], *after])
    carried = snapshot(recognising, model, "carried", recipe, "before")
    anew = snapshot(recognising, model, "anew", recipe)
    assert carried == (replace(anew[0], reused=carried[0].reused), anew[1])
    assert anew[0].reused == 0


@settings(max_examples=rounds(6, 15))
@given(before=rows, after=rows, kept=st.integers(0, 12))
def test_who_was_not_carried_over_is_left_behind(
    recognising: Warehouse, before: list[Row], after: list[Row], kept: int
) -> None:
    """Each member of the previous snapshot was either carried over or is in the table of those who were not."""
    recipe = make_recipe(recognising, resolve_model(recognising, MODEL), "an installation")
    fill(recognising, before)
    snapshot(recognising, MODEL, "before", recipe)
    fill(recognising, [*before[:kept], *after])
    counts, _ = snapshot(recognising, MODEL, "carried", recipe, "before")
    tables, names = state_tables(recognising.schema), MODEL.fields.names
    earlier, now, gone = (tables.snapshot(name, names) for name in ("before", "carried", "gone"))
    with recognising.connect("compare tables") as connection:
        assert recognising.has_table(connection, "gone") == (counts.reused > 0)
        if counts.reused:
            members = {line.identity: line for line in connection.execute(sa.select(earlier)) if line.reason is None}
            carried = set(connection.scalars(sa.select(now.c.identity).where(now.c.carried)))
            left = connection.execute(sa.select(gone)).all()
            assert {line.identity: line for line in left} == {
                identity: line for identity, line in members.items() if identity not in carried
            }
            assert len(left) == len(members) - counts.reused


def test_an_unchanged_row_is_taken_over_and_a_changed_one_is_not(recognising: Warehouse) -> None:
    """What stands in the previous snapshot is believed for rows that are as they were, and for no others."""
    recipe = make_recipe(recognising, resolve_model(recognising, MODEL), "an installation")
    stays, moves = (1, "ann@example.com", None, "Ann", "DE"), (2, "bob@example.com", None, "Bob", "DE")
    fill(recognising, [stays, moves])
    snapshot(recognising, MODEL, "before", recipe)
    before = state_tables(recognising.schema).snapshot("before", MODEL.fields.names)
    with recognising.connect("mark the snapshot") as connection:
        connection.execute(sa.update(before).values(first_name="taken over"))
        connection.commit()
    fill(recognising, [stays, (2, "bob@example.com", None, "Bob", "FR")])
    _, lines = snapshot(recognising, MODEL, "now", recipe, "before")
    place = ("identity", "fingerprint", "primary_key", "query_rows", "reason", "left_out", "row_hash").index
    names = {line[place("primary_key")]: line[7 + MODEL.fields.names.index("first_name")] for line in lines}
    assert names == {"1": "taken over", "2": "Bob"}


@pytest.mark.parametrize("twin", [1, 2], ids=["the same row", "another row of the same identity"])
def test_a_row_that_comes_to_stand_there_twice_is_counted_twice(recognising: Warehouse, twin: int) -> None:
    """A member that was carried over until now is found among the rows that speak for it, whatever they look like."""
    recipe = make_recipe(recognising, resolve_model(recognising, MODEL), "an installation")
    ann, bob = (1, "ann@example.com", None, "Ann", "DE"), (3, "bob@example.com", None, "Bob", "DE")
    fill(recognising, [ann, bob])
    snapshot(recognising, MODEL, "before", recipe)
    fill(recognising, [ann, (twin, *ann[1:]), bob])
    counts, lines = snapshot(recognising, MODEL, "now", recipe, "before")
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
def test_a_recipe_is_of_everything_that_makes_a_member(recognising: Warehouse, other: Model) -> None:
    """A changed mapping has another recipe, another query has not; and no two installations share one."""

    def resolve(model: Model) -> ResolvedModel:
        return resolve_columns(model, query_text(recognising, model), [ModelColumn(name, name) for name in COLUMNS])

    mine = make_recipe(recognising, resolve(MODEL), "an installation")
    assert make_recipe(recognising, resolve(other), "an installation") != mine
    assert make_recipe(recognising, resolve(MODEL), "another installation") != mine
    assert make_recipe(recognising, resolve(replace(MODEL, sql="SELECT 5")), "an installation") == mine
    assert resolve_model(recognising, MODEL) == resolve(MODEL)


def test_row_hashes_mean_nothing_elsewhere(recognising: Warehouse) -> None:
    """The same row has other hashes in another installation, and a row that cannot be a member has none."""
    fill(recognising, [(1, "ann@example.com", None, "Ann", "DE"), (2, None, None, "Nobody", "DE")])
    found = []
    for installation in ("one", "two"):
        recipe = make_recipe(recognising, resolve_model(recognising, MODEL), installation)
        _, lines = snapshot(recognising, MODEL, "now", recipe)
        found.append({line[2]: line[6] for line in lines})
    assert found[0]["2"] is None
    assert found[1]["2"] is None
    assert found[0]["1"] != found[1]["1"]
