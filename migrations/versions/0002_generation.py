"""Add the generation of a sync's own audience, which is raised when a fresh one replaces it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where a rollback does not undo DDL, a repeated migration finds some of the objects.
    again = context.config.attributes.get("repeatable", False)
    # Snowflake accepts no default together with IF NOT EXISTS; every insert sets this column anyway.
    default = None if again else sa.text("1")
    # First without NOT NULL: DuckDB accepts no constraint on a new column.
    op.add_column(
        "syncs", sa.Column("generation", sa.Integer, server_default=default), schema=schema, if_not_exists=again
    )
    syncs = sa.table("syncs", sa.column("generation"), schema=schema)
    op.execute(sa.update(syncs).where(syncs.c.generation.is_(None)).values(generation=1))
    op.alter_column("syncs", "generation", nullable=False, schema=schema)
