"""The measured runs in the results: for each case those of the last command that measured it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.results import Key, Record

CASES = {"first": "first sync", "0": "nothing changed", "0.01": "1 % changed", "1": "all replaced"}
ENGINES = {"duckdb": "DuckDB", "postgres": "PostgreSQL"}


class Results:
    """The runs of the last command that measured each case.

    Attributes:
        records: The runs, after the records of their machines. A run before any machine record has none.
        machines: The machine records.
        paces: The runs at the rate limit of LinkedIn, by warehouse, rows and server.
        start_ups: The measurements of commands, by command.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        commands: list[Record | None] = [None]
        measured: dict[tuple[Any, ...], tuple[int, list[Record]]] = {}
        for record in records:
            if record["kind"] == "machine":
                commands.append(record)
                continue
            case, now = _case(record), len(commands) - 1
            command, found = measured.get(case, (now, []))
            measured[case] = (now, [*found, record] if command == now else [record])
        self.records: list[Record] = []
        self.machines: list[Record] = []
        for number, machine in enumerate(commands):
            found = [record for command, records in measured.values() if command == number for record in records]
            if machine is not None and found:
                self.machines.append(machine)
                self.records.append(machine)
            self.records += found
        self._runs: dict[Key, list[Record]] = {}
        self.paces: dict[tuple[str, int, str], Record] = {}
        self.start_ups: dict[str, Record] = {}
        for (kind, *key), (_, found) in measured.items():
            if kind == "start-up":
                (name,) = key
                self.start_ups[name] = found[-1]
            elif kind == "pace":
                warehouse, rows, server = key
                self.paces[warehouse, rows, server] = found[-1]
            else:
                warehouse, rows, churn, contender = key
                self._runs[warehouse, rows, churn, contender] = found

    @property
    def sizes(self) -> dict[str, list[int]]:
        """The measured numbers of rows, by warehouse."""
        found: dict[str, set[int]] = defaultdict(set)
        for warehouse, rows, _, _ in self._runs:
            found[warehouse].add(rows)
        return {warehouse: sorted(found[warehouse]) for warehouse in ENGINES if warehouse in found}

    def values(self, key: Key, value: str | Callable[[Record], Any] = "seconds") -> list[float]:
        """Return a value of each run of a case, without runs that do not have it."""
        read = value if callable(value) else lambda record: record[value]
        found = [read(record) for record in self._runs.get(key, ())]
        return [float(number) for number in found if number is not None]

    def median(self, key: Key, value: str | Callable[[Record], Any] = "seconds") -> float | None:
        """Return the median of a value over the runs of a case, or None without runs."""
        found = self.values(key, value)
        return statistics.median(found) if found else None


def seconds_of(phase: str) -> Callable[[Record], Any]:
    """Return a function that reads the seconds of a phase from a record, or None when it has no such phase."""
    return lambda record: record["phases"].get(phase)


def _case(record: Record) -> tuple[Any, ...]:
    """Return the key of the case of a record: its kind and the values that identify the case."""
    kind = record["kind"]
    names = {"pace": ("warehouse", "rows", "server"), "start-up": ("command",)}
    return (kind, *(record[name] for name in names.get(kind, ("warehouse", "rows", "churn", "contender"))))
