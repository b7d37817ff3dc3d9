"""A warehouse is made ready for runs: its database, where that is a file of our own, and the state tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from warehouse_sync.config import WarehouseConfig
from warehouse_sync.state.migrate import current_version, migrate
from warehouse_sync.state.store import State
from warehouse_sync.warehouses import make_warehouse


@dataclass(frozen=True, slots=True)
class Preparation:
    """What `migrate --json` prints for one warehouse.

    created: its database file was made. migrated: the state tables were made or changed. version: theirs now.
    error: why it could not be done.
    """

    warehouse: str
    created: bool = False
    migrated: bool = False
    version: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)


def prepare(config: WarehouseConfig) -> Preparation:
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
