"""Worker processes that are killed, on real warehouses: a few of the histories of `make torture`.

Run more of them with: HISTORIES=100 POINTS=all python -m pytest tests/run/test_torture.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.histories import checks, fixed_history
from harness.histories.random_histories import make_random_history
from harness.histories.torture import WAREHOUSES, HistoryRunner, PromiseBroken
from harness.histories.trial import Tally
from harness.processes.fork_server import ForkServer
from harness.selection import rounds
from harness.servers.postgres import Server

HISTORIES = int(os.environ.get("HISTORIES", rounds(1, 3)))
POINTS = os.environ.get("POINTS", str(rounds(6, 12)))


@pytest.fixture(scope="module")
def workers() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(params=WAREHOUSES)
def runner(request: pytest.FixtureRequest, workers: ForkServer) -> Iterator[HistoryRunner]:
    if request.param == "duckdb":
        yield HistoryRunner(None, workers, Tally())
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as url:
        yield HistoryRunner(url, workers, Tally())


def test_a_worker_killed_or_disconnected_at_any_point_leaves_nothing_to_repair(runner: HistoryRunner) -> None:
    """After a kill before or after any statement, commit, request or record, the next run does the remaining work."""
    for history in runner.make_fixed_histories(None if POINTS == "all" else int(POINTS)):
        runner.run(history)
    assert runner.tally.kills.total() > runner.tally.missed
    assert runner.tally.breaks.total() > 0


def test_any_history_of_real_workers_ends_equal(runner: HistoryRunner) -> None:
    """After any faults of data, LinkedIn, connections and workers every promise holds, and calm runs end equal."""
    for history in runner.make_random_histories("suite", 1, HISTORIES):
        runner.run(history)
    assert runner.tally.histories == HISTORIES


def test_a_broken_promise_is_reported_with_its_evidence(workers: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a failed history is kept; the message names it and the command that repeats the history."""

    def broken(*_: object) -> None:
        raise AssertionError("the queue does not match the log")

    monkeypatch.setattr(checks, "check_retry_queue", broken)
    with pytest.raises(PromiseBroken, match="the queue does not match the log") as failure:
        HistoryRunner(None, workers, Tally()).run(make_random_history("suite", 1, overlapping=False))
    message = str(failure.value)
    assert "make torture WAREHOUSE=duckdb SEED=suite FIRST=1 HISTORIES=1" in message
    folder = Path(message.partition("evidence: ")[2].splitlines()[0])
    left = {path.name for path in folder.iterdir()}
    assert {"history.txt", "state.json", "config.yaml", "warehouse.duckdb", "01.out", "01.err"} <= left
    shutil.rmtree(folder)


def test_a_history_can_be_repeated() -> None:
    """The name of a history, which a failure prints, reproduces the same history."""
    for history in fixed_history.make_later_syncs(
        fixed_history.list_worker_faults({"statement": 5, "request": 2}, remote=True)
    ):
        assert fixed_history.parse_history(history.name) == history
    assert make_random_history("suite", 7, overlapping=True) == make_random_history("suite", 7, overlapping=True)
