"""`serve` as a service: real processes, signals, files that change, deliveries that fail.

Ticks come as fast as the tests need them by a tick of the past that is made up for, or by a clock that runs faster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness.command import people
from harness.oracle import check_converged
from harness.postgres import Server
from harness.workers import BATCH, LEASE, Worker, Workers, answered, only, settled, under_way, wait_until
from harness.world import SYNC, World, create_audience, sandbox

ENDLESS = {
    "duckdb": "(select count(*) from range(300000) as a, range(300000) as b where (a.range * b.range) % 7 = 3) > 0",
    "postgresql": "pg_sleep(30)::text is not null",
}
"""A condition that takes half a minute and more as soon as a row is read."""

DAILY = {"every": "24h", "at": "00:00"}
HEADERS = "select kind, triggered_by, status from warehouse_sync.runs order by run_id"


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as started:
        yield started


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    with sandbox() as running:
        yield settled(World(warehouse_url, running, tmp_path), schedule=DAILY)


@pytest.fixture
def duckdb_world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "warehouse.duckdb"
    sa.create_engine(f"duckdb:///{path}", poolclass=sa.NullPool).connect().close()
    with sandbox() as running:
        yield settled(World(f"duckdb:///{path}", running, tmp_path), schedule=DAILY)


@pytest.fixture
def postgres_world(postgres: Server, tmp_path: Path) -> Iterator[World]:
    with postgres.database() as url, sandbox() as running:
        yield settled(World(url, running, tmp_path), schedule=DAILY)


def have_missed_a_tick(world: World) -> None:
    """Every sync has run, and was served until two days ago."""
    with world.connect() as connection:
        connection.execute(
            sa.text("update warehouse_sync.syncs set last_tick = :then"), {"then": datetime.now() - timedelta(days=2)}
        )


def run_once(world: World) -> None:
    """As by hand; the configuration is on disk as it was before."""
    text = (world.folder / "config.yaml").read_text()
    world.run()
    (world.folder / "config.yaml").write_text(text)


def serving(workers: Workers, world: World, *words: str, **settings: float) -> Worker:
    return workers.start(world.folder, "serve", "--port", "0", *words, **{"batch_size": BATCH, **settings})


def ended(world: World, worker: Worker, text: str, times: int = 1) -> None:
    """Return once the worker has logged this so often."""
    wait_until(lambda: worker.text("err").count(text) >= times or not worker.running, f"the log says {text!r}")
    assert worker.running, worker.text("err")


def making_up(workers: Workers, world: World, rows: Sequence[Mapping[str, Any]], *, slow: float) -> tuple[Worker, int]:
    """A service that makes up for a tick with these rows, fifty of which a run has sent before.

    Each request takes `slow` seconds. With it comes how many ADDs were answered before it began.
    """
    world.fill(people(range(50)))
    run_once(world)
    world.fill(rows)
    have_missed_a_tick(world)
    world.sandbox.inject(f"slow:users:times=0:seconds={slow}")
    sent = len(answered(world, "ADD"))
    return serving(workers, world), sent


def test_a_missed_tick_a_stop_in_its_delivery_and_what_that_left(workers: Workers, world: World) -> None:
    """The tick is made up for; SIGTERM ends its run well and the service with 0; the next worker sends what was left
    without a new snapshot, and does not run the tick again."""
    rows = people(range(400))
    worker, sent = making_up(workers, world, rows, slow=0.4)
    wait_until(lambda: len(answered(world, "ADD")) > sent and under_way(world, "users") == 2, "requests are in flight")
    worker.send(signal.SIGTERM)
    answer = worker.wait(15)
    assert (answer.code, answer.out) == (0, "")
    assert "Traceback" not in answer.err
    assert under_way(world) == 0
    holder, last_tick = only(world, "select lease_holder, last_tick from warehouse_sync.syncs")
    assert holder is None
    midnight = datetime.combine(datetime.now().date(), datetime.min.time())
    assert last_tick == midnight
    world.sandbox.clear_faults()
    world.fill(people(range(100)))  # Nobody looks at the query until the next tick.
    worker = serving(workers, world)
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait(15).code == 0
    assert [tuple(row) for row in world.query(HEADERS)][1:] == [
        ("diff", "schedule", "incomplete"),
        ("retry", "schedule", "succeeded"),
    ]
    check_converged(world, rows)


def test_a_worker_that_is_killed_in_a_tick(workers: Workers, postgres_world: World) -> None:
    """Whoever serves next runs the tick once the dead worker's lease has run out; then it is done."""
    world = postgres_world
    rows = people(range(400))
    worker, sent = making_up(workers, world, rows, slow=0.4)
    wait_until(lambda: len(answered(world, "ADD")) > sent, "the run delivers")
    worker.send(signal.SIGKILL)
    worker.wait()
    world.sandbox.clear_faults()
    worker = serving(workers, world)
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait(15).code == 0
    found = world.query("select status, tick from warehouse_sync.runs where triggered_by = 'schedule' order by run_id")
    (dead, tick), (status, again) = map(tuple, found)
    assert (dead, status, tick) == ("failed", "succeeded", again)
    check_converged(world, rows)


