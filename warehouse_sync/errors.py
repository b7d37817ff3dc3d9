"""Every exception of warehouse_sync, grouped by what happens next.

    WarehouseSyncError
    ├── ConfigurationError        the operator must edit a file or grant something; nothing was touched (exit 2)
    ├── TryLater                  the same call may go through later; what it carried stays queued
    │   ├── WarehouseUnavailable
    │   └── DestinationUnavailable
    └── StopRun                   this run ends here; what it promoted is sent by the next one
        ├── AuthenticationFailed
        ├── LeaseLost
        ├── StateDamaged
        └── QueryFailed

"This element never" is not an exception: it is the outcome `rejected` of one operation (operations.py).

A message says what failed, where, what to do and that nothing was lost. It never holds a row's content, a token or an
e-mail address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class WarehouseSyncError(Exception):
    """Base of all errors that warehouse_sync raises on purpose; `str()` is fit for an operator's eyes.

    report: the operations.RunReport of the run that it ended, when there was one.
    """

    report: Any = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: what, and where it stands (file, line from 1, YAML path)."""

    message: str
    file: str | None = None
    line: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigurationError(WarehouseSyncError):
    """The operator must change something before this can work; nothing was touched.

    `problems` lists everything that was found, so that one edit can mend it all.
    """

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class TryLater(WarehouseSyncError):
    """The other side could not be reached or did not want to answer now; the same call may go through later."""


class WarehouseUnavailable(TryLater):
    """The warehouse was lost in the middle of a run, or another process holds its file."""


class DestinationUnavailable(TryLater):
    """The destination did not answer, throttled us or had a fault of its own.

    `retry_after` is the destination's own wish in seconds, when it gave one.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StopRun(WarehouseSyncError):
    """This run cannot go on; nothing is lost, what was promoted stays pending."""


class AuthenticationFailed(StopRun):
    """The destination refuses our credentials or permissions for good, in the middle of a run."""


class LeaseLost(StopRun):
    """Another worker owns the sync now; this one must neither write nor send any more."""


class StateDamaged(StopRun):
    """The worker's own tables contradict each other (a snapshot is missing, a schema is newer than this release)."""


class QueryFailed(StopRun):
    """The warehouse refused or aborted a statement; nothing was sent."""
