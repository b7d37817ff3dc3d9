"""The rights that a worker needs in its warehouse, as SQL for an administrator. Connects to nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from warehouse_sync.config import Config
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.warehouses import make_warehouse


@dataclass(frozen=True, slots=True)
class Grants:
    """What `grants --json` prints for one warehouse.

    role: who gets the rights; None where the warehouse has no roles. statements: SQL, in order, without semicolons.
    queries: syncs whose model is a query: what that reads is not known here and has to be granted besides.
    error: why they could not be told.
    """

    warehouse: str
    role: str | None = None
    statements: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)


def grants(config: Config, name: str, *, role: str | None = None, may_create_schema: bool = False) -> Grants:
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
        statements = warehouse.grants(chosen or "", tables, may_create_schema=may_create_schema)
        if not statements:
            return Grants(name, queries=queries)
        if chosen is None:
            raise ConfigurationError(f"warehouses.{name}.url names no role to grant rights to; give one with --role")
        return Grants(name, chosen, statements, queries)
    finally:
        warehouse.close()
