"""SIGTERM and Ctrl-C: a worker ends gracefully on the first, at once on the second, and the next run continues.

More random moments: ROUNDS=10 python -m pytest tests/cli/test_signals.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.histories.oracle import check_converged, check_log
from harness.processes.command import PROGRAM, TIMEOUT, CommandResult, environment
from harness.processes.workers import (
    BATCH,
    ENDLESS_CONDITION,
    REACTION_TIMEOUT,
    Worker,
    Workers,
    check_skipped_before_expiry,
    finished_requests,
    is_in_pg_sleep,
    open_requests,
    prepare_world,
    query_one,
    replace_rows,
    report_of,
    wait_for_expiry,
    wait_until,
)
from harness.selection import rounds
from harness.worlds.world import SYNC, World, create_audience, people, sandbox

ROUNDS = int(os.environ.get("ROUNDS", "1"))
MOMENTS = rounds(2, 6)
"""Random moments per round and warehouse at which a run is stopped."""

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
BOTH = pytest.mark.parametrize("number", NAMES, ids=["SIGTERM", "SIGINT"])


@pytest.fixture
def world(world: World) -> World:
    return prepare_world(world)


def with_endless_query(world: World) -> dict[str, Any]:
    """Return the keys of a sync whose query never ends."""
    condition = ENDLESS_CONDITION[world.url.partition(":")[0].partition("+")[0]]
    return {"model": {"sql": f"select * from people where {condition}", "primary_key": "id"}}


def is_querying(world: World, worker: Worker) -> bool:
    """Whether the worker's endless query is running. DuckDB cannot be read meanwhile; there, the run has started."""
    if world.url.startswith("duckdb"):
        if "run started" in worker.output("err"):
            time.sleep(0.3)
            return True
        return False
    return is_in_pg_sleep(world, "CREATE TABLE")


def check_lease_is_free(world: World) -> None:
    holders = world.query("select lease_holder from warehouse_sync.syncs")
    assert all(holder is None for (holder,) in holders)


@pytest.mark.parametrize(
    ("action", "number"), [("REMOVE", signal.SIGTERM), ("ADD", signal.SIGINT)], ids=["REMOVE", "ADD"]
)
def test_the_first_signal_during_the_delivery(
    workers: Workers, world: World, action: str, number: signal.Signals
) -> None:
    """Requests in flight count, no more are started; the rest waits, not attempted, for the next run."""
    prepare_world(world, retry={"enabled": action == "REMOVE"})
    world.fill(people(*range(400)))
    assert workers.run(world).wait().code == 0
    rows = people(*range(300, 700))
    world.fill(rows)
    begun = len(finished_requests(world, action))
    world.sandbox.inject(f"slow:users:times=0:seconds=0.4:action={action}")
    worker = workers.run(world)
    wait_until(
        lambda: len(finished_requests(world, action)) > begun and open_requests(world, "users") == 2,
        "requests are in flight",
    )
    sent = len(world.sandbox.requests())
    worker.send(number)
    at = time.monotonic()
    answer = worker.wait()
    assert time.monotonic() - at < REACTION_TIMEOUT
    report = report_of(answer)
    assert (answer.code, report["status"]) == (3, "incomplete"), answer.err
    assert len(world.sandbox.requests()) == sent
    assert open_requests(world) == 0
    left = report["deferred"]
    assert left > 0
    assert report["reason"].startswith(f"stopped by {NAMES[number]}")
    assert f"{left:,} operations wait" in report["reason"]
    assert sum(report["delivered"].values()) == 600 - left
    assert report["dead"] == 0
    assert "Traceback" not in answer.err
    check_lease_is_free(world)
    queue = world.query("select state, attempt, count(*) from warehouse_sync.retry_queue group by state, attempt")
    assert [tuple(row) for row in queue] == [("waiting", 0, left)]
    status, finished = query_one(world, "select status, finished_at from warehouse_sync.runs where run_id = 2")
    assert (status, finished is None) == ("incomplete", False)
    world.sandbox.clear_faults()
    after = workers.run(world).wait()
    assert (after.code, report_of(after)["status"]) == (0, "succeeded"), after.err
    assert sum(report_of(after)["delivered"].values()) == left
    check_converged(world, rows)


