"""One history, performed by real workers in a world of its own, and judged all along."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from harness.histories import checks as judging
from harness.histories.checks import NOTHING, State
from harness.histories.oracle import check_converged, check_fields
from harness.histories.random_histories import History, Step
from harness.processes.command import TIMEOUT
from harness.processes.fork_server import ForkedWorker, ForkServer, WorkerCommand
from harness.processes.kill_points import WorkerFault
from harness.servers.observed_sandbox import ACCOUNT, ObservedSandbox, observed_sandbox
from harness.worlds.world import SYNC, World

LEASE = 5.0
"""Seconds; the shortest that the configuration allows."""

GUARD = {"max_removed_percent": 30, "min_members": 1}
OPEN_GUARD = {"max_removed_percent": 100, "min_members": 0}


@dataclass
class Tally:
    """What happened in all trials so far. kills and breaks by kind of point; codes are exit codes of workers."""

    histories: int = 0
    runs: int = 0
    requests: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    missed: int = 0

    def struck(self, upset: WorkerFault) -> None:
        """An upset has come about."""
        book = {"kill": self.kills, "break": self.breaks, "outage": self.breaks}.get(upset.act, self.signals)
        book[f"{upset.side} {upset.kind}".strip()] += 1


class Trial:
    """The world of one history: `perform()` goes through it and raises AssertionError where a promise is broken."""

    def __init__(self, history: History, url: str, folder: Path, workers: ForkServer, tally: Tally) -> None:
        self.history = history
        self.url = url
        self.folder = folder
        self.workers = workers
        self.tally = tally
        self.rows: Sequence[Mapping[str, Any]] = ()
        self.state: State = NOTHING
        self._after: State = NOTHING
        self.counts: list[dict[str, int]] = []
        """Of the points that each step's worker passed."""
        self._number = 0

    def perform(self) -> None:
        """All steps, then calm runs; everything is judged after each of them."""
        with observed_sandbox(**self.history.sandbox) as sandbox:
            self.sandbox: ObservedSandbox = sandbox
            self.world = World(self.url, sandbox, self.folder, sync_settings={"guard": OPEN_GUARD, **self.history.sync})
            self.world.destination_settings = dict(self.history.account)
            self.world.reset()
            self.world.fill(())
            try:
                for step in self.history.steps:
                    self._take(step)
                self._come_to_rest()
            finally:
                self.tally.requests += len(sandbox.requests())
                for record in sandbox.requests():
                    self.tally.faults.update(record.faults)
            self.tally.histories += 1

    def _take(self, step: Step) -> None:
        if step.rows is not None:
            self.rows = step.rows
            self.world.fill(step.rows)
        if step.audience == "expired":
            self.sandbox.expire_audiences()
        self.sandbox.set_writable(ACCOUNT, step.audience != "denied")
        for fault in step.faults:
            self.sandbox.inject(fault)
        seen = len(self.sandbox.deliveries)
        worker = self._start(step.words, upset=step.upset, often=step.often, guarded=step.guarded, calm=step.calm)
        second = self._start(step.words, often=step.often, guarded=step.guarded) if step.beside else None
        code = self._awaited(worker)
        others = [self._awaited(second)] if second else []
        self._settle()
        self.counts.append(worker.counts)
        if second:
            judging.check_output(second.out, second.err, others[0], self.sandbox.tokens)
        report = self._judge(worker, code, seen, alone=second is None)
        assert not step.calm or (report and report["status"] == "succeeded"), f"a calm run ended so: {report}"

    def _come_to_rest(self) -> None:
        """Calm runs get through, and then all is well."""
        report = self._calmly("run")
        if report["status"] == "incomplete":
            assert (report["deferred"], report["dead"] > 0) == (0, True), report
            report = self._calmly("retry", SYNC, "--dead")
        assert (report["status"], report["deferred"], report["dead"]) == ("succeeded", 0, 0), report
        if self.state.rejected():
            assert self._calmly("run", "--full")["status"] == "succeeded"
        check_converged(self.world, self.rows)
        check_fields(self.world, self.rows, self.world.raw_config["syncs"][SYNC]["fields"])

    def _calmly(self, *words: str) -> Mapping[str, Any]:
        seen = len(self.sandbox.deliveries)
        worker = self._start(words, calm=True)
        code = self._awaited(worker)
        self._settle()
        report = self._judge(worker, code, seen)
        assert code in (0, 3), f"exit code {code} of a calm run"
        assert report
        return report

    def _start(
        self,
        words: Sequence[str],
        *,
        upset: WorkerFault | None = None,
        often: bool = False,
        guarded: bool = False,
        calm: bool = False,
    ) -> ForkedWorker:
        written = self.world.raw_config
        written["warehouses"]["analytics"]["lease"] = LEASE
        if guarded:
            written["syncs"][SYNC]["guard"] = GUARD
        (self.folder / "config.yaml").write_text(yaml.safe_dump(written))
        self._number += 1
        name = f"{self._number:02}"
        order = WorkerCommand(
            (*words, "--json"),
            str(self.folder),
            name,
            self.url,
            upset,
            record_every_batch=often,
            long_read_timeout=calm,
        )
        self.tally.runs += 1
        return self.workers.start(order)

    def _awaited(self, worker: ForkedWorker) -> int:
        upset = worker.command.fault
        if upset and upset.kind == "moment":
            time.sleep(upset.number / 1000)
            number = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}.get(upset.act, signal.SIGTERM)
            worker.send(number)
        code = worker.wait()
        self.tally.codes[code] += 1
        self._check_code(worker, code)
        return code

    def _check_code(self, worker: ForkedWorker, code: int) -> None:
        upset, struck = worker.command.fault, worker.injected_fault is not None
        allowed = {0, 1, 2, 3, 4}
        if upset and upset.kind == "moment":
            struck = code == -signal.SIGKILL or upset.act != "kill"
            # Before Python has set its own handler, a signal ends the process.
            allowed |= {130, 143, -signal.SIGTERM, -signal.SIGINT} if upset.act != "kill" else {-signal.SIGKILL}
        elif upset and struck:
            allowed = {-signal.SIGKILL} if upset.act == "kill" else allowed
            allowed |= {130, 143} if upset.act in ("terminate", "terminate twice", "interrupt") else set()
        assert code in allowed, f"exit code {code}: {worker.err}"
        if upset and struck:
            self.tally.struck(upset)
        elif upset:
            self.tally.missed += 1

    def _settle(self) -> None:
        """The worker is dead and so is all that it had under way; as much time has passed as its lease lasts."""
        self.sandbox.wait_until_idle()
        self.sandbox.clear_faults()
        self.sandbox.set_writable(ACCOUNT, True)
        if self.url.startswith("postgres"):
            _wait_for_backends(self.url)
        with self.world.connect() as connection:
            self._after = judging.read_state(connection)
            if self._after.installed:
                connection.execute(sa.text("update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"))

    def _judge(self, worker: ForkedWorker, code: int, seen: int, *, alone: bool = True) -> Mapping[str, Any] | None:
        before, after = self.state, self._after
        report = judging.check_output(worker.out, worker.err, code, self.sandbox.tokens)
        judging.check_runs(before, after, report, alone=alone)
        judging.check_sending(before, after, self.sandbox.deliveries[seen:], code if alone else 0)
        judging.check_books(after)
        judging.check_lease(before, after, code if alone else 1, worker.command.fault)
        assert self.sandbox.violations() == []
        if report and report["status"] == "succeeded" and alone:
            judging.check_held(self.world, after)
            if worker.command.arguments[0] == "run":
                judging.check_snapshot(after, self.rows)
        self.state = after
        return report

    def leave_evidence(self, told: str) -> None:
        """The folder tells what went wrong, beside the configuration, the outputs and a DuckDB file."""
        (self.folder / "history.txt").write_text(f"{self.history}\n\n{told}\n")
        tables = ("syncs", "runs", "sync_log", "retry_queue")
        try:
            with self.world.connect() as connection:
                found = {
                    table: [
                        dict(row)
                        for row in connection.execute(sa.text(f"select * from warehouse_sync.{table}")).mappings()
                    ]
                    for table in tables
                }
        except sa.exc.SQLAlchemyError as error:
            found = {"unreadable": [{"error": str(error)}]}
        (self.folder / "state.json").write_text(json.dumps(found, indent=1, default=str))


def _wait_for_backends(url: str) -> None:
    """A dead worker's statements are over: its connections are gone from the server."""
    others = sa.text(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
        "and application_name = 'warehouse-sync'"
    )
    deadline = time.monotonic() + TIMEOUT
    # Within a transaction the view would show the same for ever.
    with sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        while connection.scalar(others):
            if time.monotonic() > deadline:
                raise TimeoutError("a dead worker's connection does not end")
            time.sleep(0.002)
