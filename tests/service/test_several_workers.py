"""Many workers that serve the same syncs: real processes on a clock that the test sets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from harness.processes.command import TIMEOUT, harness_environment
from harness.processes.serving import SetClock
from harness.processes.workers import LEASE, prepare_world, wait_until
from harness.servers.postgres import Server
from harness.worlds.world import World, create_audience, people, sandbox

SYNCS = {f"sync_{number}": number for number in range(10)}
"""Each has a tick every five minutes, so many minutes after the hour; from five on, together with another one."""

BEGIN = datetime(2027, 3, 28, 0, 2, 30, tzinfo=UTC)
FIRST, LAST = 3, 15
"""Minutes of the ticks."""

RUNS = "select sync, tick, reason from warehouse_sync.runs"


def ticks(first: int, last: int) -> set[tuple[str, datetime]]:
    """Return sync and tick of all that is due from the first to the last of these minutes."""
    hour = BEGIN.replace(minute=0, second=0, tzinfo=None)
    return {
        (sync, hour + timedelta(minutes=minute))
        for sync, number in SYNCS.items()
        for minute in range(first, last + 1)
        if (minute - number) % 5 == 0
    }


class Service:
    """`serve` as processes that are killed and restarted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = SetClock(world.folder / "clock")
        self.clock.set(BEGIN)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start one more process."""
        words = [str(self.world.folder / "config.yaml"), str(self.clock.path)]
        with self._log(len(self.processes)).open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.processes.serving", *words], env=harness_environment(), stderr=file
            )
        self.processes.append(process)

    def reach(self, minute: int) -> None:
        """Set the clock to this minute."""
        self.clock.set(BEGIN.replace(minute=minute))

    def done(self) -> set[tuple[str, datetime]]:
        """Return sync and tick of the runs that have succeeded; check that no tick was run twice."""
        if not self.world.query("select 1 from information_schema.tables where table_name = 'runs'"):
            return set()
        rows = self.world.query(f"{RUNS} where status = 'succeeded'")
        found = [(sync, tick) for sync, tick, _ in map(tuple, rows)]
        assert len(found) == len(set(found)), found
        return set(found)

    def running(self) -> Mapping[int, str]:
        """Return the processes that hold the lease of an active run, and one sync of each."""
        held = (
            "select lease_holder, sync from warehouse_sync.syncs join warehouse_sync.runs using (sync, lease_token) "
            "where lease_holder is not null and status = 'running'"
        )
        return {int(holder.split(":")[1]): sync for holder, sync in map(tuple, self.world.query(held))}

    def kill_in_a_run(self) -> None:
        """Kill a process during its run."""
        killed: list[subprocess.Popen[bytes]] = []

        def caught() -> bool:
            for process in self.processes:
                if process.pid in self.running():
                    process.send_signal(signal.SIGSTOP)
                    if process.pid in self.running():
                        killed.append(process)
                        return True
                    process.send_signal(signal.SIGCONT)
            return False

        wait_until(caught, "a process is in a run", TIMEOUT)
        killed[0].kill()
        killed[0].wait()

    def stop(self) -> list[int]:
        """Stop all processes; return their exit codes in the order of their start."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(TIMEOUT) for process in self.processes]

    def lines(self) -> list[list[Mapping[str, Any]]]:
        """Return what each process has logged."""
        logs = [self._log(number).read_text().splitlines() for number in range(len(self.processes))]
        return [[json.loads(line) for line in log if line.endswith("}")] for log in logs]

    def _log(self, number: int) -> Path:
        return self.world.folder / f"serving-{number}.log"


def ten_syncs(world: World) -> Mapping[str, int]:
    """Configure ten syncs of the same table; return their audiences."""
    written = yaml.safe_load((world.folder / "config.yaml").read_text())
    (standard,) = written["syncs"].values()
    audiences = {sync: create_audience(world.sandbox) for sync in SYNCS}
    written["syncs"] = {
        sync: {
            **standard,
            "audience": {"type": "user", "id": audience},
            "schedule": {"every": "5m", "at": f"00:0{SYNCS[sync] % 5}"},
        }
        for sync, audience in audiences.items()
    }
    written["warehouses"]["analytics"]["lease"] = LEASE
    (world.folder / "config.yaml").write_text(yaml.safe_dump(written))
    return audiences


def served(world: World) -> int:
    """Return how many syncs a worker has checked."""
    if not world.query("select 1 from information_schema.tables where table_name = 'syncs'"):
        return 0
    ((count,),) = world.query("select count(*) from warehouse_sync.syncs where last_tick is not null")
    return int(count)


def test_three_workers_ten_syncs(postgres: Server, tmp_path: Path) -> None:
    """Every tick of every sync is run exactly once, although one worker is killed in a run and restarted.

    Missed ticks are run once together, so the clock stays at most four minutes ahead of a tick that is not done.
    """
    with postgres.database() as url, sandbox() as running:
        world = prepare_world(World(url, running, tmp_path))
        rows = people(*range(60))
        world.fill(rows)
        audiences = ten_syncs(world)
        running.inject("slow:users:times=0:seconds=0.2")
        service = Service(world)

        def wait_for(minute: int) -> None:
            due = ticks(FIRST, minute)
            wait_until(lambda: due <= service.done(), f"all ticks up to minute {minute} are done", TIMEOUT)

        try:
            for _ in range(3):
                service.start()
            wait_until(lambda: served(world) == len(SYNCS), "all syncs are served", TIMEOUT)
            for minute in range(FIRST, LAST):
                service.reach(minute)
                if minute == FIRST + 3:
                    service.kill_in_a_run()
                    service.start()
                wait_for(minute - 4)
            wait_for(LAST - 1)
            service.reach(LAST)
            wait_until(lambda: bool(service.running()), "a run is under way", TIMEOUT)
        finally:
            codes = service.stop()
        assert sorted(codes) == [-signal.SIGKILL, 0, 0, 0]
        expected, late = ticks(FIRST, LAST - 1), ticks(LAST, LAST)
        assert service.done() - late == expected
        others = [tuple(row) for row in world.query(f"{RUNS} where status <> 'succeeded'")]
        dead = [(sync, tick) for sync, tick, reason in others if "worker died" in reason]
        assert 1 <= len(dead) <= 4  # As many as it runs at once.
        assert set(dead) <= expected
        stopped = [(sync, tick) for sync, tick, reason in others if "stopped by SIGTERM" in reason]
        assert len(dead) + len(stopped) == len(others)
        assert set(stopped) <= late
        assert all(service.lines())
        assert all(holder is None for (holder,) in world.query("select lease_holder from warehouse_sync.syncs"))
        for audience in audiences.values():
            assert {frozenset(member) for member in running.members(audience)} == world.expected_members(
                rows, "elements"
            )
