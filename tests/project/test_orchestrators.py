"""The tasks of docs/orchestrators.md: their types are right, and each result of a run gives the right result of a task.

Airflow and Dagster are not installed, because each is larger than the worker. mypy checks the examples with stubs of
their documented signatures (harness/stubs), and the task bodies run with the replacements below.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from harness.worlds.world import SYNC, World, create_audience, people

from warehouse_sync.errors import QueryFailed
from warehouse_sync.sandbox import Fault

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "harness" / "stubs"
AIRFLOW, DAGSTER = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "orchestrators.md").read_text(), re.MULTILINE | re.DOTALL
)
MYPY = """
[mypy]
strict = true
python_version = 3.11
[mypy-warehouse_sync.*]
follow_imports = silent
[mypy-sqlalchemy.*,pydantic.*,pydantic_core.*,structlog.*,alembic.*,duckdb.*,requests.*,stamina.*,pyrate_limiter.*,yaml.*]
follow_imports = skip
ignore_missing_imports = true
"""


def run_mypy(folder: Path, **blocks: str) -> str:
    """Return the output of mypy --strict for the blocks."""
    (folder / "mypy.ini").write_text(MYPY)
    for name, text in blocks.items():
        (folder / f"{name}.py").write_text(text)
    environ = {**os.environ, "MYPYPATH": f"{STUBS}{os.pathsep}{ROOT}"}
    arguments = ["--config-file", "mypy.ini", "--cache-dir", str(folder / "cache"), *(f"{name}.py" for name in blocks)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_tasks_pass_the_type_checker(tmp_path: Path) -> None:
    """The examples pass mypy --strict, which finds wrong calls of the orchestrator and of the library."""
    wrong = AIRFLOW.replace("report.members", "report.memmbers").replace("retries=3", 'retries="3"')
    out = run_mypy(tmp_path, airflow_dag=AIRFLOW, dagster_assets=DAGSTER, wrong=wrong)
    lines = out.splitlines()
    assert {line.split(":")[0] for line in lines[:-1]} == {"wrong.py"}, out
    assert {code for line in lines for code in re.findall(r"\[([a-z-]+)\]$", line)} >= {"arg-type", "attr-defined"}, out


class TaskFailed(Exception):
    """A failure of a task without retries: AirflowFailException, or dagster.Failure with allow_retries=False."""

    def __init__(self, reason: str | None, allow_retries: bool = True) -> None:
        super().__init__(reason)
        self.allow_retries = allow_retries


def fake_airflow(started: list[Any]) -> dict[str, ModuleType]:
    def task(**_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(function=function, __call__=started.append)

    def dag(**_: Any) -> Callable[[Any], Any]:
        return lambda function: lambda: started.append(function.__name__)

    sdk, exceptions = ModuleType("airflow.sdk"), ModuleType("airflow.sdk.exceptions")
    vars(sdk).update(task=task, dag=dag)
    vars(exceptions).update(AirflowFailException=lambda reason: TaskFailed(reason, allow_retries=False))
    return {"airflow": ModuleType("airflow"), "airflow.sdk": sdk, "airflow.sdk.exceptions": exceptions}


def fake_dagster() -> dict[str, ModuleType]:
    module = ModuleType("dagster")
    vars(module).update(
        asset=lambda **_: lambda function: SimpleNamespace(function=function),
        RetryPolicy=lambda **_: None,
        Failure=TaskFailed,
        MaterializeResult=lambda metadata: metadata["members"],
        ScheduleDefinition=lambda **_: None,
        Definitions=lambda **_: None,
    )
    return {"dagster": module}


@pytest.fixture
def world(duckdb_world: World, short_timeouts: None) -> World:
    audience = {"type": "user", "id": create_audience(duckdb_world.sandbox)}
    duckdb_world.sync_settings = {"audience": audience, "guard": {"ignore_below": 1}}
    duckdb_world.fill(people(*range(20)))
    return duckdb_world


@pytest.fixture(params=["airflow", "dagster"])
def task(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that runs the body of the task in the page, for the sync of this test."""
    started: list[Any] = []
    text, modules = (AIRFLOW, fake_airflow(started)) if request.param == "airflow" else (DAGSTER, fake_dagster())
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    path = world.folder / "config.yaml"
    assert "/etc/warehouse-sync" in text
    namespace: dict[str, Any] = {}
    exec(text.replace("/etc/warehouse-sync", str(path)).replace('"high_value_customers"', repr(SYNC)), namespace)
    if request.param == "airflow":
        assert started == ["linkedin_audiences"]

    def run() -> int:
        assert world.config  # Reading it writes the file.
        if request.param == "airflow":
            return int(namespace["mirror"].function(SYNC))
        return int(namespace["high_value_customers"].function())

    return run


def test_a_successful_run_is_a_successful_task(world: World, task: Callable[[], int]) -> None:
    """The task of a successful run returns the number of members."""
    assert task() == 20
    world.check(people(*range(20)))


def test_a_blocked_run_fails_its_task_without_retries(world: World, task: Callable[[], int]) -> None:
    """The task of a run that the guard blocks fails and is not retried."""
    task()
    world.fill(people(*range(3)))
    with pytest.raises(TaskFailed, match=r"guard\.max_removed_percent") as failure:
        task()
    assert not failure.value.allow_retries


def test_a_wrong_configuration_fails_its_task_without_retries(world: World, task: Callable[[], int]) -> None:
    """The task of a sync with a wrong configuration fails and is not retried."""
    world.sync_settings |= {"identifiers": {"sha256_email": "no_such_column"}}
    with pytest.raises(TaskFailed, match="no_such_column") as failure:
        task()
    assert not failure.value.allow_retries


def test_an_incomplete_run_is_retried(world: World, task: Callable[[], int]) -> None:
    """The task of an incomplete run fails, and its retry completes the audience."""
    world.sandbox.inject(Fault("503", on="users", times=0))
    with pytest.raises(RuntimeError, match="20 operations wait in the retry queue"):
        task()
    world.sandbox.clear_faults()
    assert task() == 20
    world.check(people(*range(20)))


def test_a_failed_run_raises_an_error_that_is_retried(world: World, task: Callable[[], int]) -> None:
    """The task of a failed run raises the error of the run, which an orchestrator retries."""
    world.sync_settings |= {
        "model": {"sql": "select * replace (error('x') as device) from people", "primary_key": "id"}
    }
    with pytest.raises(QueryFailed):
        task()
