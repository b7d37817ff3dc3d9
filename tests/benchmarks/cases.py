"""A case is a warehouse, a number of rows and a churn; each contender runs it several times, in turn.

What a run finds is made once per contender and brought back before each repeat, which is not timed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.contenders.base import Contender, Place
from benchmarks.data import Churn
from benchmarks.measuring import Measured, measure, search_path
from benchmarks.sinks import RunningSink
from benchmarks.warehouses import BenchWarehouse


@dataclass
class Series:
    """All cases of one warehouse and number of rows; the people are kept in `folder` where that is possible."""

    warehouse: BenchWarehouse
    sink: RunningSink
    folder: Path
    rows: int
    requests_per_minute: int = 1_000_000
    base: str = field(init=False)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        statements = data.fill(self.rows)
        # Kept from one command to the next, as long as it would be made just so.
        self.base = f"people_{self.rows}_{hashlib.sha256(repr(statements).encode()).hexdigest()[:6]}"
        if not self.warehouse.exists(self.base):
            self.warehouse.execute(self.base, statements)

    def run(self, churn: Churn, contenders: Sequence[Contender], repeats: int) -> Iterator[dict[str, Any]]:
        """A record for each measured run, as it ends. Raises WrongResult."""
        taking_part = [each for each in contenders if (churn.first or not each.only_first) and self._can(each)]
        begins = {each.name: self._begin(each, churn) for each in taking_part}
        for repeat in range(1, repeats + 1):
            for contender in taking_part:
                with self._place(contender, begins[contender.name], churn) as place:
                    yield {**self._measured(contender, place), "repeat": repeat}
        if not churn.first:
            for contender in taking_part:
                if begins[contender.name] != self._after(contender):
                    self.warehouse.drop(begins[contender.name])

    def _can(self, contender: Contender) -> bool:
        why = contender.missing(self.warehouse)
        if why:
            print(f"SKIPPED {contender.name}: {why}", flush=True)
        return not why

    def end(self) -> None:
        """The states behind a first sync are gone."""
        for state in self._made:
            self.warehouse.drop(state)
        self._made.clear()

    def _after(self, contender: Contender) -> str:
        return f"after_{contender.name}_{self.rows}".replace(" ", "_")

    def _files(self, state: str) -> Path:
        return self.folder / "files" / self.warehouse.name / state

    def _begin(self, contender: Contender, churn: Churn) -> str:
        """The state in which the contender finds the warehouse."""
        if churn.first:
            return self.base
        after = self._after(contender)
        if after not in self._made:  # One that is there is another command's, and of another commit perhaps.
            first = Churn("first", self.rows)
            with self._place(contender, self.base, first) as place:
                self._made.add(after)
                self._measured(contender, place)
                self.warehouse.fork(place.state, after)
                self.warehouse.execute(after, [])
                shutil.rmtree(self._files(after), ignore_errors=True)
                shutil.copytree(place.files, self._files(after))
        if not churn.statements:
            return after
        state = f"{after}_changed"
        self.warehouse.fork(after, state)
        self.warehouse.execute(state, churn.statements)
        shutil.rmtree(self._files(state), ignore_errors=True)
        shutil.copytree(self._files(after), self._files(state))
        return state

    @contextmanager
    def _place(self, contender: Contender, begin: str, churn: Churn) -> Iterator[Place]:
        state = "work"
        files = self._files(state)
        shutil.rmtree(files, ignore_errors=True)
        if self._files(begin).exists():
            shutil.copytree(self._files(begin), files)
        files.mkdir(parents=True, exist_ok=True)
        self.warehouse.fork(begin, state)
        try:
            yield Place(self.warehouse, state, files, self.sink, churn, self.requests_per_minute)
        finally:
            self.warehouse.drop(state)
            shutil.rmtree(files, ignore_errors=True)

    def _measured(self, contender: Contender, place: Place) -> dict[str, Any]:
        command = contender.command(place)
        self.warehouse.settle(place.state)
        self.sink.reset()
        sink_before, written_before = self.sink.counts(), self.warehouse.written()
        found = measure(command, search_path())
        counts, written = self.sink.counts(), self.warehouse.written()
        contender.check(place, counts, found.told)
        wal = None if written is None or written_before is None else written - written_before
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "warehouse": self.warehouse.name,
            "rows": self.rows,
            "churn": place.churn.name,
            "contender": contender.name,
            **_numbers(found),
            "wal_bytes": wal,
            "table_bytes": self.warehouse.table_bytes(place.state),
            "adds": counts.add,
            "removes": counts.remove,
            "requests": counts.requests,
            "body_bytes": counts.bytes,
            "sink_cpu_seconds": counts.cpu_seconds - sink_before.cpu_seconds,
        }


def _numbers(found: Measured) -> dict[str, Any]:
    told = found.told
    phases = dict(told.get("phases", {}))
    if phases:
        phases["exit"] = found.seconds - sum(phases.values())
    return {
        "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds,
        "rss_mb": found.rss_mb,
        "phases": phases,
        "phase_cpu": told.get("phase_cpu", {}),
        "statements": told.get("statements"),
        "received_bytes": told.get("received_bytes"),
        "sent_bytes": told.get("sent_bytes"),
        "write_bytes": told.get("write_bytes"),
    }