@BOTH
def test_the_first_signal_during_the_query(workers: Workers, world: World, number: signal.Signals) -> None:
    """The query is interrupted, nothing was sent, no table is left, and the lease is free."""
    world.fill(people(*range(400)))
    assert workers.run(world).wait().code == 0
    standard = world.raw_config["syncs"][SYNC]["model"]
    prepare_world(world, **with_endless_query(world))
    sent = len(world.sandbox.requests("users"))
    worker = workers.run(world)
    wait_until(lambda: is_querying(world, worker), "the query is under way")
    worker.send(number)
    at = time.monotonic()
    answer = worker.wait()
    assert time.monotonic() - at < REACTION_TIMEOUT
    report = report_of(answer)
    assert (answer.code, report["status"]) == (3, "incomplete"), answer.err
    assert report["reason"] == f"stopped by {NAMES[number]} before anything was sent"
    assert "Traceback" not in answer.err
    assert len(world.sandbox.requests("users")) == sent
    check_lease_is_free(world)
    if world.url.startswith("postgresql"):
        assert not is_in_pg_sleep(world)
    tables = world.query(
        "select table_name from information_schema.tables where table_schema = 'warehouse_sync' "
        "and (table_name like 'snapshot!_%' escape '!' or table_name like 'changes!_%' escape '!')"
    )
    assert {name for (name,) in tables} == {"snapshot_people_1", "changes_people_1"}
    status, finished = query_one(world, "select status, finished_at from warehouse_sync.runs where run_id = 2")
    assert (status, finished is None) == ("incomplete", False)
    prepare_world(world, model=standard)
    rows = people(*range(200, 600))
    world.fill(rows)
    assert workers.run(world).wait().code == 0
    check_converged(world, rows)


def test_a_signal_ends_all_syncs(workers: Workers, world: World) -> None:
    """Of several syncs the active one ends gracefully, the others are not started, and all are reported."""
    rows = people(*range(300))
    world.fill(rows)
    written = world.raw_config
    (standard,) = written["syncs"].values()
    segments = [create_audience(world.sandbox) for _ in range(3)]
    written["syncs"] = {
        f"part_{part}": {**standard, "audience": {"type": "user", "id": segment}}
        for part, segment in enumerate(segments)
    }
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))
    world.sandbox.inject("slow:users:times=0:seconds=0.4")
    worker = workers.start(world.folder, "run", "--all", "--json", batch_size=BATCH)
    wait_until(lambda: open_requests(world, "users") == 2, "the first sync is delivering")
    worker.send(signal.SIGTERM)
    answer = worker.wait()
    assert answer.code == 3
    first, *others = json.loads(answer.out)
    assert (first["status"], first["deferred"] > 0) == ("incomplete", True)
    assert first["reason"].startswith("stopped by SIGTERM; ")
    assert [(other["sync"], other["status"]) for other in others] == [
        ("part_1", "incomplete"),
        ("part_2", "incomplete"),
    ]
    assert all(other["reason"].startswith("stopped by SIGTERM") and other["run_id"] is None for other in others)
    assert {record.segment_id for record in world.sandbox.requests("users")} == {segments[0]}
    check_lease_is_free(world)
    world.sandbox.clear_faults()
    assert workers.start(world.folder, "run", "--all", "--json", batch_size=BATCH).wait().code == 0
    for segment in segments:
        held = {frozenset(member) for member in world.sandbox.members(segment)}
        assert held == world.expected_members(rows, "elements")
    check_log(world)


