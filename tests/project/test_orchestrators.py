"""The tasks of docs/orchestrators.md: their types are right, and each end of a run becomes the right end of a task.

Airflow and Dagster are not installed for it: each weighs more than the worker. mypy judges the blocks by stubs of their
documented signatures (harness/stubs), and the bodies are run with the few names below in their place.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from harness.processes.command import people
from harness.worlds.world import SYNC, World, create_audience, make_impatient, sandbox

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


def judged(folder: Path, **blocks: str) -> str:
    """What mypy --strict has to say of each block."""
    (folder / "mypy.ini").write_text(MYPY)
    for name, text in blocks.items():
        (folder / f"{name}.py").write_text(text)
    environ = {**os.environ, "MYPYPATH": f"{STUBS}{os.pathsep}{ROOT}"}
    words = ["--config-file", "mypy.ini", "--cache-dir", str(folder / "cache"), *(f"{name}.py" for name in blocks)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_tasks_are_typed_as_the_orchestrators_and_the_library_are(tmp_path: Path) -> None:
    """mypy --strict finds nothing; and it would, on either side."""
    wrong = AIRFLOW.replace("report.members", "report.memmbers").replace("retries=3", 'retries="3"')
    out = judged(tmp_path, airflow_dag=AIRFLOW, dagster_assets=DAGSTER, wrong=wrong)
    lines = out.splitlines()
    assert {line.split(":")[0] for line in lines[:-1]} == {"wrong.py"}, out
    assert {code for line in lines for code in re.findall(r"\[([a-z-]+)\]$", line)} >= {"arg-type", "attr-defined"}, out


class Failed(Exception):
    """Fails a task for good: AirflowFailException, or dagster.Failure without retries."""

    def __init__(self, reason: str | None, allow_retries: bool = True) -> None:
        super().__init__(reason)
        self.allow_retries = allow_retries


def airflow(begun: list[Any]) -> dict[str, ModuleType]:
    def task(**_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(function=function, __call__=begun.append)

    def noted(**_: Any) -> Callable[[Any], Any]:
        return lambda function: lambda: begun.append(function.__name__)

    sdk, exceptions = ModuleType("airflow.sdk"), ModuleType("airflow.sdk.exceptions")
    vars(sdk).update(task=task, dag=noted)
    vars(exceptions).update(AirflowFailException=lambda reason: Failed(reason, allow_retries=False))
    return {"airflow": ModuleType("airflow"), "airflow.sdk": sdk, "airflow.sdk.exceptions": exceptions}


def dagster() -> dict[str, ModuleType]:
    module = ModuleType("dagster")
    vars(module).update(
        asset=lambda **_: lambda function: SimpleNamespace(function=function),
        RetryPolicy=lambda **_: None,
        Failure=Failed,
        MaterializeResult=lambda metadata: metadata["members"],
        ScheduleDefinition=lambda **_: None,
        Definitions=lambda **_: None,
    )
    return {"dagster": module}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    make_impatient(monkeypatch)
    with sandbox() as running:
        world = World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        world.changes = {"audience": {"type": "user", "id": create_audience(running)}, "guard": {"ignore_below": 1}}
        world.fill(people(range(20)))
        yield world


@pytest.fixture(params=["airflow", "dagster"])
def task(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The body of the page's task, on the sync of this test."""
    begun: list[Any] = []
    text, modules = (AIRFLOW, airflow(begun)) if request.param == "airflow" else (DAGSTER, dagster())
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    path = world.folder / "config.yaml"
    assert "/etc/warehouse-sync" in text
    namespace: dict[str, Any] = {}
    exec(text.replace("/etc/warehouse-sync", str(path)).replace('"high_value_customers"', repr(SYNC)), namespace)
    if request.param == "airflow":
        assert begun == ["linkedin_audiences"]

    def run() -> int:
        assert world.config  # Written.
        if request.param == "airflow":
            return int(namespace["mirror"].function(SYNC))
        return int(namespace["high_value_customers"].function())

    return run


def test_a_run_that_succeeds_is_a_task_that_succeeds(world: World, task: Callable[[], int]) -> None:
    assert task() == 20
    world.check(people(range(20)))


def test_a_blocked_run_fails_its_task_for_good(world: World, task: Callable[[], int]) -> None:
    task()
    world.fill(people(range(3)))
    with pytest.raises(Failed, match=r"guard\.max_removed_percent") as failure:
        task()
    assert not failure.value.allow_retries


def test_a_configuration_that_is_wrong_fails_its_task_for_good(world: World, task: Callable[[], int]) -> None:
    world.changes |= {"identifiers": {"sha256_email": "no_such_column"}}
    with pytest.raises(Failed, match="no_such_column") as failure:
        task()
    assert not failure.value.allow_retries


def test_an_incomplete_run_is_retried_and_then_complete(world: World, task: Callable[[], int]) -> None:
    world.sandbox.inject(Fault("503", on="users", times=0))
    with pytest.raises(RuntimeError, match="20 operations wait in the retry queue"):
        task()
    world.sandbox.clear_faults()
    assert task() == 20
    world.check(people(range(20)))


def test_a_failed_run_raises_what_an_orchestrator_retries(world: World, task: Callable[[], int]) -> None:
    world.changes |= {"model": {"sql": "select * replace (error('x') as device) from people", "primary_key": "id"}}
    with pytest.raises(QueryFailed):
        task()
