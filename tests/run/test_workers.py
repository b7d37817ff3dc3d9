"""Overlapping, paused and dead workers, as real processes: never two at once, and none that writes or sends too late.

Run more rounds with: ROUNDS=10 python -m pytest tests/run/test_workers.py
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness.histories.oracle import check_converged, check_log
from harness.processes.command import CommandResult
from harness.processes.workers import (
    BATCH,
    LEASE,
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
from harness.servers.postgres import Server
from harness.worlds.world import World, create_audience, people, sandbox

DAY = 86400.0
ROUNDS = int(os.environ.get("ROUNDS", "1"))

MOMENTS = ("query", "promote", "REMOVEs", "token", "ADDs")
"""Where a worker is paused: in its query, in the transaction of the commit point, in its delivery."""

PAUSE = "case when id = 500 then pg_sleep(1)::text is not null else true end"
STANDARD_MODEL = {"model": {"sql": "select * from people", "primary_key": "id"}}
SLOW_MODEL = {"model": {"sql": f"select * from people where {PAUSE}", "primary_key": "id"}}
SLOW_PROMOTE = """
    create function pause() returns trigger language plpgsql as 'begin perform pg_sleep(1); return new; end';
    create trigger pause before update of promoted_run on warehouse_sync.syncs for each row execute function pause();
