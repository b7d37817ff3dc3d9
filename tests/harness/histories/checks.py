"""What must hold during a history, after each worker, however it ended; worked out from the outside.

The state is read with plain SQL from the warehouse, the requests from the sandbox.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from harness.processes.kill_points import WorkerFault
from harness.servers.observed_sandbox import Delivery, Element
from harness.worlds.world import READINGS, Member, Row, World, member_of

SCHEMA = "warehouse_sync"
CODES = {"succeeded": 0, "skipped": 0, "failed": 1, "incomplete": 3, "blocked": 4}
SIGNALLED = (130, 143)
SNAPSHOT_COLUMNS = {"sha256_email": "SHA256_EMAIL", "google_aid": "GOOGLE_AID"}
FINAL = ("status", "finished_at", "last_seq", "watermark", "delivered_add", "delivered_remove", "rejected_operations")
"""Columns of a run that nobody changes once it has ended."""


@dataclass(frozen=True, slots=True)
class State:
    """The worker's tables. installed: they are there. runs and snapshots by the id of the run, log and queue as rows.

    A snapshot is its members as LinkedIn should be told them, with their identities.
    """

    installed: bool
    promoted_run: int | None
    lease_holder: str | None
    runs: Mapping[int, Mapping[str, Any]]
    log: Sequence[Mapping[str, Any]]
    queue: Sequence[Mapping[str, Any]]
    snapshots: Mapping[int, Mapping[Element, Any]]

    @property
    def newest(self) -> int:
        """The id of the newest run, 0 before the first."""
        return max(self.runs, default=0)

    def promoted_before(self, at: float) -> Mapping[str, Any] | None:
        """The run that was the promoted one at a moment, in seconds since the epoch."""
        then = [run for run in self.runs.values() if run["promoted_at"] and _epoch(run["promoted_at"]) <= at]
        return max(then, key=lambda run: int(run["run_id"]), default=None)

    def rejected(self) -> set[Member]:
        """Members of the promoted snapshot whose last ADD was refused for good."""
        if self.promoted_run is None:
            return set()
        last: dict[Any, str] = {}
        for line in sorted(self.log, key=lambda line: (line["run_id"], line["seq"] or 0)):
            if line["operation"] == "ADD":
                last[line["identity"]] = line["outcome"]
        members = self.snapshots[self.promoted_run].items()
        return {identifiers for (identifiers, _, _), identity in members if last.get(identity) == "rejected"}


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


NOTHING = State(False, None, None, {}, [], [], {})
"""The state before the first run."""


def read_state(connection: sa.Connection) -> State:
    """All that is there now."""
    if not sa.inspect(connection).has_table("runs", schema=SCHEMA):
        return NOTHING

    def rows(table: str) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(sa.text(f"select * from {SCHEMA}.{table}")).mappings()]

    syncs = rows("syncs")
    assert len(syncs) <= 1, "the sync has one row"
    runs = {run["run_id"]: run for run in rows("runs")}
    promoted, holder = (syncs[0]["promoted_run"], syncs[0]["lease_holder"]) if syncs else (None, None)
    snapshots = {
        number: {_element(row): row["identity"] for row in rows(f'"{run["snapshot_table"]}"') if not row["reason"]}
        for number, run in runs.items()
        if run["promoted_at"] and run["snapshot_table"]
    }
    assert promoted is None or promoted in snapshots, "the promoted run has a snapshot"
    return State(True, promoted, holder, runs, rows("sync_log"), rows("retry_queue"), snapshots)


def _element(row: Mapping[str, Any]) -> Element:
    identifiers = frozenset((wire, row[column]) for column, wire in SNAPSHOT_COLUMNS.items() if row[column])
    return identifiers, row["first_name"], row["country"]


def check_output(out: str, err: str, code: int, tokens: Iterable[str]) -> Mapping[str, Any] | None:
    """What a worker said is fit to be read by anybody; the report of the run, when it brought one."""
    for text in (out, err):
        assert not re.search(r"Traceback|internal error|threads are left", text), text
        assert not re.search(r"[^\s@]@[^\s@]+[.][^\s@]", text), "an address is shown"
        assert not re.search(r"sandbox-(refresh|access)|Bearer \S", text), "a token is shown"
        assert not any(len(token) > 20 and token in text for token in tokens), "a token is shown"
    if code < 0 or not out.strip():
        assert code < 0 or code in (1, 2, *SIGNALLED), f"exit code {code} without a report"
        return None
    (report,) = json.loads(out)
    if code in (0, 3, 4):
        assert CODES[report["status"]] == code, f"exit code {code} of a run that {report['status']}"
    return dict(report)


def check_runs(before: State, after: State, report: Mapping[str, Any] | None, *, alone: bool) -> None:
    """What had ended stays as it was; who is running is open, everybody else has an end."""
    for number, run in before.runs.items():
        if run["status"] != "running":
            assert {name: after.runs[number][name] for name in FINAL} == {name: run[name] for name in FINAL}, number
    for number, run in after.runs.items():
        assert (run["status"] == "running") == (run["finished_at"] is None), f"run {number} is half ended"
        assert run["watermark"] <= run["last_seq"], number
    assert len(after.runs) - len(before.runs) <= (1 if alone else 2), "more than one run was begun"
    assert after.promoted_run is None or after.runs[after.promoted_run]["promoted_at"]
    assert after.promoted_run == max((n for n, run in after.runs.items() if run["promoted_at"]), default=None)
    if report is None or not alone:
        return
    assert report["status"] != "skipped", "skipped, but nobody else has the lease"
    if report["run_id"] is None:
        begun = [run for number, run in after.runs.items() if number > before.newest]
        assert all(run["status"] == "running" and not run["promoted_at"] for run in begun), "a run is not reported"
        return
    assert after.newest == report["run_id"]
    if report["status"] in ("succeeded", "incomplete", "blocked"):
        assert after.runs[after.newest]["status"] == report["status"]
        if not str(report["reason"]).startswith("stopped"):
            assert not [run for run in after.runs.values() if run["status"] == "running"], "a dead run was left open"


def check_books(state: State) -> None:
    """Of the promoted run, just what the log tells as not delivered waits in the queue; a REMOVE is never forgotten."""
    told = {
        line["seq"]
        for line in state.log
        if line["run_id"] == state.promoted_run
        and (line["outcome"] == "deferred" or (line["outcome"] == "rejected" and line["operation"] == "REMOVE"))
    }
    waiting = {row["seq"] for row in state.queue if row["run_id"] == state.promoted_run}
    assert waiting == told
    for number, run in state.runs.items():
        lines = sorted(line["seq"] for line in state.log if line["run_id"] == number and line["seq"] is not None)
        ended = run["watermark"] if run["status"] == "running" else run["last_seq"]
        assert lines == list(range(1, (ended if run["promoted_at"] else 0) + 1)), f"the log of run {number}"


def check_lease(before: State, after: State, code: int, upset: WorkerFault | None) -> None:
    """A worker that comes to its end by itself gives the lease back, unless the warehouse could not be told."""
    broken = upset is not None and upset.act in ("break", "outage")
    assert code not in (0, 3, 4) or broken or after.lease_holder in (None, before.lease_holder), "the lease is kept"


def check_sending(before: State, after: State, deliveries: Sequence[Delivery], code: int) -> None:
    """Nothing is sent before the run is promoted, nobody added who is not in its snapshot, nobody removed who is."""
    for delivery in deliveries:
        if not delivery.adds and not delivery.removes:
            continue
        assert code not in (2, 4), f"exit code {code}, but something was sent"
        run = after.promoted_before(delivery.at)
        assert run is not None, "something was sent before any run was promoted"
        assert run["run_id"] > before.newest, "something was sent before the run was promoted"
        if run["run_id"] in after.snapshots:
            snapshot = after.snapshots[run["run_id"]]
            assert delivery.adds <= snapshot.keys(), "an ADD of somebody who is not in the promoted snapshot"
            present = {identifiers for identifiers, _, _ in snapshot}
            removed = {identifiers for identifiers, _, _ in delivery.removes}
            assert not removed & present, "a REMOVE of somebody who is in the promoted snapshot"


def check_held(world: World, state: State) -> None:
    """After a run that succeeded: the audience is the promoted snapshot, but for ADDs that were refused for good."""
    assert state.promoted_run is not None
    rejected = state.rejected()
    members = {identifiers for identifiers, _, _ in state.snapshots[state.promoted_run]}
    for reading in (*READINGS, "persons"):
        held = world.actual_members(reading)
        wanted, certain = _spread(members, reading), _spread(members - rejected, reading)
        assert held <= wanted, f"{reading}: {len(held - wanted)} too many"
        assert certain <= held, f"{reading}: {len(certain - held)} missing"


def _spread(members: set[Member], reading: str) -> set[Member]:
    if reading == "identifiers":
        return {frozenset([identifier]) for member in members for identifier in member}
    return members


def check_snapshot(state: State, rows: Sequence[Row]) -> None:
    """The promoted snapshot is what the query yields now."""
    assert state.promoted_run is not None
    members = {identifiers for identifiers, _, _ in state.snapshots[state.promoted_run]}
    assert members == {member for row in rows if (member := member_of(row))}
