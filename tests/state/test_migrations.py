"""Migrations and state/tables.py describe the same tables, on every warehouse."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hatchling.builders.wheel import WheelBuilder

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.state.migrate import current_version, is_current, migrate, migrations_folder
from warehouse_sync.state.store import State
from warehouse_sync.state.syncs import installation_id
from warehouse_sync.state.tables import SCHEMA_VERSION, VERSION_TABLE
from warehouse_sync.warehouses.base import Warehouse

ROOT = Path(__file__).resolve().parents[2]


def test_this_release_uses_the_newest_migration() -> None:
    """SCHEMA_VERSION is the head of one unbranched line of migrations."""
    assert ScriptDirectory(str(migrations_folder())).get_heads() == [SCHEMA_VERSION]


def test_migrations_create_the_tables_that_the_code_expects(warehouse: Warehouse) -> None:
    """After migrating, tables, columns, types and nullability are those of state/tables.py."""
    state = State(warehouse)
    migrate(state)
    with warehouse.connect("read the tables") as connection:
        inspector = sa.inspect(connection)
        made = set(inspector.get_table_names(schema=warehouse.schema))
        assert made == {table.name for table in state.tables.metadata.tables.values()} | {VERSION_TABLE}
        for table in state.tables.metadata.tables.values():
            found = {column["name"]: column for column in inspector.get_columns(table.name, schema=warehouse.schema)}
            assert list(found) == [column.name for column in table.columns]
            for column in table.columns:
                assert found[column.name]["nullable"] == column.nullable, (table.name, column.name)
                expected = column.type.compile(dialect=connection.dialect)
                actual = found[column.name]["type"].compile(dialect=connection.dialect)
                same = {expected.split("(")[0], actual.split("(")[0]}
                # Snowflake has several names for one type.
                names = [{"VARCHAR", "TEXT"}, {"VARCHAR", "CHAR"}, {"datetime", "TIMESTAMP_NTZ"}]
                names += [{"BIGINT", "DECIMAL"}, {"INTEGER", "DECIMAL"}]
                assert len(same) == 1 or same in names[: None if "snowflake" in warehouse.url.drivername else 1], (
                    table.name,
                    column.name,
                    expected,
                    actual,
                )
            key = inspector.get_pk_constraint(table.name, schema=warehouse.schema)["constrained_columns"]
            assert key == [column.name for column in table.primary_key.columns]


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_autogenerate_finds_nothing_to_do(warehouse: Warehouse) -> None:
    """Alembic itself sees no difference between the migrated schema and state/tables.py."""
    state = State(warehouse)
    migrate(state)
    with warehouse.connect("compare") as connection:
        options = {
            "include_schemas": True,
            "version_table": VERSION_TABLE,
            "version_table_schema": warehouse.schema,
            "include_name": lambda name, kind, _: kind != "schema" or name == warehouse.schema,
        }
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), state.tables.metadata)
    assert differences == []


def test_migrating_twice_does_nothing(warehouse: Warehouse) -> None:
    """The second time there is nothing to do, and the installation keeps its id."""
    state = State(warehouse)
    assert current_version(state) is None
    assert migrate(state)
    first = installation_id(state)
    assert not migrate(state)
    assert is_current(state)
    assert installation_id(state) == first


def test_a_newer_schema_is_left_alone(warehouse: Warehouse) -> None:
    """A schema that a newer release wrote is refused by its version, and not touched."""
    state = State(warehouse)
    migrate(state)
    with warehouse.write("pretend") as connection:
        connection.execute(sa.text(f"update {warehouse.schema}.{VERSION_TABLE} set version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer release"):
        migrate(state)
    assert current_version(state) == "9999"


def test_each_older_version_is_migrated_with_its_rows(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema of any earlier release, with a sync in it, becomes the newest one; the sync's row is kept."""
    state = State(warehouse)
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
    migrate(state)
    monkeypatch.undo()
    assert current_version(state) == "0001"
    assert not is_current(state)
    with warehouse.write("put a sync into it") as connection:
        connection.execute(
            sa.text(
                f"insert into {warehouse.schema}.syncs (sync, destination, audience_key, promoted_run, lease_token, "
                "created_at) values ('people', 'ads', '', 7, 3, timestamp '2026-11-01')"
            )
        )
    assert migrate(state)
    assert is_current(state)
    with warehouse.connect("read") as connection:
        syncs = state.tables.syncs
        row = connection.execute(sa.select(syncs.c.promoted_run, syncs.c.lease_token, syncs.c.generation)).one()
    assert tuple(row) == (7, 3, 1)


def test_a_schema_with_an_unusual_name(warehouse: Warehouse) -> None:
    """Quotes, spaces and capitals in the schema's name are part of the name."""
    if warehouse.url.drivername == "snowflake":
        pytest.skip("on Snowflake the configuration takes plain names only: see config.types.find_schema_problem")
    warehouse.schema = 'It\'s "My" %Schema'
    state = State(warehouse)
    assert migrate(state)
    assert is_current(state)


def test_migrations_are_in_the_wheel(tmp_path: Path) -> None:
    """An installed package carries its migrations: the wheel holds env.py and every version."""
    (artifact,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(artifact).namelist())
    expected = {
        f"warehouse_sync/migrations/versions/{path.name}" for path in (ROOT / "migrations/versions").glob("*.py")
    }
    assert expected | {"warehouse_sync/migrations/env.py", "warehouse_sync/py.typed"} <= names
