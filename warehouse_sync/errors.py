"""Every exception of warehouse_sync, grouped by what happens next.

    WarehouseSyncError
    ├── ConfigurationError        the operator must edit a file or grant something; nothing was changed (exit 2)
    ├── TryLater                  the same call may succeed later; its operations stay queued
    │   ├── WarehouseUnavailable
    │   └── DestinationUnavailable
    └── StopRun                   this run ends here; the next one sends what it promoted
        ├── AuthenticationFailed
        ├── LeaseLost
        ├── StateDamaged
        └── QueryFailed

An element that will never be accepted is no exception, but the outcome `rejected` of one operation (operations.py).

A message says what failed, where, what to do and that nothing was lost. It never contains a row's values, a token or an
e-mail address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class WarehouseSyncError(Exception):
    """Base of all errors that warehouse_sync raises on purpose; `str()` is a message for operators.

    Attributes:
        report: The RunReport of the run that this error ended; None when there was no run.
    """

    report: Any = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a configuration.

    Attributes:
        message: What is wrong.
        file: The file in which it was found.
        line: The line, counted from 1.
        path: The path of keys in the YAML file, such as `syncs.customers.model`.
    """

    message: str
    file: str | None = None
    line: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigurationError(WarehouseSyncError):
    """The operator must change something before this can work; nothing was changed.

    Attributes:
        problems: Every problem that was found, so that one edit can fix them all.
    """

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class TryLater(WarehouseSyncError):
    """The other side could not be reached or refused for now; the same call may succeed later."""


class WarehouseUnavailable(TryLater):
    """The connection to the warehouse was lost during a run, or another process holds its file."""


class DestinationUnavailable(TryLater):
    """The destination did not answer, throttled us or had an internal error.

    Attributes:
        retry_after: Seconds to wait, as the destination asked for; None when it named no time.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StopRun(WarehouseSyncError):
    """This run cannot continue. Nothing is lost: what was promoted stays pending."""


class AuthenticationFailed(StopRun):
    """The destination permanently refuses our credentials or permissions during a run."""


class LeaseLost(StopRun):
    """Another worker owns the sync now; this one must not write or send any more."""


class StateDamaged(StopRun):
    """The worker's own tables contradict each other (a snapshot is missing, a schema is newer than this release)."""


class QueryFailed(StopRun):
    """The warehouse refused or aborted a statement; nothing was sent."""
