"""The worker's own tables. Migrations create them; a test checks that both agree.

All times are UTC without a zone, by the warehouse's clock. A sync's state is keyed by sync, destination and audience
key, so that one sync can feed several audiences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa

SCHEMA_VERSION = "0006"
"""The migration whose tables this release uses."""

VERSION_TABLE = "schema_version"


class StateTables:
    """The static tables in one schema, and the shapes of the two tables that each run creates.

    Attributes:
        schema: The name of the schema.
        metadata: The static tables together.
        installation: One row: the id of the installation and the last run number.
        syncs: One row per sync: its promoted run, its lease and its schedule.
        runs: One row per run.
        sync_log: One row per operation and outcome, and per rejected row of the query.
        retry_queue: One row per operation that was deferred, or that is dead.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.metadata = metadata = sa.MetaData(schema=schema)
        self.installation = sa.Table(
            "installation",
            metadata,
            sa.Column("id", sa.String(36), primary_key=True, doc="created once; part of each sourceSegmentId"),
            sa.Column("last_run", sa.BigInteger, nullable=False, doc="the largest run_id so far"),
            sa.Column("created_at", sa.DateTime, nullable=False),
        )
        self.syncs = sa.Table(
            "syncs",
            metadata,
            *_sync_key(primary_key=True),
            sa.Column("audience_type", sa.String(20), doc="user or company"),
            sa.Column("audience_id", sa.String(100), doc="the audience that the promoted run fed"),
            sa.Column("promoted_run", sa.BigInteger, doc="the run whose snapshot the audience must equal"),
            sa.Column("lease_holder", sa.String(100), doc="the worker that runs the sync now"),
            sa.Column("lease_token", sa.BigInteger, nullable=False, doc="raised each time the lease is taken"),
            sa.Column("lease_expires_at", sa.DateTime),
            sa.Column("created_at", sa.DateTime, nullable=False),
            sa.Column(
                "generation", sa.Integer, nullable=False, server_default=sa.text("1"), doc="of the sync's own audience"
            ),
            sa.Column("last_tick", sa.DateTime, doc="the newest time of the schedule whose run has ended"),
            sa.Column("alerted", sa.Text, doc="JSON: by webhook, the state that was sent to it last, unless it is ok"),
        )
        self.runs = sa.Table(
            "runs",
            metadata,
            sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
            *_sync_key(),
            sa.Column("kind", sa.String(10), nullable=False, doc="diff, full, retry or purge"),
            sa.Column("triggered_by", sa.String(20), nullable=False, doc="manual, schedule or library"),
            sa.Column("status", sa.String(20), nullable=False),
            sa.Column("phase", sa.String(20), nullable=False, doc="the last step that was started"),
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
            _count("last_seq", doc="the number of operations in changes"),
            _count("watermark", doc="all operations up to this seq are accounted for"),
            sa.Column("started_at", sa.DateTime, nullable=False),
            sa.Column("promoted_at", sa.DateTime),
            sa.Column("finished_at", sa.DateTime),
            sa.Column("tick", sa.DateTime, doc="the time of the schedule that it was run for"),
            sa.Column(
                "recipe",
                sa.String(64),
                doc="hash of what turns rows into members; equal for comparable row hashes",
            ),
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
            sa.Column("primary_key", sa.Text, doc="hashed where it is or contains an e-mail address"),
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
            sa.Column("deferred_since", sa.DateTime, nullable=False, doc="when it was first deferred"),
            sa.Column("next_attempt_at", sa.DateTime),
            sa.Column("reason", sa.String(100)),
            sa.Column("message", sa.Text),
        )

    def snapshot(self, name: str, fields: Sequence[str], *, temporary: bool = False) -> sa.TableClause:
        """Return the shape of a snapshot: one row per member, and with a `reason` per row that cannot be a member.

        Its columns, beside the fields and what their names say:

        - `query_rows`: the number of rows of the query that it stands for.
        - `left_out`: the values that were left out, and why.
        - `row_hash`: the hash of the row of the query, by which the next snapshot finds it unchanged. Tables of
          releases before 0.4, whose runs have no recipe, do not have it.
        - `carried`: the row was reused from the snapshot before. Not in tables of releases before 0.6.
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
        """Return the shape of a run's changes: its operations in the order of delivery.

        Its columns, beside the fields and what their names say:

        - `cause`: left, joined (new, or with new fields), shared or pending.
        - `held`: the run does not send it, because it is dead or not due yet.
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
    # Not "0": Snowflake refuses a text as the default of a number.
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"), doc=doc)


def _sync_key(*, primary_key: bool = False) -> tuple[sa.Column[str], ...]:
    return (
        sa.Column("sync", sa.String(200), primary_key=primary_key, nullable=False),
        sa.Column("destination", sa.String(200), primary_key=primary_key, nullable=False),
        sa.Column("audience_key", sa.String(200), primary_key=primary_key, nullable=False),
    )


@cache
def state_tables(schema: str) -> StateTables:
    """Return the tables of a schema, the same object each time."""
    return StateTables(schema)
