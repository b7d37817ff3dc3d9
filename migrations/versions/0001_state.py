"""Create the state schema: installation, syncs, runs, sync log and retry queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def sync_key(*, primary_key: bool = False) -> list[sa.Column[str]]:
    return [
        sa.Column(name, sa.String(200), primary_key=primary_key, nullable=False)
        for name in ("sync", "destination", "audience_key")
    ]


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    # Where a rollback does not undo DDL, a repeated migration finds some of the objects.
    again = context.config.attributes.get("repeatable", False)
    op.create_table(
        "installation",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("last_run", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        schema=schema,
        if_not_exists=again,
    )
    op.create_table(
        "syncs",
        *sync_key(primary_key=True),
        sa.Column("audience_type", sa.String(20)),
        sa.Column("audience_id", sa.String(100)),
        sa.Column("promoted_run", sa.BigInteger),
        sa.Column("lease_holder", sa.String(100)),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("lease_expires_at", sa.DateTime),
        sa.Column("created_at", sa.DateTime, nullable=False),
        schema=schema,
        if_not_exists=again,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        *sync_key(),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("triggered_by", sa.String(20), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("config_fingerprint", sa.String(64), nullable=False),
        sa.Column("audience_id", sa.String(100)),
        sa.Column("previous_run", sa.BigInteger),
        sa.Column("snapshot_table", sa.String(100)),
        sa.Column("changes_table", sa.String(100)),
        count("query_rows"),
        count("members"),
        count("rejected_rows"),
        count("planned_add"),
        count("planned_remove"),
        count("delivered_add"),
        count("delivered_remove"),
        count("rejected_operations"),
        count("deferred"),
        count("dead"),
        count("last_seq"),
        count("watermark"),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("promoted_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        schema=schema,
        if_not_exists=again,
    )
    op.create_table(
        "sync_log",
        sa.Column("logged_at", sa.DateTime, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        *sync_key(),
        sa.Column("seq", sa.BigInteger),
        sa.Column("operation", sa.String(10)),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("reason", sa.String(100)),
        sa.Column("message", sa.Text),
        sa.Column("primary_key", sa.Text),
        sa.Column("identity", sa.Uuid),
        sa.Column("attempt", sa.Integer),
        schema=schema,
        if_not_exists=again,
    )
    op.create_table(
        "retry_queue",
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        *sync_key(),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("operation", sa.String(10), nullable=False),
        sa.Column("identity", sa.Uuid, nullable=False),
        sa.Column("primary_key", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("deferred_since", sa.DateTime, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime),
        sa.Column("reason", sa.String(100)),
        sa.Column("message", sa.Text),
        schema=schema,
        if_not_exists=again,
    )
