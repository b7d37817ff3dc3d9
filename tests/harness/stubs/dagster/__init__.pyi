"""The names of Dagster 1.x that docs/orchestrators.md uses, with their documented parameters.

https://docs.dagster.io/api/dagster
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

class AssetsDefinition: ...

class RetryPolicy:
    def __init__(self, max_retries: int = ..., delay: float | None = ...) -> None: ...

class Failure(Exception):
    allow_retries: bool
    def __init__(
        self,
        description: str | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        allow_retries: bool | None = ...,
    ) -> None: ...

class MaterializeResult:
    def __init__(self, *, metadata: Mapping[str, str | int | float] | None = ...) -> None: ...

class ScheduleDefinition:
    def __init__(
        self,
        name: str | None = ...,
        *,
        cron_schedule: str | Sequence[str] | None = ...,
        execution_timezone: str | None = ...,
        target: Sequence[AssetsDefinition] | None = ...,
    ) -> None: ...

class Definitions:
    def __init__(
        self,
        assets: Iterable[AssetsDefinition] | None = ...,
        schedules: Iterable[ScheduleDefinition] | None = ...,
    ) -> None: ...

def asset(
    *,
    name: str | None = ...,
    deps: Iterable[str | AssetsDefinition] | None = ...,
    retry_policy: RetryPolicy | None = ...,
) -> Callable[[Callable[..., MaterializeResult]], AssetsDefinition]: ...
