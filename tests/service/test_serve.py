"""`serve` as a service: real processes, signals, files that change, deliveries that fail.

The tests do not wait for a tick: a past tick is run at once. Many workers: test_several_workers.py.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness.histories.oracle import check_converged
from harness.processes.workers import (
    BATCH,
    ENDLESS_CONDITION,
    REACTION_TIMEOUT,
    Worker,
    Workers,
    finished_requests,
    open_requests,
    prepare_world,
    query_one,
    wait_until,
)
from harness.worlds.world import SYNC, World, create_audience, create_duckdb, people

DAILY = {"every": "24h", "at": "00:00"}
HEADERS = "select kind, triggered_by, status from warehouse_sync.runs order by run_id"


@pytest.fixture
def world(world: World) -> World:
    return prepare_world(world, schedule=DAILY)


@pytest.fixture
def duckdb_world(duckdb_world: World) -> World:
    create_duckdb(duckdb_world.folder / "warehouse.duckdb")
    return prepare_world(duckdb_world, schedule=DAILY)


@pytest.fixture
def postgres_world(postgres_world: World) -> World:
    return prepare_world(postgres_world, schedule=DAILY)


def miss_a_tick(world: World) -> None:
    """Make every sync one that has run, and was served until two days ago."""
    with world.connect() as connection:
        connection.execute(
            sa.text("update warehouse_sync.syncs set last_tick = :then"), {"then": datetime.now() - timedelta(days=2)}
        )


def run_once(world: World) -> None:
    """Run the sync manually; keep the configuration on disk."""
    text = (world.folder / "config.yaml").read_text()
    world.run()
    (world.folder / "config.yaml").write_text(text)


def serving(workers: Workers, world: World, *words: str, **settings: float) -> Worker:
    return workers.start(world.folder, "serve", "--port", "0", *words, **{"batch_size": BATCH, **settings})


def ended(world: World, worker: Worker, text: str, times: int = 1) -> None:
    """Return when the worker has logged `text` so many times."""
    wait_until(lambda: worker.output("err").count(text) >= times or not worker.running, f"the log says {text!r}")
    assert worker.running, worker.output("err")


def serve_missed_tick(
    workers: Workers, world: World, rows: Sequence[Mapping[str, Any]], *, slow: float
) -> tuple[Worker, int]:
    """Start a service that runs a missed tick with these rows, fifty of which a run has sent before.

    Each request takes `slow` seconds. With it comes how many ADDs were answered before it began.
    """
    world.fill(people(*range(50)))
    run_once(world)
    world.fill(rows)
    miss_a_tick(world)
    world.sandbox.inject(f"slow:users:times=0:seconds={slow}")
    sent = len(finished_requests(world, "ADD"))
    return serving(workers, world), sent


def test_a_missed_tick_a_stop_during_its_delivery_and_the_pending_rest(workers: Workers, world: World) -> None:
    """The missed tick is run; SIGTERM ends its run gracefully and the service with 0; the next worker sends the rest
    without a new snapshot, and does not run the tick again."""
    rows = people(*range(400))
    worker, sent = serve_missed_tick(workers, world, rows, slow=0.4)
    wait_until(
        lambda: len(finished_requests(world, "ADD")) > sent and open_requests(world, "users") == 2,
        "requests are in flight",
    )
    worker.send(signal.SIGTERM)
    answer = worker.wait()
    assert (answer.code, answer.out) == (0, "")
    assert "Traceback" not in answer.err
    assert open_requests(world) == 0
    holder, last_tick = query_one(world, "select lease_holder, last_tick from warehouse_sync.syncs")
    assert holder is None
    midnight = datetime.combine(datetime.now().date(), datetime.min.time())
    assert last_tick == midnight
    world.sandbox.clear_faults()
    world.fill(people(*range(100)))  # The query is not run until the next tick.
    worker = serving(workers, world)
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0
    assert [tuple(row) for row in world.query(HEADERS)][1:] == [
        ("diff", "schedule", "incomplete"),
        ("retry", "schedule", "succeeded"),
    ]
    check_converged(world, rows)


def test_a_worker_that_is_killed_in_a_tick(workers: Workers, postgres_world: World) -> None:
    """The next worker runs the tick when the dead worker's lease has expired; then it is done."""
    world = postgres_world
    rows = people(*range(400))
    worker, sent = serve_missed_tick(workers, world, rows, slow=0.4)
    wait_until(lambda: len(finished_requests(world, "ADD")) > sent, "the run delivers")
    worker.send(signal.SIGKILL)
    worker.wait()
    world.sandbox.clear_faults()
    worker = serving(workers, world)
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0
    found = world.query("select status, tick from warehouse_sync.runs where triggered_by = 'schedule' order by run_id")
    (dead, tick), (status, again) = map(tuple, found)
    assert (dead, status, tick) == ("failed", "succeeded", again)
    check_converged(world, rows)


