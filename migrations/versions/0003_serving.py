"""Add what serving workers share: the newest tick that was run, and what was sent to the webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where a rollback does not undo DDL, a repeated migration finds some of the objects.
    again = context.config.attributes.get("repeatable", False)
    op.add_column("syncs", sa.Column("last_tick", sa.DateTime), schema=schema, if_not_exists=again)
    op.add_column("syncs", sa.Column("alerted", sa.Text), schema=schema, if_not_exists=again)
    op.add_column("runs", sa.Column("tick", sa.DateTime), schema=schema, if_not_exists=again)
