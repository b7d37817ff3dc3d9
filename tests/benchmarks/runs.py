"""Measured runs, read from the results: of each case those of the last command that measured it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.results import Key, Record

CASES = {"first": "first sync", "0": "nothing changed", "0.01": "1 % changed", "1": "everybody replaced"}
ENGINES = {"duckdb": "DuckDB", "postgres": "PostgreSQL"}


class Results:
    """Of each case the runs of the last command that measured it."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.machines: list[Record] = []
        self.paces: dict[tuple[str, int, str], Record] = {}
        self.start_ups: dict[str, Record] = {}
        self._runs: dict[Key, list[Record]] = {}
        sessions: dict[Key, int] = {}
        used: dict[tuple[Any, ...], int] = {}
        for record in records:
            if record["kind"] == "machine":
                self.machines.append(record)
            elif record["kind"] == "pace":
                place = record["warehouse"], record["rows"], record["server"]
                self.paces[place], used[place] = record, len(self.machines)
            elif record["kind"] == "start-up":
                self.start_ups[record["command"]] = record
                used[("start-up",)] = len(self.machines)
            else:
                key = (record["warehouse"], record["rows"], record["churn"], record["contender"])
                if sessions.get(key) != len(self.machines):
                    sessions[key], self._runs[key] = len(self.machines), []
                self._runs[key].append(record)
        self.used = sorted({*sessions.values(), *used.values()})

    @property
    def sizes(self) -> dict[str, list[int]]:
        """By warehouse, the numbers of rows that were measured."""
        found: dict[str, set[int]] = defaultdict(set)
        for warehouse, rows, _, _ in self._runs:
            found[warehouse].add(rows)
        return {warehouse: sorted(found[warehouse]) for warehouse in ENGINES if warehouse in found}

    def values(self, key: Key, value: str | Callable[[Record], Any] = "seconds") -> list[float]:
        """One number of each run of a case, empty where there are none."""
        read = value if callable(value) else lambda record: record[value]
        found = [read(record) for record in self._runs.get(key, ())]
        return [float(number) for number in found if number is not None]

    def median(self, key: Key, value: str | Callable[[Record], Any] = "seconds") -> float | None:
        """None where nothing was measured."""
        found = self.values(key, value)
        return statistics.median(found) if found else None


def seconds_of(phase: str) -> Callable[[Record], Any]:
    """Reads the seconds of one phase from a record, None where it has none."""
    return lambda record: record["phases"].get(phase)
