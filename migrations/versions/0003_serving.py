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
    # Where tables do not go away with a transaction that fails, another try finds some of them.
    again = context.config.attributes.get("repeatable", False)
    op.add_column("syncs", sa.Column("last_tick", sa.DateTime), schema=schema, if_not_exists=again)
    op.add_column("syncs", sa.Column("alerted", sa.Text), schema=schema, if_not_exists=again)
    op.add_column("runs", sa.Column("tick", sa.DateTime), schema=schema, if_not_exists=again)
