"""Index the log by time on PostgreSQL; the other engines skip newer lines by themselves."""

from __future__ import annotations

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        schema = context.config.attributes["schema"]
        op.create_index("sync_log_logged_at", "sync_log", ["logged_at"], schema=schema, postgresql_using="brin")
