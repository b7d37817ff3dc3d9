"""The rights that a worker needs in its warehouse, as SQL for an administrator. Connects to nothing."""

from __future__ import annotations

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import WarehouseConfig
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.reports import Grants, Preparation
from warehouse_sync.state.migrate import current_version, migrate
from warehouse_sync.state.store import State
from warehouse_sync.warehouses.registry import make_warehouse


def list_grants(config: Config, name: str, *, role: str | None = None, may_create_schema: bool = False) -> Grants:
    """The rights that the syncs of warehouse `name` need, for `role`, else for the one that its URL names.

    may_create_schema: the role shall make the schema of the worker's own tables itself.
    Raises ConfigurationError when neither names a role.
    """
    warehouse = make_warehouse(config.warehouse(name))
    try:
        syncs = [sync for sync in config.syncs.values() if sync.warehouse == name]
        tables = [sync.model.table_parts for sync in syncs if sync.model.table_parts]
        queries = [sync.name for sync in syncs if not sync.model.table_parts]
        chosen = role or warehouse.role
        statements = warehouse.grant_statements(chosen or "", tables, may_create_schema=may_create_schema)
        if not statements:
            return Grants(name, queries=queries)
        if chosen is None:
            raise ConfigurationError(f"warehouses.{name}.url names no role to grant rights to; give one with --role")
        return Grants(name, chosen, statements, queries)
    finally:
        warehouse.close()


def prepare_warehouse(config: WarehouseConfig) -> Preparation:
    """The warehouse has the state tables of this release.

    Raises ConfigurationError, WarehouseUnavailable or QueryFailed.
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
