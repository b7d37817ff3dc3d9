"""Hostile data, columns and names: no run crashes, nothing wrong is sent, and all that is left out is reported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness.worlds.world import SYNC, World
from typer.testing import CliRunner

from warehouse_sync.cli.main import app
from warehouse_sync.config.loader import Config, load_config
from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.run.run import run_sync

pytestmark = pytest.mark.usefixtures("short_timeouts")

EMAIL_ONLY: dict[str, Any] = {"identifiers": {"sha256_email": "email"}, "fields": {}}
MEGABYTE = "x" * 1_000_000


def is_duckdb(world: World) -> bool:
    return world.url.startswith("duckdb")


def held(world: World) -> set[str]:
    """Return the hashes of addresses that the audience holds."""
    return {value for member in world.actual_members("elements") for _, value in member}


def hashed(*addresses: str) -> set[str]:
    return {hashlib.sha256(address.encode()).hexdigest() for address in addresses}


def snapshot(world: World, columns: str) -> list[sa.Row[Any]]:
    """Return these columns of the members in the newest snapshot, in the order of their key."""
    (table,) = world.query("select snapshot_table from warehouse_sync.runs order by run_id desc limit 1")[0]
    return list(world.query(f"select {columns} from warehouse_sync.{table} where reason is null order by primary_key"))


def with_query(world: World, sql: str, **changes: Any) -> World:
    return replace(world, sync_settings={"model": {"sql": sql, "primary_key": "id"}, **EMAIL_ONLY, **changes})


# --- values


ADDRESSES: dict[str, str | None] = {
    "plain@example.com": "plain@example.com",
    "\ufeffmark@example.com\u200b": "mark@example.com",
    "\u200fleft@exam\u00adple.com\u202c": "left@example.com",
    "\u2067inner\u200b@example.com\u2069": "inner@example.com",
    "\U0001f600@example.com": "\U0001f600@example.com",
    "e\u0301@example.com": "e\u0301@example.com",
    "o'hara\"\\@example.com": "o'hara\"\\@example.com",
    "'; drop table people; --@example.com": "';droptablepeople;--@example.com",
    "%s%(x)s:name{}@example.com": "%s%(x)s:name{}@example.com",
    "sha256_email=3:a;|@example.com": "sha256_email=3:a;|@example.com",
    "two@signs@example.com": None,
    "a@example.com" + MEGABYTE: None,
    MEGABYTE + "@example.com": None,
    MEGABYTE: None,
    "x" * 308 + "@example.com": "x" * 308 + "@example.com",
    "x" * 309 + "@example.com": None,
    "42": None,
    "": None,
    "\u200b\ufeff ": None,
    "NaN": None,
}


def test_hostile_texts_are_normalised_or_rejected(world: World) -> None:
    """Addresses are normalised or rejected, plain fields respect the limits of LinkedIn, and logged keys are short."""
    rows = [
        {"id": index, "email": text, "device": None, "first_name": text.replace("@", " "), "country": text[:3]}
        for index, text in enumerate(ADDRESSES)
    ]
    world.fill(rows)
    with world.connect() as connection:
        connection.execute(sa.text("create view keyed as select *, first_name as long_key from people"))
    keyed = replace(
        world,
        sync_settings={
            "model": {"table": "keyed", "primary_key": ["id", "long_key"]},
            "identifiers": {"sha256_email": "email"},
        },
    )
    plan = keyed.plan()
    report = keyed.run()
    good = [address for address in ADDRESSES.values() if address]
    assert report.status is RunStatus.SUCCEEDED
    assert (report.members, report.rejected) == (len(good), len(ADDRESSES) - len(good))
    assert held(keyed) == hashed(*good)
    assert plan.rejections["sha256_email:too_long"] == 4
    assert plan.rejections["no_identifier"] == report.rejected
    names = {name for (name,) in snapshot(world, "first_name") if name}
    assert max(map(len, names)) == 35
    assert "mark example.com" in names
    assert "'; drop table people; -- example.co" in names
    lines = world.query("select primary_key, reason from warehouse_sync.sync_log")
    assert len(lines) == len(ADDRESSES)
    assert max(len(line.primary_key) for line in lines) < 250
    assert {line.reason for line in lines} == {None, "no_identifier"}
    assert world.sandbox.violations() == []
    assert keyed.run().delivered == OperationCounts()


@pytest.mark.parametrize("warehouse_url", ["duckdb"], indirect=True)
def test_nul_is_removed_from_texts(world: World) -> None:
    """NUL, which a text in DuckDB may hold, is removed from addresses, fields, lists and keys, and never sent."""
    texts = "chr(0) || 'ann@ex' || chr(0) || 'ample.com' as email, 'An' || chr(0) || 'n' as name, 'k' || chr(0) as id"
    nul = with_query(world, f"select {texts}", fields={"first_name": "name"})
    assert nul.run().members == 1
    assert held(nul) == hashed("ann@example.com")
    assert [tuple(row) for row in snapshot(nul, "first_name, primary_key")] == [("Ann", "k")]


def test_values_of_any_type_are_cast_to_text(world: World) -> None:
    """Values of every type become text in fields, and a primary key may have any type and be NULL."""
    duckdb = is_duckdb(world)
    types = {
        "k_nan": "cast('NaN' as double precision)",
        "k_inf": "cast('-Infinity' as double precision)",
        "k_date": "date '2026-01-31'",
        "k_bool": "true",
        "k_array": "['a', null]" if duckdb else "array['a', null]",
        "k_struct": "{'a': 1}" if duckdb else "cast(row(1, 'x') as pair)",
        "k_json": "cast('{\"a\": [1]}' as json)" if duckdb else "cast('{\"a\": [1]}' as jsonb)",
        "k_uuid": "cast('00000000-0000-0000-0000-000000000007' as uuid)",
        "k_decimal": "cast(1.50 as decimal(9, 2))",
        "k_blob": "cast('\\xff\\x00' as blob)" if duckdb else "cast('\\xff00' as bytea)",
        "k_time": "interval '1 day'",
        "k_enum": "cast('calm' as enum('calm', 'wild'))" if duckdb else "cast('calm' as mood)",
        "k_null": "cast(null as integer)",
    }
    with world.connect() as connection:
        if not duckdb:
            connection.exec_driver_sql("create type mood as enum ('calm', 'wild')")
            connection.exec_driver_sql("create type pair as (a integer, b text)")
        columns = ", ".join(f"{sql} as {name}" for name, sql in types.items())
        connection.exec_driver_sql(f"create table typed as select 'ann@example.com' as email, {columns}")
    fields = {
        "first_name": "k_nan",
        "last_name": "k_array",
        "title": "k_json",
        "company": "k_blob",
        "country": "k_bool",
    }
    typed = replace(
        world,
        sync_settings={
            "model": {"sql": "select * from typed union all select * from typed", "primary_key": list(types)},
            "identifiers": {"sha256_email": "email", "google_aid": "k_uuid"},
            "fields": fields,
        },
    )
    report = typed.run()
    assert (report.status, report.rows, report.members) == (RunStatus.SUCCEEDED, 2, 1)
    assert typed.plan().rejections == {"country:not_a_country_code": 2}
    (row,) = snapshot(typed, "first_name, title, google_aid, primary_key")
    assert (row.first_name.lower(), row.title, row.google_aid) == (
        "nan",
        '{"a": [1]}',
        "00000000-0000-0000-0000-000000000007",
    )
    assert "2026-01-31" in row.primary_key
    assert world.sandbox.violations() == []


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_collations_do_not_merge_members(world: World) -> None:
    """The collation of a column neither fails the run nor merges two members, as some in PostgreSQL would."""
    with world.connect() as connection:
        connection.exec_driver_sql(
            "create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        connection.exec_driver_sql(
            'create table mixed (id text collate loose, other text collate "POSIX", email text collate loose, '
            "first_name text collate loose)"
        )
        connection.exec_driver_sql(
            "insert into mixed values ('A', 'x', 'ann@example.com', 'Ann'), ('a', 'y', 'Bob@example.com', 'Bob'), "
            "('b', 'z', 'nobody', null), ('B', 'z', 'NOBODY', null)"
        )
    changes = {"identifiers": {"sha256_email": "email"}, "fields": {"first_name": "first_name"}}
    mixed = replace(world, sync_settings={"model": {"table": "mixed", "primary_key": ["id", "other"]}, **changes})
    report = mixed.run()
    assert (report.members, report.rejected) == (2, 2)
    assert held(mixed) == hashed("ann@example.com", "bob@example.com")
    assert len(world.query("select 1 from warehouse_sync.sync_log where outcome = 'rejected'")) == 2


def test_a_key_that_cannot_be_sorted_is_refused(world: World) -> None:
    """A primary key of type json, which PostgreSQL cannot sort, is refused before anything is written."""
    if is_duckdb(world):
        pytest.skip("DuckDB sorts every type")
    with pytest.raises(
        ConfigurationError, match=r"syncs\.people\.model: .*ordering operator .*json.*Nothing was touched"
    ):
        with_query(world, "select '1'::json as id, 'ann@example.com' as email").run()
    assert world.query("select 1 from information_schema.schemata where schema_name = 'warehouse_sync'") == []


LISTS = {
    "Oil, Gas": ["Oil", "Gas"],
    '["Oil, Gas", null, 7]': ["Oil, Gas", "7"],
    r'["\ud83d\ude00", "\u00d6l"]': ["\U0001f600", "\u00d6l"],
    r'["\ud800"]': None,
    r'["a\u0000b"]': None,
    '["not closed': None,
    "{Banks,Oil}": None,
    "[" * 5000: None,
    f'["{MEGABYTE}"]': ["x" * 50],
    ", ,": None,
}


def test_values_that_are_no_list_are_left_out(world: World) -> None:
    """A value that cannot be read as a list is left out and counted, never sent in part."""
    with world.connect() as connection:
        connection.execute(sa.text("create table firms (id integer, name text, industries text)"))
        rows = [{"id": index, "name": f"Firm {index}", "list": text} for index, text in enumerate(LISTS)]
        connection.execute(sa.text("insert into firms values (:id, :name, :list)"), rows)
    changes = {
        "model": {"table": "firms", "primary_key": "id"},
        "identifiers": {"company_name": "name"},
        "fields": {"industries": "industries"},
    }
    firms = replace(world, kind="company", sync_settings=changes)
    assert firms.run().members == len(LISTS)
    found = {row.primary_key: row.industries and json.loads(row.industries) for row in snapshot(world, "*")}
    assert found == {str(index): items for index, items in enumerate(LISTS.values())}
    assert firms.plan().rejections == {"industries:not_a_list": 5}
    assert world.sandbox.violations() == []


def test_many_rows_with_one_identity_are_one_member(world: World) -> None:
    """Many rows with one identity give one member, and many rejected rows a few counted reasons."""
    count = int(os.environ.get("WAREHOUSE_SYNC_HOSTILE_ROWS", "20000"))
    series = f"select g.n as id, 'ann@example.com' as email from generate_series(1, {count}) as g(n)"
    report = with_query(world, series).run()
    assert (report.rows, report.members, report.delivered.add) == (count, 1, 1)
    (row,) = snapshot(world, "primary_key, query_rows")
    assert tuple(row) == ("1", count)
    rejected = with_query(world, series.replace("'ann@example.com'", "cast(g.n as text)"))
    assert rejected.plan().rejections == {"no_identifier": count, "sha256_email:not_an_address": count}
    assert rejected.run().rejected == count
    assert held(rejected) == set()


@pytest.mark.parametrize(
    "cell",
    ["cast('secret' || n as integer)", "1 / (n - 2)", "cast('2026-02-3' || n as date)"],
    ids=["cast", "zero", "date"],
)
def test_a_view_that_fails_for_one_row_fails_the_run(world: World, cell: str) -> None:
    """The run fails before anything is sent; the message names the step and holds no value."""
    if is_duckdb(world) and cell.startswith("1 /"):
        cell = "case when n = 2 then error('secret') else 1 end"
    with world.connect() as connection:
        connection.exec_driver_sql(
            f"create view trap as select n as id, 'ann@example.com' as email, {cell} as bad "
            "from generate_series(0, 3) as g(n)"
        )
    trap = replace(world, sync_settings={"model": {"table": "trap", "primary_key": "bad"}, **EMAIL_ONLY})
    with pytest.raises(QueryFailed, match="could not take the snapshot of the query") as caught:
        trap.run()
    assert "secret" not in str(caught.value)
    assert "2026-02" not in str(caught.value)
    assert world.sandbox.segments() == []


# --- columns


COLUMNS = [
    'qu"ote',
    "with space",
    "dot.ted",
    "per%cent %s %(x)s",
    "co:lon :x",
    "back\\slash \\:x",
    "\U0001f600",
    "select",
    "MixedCase",
    "identity",
    "reason",
    "key 0",
    "place",
    "primary_key",
    "model",
    "sha256_email problem",
]


def test_columns_may_have_any_name(world: World) -> None:
    """A column with any name is sent in the field that it is mapped to, also where the mapping swaps two names."""
    base, names = world, iter(COLUMNS)
    for index, group in enumerate(zip(names, names, names, names, strict=True)):
        email, first, last, key = group
        quoted = ['"' + name.replace('"', '""') + '"' for name in group]
        values = [f"'n{index}@example.com'", f"'{index} first'", f"'{index} last'", f"'{index} key'"]
        columns = ", ".join(f"{value} as {name}" for value, name in zip(values, quoted, strict=True))
        custom = replace(
            base,
            sync_settings={
                "model": {"sql": f"select {columns} -- ; :x %", "primary_key": key},
                "identifiers": {"sha256_email": email},
                "fields": {"first_name": last, "last_name": first},
            },
        )
        assert custom.run().status is RunStatus.SUCCEEDED, group
        (row,) = snapshot(custom, "first_name, last_name, primary_key")
        assert tuple(row) == (f"{index} last", f"{index} first", f"{index} key"), group
        assert held(custom) == hashed(f"n{index}@example.com"), group


@pytest.mark.parametrize(
    ("sql", "column", "expected"),
    [
        ("select 1 as id, 'ann@example.com' as email, 'bob@example.com' as email", "email", None),
        ("select 1 as id, 'ann@example.com' as email, 2 as x, 3 as x, 4, 5", "email", "ann@example.com"),
        ("select 1 as id, 1 as e, 2 as e, 'ann@example.com' as e_1", "e_1", "ann@example.com"),
        ("select 1 as id, 'ann@example.com' as \"E\", 'bob@example.com' as e", "E", "ann@example.com"),
        ("select 1 as id, 'ann@example.com' as \"E\", 'bob@example.com' as e", "e", "bob@example.com"),
    ],
    ids=["mapped", "not mapped", "renamed", "upper", "lower"],
)
def test_a_column_name_that_occurs_twice(world: World, sql: str, column: str, expected: str | None) -> None:
    """A repeated column name is refused where it is mapped, because it is ambiguous, and ignored elsewhere."""
    repeated = with_query(world, sql, identifiers={"sha256_email": column})
    if expected is None:
        message = r"syncs\.people\.identifiers\.sha256_email: the query has 2 columns named email"
        with pytest.raises(ConfigurationError, match=message):
            repeated.run()
    else:
        assert repeated.run().members == 1
        assert held(repeated) == hashed(expected)


@pytest.mark.parametrize("sql", ["select", "select 1, 'ann@example.com'", 'select 1 as id, 2 as "ann@example.com"'])
def test_a_query_without_the_mapped_columns_is_refused(world: World, sql: str) -> None:
    """A query without columns, or with unnamed ones, is refused, and the message repeats no address."""
    with pytest.raises(ConfigurationError, match=r"syncs\.people\.(model|identifiers)") as caught:
        with_query(world, sql).run()
    assert "ann@" not in str(caught.value)


@pytest.mark.parametrize(
    "end", [" -- ; drop table people", "; -- done", " /* :x % ; */", ", ';--/*:x%' as a, '\\:' as \"%s:\\\"", "\n;\n"]
)
def test_the_text_of_a_query_is_not_changed(world: World, end: str) -> None:
    """Comments, semicolons, colons and percent signs in a query mean only what they mean to the server."""
    custom = with_query(world, "select 1 as id, '%s:x;--@example.com' as email" + end)
    assert custom.run().members == 1
    assert held(custom) == hashed("%s:x;--@example.com")


# --- names


def load_named_config(
    world: World, schema: str, *syncs: str, destination: str = "ads", audience: str = "People"
) -> Config:
    """Return the configuration with these names, loaded from the file that the commands read."""
    written = deepcopy(world.raw_config)
    written["warehouses"] = {destination: {**written["warehouses"]["analytics"], "schema": schema}}
    written["destinations"] = {destination: written["destinations"]["ads"]}
    sync = {**written["syncs"][SYNC], "warehouse": destination, "destination": destination}
    written["syncs"] = {
        name: {
            **sync,
            "audience": {"type": "user", "name": audience},
            "model": {"table": f"t{index}", "primary_key": "id"},
        }
        for index, name in enumerate(syncs)
    }
    file = world.folder / "config.yaml"
    file.write_text(yaml.safe_dump(written, allow_unicode=True))
    return load_config(file)


def run_command(world: World, *arguments: str) -> Any:
    """Return what a command that must succeed prints as JSON."""
    verb, *names = arguments
    done = CliRunner().invoke(app, ["--config", str(world.folder / "config.yaml"), verb, "--json", *names])
    assert done.exit_code == 0, (arguments, done.output)
    return json.loads(done.stdout)


NAMES: Mapping[str, tuple[str, tuple[str, str]]] = {
    "quotes": ("qu\"ote's %s :x", ("a \"b\" 'c'; drop table x", "A 'b' \"c\"; drop table x")),
    "long": ("x" * 63, ("\U0001f600" * 200, "\U0001f600" * 199)),
    "reserved": ("select", ("../..", "..:{}%s")),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_any_kind_work_in_every_command(world: World, kind: str) -> None:
    """Two syncs whose table names would be equal run side by side, twice, with any characters in all names."""
    schema, syncs = NAMES[kind]
    config = load_named_config(world, schema, *syncs, destination=syncs[0], audience=f"{syncs[1]} \U0001f600"[:200])
    for index in range(2):
        with world.connect() as connection:
            connection.exec_driver_sql(
                f"create table t{index} as select {index} as id, 'ann{index}@example.com' as email, "
                "null as device, null as first_name, null as country"
            )
    assert [plan["planned"]["add"] for plan in run_command(world, "plan")] == [1, 1]
    assert run_command(world, "migrate")
    assert [run["delivered"]["add"] for run in run_command(world, "run", "--all")] == [1, 1]
    with world.connect() as connection:
        connection.exec_driver_sql("update t1 set email = 'new@example.com'")
    assert run_sync(config, syncs[0]).delivered == OperationCounts()
    assert run_sync(config, syncs[1]).delivered == OperationCounts(add=1, remove=1)
    assert run_command(world, "retry", "--", syncs[0])[0]["status"] == "succeeded"
    assert [status["members"] for status in run_command(world, "status")] == [1, 1]
    assert [len(run_command(world, "log", "--", name)) for name in syncs] == [1, 3]
    assert run_command(world, "validate")["valid"]
    members = [world.sandbox.members(segment["id"]) for segment in world.sandbox.segments()]
    found = [{value for member in each for _, value in member} for each in members]
    assert sorted(found, key=sorted) == sorted([hashed("ann0@example.com"), hashed("new@example.com")], key=sorted)


@pytest.mark.parametrize(
    ("names", "path", "message"),
    [
        ({"syncs": ["x" * 201]}, "syncs.x", "at most 200"),
        ({"syncs": ["a\nb"]}, "syncs.", "control characters"),
        ({"schema": "\u00e9" * 32}, "warehouses.ads.schema", "at most 63 bytes"),
        ({"schema": "a\nb"}, "warehouses.ads.schema", "control characters"),
        ({"schema": "PG_mine"}, "warehouses.ads.schema", "the warehouse's own"),
        ({"schema": "information_schema"}, "warehouses.ads.schema", "the warehouse's own"),
        ({"audience": "x" * 1000}, "syncs.people.audience.name", "at most 200"),
        ({"audience": "a\u0007"}, "syncs.people.audience.name", "control characters"),
    ],
)
def test_names_that_are_too_long_or_reserved_are_refused(
    world: World, names: dict[str, Any], path: str, message: str
) -> None:
    """A name that the state, the warehouse or the audience cannot have is refused with file, line and path."""
    syncs = names.get("syncs", [SYNC])
    with pytest.raises(ConfigurationError) as caught:
        load_named_config(
            world, names.get("schema", "warehouse_sync"), *syncs, audience=names.get("audience", "People")
        )
    (problem,) = caught.value.problems
    assert (problem.path or "").startswith(path)
    assert message in problem.message
    assert problem.line
    assert world.sandbox.requests() == []


@pytest.mark.parametrize(
    ("schema", "message"), [("a.b", "dot"), ("Temp", "DuckDB's own"), ("WareHouse", "name of the DuckDB file")]
)
def test_schemas_that_duckdb_takes_for_databases_are_refused(world: World, schema: str, message: str) -> None:
    """Schema names that DuckDB reads as databases, such as the name of its file, are refused on DuckDB only."""
    if is_duckdb(world):
        with pytest.raises(ConfigurationError, match=message):
            load_named_config(world, schema, SYNC)
    else:
        load_named_config(world, schema, SYNC)
