"""The names of Airflow 3's Task SDK that docs/orchestrators.md uses, with their documented parameters.

https://airflow.apache.org/docs/task-sdk/stable/api.html; operator arguments are those of BaseOperator.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

class XComArg: ...
class DAG: ...

class Task(Generic[P, R]):
    function: Callable[P, R]
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> XComArg: ...

def task(
    *,
    task_id: str = ...,
    retries: int | None = ...,
    retry_delay: timedelta | float = ...,
    max_active_tis_per_dag: int | None = ...,
    execution_timeout: timedelta | None = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def dag(
    dag_id: str = ...,
    *,
    schedule: Any = ...,
    start_date: datetime | None = ...,
    catchup: bool = ...,
    max_active_runs: int = ...,
) -> Callable[[Callable[P, Any]], Callable[P, DAG]]: ...
