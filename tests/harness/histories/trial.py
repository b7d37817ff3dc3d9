"""One history, run by real worker processes in its own world, and checked after each run."""

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
from harness.histories import checks
from harness.histories.checks import EMPTY_STATE, State
from harness.histories.oracle import check_converged, check_fields
from harness.histories.random_histories import History, Step
from harness.processes.command import TIMEOUT
from harness.processes.fork_server import ForkedWorker, ForkServer, WorkerCommand
from harness.processes.kill_points import WorkerFault
from harness.servers.observed_sandbox import ACCOUNT, ObservedSandbox, observed_sandbox
from harness.worlds.world import SYNC, World

LEASE = 5.0
"""The shortest lease that the configuration allows, in seconds."""

GUARD = {"max_removed_percent": 30, "min_members": 1}
OPEN_GUARD = {"max_removed_percent": 100, "min_members": 0}


@dataclass
class Tally:
    """Counters over all histories so far.

    Attributes:
        histories: Finished histories.
        runs: Started workers.
        requests: Requests to the sandbox.
        kills: Killed workers by the point.
        breaks: Broken connections by the point.
        signals: Other signals by the point.
        faults: Faults of LinkedIn by their kind.
        codes: Exit codes of workers.
        missed: Workers that ended before they reached their point.
    """

    histories: int = 0
    runs: int = 0
    requests: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    missed: int = 0

    def count_fault(self, worker_fault: WorkerFault) -> None:
        """Count a fault of a worker that happened."""
        counter = {"kill": self.kills, "break": self.breaks, "outage": self.breaks}.get(worker_fault.act, self.signals)
        counter[f"{worker_fault.side} {worker_fault.kind}".strip()] += 1


