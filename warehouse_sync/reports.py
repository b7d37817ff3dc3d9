"""What a check of a configuration found. Apart from the checks themselves: checking offline needs no driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from warehouse_sync.operations import OperationCounts, RunStatus


@dataclass(frozen=True, slots=True)
class RunReport:
    """What `run --json` prints for one sync.

    rows: rows of the model query. members: distinct identifier tuples among them. rejected: rows that cannot be
    members, plus operations that the destination refused for good. deferred: operations that wait in the retry
    queue after this run, without the dead ones. dead: operations in the retry queue that are no longer retried by
    themselves. seconds: wall time.
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
        """The JSON object of the public interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What `plan --json` prints for one sync; the keys of RunReport without `delivered`, and what it would take.

    requests, minutes: of the destination, at its default pace. rejections: rows and left-out values by reason.
    samples: for each kind of change up to a handful of members, as the destination would get them (hashed).
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
        """The JSON object of the public interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. subject: its place in the configuration. message: what was found, one sentence.

    warning: it works, but not for long.
    """

    subject: str
    ok: bool
    message: str
    warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `validate --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AudienceStatus:
    """The audience as the destination shows it; numbers are None while it does not tell them.

    size: members that can be reached. matched, input_count: of the last seven days only. match_rate: their ratio in
    per cent. usable: whether campaigns can use it, in one sentence. warning: what is wrong with it and what to do.
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
    """What `status --json` prints for one sync.

    running: a worker holds its lease now. last_run: its newest run, None before the first. next_run: the next time of
    its schedule, None without one and while it is disabled. members: of the promoted run's snapshot. pending, dead:
    operations that wait, and that are no longer retried by themselves. dead_removes: REMOVEs among the dead, each of a
    member that is still in the audience. left: how many members the sync has put into audiences that it feeds no more,
    by their ids.
    audience: None while there is none or the destination cannot be asked; then audience_error says why.
    refresh_token_warning: set from 30 days before its end. error: why the state could not be read.
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
        """The JSON object of the public interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Grants:
    """What `grants --json` prints for one warehouse.

    role: who gets the rights; None where the warehouse has no roles. statements: SQL, in order, without semicolons.
    queries: syncs whose model is a query: what that reads is not known here and has to be granted besides.
    error: why they could not be told.
    """

    warehouse: str
    role: str | None = None
    statements: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What `migrate --json` prints for one warehouse.

    created: its database file was made. migrated: the state tables were made or changed. version: theirs now.
    error: why it could not be done.
    """

    warehouse: str
    created: bool = False
    migrated: bool = False
    version: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the public interface."""
        return asdict(self)
