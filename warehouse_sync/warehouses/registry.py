"""From a warehouse of the configuration to its class; each driver is imported only when its engine is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from warehouse_sync.errors import ConfigurationError

if TYPE_CHECKING:
    from warehouse_sync.config.models import WarehouseConfig
    from warehouse_sync.warehouses.base import Warehouse


def make_warehouse(config: WarehouseConfig) -> Warehouse:
    """Return the warehouse of a configuration, not yet open.

    Raises:
        ConfigurationError: The driver is not installed.
    """
    scheme = config.url.get_secret_value().partition(":")[0]
    backend = scheme.partition("+")[0].lower()
    make, extra = ENGINES[backend]
    try:
        return make(config)
    except ImportError as error:
        raise ConfigurationError(
            f"warehouses.{config.name}.url: the driver is not installed: pip install 'warehouse-sync[{extra}]'"
        ) from error


def _make_duckdb(config: WarehouseConfig) -> Warehouse:
    from warehouse_sync.warehouses.duckdb.warehouse import DEFAULT_MEMORY_LIMIT, DuckDB

    url, memory_limit = config.url.get_secret_value(), config.memory_limit or DEFAULT_MEMORY_LIMIT
    return DuckDB(config.name, url, config.schema_, config.lease, memory_limit)


def _make_postgres(config: WarehouseConfig) -> Warehouse:
    from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

    return PostgreSQL(config.name, config.url.get_secret_value(), config.schema_, config.lease)


def _make_snowflake(config: WarehouseConfig) -> Warehouse:
    from warehouse_sync.config.snowflake_login import private_key_to_der
    from warehouse_sync.warehouses.snowflake.warehouse import Snowflake

    private_key, passphrase, oauth_token = config.login_secrets
    return Snowflake(
        config.name,
        config.url.get_secret_value(),
        config.schema_,
        config.lease,
        private_key=None if private_key is None else private_key_to_der(private_key, passphrase),
        oauth_token=oauth_token,
    )


ENGINES: dict[str, tuple[Callable[[WarehouseConfig], Warehouse], str]] = {
    "duckdb": (_make_duckdb, "all"),
    "postgresql": (_make_postgres, "postgres"),
    "snowflake": (_make_snowflake, "snowflake"),
}
"""By scheme of the URL: the function that makes the warehouse, and the extra that installs its driver."""
