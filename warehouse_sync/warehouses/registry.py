"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warehouse_sync.config.models import WarehouseConfig
    from warehouse_sync.warehouses.base import Warehouse


def make_warehouse(config: WarehouseConfig) -> Warehouse:
    """The warehouse of a configuration, not yet open; its driver is imported here and no earlier.

    Raises ConfigurationError when the driver is not installed.
    """
    from warehouse_sync.errors import ConfigurationError

    url = config.url.get_secret_value()
    extra = "snowflake" if url.startswith("snowflake:") else "postgres"
    try:
        if url.startswith("duckdb:"):
            from warehouse_sync.warehouses.duckdb.warehouse import DEFAULT_MEMORY_LIMIT, DuckDB

            return DuckDB(config.name, url, config.schema_, config.lease, config.memory_limit or DEFAULT_MEMORY_LIMIT)
        if extra == "snowflake":
            return _snowflake(config)
        from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

        return PostgreSQL(config.name, url, config.schema_, config.lease)
    except ImportError as error:
        raise ConfigurationError(
            f"warehouses.{config.name}.url: the driver is not installed: pip install 'warehouse-sync[{extra}]'"
        ) from error


def _snowflake(config: WarehouseConfig) -> Warehouse:
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