def test_a_stop_during_the_query(workers: Workers, world: World) -> None:
    """The query is interrupted in its thread, at once; the tick is still due."""
    world.fill(people(*range(3)))
    run_once(world)
    miss_a_tick(world)
    endless = ENDLESS_CONDITION[world.url.partition(":")[0].partition("+")[0]]
    prepare_world(world, model={"sql": f"select * from people where {endless}", "primary_key": "id"})
    worker = serving(workers, world)
    ended(world, worker, "run started")
    time.sleep(0.3)
    at = time.monotonic()
    worker.send(signal.SIGTERM)
    answer = worker.wait()
    assert answer.code == 0, answer.err
    assert time.monotonic() - at < REACTION_TIMEOUT
    assert "stopped by SIGTERM before anything was sent" in answer.err
    assert "error" not in answer.err
    holder, last_tick = query_one(world, "select lease_holder, last_tick from warehouse_sync.syncs")
    assert holder is None
    assert last_tick < datetime.now() - timedelta(days=1)


def test_a_second_signal_ends_the_service_at_once(workers: Workers, postgres_world: World) -> None:
    """As it does for a run: 143."""
    world = postgres_world
    worker, sent = serve_missed_tick(workers, world, people(*range(400)), slow=2)
    wait_until(lambda: open_requests(world, "users") == 2, "the run delivers")
    worker.send(signal.SIGTERM)
    ended(world, worker, "waiting for the active runs")
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 143
    assert len(finished_requests(world, "ADD")) == sent


def test_a_configuration_that_changes(workers: Workers, postgres_world: World) -> None:
    """SIGHUP reloads it: all mistakes of an invalid one are logged, a valid one is in force."""
    world = postgres_world
    world.fill(people(*range(3)))
    run_once(world)
    good = (world.folder / "config.yaml").read_text()
    worker = serving(workers, world)
    wait_until(lambda: query_one(world, "select last_tick from warehouse_sync.syncs")[0] is not None, "it serves")
    (world.folder / "config.yaml").write_text(good.replace("24h", "25h").replace("type: user", "type: robot"))
    worker.send(signal.SIGHUP)
    ended(world, worker, "is invalid")
    (line,) = [line for line in worker.output("err").splitlines() if "is invalid" in line]
    assert f"syncs.{SYNC}.schedule.every" in line
    assert f"syncs.{SYNC}.audience.type" in line
    miss_a_tick(world)
    (world.folder / "config.yaml").write_text(good.replace("24h", "12h"))
    worker.send(signal.SIGHUP)
    ended(world, worker, 'event="run ended"')
    assert "is in force" in worker.output("err")
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0


def test_a_configuration_that_is_wrong_from_the_start(workers: Workers, duckdb_world: World) -> None:
    """Nothing is served: exit code 2."""
    prepare_world(duckdb_world, schedule={"every": "1s"})
    answer = serving(workers, duckdb_world).wait()
    assert answer.code == 2
    assert "schedule.every" in answer.err


def two_syncs(world: World) -> None:
    """Add a second sync, with its own audience, that reads the same table."""
    written = yaml.safe_load((world.folder / "config.yaml").read_text())
    again = {**written["syncs"][SYNC], "audience": {"type": "user", "id": create_audience(world.sandbox)}}
    written["syncs"]["again"] = again
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))


def test_two_syncs_on_one_duckdb_file(workers: Workers, duckdb_world: World) -> None:
    """With four workers their runs do not overlap, and between runs the file is free for other processes."""
    world = duckdb_world
    two_syncs(world)
    world.fill(people(*range(300)))
    assert workers.start(world.folder, "run", "--all").wait().code == 0
    world.fill(people(*range(100, 400)))
    miss_a_tick(world)
    world.sandbox.inject("slow:users:times=0:seconds=0.1")
    worker = serving(workers, world, "--workers", "4")
    ended(world, worker, 'event="run ended"', 2)
    spans = wait_for_file(
        world, "select started_at, finished_at from warehouse_sync.runs where triggered_by = 'schedule' order by run_id"
    )
    assert [end <= begin for (_, end), (begin, _) in pairwise(spans)] == [True]
    worker.send(signal.SIGTERM)
    answer = worker.wait()
    assert answer.code == 0
    assert "failed" not in answer.err
    check_log_context(answer.err)


def check_log_context(text: str) -> None:
    """Each line about a run names its sync, and each run belongs to one."""
    runs: dict[str, set[str]] = {}
    for line in text.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "run" in words:
            runs.setdefault(words["run"], set()).add(words["sync"])
    assert runs
    assert all(len(names) == 1 for names in runs.values()), runs


def wait_for_file(world: World, sql: str) -> Any:
    """Return the result of a query when no other process has the file open."""
    found: list[Any] = []

    def read() -> bool:
        try:
            found.append(world.query(sql))
        except sa.exc.OperationalError:
            return False
        return True

    wait_until(read, "the file is free")
    return found[0]


def test_a_duckdb_file_that_another_process_has_open(workers: Workers, duckdb_world: World) -> None:
    """The tick is not lost: it is run when the file is free."""
    world = duckdb_world
    rows = people(*range(100))
    world.fill(people(*range(50)))
    run_once(world)
    world.fill(rows)
    miss_a_tick(world)
    with world.connect():
        worker = serving(workers, world, lock_timeout=0.1, backoff_initial=0.5)
        ended(world, worker, "holds the file")
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0
    check_converged(world, rows)