class Trial:
    """One history in its own world; `run()` raises AssertionError if a promise is broken."""

    def __init__(self, history: History, url: str, folder: Path, workers: ForkServer, tally: Tally) -> None:
        self.history = history
        self.url = url
        self.folder = folder
        self.workers = workers
        self.tally = tally
        self.rows: Sequence[Mapping[str, Any]] = ()
        self.state: State = EMPTY_STATE
        self._state_after: State = EMPTY_STATE
        self.counts: list[dict[str, int]] = []
        """The number of points that the worker of each step passed, by kind."""
        self._workers_started = 0

    def run(self) -> None:
        """Run all steps, then runs without faults, and check the state after each."""
        with observed_sandbox(**self.history.sandbox) as sandbox:
            self.sandbox: ObservedSandbox = sandbox
            self.world = World(self.url, sandbox, self.folder, sync_settings={"guard": OPEN_GUARD, **self.history.sync})
            self.world.destination_settings = dict(self.history.account)
            self.world.reset()
            self.world.fill(())
            try:
                for step in self.history.steps:
                    self._run_step(step)
                self._finish_without_faults()
            finally:
                self.tally.requests += len(sandbox.requests())
                for record in sandbox.requests():
                    self.tally.faults.update(record.faults)
            self.tally.histories += 1

    def _run_step(self, step: Step) -> None:
        if step.rows is not None:
            self.rows = step.rows
            self.world.fill(step.rows)
        if step.audience == "expired":
            self.sandbox.expire_audiences()
        self.sandbox.set_writable(ACCOUNT, step.audience != "denied")
        for fault in step.faults:
            self.sandbox.inject(fault)
        first_delivery = len(self.sandbox.deliveries)
        worker = self._start_worker(
            step.arguments,
            worker_fault=step.worker_fault,
            record_every_batch=step.record_every_batch,
            guarded=step.guarded,
            must_succeed=step.must_succeed,
        )
        second = (
            self._start_worker(step.arguments, record_every_batch=step.record_every_batch, guarded=step.guarded)
            if step.two_workers
            else None
        )
        code = self._wait_for_exit(worker)
        others = [self._wait_for_exit(second)] if second else []
        self._wait_until_idle()
        self.counts.append(worker.counts)
        if second:
            checks.check_output(second.out, second.err, others[0], self.sandbox.tokens)
        report = self._check(worker, code, first_delivery, alone=second is None)
        assert not step.must_succeed or (report and report["status"] == "succeeded"), (
            f"a run without faults did not succeed: {report}"
        )

    def _finish_without_faults(self) -> None:
        """Run without faults and check that everything is correct."""
        report = self._run_without_faults("run")
        if report["status"] == "incomplete":
            assert (report["deferred"], report["dead"] > 0) == (0, True), report
            report = self._run_without_faults("retry", SYNC, "--dead")
        assert (report["status"], report["deferred"], report["dead"]) == ("succeeded", 0, 0), report
        if self.state.rejected_members():
            assert self._run_without_faults("run", "--full")["status"] == "succeeded"
        check_converged(self.world, self.rows)
        check_fields(self.world, self.rows, self.world.raw_config["syncs"][SYNC]["fields"])

    def _run_without_faults(self, *arguments: str) -> Mapping[str, Any]:
        first_delivery = len(self.sandbox.deliveries)
        worker = self._start_worker(arguments, must_succeed=True)
        code = self._wait_for_exit(worker)
        self._wait_until_idle()
        report = self._check(worker, code, first_delivery)
        assert code in (0, 3), f"exit code {code} of a run without faults"
        assert report
        return report

    def _start_worker(
        self,
        arguments: Sequence[str],
        *,
        worker_fault: WorkerFault | None = None,
        record_every_batch: bool = False,
        guarded: bool = False,
        must_succeed: bool = False,
    ) -> ForkedWorker:
        configuration = self.world.raw_config
        configuration["warehouses"]["analytics"]["lease"] = LEASE
        if guarded:
            configuration["syncs"][SYNC]["guard"] = GUARD
        (self.folder / "config.yaml").write_text(yaml.safe_dump(configuration))
        self._workers_started += 1
        name = f"{self._workers_started:02}"
        command = WorkerCommand(
            (*arguments, "--json"),
            str(self.folder),
            name,
            self.url,
            worker_fault,
            record_every_batch=record_every_batch,
            long_read_timeout=must_succeed,
        )
        self.tally.runs += 1
        return self.workers.start(command)

    def _wait_for_exit(self, worker: ForkedWorker) -> int:
        worker_fault = worker.command.fault
        if worker_fault and worker_fault.kind == "moment":
            time.sleep(worker_fault.number / 1000)
            number = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT}.get(worker_fault.act, signal.SIGTERM)
            worker.send(number)
        code = worker.wait()
        self.tally.codes[code] += 1
        self._check_exit_code(worker, code)
        return code

    def _check_exit_code(self, worker: ForkedWorker, code: int) -> None:
        worker_fault, injected = worker.command.fault, worker.injected_fault is not None
        allowed = {0, 1, 2, 3, 4}
        if worker_fault and worker_fault.kind == "moment":
            injected = code == -signal.SIGKILL or worker_fault.act != "kill"
            # Before Python has set its own handler, a signal ends the process.
            allowed |= {130, 143, -signal.SIGTERM, -signal.SIGINT} if worker_fault.act != "kill" else {-signal.SIGKILL}
        elif worker_fault and injected:
            allowed = {-signal.SIGKILL} if worker_fault.act == "kill" else allowed
            allowed |= {130, 143} if worker_fault.act in ("terminate", "terminate twice", "interrupt") else set()
        assert code in allowed, f"exit code {code}: {worker.err}"
        if worker_fault and injected:
            self.tally.count_fault(worker_fault)
        elif worker_fault:
            self.tally.missed += 1

    def _wait_until_idle(self) -> None:
        """Wait until the requests and statements of the dead worker have ended, and expire its lease."""
        self.sandbox.wait_until_idle()
        self.sandbox.clear_faults()
        self.sandbox.set_writable(ACCOUNT, True)
        if self.url.startswith("postgres"):
            _wait_for_backends(self.url)
        with self.world.connect() as connection:
            self._state_after = checks.read_state(connection)
            if self._state_after.installed:
                connection.execute(sa.text("update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"))

    def _check(
        self, worker: ForkedWorker, code: int, first_delivery: int, *, alone: bool = True
    ) -> Mapping[str, Any] | None:
        before, after = self.state, self._state_after
        report = checks.check_output(worker.out, worker.err, code, self.sandbox.tokens)
        checks.check_runs(before, after, report, alone=alone)
        checks.check_deliveries(before, after, self.sandbox.deliveries[first_delivery:], code if alone else 0)
        checks.check_retry_queue(after)
        checks.check_lease(before, after, code if alone else 1, worker.command.fault)
        assert self.sandbox.violations() == []
        if report and report["status"] == "succeeded" and alone:
            checks.check_audience(self.world, after)
            if worker.command.arguments[0] == "run":
                checks.check_snapshot(after, self.rows)
        self.state = after
        return report

    def write_evidence(self, error_text: str) -> None:
        """Write the history, the error and the state into the folder, beside configuration, outputs and DuckDB file."""
        (self.folder / "history.txt").write_text(f"{self.history}\n\n{error_text}\n")
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
    """Wait until the server has closed the connections of a dead worker."""
    others = sa.text(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
        "and application_name = 'warehouse-sync'"
    )
    deadline = time.monotonic() + TIMEOUT
    # Within a transaction the view would not change.
    with sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        while connection.scalar(others):
            if time.monotonic() > deadline:
                raise TimeoutError("the connection of a dead worker does not end")
            time.sleep(0.002)