def test_a_stop_during_the_query(workers: Workers, world: World) -> None:
    """The query is broken off in its thread, at once; the tick is still to be run."""
    world.fill(people(range(3)))
    run_once(world)
    have_missed_a_tick(world)
    endless = ENDLESS[world.url.partition(":")[0].partition("+")[0]]
    settled(world, model={"sql": f"select * from people where {endless}", "primary_key": "id"})
    worker = serving(workers, world)
    ended(world, worker, "run begun")
    time.sleep(0.3)
    at = time.monotonic()
    worker.send(signal.SIGTERM)
    answer = worker.wait(15)
    assert answer.code == 0, answer.err
    assert time.monotonic() - at < 10
    assert "stopped by SIGTERM before anything was sent" in answer.err
    assert "error" not in answer.err
    holder, last_tick = only(world, "select lease_holder, last_tick from warehouse_sync.syncs")
    assert holder is None
    assert last_tick < datetime.now() - timedelta(days=1)


def test_a_second_signal_ends_the_service_where_it_stands(workers: Workers, postgres_world: World) -> None:
    """As it does for a run: 143."""
    world = postgres_world
    worker, sent = making_up(workers, world, people(range(400)), slow=2)
    wait_until(lambda: under_way(world, "users") == 2, "the run delivers")
    worker.send(signal.SIGTERM)
    ended(world, worker, "awaiting the runs")
    worker.send(signal.SIGTERM)
    assert worker.wait(10).code == 143
    assert len(answered(world, "ADD")) == sent


def test_a_configuration_that_changes(workers: Workers, postgres_world: World) -> None:
    """SIGHUP reads it again: a bad one is refused with all that is wrong, a good one is in force."""
    world = postgres_world
    world.fill(people(range(3)))
    run_once(world)
    good = (world.folder / "config.yaml").read_text()
    worker = serving(workers, world)
    wait_until(lambda: only(world, "select last_tick from warehouse_sync.syncs")[0] is not None, "it serves")
    (world.folder / "config.yaml").write_text(good.replace("24h", "25h").replace("type: user", "type: robot"))
    worker.send(signal.SIGHUP)
    ended(world, worker, "is refused")
    (line,) = [line for line in worker.text("err").splitlines() if "is refused" in line]
    assert f"syncs.{SYNC}.schedule.every" in line
    assert f"syncs.{SYNC}.audience.type" in line
    have_missed_a_tick(world)
    (world.folder / "config.yaml").write_text(good.replace("24h", "12h"))
    worker.send(signal.SIGHUP)
    ended(world, worker, 'event="run ended"')
    assert "is in force" in worker.text("err")
    worker.send(signal.SIGTERM)
    assert worker.wait(15).code == 0


def test_a_configuration_that_is_wrong_from_the_start(workers: Workers, duckdb_world: World) -> None:
    """Nothing is served: exit code 2."""
    settled(duckdb_world, schedule={"every": "1s"})
    answer = serving(workers, duckdb_world).wait(15)
    assert answer.code == 2
    assert "schedule.every" in answer.err


def two_syncs(world: World) -> None:
    """A second sync with an audience of its own reads the same table."""
    written = yaml.safe_load((world.folder / "config.yaml").read_text())
    again = {**written["syncs"][SYNC], "audience": {"type": "user", "id": create_audience(world.sandbox)}}
    written["syncs"]["again"] = again
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))


def test_two_syncs_on_one_duckdb_file(workers: Workers, duckdb_world: World) -> None:
    """With four workers their runs come one after the other, and between runs the file is free for others."""
    world = duckdb_world
    two_syncs(world)
    world.fill(people(range(300)))
    assert workers.start(world.folder, "run", "--all").wait().code == 0
    world.fill(people(range(100, 400)))
    have_missed_a_tick(world)
    world.sandbox.inject("slow:users:times=0:seconds=0.1")
    worker = serving(workers, world, "--workers", "4")
    ended(world, worker, 'event="run ended"', 2)
    spans = wait_for_file(
        world, "select started_at, finished_at from warehouse_sync.runs where triggered_by = 'schedule' order by run_id"
    )
    assert [end <= begin for (_, end), (begin, _) in pairwise(spans)] == [True]
    worker.send(signal.SIGTERM)
    answer = worker.wait(15)
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
    """What a query gives as soon as nobody else has the file."""
    found: list[Any] = []

    def read() -> bool:
        try:
            found.append(world.query(sql))
        except sa.exc.OperationalError:
            return False
        return True

    wait_until(read, "the file is free")
    return found[0]


