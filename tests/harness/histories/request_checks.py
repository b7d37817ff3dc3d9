"""What must hold when a request is sent, checked through a separate connection of the tests.

An ADD names a member of the promoted snapshot, with exactly its fields. A REMOVE names a member of an earlier promoted
snapshot that is not in the promoted one. Both are sent to the audience that the snapshot was promoted for, and the
worker holds the lease.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsBytes

import orjson
from harness.histories.injection import Worker

Query = Callable[[str], tuple[Sequence[str], Sequence[tuple[Any, ...]]]]
"""A function that runs SQL on a connection that sees committed data, and returns column names and rows."""

Element = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]
"""Identifiers and fields, with their names in requests."""

USERS_PATH = re.compile(r"/rest/dmpSegments/(\d+)/users")
IDENTIFIERS = {"sha256_email": "SHA256_EMAIL", "sha512_email": "SHA512_EMAIL", "google_aid": "GOOGLE_AID"}
FIELDS = {
    "first_name": "firstName",
    "last_name": "lastName",
    "title": "title",
    "company": "company",
    "country": "country",
}

PROMOTED_RUN = (
    "select s.promoted_run, r.snapshot_table, s.audience_id, s.lease_holder, s.lease_token, r.lease_token "
    "from warehouse_sync.syncs s left join warehouse_sync.runs r on r.run_id = s.promoted_run "
    "where s.sync = 'people' and s.destination = '{destination}'"
)


class RequestChecker:
    """A check of each request against the promoted snapshot. Thread-safe.

    Attributes:
        query: Runs SQL on a separate connection.
        destination: The name of the destination.
        violations: What was wrong, one sentence each, without values.
        known_members: The members of all snapshots that were promoted so far.
        elements: The number of elements in all requests.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.destination = "ads"
        self.violations: list[str] = []
        self.known_members: set[frozenset[tuple[str, str]]] = set()
        self.elements = 0
        self._snapshots: dict[str, set[Element]] = {}
        self._tokens: dict[Worker, int] = {}
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget all requests, snapshots and violations."""
        self.destination = "ads"
        for collected in (self.violations, self.known_members, self._snapshots, self._tokens):
            collected.clear()

    def record_promotion(self) -> None:
        """Add the members of the promoted snapshot to the known members, at the end of a run."""
        promoted = self.query(PROMOTED_RUN.format(destination=self.destination))[1]
        if promoted and promoted[0][1] is not None:
            self._load_snapshot(str(promoted[0][1]))

    def observe(self, worker: Worker, method: str, path: str, body: SupportsBytes | None) -> None:
        """Check a request that is about to be sent."""
        match = USERS_PATH.fullmatch(path)
        if match is None or method != "POST" or body is None:
            return
        elements = orjson.loads(bytes(body))["elements"]
        with self._lock:
            self.elements += len(elements)
            self._check_elements(worker, match[1], elements)

    def _check_elements(self, worker: Worker, audience_id: str, elements: list[dict[str, Any]]) -> None:
        promoted = self.query(PROMOTED_RUN.format(destination=self.destination))[1]
        if not promoted or promoted[0][1] is None:
            self.violations.append("a batch was sent while no snapshot was promoted")
            return
        run, table, promoted_for, holder, token, run_token = promoted[0]
        if str(promoted_for) != audience_id:
            self.violations.append(f"a batch was sent to another audience than the one that run {run} was promoted for")
        if holder is None:
            self.violations.append("a batch was sent while no worker held the lease")
        elif self._tokens.setdefault(worker, token) != token:
            self.violations.append("a batch was sent by a worker whose lease another worker had taken")
        elif token != run_token:
            self.violations.append(f"a batch was sent before run {run} of this worker was promoted")
        snapshot = self._load_snapshot(str(table))
        members = {identifiers for identifiers, _ in snapshot}
        for element in elements:
            identifiers = frozenset((pair["idType"], pair["idValue"]) for pair in element["userIds"])
            fields = frozenset((name, element[name]) for name in FIELDS.values() if name in element)
            if element["action"] == "ADD":
                if (identifiers, fields) not in snapshot:
                    what = "fields" if identifiers in members else "a member"
                    self.violations.append(f"an ADD named {what} missing from the promoted snapshot of run {run}")
            elif identifiers in members:
                self.violations.append(f"a REMOVE named a member of the promoted snapshot of run {run}")
            elif identifiers not in self.known_members:
                self.violations.append("a REMOVE named a member that was in no promoted snapshot")

    def _load_snapshot(self, table: str) -> set[Element]:
        if table not in self._snapshots:
            names, rows = self.query(f"select * from warehouse_sync.{table} where reason is null")
            self._snapshots[table] = {_element(dict(zip(names, row, strict=True))) for row in rows}
            self.known_members.update(identifiers for identifiers, _ in self._snapshots[table])
        return self._snapshots[table]


def _element(row: dict[str, Any]) -> Element:
    def pairs(wire_names: dict[str, str]) -> frozenset[tuple[str, str]]:
        return frozenset((name, row[column]) for column, name in wire_names.items() if row.get(column) is not None)

    return pairs(IDENTIFIERS), pairs(FIELDS)
