"""What must hold after each worker of a history, whether it succeeded, failed or was killed.

The checks use no code of the product: they read the state from the warehouse with SQL, and the requests from the
sandbox.
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
EXIT_CODES = {"succeeded": 0, "skipped": 0, "failed": 1, "incomplete": 3, "blocked": 4}
SIGNAL_EXIT_CODES = (130, 143)
SNAPSHOT_COLUMNS = {"sha256_email": "SHA256_EMAIL", "google_aid": "GOOGLE_AID"}
FINAL_COLUMNS = (
    "status",
    "finished_at",
    "last_seq",
    "watermark",
    "delivered_add",
    "delivered_remove",
    "rejected_operations",
)
"""Columns of a run that do not change after its end."""


@dataclass(frozen=True, slots=True)
class State:
    """The contents of the worker's tables.

    Attributes:
        installed: Whether the tables exist.
        promoted_run: The id of the promoted run, if any.
        lease_holder: The worker that holds the lease, if any.
        runs: The rows of the runs by id.
        log: The rows of the sync log.
        queue: The rows of the retry queue.
        snapshots: For each promoted run the identities of its members by their element, as requests contain it.
    """

    installed: bool
    promoted_run: int | None
    lease_holder: str | None
    runs: Mapping[int, Mapping[str, Any]]
    log: Sequence[Mapping[str, Any]]
    queue: Sequence[Mapping[str, Any]]
    snapshots: Mapping[int, Mapping[Element, Any]]

    @property
    def newest_run(self) -> int:
        """The id of the newest run, 0 without runs."""
        return max(self.runs, default=0)

    def promoted_run_at(self, moment: float) -> Mapping[str, Any] | None:
        """Return the run that was promoted at a moment, in seconds since the epoch."""
        promoted = [
            run for run in self.runs.values() if run["promoted_at"] and _to_epoch_seconds(run["promoted_at"]) <= moment
        ]
        return max(promoted, key=lambda run: int(run["run_id"]), default=None)

    def rejected_members(self) -> set[Member]:
        """Return the members of the promoted snapshot whose last ADD was refused permanently."""
        if self.promoted_run is None:
            return set()
        last: dict[Any, str] = {}
        for line in sorted(self.log, key=lambda line: (line["run_id"], line["seq"] or 0)):
            if line["operation"] == "ADD":
                last[line["identity"]] = line["outcome"]
        members = self.snapshots[self.promoted_run].items()
        return {identifiers for (identifiers, _, _), identity in members if last.get(identity) == "rejected"}


def _to_epoch_seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


EMPTY_STATE = State(False, None, None, {}, [], [], {})
"""The state before the first run."""


def read_state(connection: sa.Connection) -> State:
    """Read the whole state."""
    if not sa.inspect(connection).has_table("runs", schema=SCHEMA):
        return EMPTY_STATE

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
    """Check that the output shows no traceback and no secrets. Return the report of the run, if there is one."""
    for text in (out, err):
        assert not re.search(r"Traceback|internal error|threads are left", text), text
        assert not re.search(r"[^\s@]@[^\s@]+[.][^\s@]", text), "an address is shown"
        assert not re.search(r"sandbox-(refresh|access)|Bearer \S", text), "a token is shown"
        assert not any(len(token) > 20 and token in text for token in tokens), "a token is shown"
    if code < 0 or not out.strip():
        assert code < 0 or code in (1, 2, *SIGNAL_EXIT_CODES), f"exit code {code} without a report"
        return None
    (report,) = json.loads(out)
    if code in (0, 3, 4):
        assert EXIT_CODES[report["status"]] == code, f"exit code {code} of a run that {report['status']}"
    return dict(report)


def check_runs(before: State, after: State, report: Mapping[str, Any] | None, *, alone: bool) -> None:
    """Check that ended runs have not changed, and that all runs except running ones have an end."""
    for number, run in before.runs.items():
        if run["status"] != "running":
            assert {name: after.runs[number][name] for name in FINAL_COLUMNS} == {
                name: run[name] for name in FINAL_COLUMNS
            }, number
    for number, run in after.runs.items():
        assert (run["status"] == "running") == (run["finished_at"] is None), f"status and end of run {number} disagree"
        assert run["watermark"] <= run["last_seq"], number
    assert len(after.runs) - len(before.runs) <= (1 if alone else 2), "more than one run was started"
    assert after.promoted_run is None or after.runs[after.promoted_run]["promoted_at"]
    assert after.promoted_run == max((n for n, run in after.runs.items() if run["promoted_at"]), default=None)
    if report is None or not alone:
        return
    assert report["status"] != "skipped", "skipped, but no other worker has the lease"
    if report["run_id"] is None:
        started = [run for number, run in after.runs.items() if number > before.newest_run]
        assert all(run["status"] == "running" and not run["promoted_at"] for run in started), "a run is not reported"
        return
    assert after.newest_run == report["run_id"]
    if report["status"] in ("succeeded", "incomplete", "blocked"):
        assert after.runs[after.newest_run]["status"] == report["status"]
        if not str(report["reason"]).startswith("stopped"):
            assert not [run for run in after.runs.values() if run["status"] == "running"], "a dead run was left open"


def check_retry_queue(state: State) -> None:
    """Check that the queue holds exactly the undelivered operations of the promoted run, and the log all operations."""
    undelivered = {
        line["seq"]
        for line in state.log
        if line["run_id"] == state.promoted_run
        and (line["outcome"] == "deferred" or (line["outcome"] == "rejected" and line["operation"] == "REMOVE"))
    }
    waiting = {row["seq"] for row in state.queue if row["run_id"] == state.promoted_run}
    assert waiting == undelivered
    for number, run in state.runs.items():
        lines = sorted(line["seq"] for line in state.log if line["run_id"] == number and line["seq"] is not None)
        ended = run["watermark"] if run["status"] == "running" else run["last_seq"]
        assert lines == list(range(1, (ended if run["promoted_at"] else 0) + 1)), f"the log of run {number}"


def check_lease(before: State, after: State, code: int, worker_fault: WorkerFault | None) -> None:
    """Check that a worker that ended by itself released the lease, unless the connection was broken."""
    broken = worker_fault is not None and worker_fault.act in ("break", "outage")
    assert code not in (0, 3, 4) or broken or after.lease_holder in (None, before.lease_holder), (
        "the lease was not released"
    )


def check_deliveries(before: State, after: State, deliveries: Sequence[Delivery], code: int) -> None:
    """Check that nothing was sent before the promotion, and that each element agrees with the promoted snapshot."""
    for delivery in deliveries:
        if not delivery.adds and not delivery.removes:
            continue
        assert code not in (2, 4), f"exit code {code}, but something was sent"
        run = after.promoted_run_at(delivery.at)
        assert run is not None, "something was sent before any run was promoted"
        assert run["run_id"] > before.newest_run, "something was sent before the run was promoted"
        if run["run_id"] in after.snapshots:
            snapshot = after.snapshots[run["run_id"]]
            assert delivery.adds <= snapshot.keys(), "an ADD of a member that is not in the promoted snapshot"
            present = {identifiers for identifiers, _, _ in snapshot}
            removed = {identifiers for identifiers, _, _ in delivery.removes}
            assert not removed & present, "a REMOVE of a member that is in the promoted snapshot"


def check_audience(world: World, state: State) -> None:
    """Check after a successful run that the audience equals the snapshot, except for permanently refused ADDs."""
    assert state.promoted_run is not None
    rejected = state.rejected_members()
    members = {identifiers for identifiers, _, _ in state.snapshots[state.promoted_run]}
    for reading in (*READINGS, "persons"):
        held = world.actual_members(reading)
        allowed, required = _members_as_read(members, reading), _members_as_read(members - rejected, reading)
        assert held <= allowed, f"{reading}: {len(held - allowed)} too many"
        assert required <= held, f"{reading}: {len(required - held)} missing"


def _members_as_read(members: set[Member], reading: str) -> set[Member]:
    if reading == "identifiers":
        return {frozenset([identifier]) for member in members for identifier in member}
    return members


def check_snapshot(state: State, rows: Sequence[Row]) -> None:
    """Check that the promoted snapshot equals the current result of the query."""
    assert state.promoted_run is not None
    members = {identifiers for identifiers, _, _ in state.snapshots[state.promoted_run]}
    assert members == {member for row in rows if (member := member_of(row))}
