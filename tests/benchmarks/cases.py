"""Cases: a warehouse, a number of rows and a churn; each contender runs a case several times, in turn.

The initial state of a run is created once per contender and restored before each repeat, which is not timed.
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
from benchmarks.contenders.base import Contender, RunSetup
from benchmarks.data import Churn
from benchmarks.measuring import Measurement, measure, module_environment
from benchmarks.sinks import RunningSink
from benchmarks.warehouses import BenchWarehouse


@dataclass
class Series:
    """All cases of one warehouse and number of rows.

    Attributes:
        warehouse: The warehouse.
        sink: The server that receives the members.
        folder: The folder for files of the contenders.
        rows: The number of rows in table `people`.
        requests_per_minute: The rate limit of the product.
        base: The state with table `people`.
    """

    warehouse: BenchWarehouse
    sink: RunningSink
    folder: Path
    rows: int
    requests_per_minute: int = 1_000_000
    base: str = field(init=False)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        statements = data.fill(self.rows)
        # The name has a hash of the SQL, so that a later command reuses the state only if it would be equal.
        self.base = f"people_{self.rows}_{hashlib.sha256(repr(statements).encode()).hexdigest()[:6]}"
        if not self.warehouse.exists(self.base):
            self.warehouse.execute(self.base, statements)

    def run(self, churn: Churn, contenders: Sequence[Contender], repeats: int) -> Iterator[dict[str, Any]]:
        """Run the case and yield a record for each measured run.

        Raises:
            WrongResult: A contender did not send the right operations.
        """
        participants = [each for each in contenders if (churn.first or not each.only_first) and self._can_run(each)]
        initial_states = {each.name: self._initial_state(each, churn) for each in participants}
        for repeat in range(1, repeats + 1):
            for contender in participants:
                with self._prepared_run(contender, initial_states[contender.name], churn) as setup:
                    yield {**self._measure(contender, setup), "repeat": repeat}
        if not churn.first:
            for contender in participants:
                if initial_states[contender.name] != self._state_after_first_run(contender):
                    self.warehouse.drop(initial_states[contender.name])

    def _can_run(self, contender: Contender) -> bool:
        reason = contender.missing(self.warehouse)
        if reason:
            print(f"SKIPPED {contender.name}: {reason}", flush=True)
        return not reason

    def end(self) -> None:
        """Drop the states after a first sync."""
        for state in self._made:
            self.warehouse.drop(state)
        self._made.clear()

    def _state_after_first_run(self, contender: Contender) -> str:
        return f"after_{contender.name}_{self.rows}".replace(" ", "_")

    def _files(self, state: str) -> Path:
        return self.folder / "files" / self.warehouse.name / state

    def _initial_state(self, contender: Contender, churn: Churn) -> str:
        """Create the initial state of the contender, if it does not exist; return its name."""
        if churn.first:
            return self.base
        after = self._state_after_first_run(contender)
        if after not in self._made:  # An existing state is of an earlier command, and perhaps of another commit.
            first = Churn("first", self.rows)
            with self._prepared_run(contender, self.base, first) as setup:
                self._made.add(after)
                self._measure(contender, setup)
                self.warehouse.copy(setup.state, after)
                self.warehouse.execute(after, [])
                shutil.rmtree(self._files(after), ignore_errors=True)
                shutil.copytree(setup.files, self._files(after))
        if not churn.statements:
            return after
        state = f"{after}_changed"
        self.warehouse.copy(after, state)
        self.warehouse.execute(state, churn.statements)
        shutil.rmtree(self._files(state), ignore_errors=True)
        shutil.copytree(self._files(after), self._files(state))
        return state

    @contextmanager
    def _prepared_run(self, contender: Contender, initial_state: str, churn: Churn) -> Iterator[RunSetup]:
        state = "work"
        files = self._files(state)
        shutil.rmtree(files, ignore_errors=True)
        if self._files(initial_state).exists():
            shutil.copytree(self._files(initial_state), files)
        files.mkdir(parents=True, exist_ok=True)
        self.warehouse.copy(initial_state, state)
        try:
            yield RunSetup(self.warehouse, state, files, self.sink, churn, self.requests_per_minute)
        finally:
            self.warehouse.drop(state)
            shutil.rmtree(files, ignore_errors=True)

    def _measure(self, contender: Contender, setup: RunSetup) -> dict[str, Any]:
        command = contender.command(setup)
        self.warehouse.flush(setup.state)
        self.sink.reset()
        sink_before, written_before = self.sink.counts(), self.warehouse.wal_bytes()
        found = measure(command, module_environment())
        counts, written = self.sink.counts(), self.warehouse.wal_bytes()
        contender.check(setup, counts, found.report)
        wal = None if written is None or written_before is None else written - written_before
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "warehouse": self.warehouse.name,
            "rows": self.rows,
            "churn": setup.churn.name,
            "contender": contender.name,
            **_measured_values(found),
            "wal_bytes": wal,
            "table_bytes": self.warehouse.table_bytes(setup.state),
            "adds": counts.add,
            "removes": counts.remove,
            "requests": counts.requests,
            "body_bytes": counts.bytes,
            "sink_cpu_seconds": counts.cpu_seconds - sink_before.cpu_seconds,
        }


def _measured_values(found: Measurement) -> dict[str, Any]:
    report = found.report
    phases = dict(report.get("phases", {}))
    if phases:
        phases["exit"] = found.seconds - sum(phases.values())
    return {
        "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds,
        "rss_mb": found.rss_mb,
        "phases": phases,
        "phase_cpu": report.get("phase_cpu", {}),
        "statements": report.get("statements"),
        "received_bytes": report.get("received_bytes"),
        "sent_bytes": report.get("sent_bytes"),
        "write_bytes": report.get("write_bytes"),
    }
