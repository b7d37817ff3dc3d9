"""The generation of a sync's own audience: raised when it is given up for a fresh one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where tables do not go away with a transaction that fails, another try finds some of them.
    again = context.config.attributes.get("repeatable", False)
    # Snowflake takes no default together with IF NOT EXISTS; whoever makes a row writes this column anyway.
    default = None if again else sa.text("1")
    # Added without NOT NULL first: DuckDB takes no constraint on a column that is added.
    op.add_column(
        "syncs", sa.Column("generation", sa.Integer, server_default=default), schema=schema, if_not_exists=again
    )
    syncs = sa.table("syncs", sa.column("generation"), schema=schema)
    op.execute(sa.update(syncs).where(syncs.c.generation.is_(None)).values(generation=1))
    op.alter_column("syncs", "generation", nullable=False, schema=schema)