"""


@pytest.fixture
def postgres_world(postgres_world: World) -> World:
    return prepare_world(postgres_world)


@pytest.fixture
def duckdb_world(duckdb_world: World) -> World:
    return prepare_world(duckdb_world)


def run_at_once(workers: Workers, world: World, count: int, **settings: float) -> list[CommandResult]:
    """Return the answers of `count` workers that started at the same time, each with every member to send."""
    at = time.time() + 0.02 * count
    started = [workers.run(world, "--full", at=at, **settings) for _ in range(count)]
    return [worker.wait() for worker in started]


def read_state(world: World) -> dict[str, list[str]]:
    """Return all rows of all state tables."""
    tables = "select table_name from information_schema.tables where table_schema = 'warehouse_sync'"
    return {
        name: sorted(map(repr, world.query(f'select * from warehouse_sync."{name}"')))
        for (name,) in world.query(tables)
    }


@dataclass(frozen=True)
class Span:
    """The time between the commit point of a run and its end."""

    begin: datetime
    end: datetime


def check_one_at_a_time(world: World) -> list[Span]:
    """Check that runs did not deliver at the same time, that requests belong to runs, and that the lease is free."""
    rows = world.query("select lease_token, promoted_at, finished_at from warehouse_sync.runs order by run_id")
    tokens = [row.lease_token for row in rows]
    assert tokens == sorted(set(tokens))
    spans = [Span(row.promoted_at, row.finished_at) for row in rows if row.promoted_at]
    assert all(earlier.end <= later.begin for earlier, later in pairwise(spans)), spans
    for record in world.sandbox.requests("users"):
        at = datetime.fromtimestamp(record.at, UTC).replace(tzinfo=None)
        assert sum(span.begin <= at <= span.end for span in spans) == 1, (at, spans)
    holder, token = query_one(world, "select lease_holder, lease_token from warehouse_sync.syncs")
    assert (holder, token) == (None, tokens[-1])
    return spans


@pytest.mark.parametrize(("count", "schema"), [(2, "migrated"), (5, "empty"), (20, "migrated"), (20, "empty")])
def test_only_one_of_many_workers_runs_a_sync(workers: Workers, postgres_world: World, count: int, schema: str) -> None:
    """Of workers that start at the same time one runs and the others are skipped, or run after it has ended."""
    world, rows = postgres_world, people(*range(400))
    world.fill(rows)
    if schema == "migrated":
        assert workers.run(world).wait().code == 0
    world.sandbox.inject("slow:users:times=0:seconds=0.2")
    for _ in range(ROUNDS):
        before = len(world.query("select 1 from pg_tables where schemaname = 'warehouse_sync'")) and len(
            world.query("select 1 from warehouse_sync.runs")
        )
        answers = run_at_once(workers, world, count)
        assert [answer.code for answer in answers] == [0] * count, [answer.err for answer in answers if answer.code]
        statuses = [report_of(answer)["status"] for answer in answers]
        ran = statuses.count("succeeded")
        assert ran + statuses.count("skipped") == count
        assert {report_of(answer)["reason"] for answer in answers} <= {None, "another worker is running this sync"}
        assert len(check_one_at_a_time(world)) == before + ran
        assert ran < count
        check_converged(world, rows)


def test_workers_run_one_after_another_on_a_duckdb_file(workers: Workers, duckdb_world: World) -> None:
    """Workers that start at the same time on one file run one after another, within their timeout."""
    world, rows = duckdb_world, people(*range(400))
    world.fill(rows)
    answers = run_at_once(workers, world, 5, lock_timeout=60.0)
    assert [(answer.code, report_of(answer)["status"]) for answer in answers] == [(0, "succeeded")] * 5
    assert len(check_one_at_a_time(world)) == 5
    check_converged(world, rows)


def test_workers_fail_when_a_duckdb_file_is_locked_for_too_long(workers: Workers, duckdb_world: World) -> None:
    """Workers that cannot open the file in time fail, name the process that holds it, and have changed nothing."""
    world, rows = duckdb_world, people(*range(400))
    world.fill(rows)
    world.sandbox.inject("slow:users:times=0:seconds=0.5")
    at = time.time() + 0.2
    started = [workers.run(world, "--full", at=at, lock_timeout=1.0) for _ in range(5)]
    answers = [worker.wait() for worker in started]
    ran = [answer for answer in answers if answer.code == 0]
    late = [answer for answer in answers if answer.code == 1]
    assert len(ran) + len(late) == 5
    assert late
    pids = {str(worker.pid) for worker in started}
    for answer in late:
        reason = report_of(answer)["reason"]
        assert re.search(r"process (\d+) holds the file", reason)[1] in pids  # type: ignore[index]
        assert "Nothing was touched" in reason
    assert len(check_one_at_a_time(world)) == len(ran)
    check_converged(world, rows)


def test_syncs_of_one_schema_run_at_the_same_time(workers: Workers, postgres_world: World) -> None:
    """Five syncs in one schema run in five processes at the same time: all succeed, each with its own run id."""
    world, rows = postgres_world, people(*range(500))
    world.fill(rows)
    world.sandbox.inject("slow:users:times=0:seconds=10")
    written = world.raw_config
    (standard,) = written["syncs"].values()
    segments = [create_audience(world.sandbox) for _ in range(5)]
    written["syncs"] = {
        f"part_{part}": {
            **standard,
            "model": {"sql": f"select * from people where id % 5 = {part}", "primary_key": "id"},
            "audience": {"type": "user", "id": segment},
        }
        for part, segment in enumerate(segments)
    }
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))
    at = time.time() + 0.1
    started = [workers.start(world.folder, "run", name, "--json", at=at, batch_size=BATCH) for name in written["syncs"]]
    answers = [worker.wait() for worker in started]
    assert [answer.code for answer in answers] == [0] * 5, [answer.err for answer in answers]
    assert sorted(report_of(answer)["run_id"] for answer in answers) == [1, 2, 3, 4, 5]
    last_begin, first_end = query_one(world, "select max(promoted_at), min(finished_at) from warehouse_sync.runs")
    assert last_begin < first_end, "they ran one after another"
    for part, segment in enumerate(segments):
        held = {frozenset(member) for member in world.sandbox.members(segment)}
        assert held == world.expected_members(rows[part::5], "elements")
    check_log(world)


def pause(workers: Workers, world: World, moment: str) -> tuple[Worker, Sequence[dict[str, Any]]]:
    """Pause a worker at a moment of its second run; return it and the rows of its query.

    During REMOVEs and ADDs it is paused while all its requests wait for answers, because a worker that is paused
    between its last check of the lease and the first byte of a request cannot notice that in time.
    """
    world.fill(people(*range(600)))
    assert workers.run(world).wait().code == 0
    rows = people(*range(300, 900))
    world.fill(rows)
    if moment in ("REMOVEs", "ADDs"):
        action = moment[:-1]
        answered_before = len(finished_requests(world, action))
        world.sandbox.inject(f"slow:users:times=0:seconds=0.4:action={action}")
        worker = workers.run(world)
        wait_until(
            lambda: len(finished_requests(world, action)) > answered_before and open_requests(world, "users") == 2,
            "its requests wait",
        )
    elif moment == "token":
        world.sandbox.inject("slow:users:times=0:seconds=0.5")
        worker = workers.run(world)
        wait_until(lambda: bool(open_requests(world, "users")), "the delivery is under way")
        world.sandbox.inject("slow:token:times=0:seconds=0.5")
        wait_until(
            lambda: open_requests(world, "token") == 1 and not open_requests(world, "users"),
            "it fetches a new token",
        )
    else:
        if moment == "query":
            prepare_world(world, **SLOW_MODEL)
        else:
            with world.connect() as connection:
                connection.execute(sa.text(SLOW_PROMOTE))
        worker = workers.run(world)
        wait_until(
            lambda: is_in_pg_sleep(world, "CREATE TABLE" if moment == "query" else "promoted_run"),
            "its statement waits",
        )
    worker.send(signal.SIGSTOP)
    wait_until(lambda: not open_requests(world) and not is_in_pg_sleep(world), "all that was under way has ended")
    world.sandbox.clear_faults()
    if moment == "query":
        prepare_world(world, **STANDARD_MODEL)
    return worker, rows


def check_taken_over(workers: Workers, world: World, moment: str) -> None:
    """Check that a worker that was paused and taken over writes and sends nothing more, and reports why it ends."""
    paused, _ = pause(workers, world, moment)
    check_skipped_before_expiry(workers, world)
    wait_for_expiry(world)
    rows = people(*range(400, 1000))
    replace_rows(world, rows)
    successor = workers.run(world).wait()
    assert (successor.code, report_of(successor)["status"]) == (0, "succeeded"), successor.err
    state, sent = read_state(world), len(world.sandbox.requests())
    paused.send(signal.SIGCONT)
    answer = paused.wait()
    assert answer.code == 1
    assert "Traceback" not in answer.err
    reasons = ["another worker has taken over", "could not renew its lease"]
    if moment in ("query", "promote"):
        reasons.append("was lost, could not")  # The server ended the transaction in which the worker was paused.
    assert any(reason in report_of(answer)["reason"] for reason in reasons)
    assert len(world.sandbox.requests()) == sent
    assert read_state(world) == state
    check_one_at_a_time(world)
    check_converged(world, rows)


def check_continued(workers: Workers, world: World, moment: str) -> None:
    """Check that a worker that was paused for longer than its lease, and not taken over, continues and succeeds."""
    paused, rows = pause(workers, world, moment)
    wait_for_expiry(world)
    paused.send(signal.SIGCONT)
    answer = paused.wait()
    assert (answer.code, report_of(answer)["status"]) == (0, "succeeded"), answer.err
    assert len(check_one_at_a_time(world)) == 2
    check_converged(world, rows)


def check_killed(workers: Workers, world: World, ahead: float) -> None:
    """Check that the lease of a killed worker is taken over after its expiry and not before, with any local clocks."""
    world.fill(people(*range(400)))
    assert workers.run(world, clock_offset=ahead).wait().code == 0
    rows = people(*range(200, 600))
    world.fill(rows)
    world.sandbox.inject("slow:users:times=0:seconds=0.2")
    answered_before = len(finished_requests(world, "REMOVE"))
    worker = workers.run(world, clock_offset=ahead)
    wait_until(lambda: len(finished_requests(world, "REMOVE")) > answered_before, "REMOVEs are under way")
    worker.send(signal.SIGKILL)
    assert worker.wait().code == -signal.SIGKILL
    holder, left = query_one(
        world,
        "select lease_holder, extract(epoch from lease_expires_at - timezone('utc', clock_timestamp())) "
        "from warehouse_sync.syncs",
    )
    assert holder is not None
    assert left <= LEASE
    check_skipped_before_expiry(workers, world, clock_offset=ahead)
    check_skipped_before_expiry(workers, world, clock_offset=-ahead)
    wait_for_expiry(world)
    late = [workers.run(world, "--full", clock_offset=clock) for clock in (-ahead, ahead, 0.0)]
    statuses = [report_of(each.wait())["status"] for each in late]
    assert "succeeded" in statuses
    assert set(statuses) <= {"succeeded", "skipped"}
    check_one_at_a_time(world)
    check_converged(world, rows)
    first, last = query_one(world, "select min(started_at), max(finished_at) from warehouse_sync.runs")
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(abs((now - moment).total_seconds()) < DAY / 2 for moment in (first, last))


HISTORIES: dict[str, Callable[[Workers, World], None]] = {
    **{f"taken over, paused at {at}": partial(check_taken_over, moment=at) for at in MOMENTS},
    "not taken over, paused at ADDs": partial(check_continued, moment="ADDs"),
    "killed, clocks a day ahead": partial(check_killed, ahead=DAY),
    "killed, clocks a day late": partial(check_killed, ahead=-DAY),
}


@pytest.fixture(scope="module")
def histories(
    workers: Workers, postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Run all histories in their own worlds, four at a time, because they mostly wait for a lease to expire."""

    def play(name: str) -> None:
        token_life = 1.0 if name.endswith("token") else DAY
        with postgres.database() as url, sandbox(token_life=token_life) as running:
            HISTORIES[name](workers, prepare_world(World(url, running, tmp_path_factory.mktemp("world"))))

    with ThreadPoolExecutor(4) as threads:
        yield {name: threads.submit(play, name) for name in HISTORIES}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_worker_that_pauses_or_dies_is_replaced(histories: dict[str, Future[None]], name: str) -> None:
    """A worker that is paused for longer than its lease, or dies, is replaced after the expiry and does no more."""
    histories[name].result()


