"""What must hold at the moment a request leaves, seen beside the product through a connection of the tests' own.

An ADD names a member of the snapshot that is promoted then, with just its fields; a REMOVE names none of them, and
names a member of a snapshot that was promoted before. Both go to the audience that the snapshot was promoted for,
under a lease that is held.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsBytes

import orjson
from harness.histories.injection import Worker

Rows = Callable[[str], tuple[Sequence[str], Sequence[tuple[Any, ...]]]]
"""Names of columns and rows of a query, by a connection that sees what is committed."""

Element = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]
"""Identifiers and fields, under the names of the wire."""

MEMBERS = re.compile(r"/rest/dmpSegments/(\d+)/users")
IDENTIFIERS = {"sha256_email": "SHA256_EMAIL", "sha512_email": "SHA512_EMAIL", "google_aid": "GOOGLE_AID"}
FIELDS = {
    "first_name": "firstName",
    "last_name": "lastName",
    "title": "title",
    "company": "company",
    "country": "country",
}

STANDING = (
    "select s.promoted_run, r.snapshot_table, s.audience_id, s.lease_holder, s.lease_token, r.lease_token "
    "from warehouse_sync.syncs s left join warehouse_sync.runs r on r.run_id = s.promoted_run "
    "where s.sync = 'people' and s.destination = '{destination}'"
)


class Witness:
    """Thread-safe. `objections`: what was seen and must not be, one sentence each, without values.

    known: the members of all snapshots that were promoted so far.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.destination = "ads"
        self.objections: list[str] = []
        self.known: set[frozenset[tuple[str, str]]] = set()
        self.elements = 0
        self._snapshots: dict[str, set[Element]] = {}
        self._tokens: dict[Worker, int] = {}
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        """Nothing was seen."""
        self.destination = "ads"
        for seen in (self.objections, self.known, self._snapshots, self._tokens):
            seen.clear()

    def notes(self) -> None:
        """A run has ended; what it promoted is known from now on."""
        found = self.rows(STANDING.format(destination=self.destination))[1]
        if found and found[0][1] is not None:
            self._snapshot(str(found[0][1]))

    def sees(self, worker: Worker, method: str, path: str, body: SupportsBytes | None) -> None:
        """A request is about to leave."""
        match = MEMBERS.fullmatch(path)
        if match is None or method != "POST" or body is None:
            return
        elements = orjson.loads(bytes(body))["elements"]
        with self._lock:
            self.elements += len(elements)
            self._compare(worker, match[1], elements)

    def _compare(self, worker: Worker, audience: str, elements: list[dict[str, Any]]) -> None:
        found = self.rows(STANDING.format(destination=self.destination))[1]
        if not found or found[0][1] is None:
            self.objections.append("a batch left while no snapshot was promoted")
            return
        run, table, promoted_for, holder, token, run_token = found[0]
        if str(promoted_for) != audience:
            self.objections.append(f"a batch left for another audience than the one that run {run} was promoted for")
        if holder is None:
            self.objections.append("a batch left while nobody held the lease")
        elif self._tokens.setdefault(worker, token) != token:
            self.objections.append("a batch left from a worker whose lease another one had taken")
        elif token != run_token:
            self.objections.append(f"a batch left before run {run} of this worker was promoted")
        snapshot = self._snapshot(str(table))
        members = {identifiers for identifiers, _ in snapshot}
        for element in elements:
            identifiers = frozenset((pair["idType"], pair["idValue"]) for pair in element["userIds"])
            fields = frozenset((name, element[name]) for name in FIELDS.values() if name in element)
            if element["action"] == "ADD":
                if (identifiers, fields) not in snapshot:
                    what = "fields" if identifiers in members else "a member"
                    self.objections.append(f"an ADD named {what} that the promoted snapshot of run {run} lacks")
            elif identifiers in members:
                self.objections.append(f"a REMOVE named a member of the promoted snapshot of run {run}")
            elif identifiers not in self.known:
                self.objections.append("a REMOVE named what is no member of any snapshot that was promoted")

    def _snapshot(self, table: str) -> set[Element]:
        if table not in self._snapshots:
            names, rows = self.rows(f"select * from warehouse_sync.{table} where reason is null")
            self._snapshots[table] = {_element(dict(zip(names, row, strict=True))) for row in rows}
            self.known.update(identifiers for identifiers, _ in self._snapshots[table])
        return self._snapshots[table]


def _element(row: dict[str, Any]) -> Element:
    def named(wire: dict[str, str]) -> frozenset[tuple[str, str]]:
        return frozenset((name, row[column]) for column, name in wire.items() if row.get(column) is not None)

    return named(IDENTIFIERS), named(FIELDS)
