"""Bring the state schema to the version that this release works with."""

from __future__ import annotations

import uuid
from pathlib import Path

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError, StateDamaged
from warehouse_sync.state.store import State
from warehouse_sync.state.tables import SCHEMA_VERSION, VERSION_TABLE


def migrations_folder() -> Path:
    """Return the folder of the migrations: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def current_version(state: State) -> str | None:
    """Return the version of the state schema; None when there is no state schema yet.

    Raises:
        StateDamaged: The version is not known.
    """
    warehouse = state.warehouse
    with warehouse.connect("read the version of the state schema") as connection:
        if not warehouse.has_schema(connection) or not warehouse.has_table(connection, VERSION_TABLE):
            return None
        version = sa.table(VERSION_TABLE, sa.column("version_num", sa.String), schema=warehouse.schema)
        found: str | None = connection.scalar(sa.select(version.c.version_num))
    if found is None:
        raise StateDamaged(
            f"warehouse {warehouse.name}: table {warehouse.schema}.{VERSION_TABLE} is empty, so the version of the "
            "state tables is not known. Nothing was touched; restore the row from a backup."
        )
    return found


def is_current(state: State) -> bool:
    """Return whether the state schema has the version of this release; False when there is none or an older one.

    Raises:
        ConfigurationError: It is newer; writing to it could damage it.
    """
    version = current_version(state)
    if version is None or version == SCHEMA_VERSION:
        return version is not None
    if version not in known_versions():
        raise ConfigurationError(
            f"warehouse {state.warehouse.name}: schema {state.warehouse.schema} was written by a newer release "
            f"(version {version}, this one knows {SCHEMA_VERSION}). Nothing was touched; install that release again."
        )
    return False


def is_readable(state: State) -> bool:
    """Return whether there is a state schema to read from; False when there is none yet.

    Raises:
        ConfigurationError: It belongs to another release.
    """
    if is_current(state):
        return True
    if current_version(state) is None:
        return False
    raise ConfigurationError(
        f"warehouse {state.warehouse.name}: schema {state.warehouse.schema} was written by an older release. Nothing "
        "was touched; bring it up to date with `warehouse-sync migrate`, or by a run, first."
    )


def known_versions() -> list[str]:
    """Return all versions that this release can migrate from, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory(str(migrations_folder())).walk_revisions()]


def migrate(state: State) -> bool:
    """Bring the state schema to the current version, with an installation id; return whether that was needed."""
    if is_current(state):
        return False
    from alembic import command
    from alembic.config import Config

    warehouse = state.warehouse
    warehouse.prepare_migrations()
    action = "migrate the state schema (`warehouse-sync grants` shows the permissions that this needs)"
    with warehouse.write(action) as connection, warehouse.lock_migrations(connection):
        warehouse.create_schema(connection)
        config = Config()
        config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
        repeatable = not warehouse.capabilities.transactional_ddl
        config.attributes.update(connection=connection, schema=warehouse.schema, repeatable=repeatable)
        command.upgrade(config, "head")
        _create_installation(state, connection)
    return True


def _create_installation(state: State, connection: sa.Connection) -> None:
    installation = state.tables.installation
    if connection.scalar(sa.select(sa.func.count()).select_from(installation)) == 0:
        connection.execute(
            sa.insert(installation).values(
                id=str(uuid.uuid4()), last_run=0, created_at=state.warehouse.dialect.utc_now()
            )
        )
