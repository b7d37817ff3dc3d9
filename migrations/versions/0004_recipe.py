"""What made the members of a run's snapshot, so that the next one can take over what has not changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where tables do not go away with a transaction that fails, another try finds some of them.
    again = context.config.attributes.get("repeatable", False)
    op.add_column("runs", sa.Column("recipe", sa.String(64)), schema=schema, if_not_exists=again)
