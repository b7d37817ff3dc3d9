"""Add the recipe of a run's snapshot, so that the next run can reuse the members that have not changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where a rollback does not undo DDL, a repeated migration finds some of the objects.
    again = context.config.attributes.get("repeatable", False)
    op.add_column("runs", sa.Column("recipe", sa.String(64)), schema=schema, if_not_exists=again)
