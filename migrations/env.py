"""The entry point of Alembic: migrate the state schema of one warehouse.

The worker passes a connection and a schema. A developer calls alembic with
`-x url=duckdb:///state.duckdb [-x schema=warehouse_sync]`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from warehouse_sync.state.tables import VERSION_TABLE, state_tables


def migrate(connection: sa.Connection, schema: str) -> None:
    """Run the migrations on a connection."""
    context.configure(
        connection=connection,
        target_metadata=state_tables(schema).metadata,
        version_table=VERSION_TABLE,
        version_table_schema=schema,
        include_schemas=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
arguments = context.get_x_argument(as_dictionary=True)
schema = context.config.attributes.get("schema") or arguments.get("schema", "warehouse_sync")
if given is not None:
    migrate(given, schema)
else:
    context.config.attributes["schema"] = schema
    with sa.create_engine(arguments["url"]).begin() as connection:
        migrate(connection, schema)