def test_the_second_signal_ends_at_once(workers: Workers, world: World) -> None:
    """Without waiting for answers, with a message; the next run, after the lease has expired, ends equal."""
    number = signal.SIGINT if world.url.startswith("duckdb") else signal.SIGTERM
    world.fill(people(*range(400)))
    assert workers.run(world).wait().code == 0
    rows = people(*range(200, 600))
    world.fill(rows)
    world.sandbox.inject("slow:users:times=0:seconds=8")
    worker = workers.run(world)
    wait_until(lambda: open_requests(world, "users") == 2, "requests are in flight")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "stopping" in worker.output("err"), "the first signal is noticed")
    assert worker.running
    at = time.monotonic()
    worker.send(number)
    answer = worker.wait()
    assert time.monotonic() - at < 5
    assert answer.code == 128 + number
    assert "nothing is lost" in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err
    world.sandbox.clear_faults()
    check_skipped_before_expiry(workers, world)
    if world.url.startswith("postgresql"):
        wait_for_expiry(world)
    else:
        time.sleep(5.1)
    wait_until(lambda: open_requests(world) == 0, "no request is under way any more")
    after = workers.run(world).wait()
    assert (after.code, report_of(after)["status"]) == (0, "succeeded"), after.err
    check_converged(world, rows)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_signal_at_any_moment(workers: Workers, world: World, round_: int) -> None:
    """Whenever SIGTERM comes, the worker ends as promised, the lease is free, and the next run ends equal."""
    chance = random.Random(f"{world.url.partition(':')[0]} {round_}")
    sides = (people(*range(200)), people(*range(100, 300)))
    world.fill(sides[1])
    at = time.monotonic()
    assert workers.run(world).wait().code == 0
    length = time.monotonic() - at + 0.1
    world.sandbox.inject("slow:users:times=0:seconds=0.05")
    for turn in range(MOMENTS):
        rows = sides[turn % 2]
        replace_rows(world, rows)
        moment = chance.uniform(0, length)
        worker = workers.run(world)
        time.sleep(moment)
        worker.send(signal.SIGTERM)
        answer = worker.wait()
        where = f"SIGTERM after {moment:.3f} of {length:.3f} s: {answer}"
        if answer.code == -signal.SIGTERM:
            assert not answer.out, where  # The command line was not up yet.
            assert not answer.err, where
        else:
            assert answer.code in (0, 3), where
            assert report_of(answer)["status"] == ("incomplete" if answer.code else "succeeded"), where
        assert "Traceback" not in answer.err, where
        if turn or world.query("select 1 from information_schema.tables where table_name = 'syncs'"):
            check_lease_is_free(world)
        after = workers.run(world).wait()
        assert (after.code, report_of(after)["status"]) == (0, "succeeded"), (where, after)
        check_converged(world, rows)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_signal_while_python_starts(world: World, round_: int) -> None:
    """A real start of the program that gets SIGTERM in its first moments ends as promised too."""
    chance = random.Random(round_)
    world.fill(people(*range(100)))
    for _ in range(3):
        process = subprocess.Popen(
            [*PROGRAM, "run", "--json"],
            cwd=world.folder,
            env=environment(world.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        moment = chance.uniform(0, 1.2)
        time.sleep(moment)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT)
        where = f"SIGTERM after {moment:.3f} s: {process.returncode} {out} {err}"
        assert process.returncode in (0, 3, -signal.SIGTERM, 128 + signal.SIGTERM), where
        assert "Traceback" not in err, where
    assert call_run(world).code == 0
    world.check(people(*range(100)))


def call_run(world: World) -> CommandResult:
    done = subprocess.run(
        [*PROGRAM, "run", "--json"],
        cwd=world.folder,
        env=environment(world.folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


@BOTH
@pytest.mark.parametrize("verb", ["plan", "validate", "status", "sandbox"])
def test_a_signal_to_another_verb(workers: Workers, tmp_path: Path, verb: str, number: signal.Signals) -> None:
    """Verbs that send nothing end with 130 or 143 and one line; the sandbox, which runs until then, prints nothing."""
    with sandbox() as running:
        world = prepare_world(World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path))
        world.fill(people(*range(100)))
        running.inject("slow:segments:times=0:seconds=20")
        more = ["--port", "0"] if verb == "sandbox" else []
        worker = workers.start(tmp_path, "--log-level", "error", verb, *more)
        if verb == "sandbox":
            wait_until(lambda: bool(worker.output("out")), "it is up")
        else:
            wait_until(lambda: open_requests(world, "segments") > 0, "it waits for an answer")
        time.sleep(0.1)
        at = time.monotonic()
        worker.send(number)
        answer = worker.wait()
        assert time.monotonic() - at < REACTION_TIMEOUT
        if verb == "sandbox":
            assert (answer.code, answer.err) == (0, "")
        else:
            assert (answer.code, answer.err) == (128 + number, "stopped\n")


def test_a_signal_during_the_query_of_a_plan(workers: Workers, world: World) -> None:
    """The query is interrupted, and the plan ends with 130 and one line."""
    world.fill(people(*range(100)))
    prepare_world(world, **with_endless_query(world))
    worker = workers.start(world.folder, "--log-level", "error", "plan")
    wait_until(lambda: bool(world.sandbox.requests("get")), "the audience is known")
    time.sleep(0.5)
    at = time.monotonic()
    worker.send(signal.SIGINT)
    answer = worker.wait()
    assert time.monotonic() - at < REACTION_TIMEOUT
    assert (answer.code, answer.out, answer.err) == (130, "", "stopped\n")
