"""The test that holds the product: for any history of data, faults and crashes, once runs get through, all is well.

A crash cuts the worker off before its n-th statement in the warehouse: nothing is recorded, nothing is given back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness.world import World, make_impatient, sandbox
from hypothesis import event, given, settings
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.mirror import Mirror
from warehouse_sync.operations import RunStatus
from warehouse_sync.pipeline import delivery
from warehouse_sync.state.syncs import Lease

HISTORIES = int(os.environ.get("HISTORIES", "12"))
"""More of them: HISTORIES=1000 python -m pytest tests/acceptance/test_histories.py"""

LETTERS = "abcd"
DEVICES = [None, *(f"0000000{n}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in range(1, 3))]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(1, 4),
            "email": st.sampled_from([None, *(f"{letter}@example.com" for letter in LETTERS)]),
            "device": st.sampled_from(DEVICES),
            "first_name": st.sampled_from([None, "Ann"]),
        }
    ),
    max_size=6,
)
faults = st.sampled_from(
    [
        "503:users:times=0",
        "503:users:times=0:action=REMOVE",
        "503:users:times=0:action=ADD",
        "reset_before:users:times=1",
        "reset_after:users:times=1",
        "reset_after:users:times=0",
        "cut_short:users:times=0:count=1",
        "cut_short:users:times=1:action=REMOVE",
        "short_answer:users:times=1",
        "refuse_elements:users:times=0:action=REMOVE:indices=0",
        "429:users:times=2",
        "bad_json:users:times=1",
        "401:any:times=1",
        "502:users:probability=0.5",
        "403:users:times=1",
        "not_found:users:times=0",
    ]
)


@dataclass(frozen=True)
class Step:
    """New data, and a run over it: of which kind, against which fault, cut off before which statement."""

    rows: list[dict[str, Any]] | None
    wish: str
    fault: str | None
    crash: int | None


steps = st.builds(
    Step,
    rows=st.one_of(st.none(), rows),
    wish=st.sampled_from(["run", "run", "run", "full", "retry", "retry dead"]),
    fault=st.one_of(st.none(), faults),
    crash=st.one_of(st.none(), st.none(), st.integers(1, 70)),
)


class Crash(BaseException):
    """The end of a worker: nobody catches it."""


@contextmanager
def cut_off(before: int | None) -> Iterator[None]:
    """The worker dies before its n-th statement, without a last word."""
    if before is None:
        yield
        return
    count = 0

    def statement(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == before:
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "failed", lambda *_: None)
        patch.setattr(Lease, "release", lambda *_: None)
        sa.event.listen(sa.Engine, "before_cursor_execute", statement)
        try:
            yield
        except Crash:
            event("cut off")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", statement)


def perform(world: World, wish: str) -> None:
    try:
        match wish:
            case "run":
                report = world.run()
            case "full":
                report = world.run(full=True)
            case _:
                report = world.retry(dead=wish == "retry dead")
        event(report.status.value)
    except WarehouseSyncError as failure:
        event(type(failure).__name__)


def expire_lease(world: World) -> None:
    """As much time goes by as a dead worker's lease lasts."""
    with world.connect() as connection:
        if sa.inspect(connection).has_table("syncs", schema="warehouse_sync"):
            connection.execute(sa.text("update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"))


@settings(max_examples=HISTORIES)
@given(history=st.lists(steps, min_size=1, max_size=5))
def test_any_history_ends_equal(warehouse_url: str, tmp_path: Path, history: list[Step]) -> None:
    """After calm runs the audience equals the query under every reading, and each operation has one line in the log."""
    with pytest.MonkeyPatch.context() as patch, sandbox(token_life=5.0) as running:
        make_impatient(patch)
        # So that a handful of members make several batches, in flight together and over several windows.
        patch.setattr(LinkedIn, "batch_size", 2)
        patch.setattr(delivery, "WINDOW", 1)
        world = World(warehouse_url, running, tmp_path)
        world.begin_anew()
        data: list[dict[str, Any]] = []
        world.fill(data)
        for step in history:
            if step.rows is not None:
                data = step.rows
                world.fill(data)
            if step.fault:
                running.inject(step.fault)
            with cut_off(step.crash):
                perform(world, step.wish)
            running.clear_faults()
            expire_lease(world)
        calm = world.run()
        if calm.dead:
            event("dead REMOVEs sent again")
            calm = world.retry(dead=True)
        assert (calm.status, calm.deferred, calm.dead) == (RunStatus.SUCCEEDED, 0, 0)
        world.check(data)
        assert world.query("select seq from warehouse_sync.retry_queue") == []
        planned = world.query(
            "select run_id, last_seq from warehouse_sync.runs where promoted_at is not null and last_seq > 0"
        )
        logged = world.query(
            "select run_id, count(*), count(distinct seq) from warehouse_sync.sync_log "
            "where seq is not null group by run_id"
        )
        assert sorted((run, last, last) for run, last in map(tuple, planned)) == sorted(map(tuple, logged))