def test_a_duckdb_file_that_somebody_else_holds(workers: Workers, duckdb_world: World) -> None:
    """The tick is not lost: it is run when the file is free."""
    world = duckdb_world
    rows = people(range(100))
    world.fill(people(range(50)))
    run_once(world)
    world.fill(rows)
    have_missed_a_tick(world)
    with world.connect():
        worker = serving(workers, world, lock_patience=0.1, wait_first=0.5)
        ended(world, worker, "holds the file")
    ended(world, worker, 'event="run ended"')
    worker.send(signal.SIGTERM)
    assert worker.wait(15).code == 0
    check_converged(world, rows)


SPEED = 40.0
PERIOD = 300 / SPEED
"""Seconds between two ticks of five minutes."""

BASE = "2027-03-28T00:02:30+00:00"


class Fast:
    """`serve` with a clock that runs faster, as processes that are killed and started anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = time.time()
        self.logs: list[Path] = []

    def start(self) -> subprocess.Popen[bytes]:
        log = self.folder / f"serving-{len(self.logs)}.log"
        self.logs.append(log)
        here = Path(__file__).parents[1]
        path = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        words = [str(self.folder / "config.yaml"), str(SPEED), str(self.began), BASE]
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "harness.serving", *words], env={**os.environ, "PYTHONPATH": path}, stderr=file
            )

    def lines(self, number: int) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self.logs[number].read_text().splitlines() if line.endswith("}")]


def killed_in_a_run(world: World, process: subprocess.Popen[bytes]) -> None:
    """The process is gone; at that moment it held a lease and was in a run."""
    runs = (
        "select 1 from warehouse_sync.syncs join warehouse_sync.runs using (sync, lease_token) "
        f"where lease_holder like '%:{process.pid}:%' and status = 'running'"
    )

    def caught() -> bool:
        if world.query(runs):
            process.send_signal(signal.SIGSTOP)
            if world.query(runs):
                return True
            process.send_signal(signal.SIGCONT)
        return False

    wait_until(caught, "the process is in a run")
    process.kill()
    process.wait()


def wait_for_runs(world: World, count: int) -> None:
    """Return once so many runs have succeeded."""
    done = "select count(*) from warehouse_sync.runs where status = 'succeeded'"
    deadline = time.monotonic() + 8 * PERIOD
    while time.monotonic() < deadline:
        time.sleep(0.2)
        made = world.query("select 1 from information_schema.tables where table_name = 'runs'")
        if made and only(world, done)[0] >= count:
            return
    pytest.fail(f"not {count} runs in time")


def test_three_workers_ten_syncs(postgres: Server, tmp_path: Path) -> None:
    """Every tick of every sync is run exactly once, though one worker is killed in a run and started anew."""
    with postgres.database() as url, sandbox() as running:
        world = settled(World(url, running, tmp_path), schedule={"every": "5m"})
        rows = people(range(60))
        world.fill(rows)
        written = yaml.safe_load((tmp_path / "config.yaml").read_text())
        (standard,) = written["syncs"].values()
        written["syncs"] = {
            f"sync_{number}": {
                **standard,
                "audience": {"type": "user", "id": create_audience(running)},
                "schedule": {"every": "5m", "at": f"00:0{number % 5}"},
            }
            for number in range(10)
        }
        written["warehouses"]["analytics"]["lease"] = LEASE
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
        fast = Fast(tmp_path)
        processes = [fast.start() for _ in range(3)]
        running.inject("slow:users:times=0:seconds=0.2")
        try:
            wait_for_runs(world, 5)
            killed_in_a_run(world, processes[0])
            processes.append(fast.start())
            wait_for_runs(world, 30)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [-signal.SIGKILL, 0, 0, 0]
        done = world.query(
            "select sync, tick, count(*) from warehouse_sync.runs where status = 'succeeded' group by sync, tick"
        )
        ticks: dict[str, list[datetime]] = {}
        for sync, tick, count in sorted(tuple(row) for row in done):
            assert count == 1, (sync, tick)
            ticks.setdefault(sync, []).append(tick)
        assert len(ticks) == 10
        for sync, found in ticks.items():
            assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=5)}, (sync, found)
            assert len(found) >= 2
        others = world.query("select sync, tick, reason from warehouse_sync.runs where status <> 'succeeded'")
        dead = [(sync, tick) for sync, tick, reason in map(tuple, others) if "worker died" in reason]
        assert 1 <= len(dead) <= 4  # As many as it runs at once.
        assert all(tick in ticks[sync] for sync, tick in dead)
        stopped = [(sync, tick) for sync, tick, reason in map(tuple, others) if "stopped by SIGTERM" in reason]
        assert len(dead) + len(stopped) == len(others)
        assert all(tick == ticks[sync][-1] + timedelta(minutes=5) for sync, tick in stopped)
        assert sum(bool(fast.lines(number)) for number in range(4)) == 4
        assert all(holder is None for (holder,) in world.query("select lease_holder from warehouse_sync.syncs"))
        for sync in written["syncs"].values():
            held = {frozenset(member) for member in running.members(sync["audience"]["id"])}
            assert held == world.expected(rows, "elements")