def test_retries_are_due_by_the_clock_of_the_warehouse(workers: Workers, postgres_world: World) -> None:
    """A worker whose clock is wrong by a day neither delays queued operations nor makes them dead too early."""
    world, rows = postgres_world, people(*range(400))
    world.fill(rows)
    world.sandbox.inject("refuse_elements:users:times=0:status=503:indices=0|1")
    due = (
        "select count(*), min(state), max(state), min(extract(epoch from deferred_since - now())), "
        "min(extract(epoch from next_attempt_at - now())), max(extract(epoch from next_attempt_at - now())) from "
        "(select state, deferred_since at time zone 'utc' as deferred_since, "
        "next_attempt_at at time zone 'utc' as next_attempt_at from warehouse_sync.retry_queue) as queue"
    )
    for clock, delay in ((DAY, 60.0), (-DAY, 300.0), (DAY, 900.0)):
        answer = workers.run(world, clock_offset=clock).wait()
        assert (answer.code, report_of(answer)["deferred"], report_of(answer)["dead"]) == (
            3,
            report_of(answer)["deferred"],
            0,
        )
        count, lowest, highest, since, soonest, latest = query_one(world, due)
        assert count == report_of(answer)["deferred"] > 0
        assert (lowest, highest) == ("waiting", "waiting")
        assert -30 < since <= 0
        assert delay - 30 < latest <= delay
        assert 0 < soonest <= latest
    world.sandbox.clear_faults()
    assert workers.run(world, clock_offset=-DAY).wait().code == 0
    check_converged(world, rows)
