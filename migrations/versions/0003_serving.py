"""What workers that serve share: the newest tick of a schedule that was run, and what the webhooks were told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("syncs", sa.Column("last_tick", sa.DateTime), schema=schema)
    op.add_column("syncs", sa.Column("alerted", sa.Text), schema=schema)
    op.add_column("runs", sa.Column("tick", sa.DateTime), schema=schema)
