"""What each verb prints as JSON: one dataclass per kind of result. Field names are the keys of the public interface."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from warehouse_sync.operations import OperationCounts, RunStatus


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of a run, a retry pass or a purge; `run --json` and `retry --json` print one per run.

    Attributes:
        sync: Name of the sync.
        status: How the run ended.
        run_id: Number of the run; None if it did not start.
        reason: Why it ended so, in one or two sentences; None if there is nothing to say.
        rows: Rows of the model query.
        members: Distinct identifier tuples among them.
        rejected: Rows that cannot be members, plus operations that the destination rejected.
        planned: Operations that the run was to send.
        delivered: Operations that the destination accepted.
        deferred: Operations that wait in the retry queue after the run, without the dead ones.
        dead: Operations in the retry queue that are no longer retried automatically.
        seconds: Wall time.
    """

    sync: str
    status: RunStatus
    run_id: int | None = None
    reason: str | None = None
    rows: int = 0
    members: int = 0
    rejected: int = 0
    planned: OperationCounts = field(default_factory=OperationCounts)
    delivered: OperationCounts = field(default_factory=OperationCounts)
    deferred: int = 0
    dead: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a run would do; `plan --json` prints one per sync.

    Attributes:
        sync: Name of the sync.
        status: `succeeded`, or `blocked` if the guard would block the run, `skipped` for a disabled sync, `failed`.
        run_id: Always None.
        reason: Why it would be blocked, or why the plan failed; otherwise None.
        rows: Rows of the model query.
        members: Distinct identifier tuples among them.
        rejected: Rows that cannot be members.
        planned: Operations that the run would send.
        deferred: Operations that would still wait in the retry queue, without the dead ones.
        dead: Operations of the retry queue that would stay dead.
        seconds: Wall time of the plan.
        requests: Requests to the destination that the run would need.
        minutes: Time for them at the destination's rate limit.
        rejections: Number of rows and of left-out values by reason.
        readds: How many of the planned ADDs repeat a member that shares an identifier with a removed one.
        pending: How many of the planned operations earlier runs have left.
        samples: For each kind of change, a few members as the destination would get them (hashed).
    """

    sync: str
    status: RunStatus
    run_id: int | None = None
    reason: str | None = None
    rows: int = 0
    members: int = 0
    rejected: int = 0
    planned: OperationCounts = field(default_factory=OperationCounts)
    deferred: int = 0
    dead: int = 0
    seconds: float = 0.0
    requests: int = 0
    minutes: float = 0.0
    rejections: dict[str, int] = field(default_factory=dict)
    readds: int = 0
    pending: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AudienceStatus:
    """An audience as the destination reports it; part of SyncStatus. Numbers are None if they are not reported.

    Attributes:
        id: Its id at the destination.
        status: Its status there, in the destination's words.
        size: Members that campaigns can reach.
        matched: Members matched in the last seven days.
        input_count: Members sent in the last seven days.
        match_rate: `matched` divided by `input_count`, in per cent.
        usable: Whether campaigns can use the audience, in one sentence.
        warning: What is wrong with the audience and what to do; None if nothing is.
    """

    id: str
    status: str | None
    size: int | None
    matched: int | None
    input_count: int | None
    match_rate: int | None
    usable: str
    warning: str | None


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The state of a sync; `status --json` prints one per sync.

    Attributes:
        sync: Name of the sync.
        enabled: Whether the configuration enables it.
        running: Whether a worker holds its lease now.
        last_run: Its newest run; None before the first.
        next_run: Next tick of its schedule; None without a schedule and while it is disabled.
        members: Members in the snapshot of the promoted run.
        pending: Operations that wait to be sent.
        dead: Operations that are no longer retried automatically.
        dead_removes: REMOVEs among the dead ones; each of their members is still in the audience.
        left: Number of members that the sync has left in audiences that it no longer feeds, by audience id.
        audience: Its audience; None if it does not exist yet or the destination cannot be reached.
        audience_error: Why the destination cannot be reached; otherwise None.
        refresh_token_expires: Last day of the refresh token; None if it is not known.
        refresh_token_warning: What to do about it; None until 30 days before that day.
        error: Why the state could not be read; otherwise None.
    """

    sync: str
    enabled: bool
    running: bool = False
    last_run: dict[str, Any] | None = None
    next_run: str | None = None
    members: int = 0
    pending: int = 0
    dead: int = 0
    dead_removes: int = 0
    left: dict[str, int] = field(default_factory=dict)
    audience: AudienceStatus | None = None
    audience_error: str | None = None
    refresh_token_expires: str | None = None
    refresh_token_warning: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check of a configuration; `validate --json` prints a list of them.

    Attributes:
        subject: What was checked, as a path in the configuration.
        ok: Whether it works.
        message: What was found, in one sentence.
        warning: Whether it works but needs attention soon.
    """

    subject: str
    ok: bool
    message: str
    warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Grants:
    """The SQL that grants a worker its rights; `grants --json` prints one per warehouse.

    Attributes:
        warehouse: Name of the warehouse.
        role: The role that gets the rights; None if the warehouse has no roles.
        statements: SQL statements in their order, without semicolons.
        queries: Syncs whose model is a query. What it reads is not known here and must be granted separately.
        error: Why the statements could not be determined; otherwise None.
    """

    warehouse: str
    role: str | None = None
    statements: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Preparation:
    """The result of migrating a warehouse; `migrate --json` prints one per warehouse.

    Attributes:
        warehouse: Name of the warehouse.
        created: Whether its database file was created.
        migrated: Whether the state tables were created or changed.
        version: Version of the state tables now.
        error: Why the migration failed; otherwise None.
    """

    warehouse: str
    created: bool = False
    migrated: bool = False
    version: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)
