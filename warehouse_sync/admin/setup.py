"""Set up a warehouse: the SQL that grants a worker its rights, and the state tables."""

from __future__ import annotations

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import WarehouseConfig
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.reports import Grants, Preparation
from warehouse_sync.state.migrate import current_version, migrate
from warehouse_sync.state.store import State
from warehouse_sync.warehouses.registry import make_warehouse


def list_grants(config: Config, name: str, *, role: str | None = None, may_create_schema: bool = False) -> Grants:
    """Return the SQL that grants the rights which the syncs of a warehouse need. Connects to nothing.

    Args:
        config: The configuration.
        name: Name of the warehouse.
        role: The role that gets the rights; by default the one in the warehouse's URL.
        may_create_schema: Let the role create the schema of the worker's tables itself.

    Raises:
        ConfigurationError: The warehouse has roles, but neither `role` nor the URL names one.
    """
    warehouse = make_warehouse(config.warehouse(name))
    try:
        syncs = [sync for sync in config.syncs.values() if sync.warehouse == name]
        tables = [sync.model.table_parts for sync in syncs if sync.model.table_parts]
        queries = [sync.name for sync in syncs if not sync.model.table_parts]
        grantee = role or warehouse.role
        statements = warehouse.grant_statements(grantee or "", tables, may_create_schema=may_create_schema)
        if not statements:
            return Grants(name, queries=queries)
        if grantee is None:
            raise ConfigurationError(f"warehouses.{name}.url names no role to grant rights to; give one with --role")
        return Grants(name, grantee, statements, queries)
    finally:
        warehouse.close()


def prepare_warehouse(config: WarehouseConfig) -> Preparation:
    """Create or migrate the state tables of a warehouse; create its database file if it has one.

    Raises:
        ConfigurationError: The operator must change something first.
        WarehouseUnavailable: The warehouse cannot be reached.
        QueryFailed: A statement of the migration failed.
    """
    warehouse = make_warehouse(config)
    created = warehouse.create_database()
    try:
        warehouse.open()
        state = State(warehouse)
        migrated = migrate(state)
        return Preparation(config.name, created, migrated, current_version(state))
    finally:
        warehouse.close()
