"""A worker that is killed (kill -9) leaves nothing to repair by hand.

The worker here is a process as a user starts it. test_torture.py has many more kills, and in test_workers.py leases
expire by the clock.
"""

from __future__ import annotations

import json
import signal

import pytest
from harness.processes.command import call, interrupt
from harness.worlds.world import World, create_audience, people

LEASE = 600.0
"""Seconds; longer than the whole test takes, which lets the lease expire in the table instead of waiting."""


@pytest.fixture
def world(world: World) -> World:
    world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    world.warehouse_settings = {"lease": LEASE}
    world.save()
    return world


@pytest.mark.parametrize(
    ("warehouse_url", "action"), [("duckdb", "REMOVE"), ("postgres", "ADD")], indirect=["warehouse_url"]
)
def test_a_worker_killed_during_delivery(world: World, action: str) -> None:
    """After a kill during REMOVEs or ADDs, the first run after the lease has expired ends equal."""
    world.fill(people(*range(600)))
    assert call(world.folder, "run").code == 0
    rows = people(*range(300, 900))
    world.fill(rows)
    before = len(world.sandbox.requests("users"))
    world.sandbox.inject(f"slow:users:times=0:seconds=1:action={action}")
    killed = interrupt(
        world.folder,
        "run",
        when=lambda: any(record.action == action for record in world.sandbox.requests("users")[before:]),
        signal_number=signal.SIGKILL,
    )
    assert killed.code == -signal.SIGKILL
    world.sandbox.clear_faults()
    early = call(world.folder, "run", "--json")
    assert (early.code, json.loads(early.out)[0]["status"]) == (0, "skipped")
    with world.connect() as connection:
        connection.exec_driver_sql(
            f"update warehouse_sync.syncs set lease_expires_at = lease_expires_at - interval '{LEASE:.0f} seconds'"
        )
    report = call(world.folder, "run", "--json")
    assert report.code == 0, report.err
    (result,) = json.loads(report.out)
    assert result["status"] == "succeeded"
    assert result["planned"]["add"] + result["planned"]["remove"] > 0
    world.check(rows)
    statuses = [status for (status,) in world.query("select status from warehouse_sync.runs order by run_id")]
    assert statuses == ["succeeded", "failed", "succeeded"]
