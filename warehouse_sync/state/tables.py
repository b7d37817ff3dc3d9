"""The worker's own tables. Migrations make them; a test holds both to be the same.

All times are UTC without a zone, by the warehouse's clock. A sync's state is keyed by sync, destination and audience
key, so that one sync may feed several audiences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa

SCHEMA_VERSION = "0006"
"""The migration that this release works with."""

VERSION_TABLE = "schema_version"


class StateTables:
    """The static tables in one schema, and the shapes of the two that are made per run."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.metadata = metadata = sa.MetaData(schema=schema)
        self.installation = sa.Table(
            "installation",
            metadata,
            sa.Column("id", sa.String(36), primary_key=True, doc="made once; part of each sourceSegmentId"),
            sa.Column("last_run", sa.BigInteger, nullable=False, doc="the newest run_id that was given out"),
            sa.Column("created_at", sa.DateTime, nullable=False),
        )
        self.syncs = sa.Table(
            "syncs",
            metadata,
            *_sync_key(primary_key=True),
            sa.Column("audience_type", sa.String(20), doc="user or company"),
            sa.Column("audience_id", sa.String(100), doc="the audience that the promoted run fed"),
            sa.Column("promoted_run", sa.BigInteger, doc="the run whose snapshot is the audience's target"),
            sa.Column("lease_holder", sa.String(100), doc="the worker that owns the sync now"),
            sa.Column("lease_token", sa.BigInteger, nullable=False, doc="raised each time the lease is taken"),
            sa.Column("lease_expires_at", sa.DateTime),
            sa.Column("created_at", sa.DateTime, nullable=False),
            sa.Column(
                "generation", sa.Integer, nullable=False, server_default=sa.text("1"), doc="of the audience of our own"
            ),
            sa.Column("last_tick", sa.DateTime, doc="the newest time of its schedule whose run has ended"),
            sa.Column("alerted", sa.Text, doc="JSON: webhooks that were told last of a state that is not ok, and that"),
        )
        self.runs = sa.Table(
            "runs",
            metadata,
            sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
            *_sync_key(),
            sa.Column("kind", sa.String(10), nullable=False, doc="diff, full, retry or purge"),
            sa.Column("triggered_by", sa.String(20), nullable=False, doc="manual, schedule or library"),
            sa.Column("status", sa.String(20), nullable=False),
            sa.Column("phase", sa.String(20), nullable=False, doc="the step that was reached"),
            sa.Column("reason", sa.Text, doc="why it was blocked, failed or incomplete"),
            sa.Column("lease_token", sa.BigInteger, nullable=False),
            sa.Column("config_fingerprint", sa.String(64), nullable=False),
            sa.Column("audience_id", sa.String(100), doc="the audience that it was promoted for"),
            sa.Column("previous_run", sa.BigInteger, doc="the run that was promoted before"),
            sa.Column("snapshot_table", sa.String(100), doc="NULL once retention has dropped it"),
            sa.Column("changes_table", sa.String(100), doc="NULL once retention has dropped it"),
            _count("query_rows"),
            _count("members"),
            _count("rejected_rows"),
            _count("planned_add"),
            _count("planned_remove"),
            _count("delivered_add"),
            _count("delivered_remove"),
            _count("rejected_operations"),
            _count("deferred"),
            _count("dead"),
            _count("last_seq", doc="operations in changes"),
            _count("watermark", doc="accounted for up to here"),
            sa.Column("started_at", sa.DateTime, nullable=False),
            sa.Column("promoted_at", sa.DateTime),
            sa.Column("finished_at", sa.DateTime),
            sa.Column("tick", sa.DateTime, doc="the time of the schedule that it was run for"),
            sa.Column("recipe", sa.String(64), doc="what made members of rows; equal ones may share row hashes"),
        )
        self.sync_log = sa.Table(
            "sync_log",
            metadata,
            sa.Column("logged_at", sa.DateTime, nullable=False),
            sa.Column("run_id", sa.BigInteger, nullable=False),
            *_sync_key(),
            sa.Column("seq", sa.BigInteger, doc="the operation in changes; NULL for a row of the query"),
            sa.Column("operation", sa.String(10), doc="ADD or REMOVE; NULL for a row of the query"),
            sa.Column("outcome", sa.String(10), nullable=False, doc="delivered, rejected or deferred"),
            sa.Column("reason", sa.String(100)),
            sa.Column("message", sa.Text),
            sa.Column("primary_key", sa.Text, doc="hashed where it is or holds an e-mail address"),
            sa.Column("identity", sa.Uuid),
            sa.Column("attempt", sa.Integer),
            sa.Index("sync_log_logged_at", "logged_at", postgresql_using="brin"),
        )
        self.retry_queue = sa.Table(
            "retry_queue",
            metadata,
            sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False, doc="the operation in changes"),
            *_sync_key(),
            sa.Column("state", sa.String(10), nullable=False, doc="waiting or dead"),
            sa.Column("operation", sa.String(10), nullable=False),
            sa.Column("identity", sa.Uuid, nullable=False),
            sa.Column("primary_key", sa.Text),
            sa.Column("attempt", sa.Integer, nullable=False),
            sa.Column("deferred_since", sa.DateTime, nullable=False, doc="when it was deferred first"),
            sa.Column("next_attempt_at", sa.DateTime),
            sa.Column("reason", sa.String(100)),
            sa.Column("message", sa.Text),
        )

    def snapshot(self, name: str, fields: Sequence[str], *, temporary: bool = False) -> sa.TableClause:
        """The shape of a snapshot: members, and with `reason` the rows that cannot be members.

        query_rows: how many rows of the query this line speaks for. left_out: values that were left out and why.
        row_hash: of the row that speaks, by which the next snapshot knows it again; not in tables of releases before
        0.4, whose runs have no recipe. carried: taken over as it was from the snapshot before; not before 0.6.
        """
        return sa.table(
            name,
            sa.column("identity", sa.Uuid),
            sa.column("fingerprint", sa.Uuid),
            sa.column("primary_key", sa.Text),
            sa.column("query_rows", sa.BigInteger),
            sa.column("reason", sa.Text),
            sa.column("left_out", sa.Text),
            sa.column("row_hash", sa.BigInteger),
            sa.column("carried", sa.Boolean),
            *(sa.column(field, sa.Text) for field in fields),
            schema=None if temporary else self.schema,
        )

    def changes(self, name: str, fields: Sequence[str], *, temporary: bool = False) -> sa.TableClause:
        """The shape of a run's changes: operations in sending order.

        cause: left, joined (new, or with new fields), shared or pending. held: not sent now (dead, or not due yet).
        """
        return sa.table(
            name,
            sa.column("seq", sa.BigInteger),
            sa.column("operation", sa.Text),
            sa.column("cause", sa.Text),
            sa.column("held", sa.Boolean),
            sa.column("identity", sa.Uuid),
            sa.column("fingerprint", sa.Uuid),
            sa.column("primary_key", sa.Text),
            *(sa.column(field, sa.Text) for field in fields),
            sa.column("attempt", sa.Integer),
            sa.column("deferred_since", sa.DateTime),
            sa.column("dead", sa.Boolean),
            sa.column("next_attempt_at", sa.DateTime),
            sa.column("last_reason", sa.Text),
            sa.column("last_message", sa.Text),
            schema=None if temporary else self.schema,
        )


def _count(name: str, doc: str | None = None) -> sa.Column[int]:
    # Not "0": Snowflake takes no text as the default of a number.
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"), doc=doc)


def _sync_key(*, primary_key: bool = False) -> tuple[sa.Column[str], ...]:
    return (
        sa.Column("sync", sa.String(200), primary_key=primary_key, nullable=False),
        sa.Column("destination", sa.String(200), primary_key=primary_key, nullable=False),
        sa.Column("audience_key", sa.String(200), primary_key=primary_key, nullable=False),
    )


@cache
def state_tables(schema: str) -> StateTables:
    """The tables of one schema; the same object each time."""
    return StateTables(schema)
