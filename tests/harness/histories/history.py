"""One history: its beginning, its runs with the checks after each, and its end without faults."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import ClassVar

import pytest
import sqlalchemy as sa
from harness.histories.environment import Environment, HistoryWorld
from harness.histories.faults import FAULTS, RUN_KINDS, WORKER_FAULTS
from harness.histories.injection import SimulatedFault
from harness.histories.oracle import check_converged, check_fields, check_no_surplus, refused_members
from harness.histories.people import CODE_BYTES, People
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.warehouses.base import Warehouse

LENIENT = {"max_removed_percent": 100, "min_members": 0}
"""A guard that blocks nothing."""

EXPIRY_ATTEMPTS = 500
"""Attempts to expire a lease that is being renewed; many, because the machine may be busy."""


class Tally(Counter[str]):
    """Counters over all histories of one call of the harness."""

    def format_lines(self) -> str:
        """Return one line per counter."""
        return "\n".join(f"{name:>32}: {number:,}" for name, number in sorted(self.items()))


class ViolationFound(BaseException):
    """A violated promise that ends the search: Hypothesis passes this on without another attempt."""


class HistoryBase(RuleBasedStateMachine):
    """The beginning, the end and the checks of a history; `machine.HistoryMachine` adds the steps.

    Attributes:
        environment: Where the history runs.
        tally: Counts what happened.
        allowed_rules: The names of the rules that may be chosen; None for all.
        faults: The faults of LinkedIn that may be injected.
        worker_faults: The faults of the worker that may be injected.
        raise_at_once: Whether a violated promise is raised as ViolationFound.
    """

    environment: ClassVar[Environment]
    tally: ClassVar[Tally]
    allowed_rules: ClassVar[frozenset[str] | None] = None
    faults: ClassVar[Sequence[str]] = FAULTS
    worker_faults: ClassVar[st.SearchStrategy[SimulatedFault]] = WORKER_FAULTS
    raise_at_once: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.people = People(self.environment.groups)
        self.change_codes = st.none() | st.binary(
            min_size=CODE_BYTES * self.environment.groups, max_size=CODE_BYTES * self.environment.groups
        )
        self.started = False
        self.violated = False
        self.has_refusals = False
        self.error = ""

    @initialize(
        batch_size=st.sampled_from([2, 3, 7, 5000]),
        in_flight=st.sampled_from([1, 1, 3]),
        record_interval=st.sampled_from([0.0, 1.0]),
        propagation=st.sampled_from([0.0, 0.0, 0.002]),
        find_after=st.sampled_from([0.0, 0.0, 0.002]),
        refresh_kills=st.booleans(),
        data=st.data(),
    )
    def begin(
        self,
        batch_size: int,
        in_flight: int,
        record_interval: float,
        propagation: float,
        find_after: float,
        refresh_kills: bool,
        data: st.DataObject,
    ) -> None:
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        # A few members then need several batches, which are in flight at the same time.
        patch.setattr(LinkedIn, "batch_size", batch_size)
        patch.setattr(Warehouse, "record_interval", record_interval)
        settings = {
            "token_propagation": propagation,
            "find_after": find_after,
            "refresh_kills_old_tokens": refresh_kills,
        }
        self.world: HistoryWorld = self.stack.enter_context(self.environment.open_world(**settings))
        self.world.destination_settings["max_in_flight"] = in_flight
        self.world.sync_settings["guard"] = LENIENT
        self.world.foreign_audience()
        self.world.fill([])
        self.started = True
        self._change_rows(data.draw(self.change_codes))
        self.tally["histories"] += 1
        self.tally["histories of data"] += self.environment.groups

    def teardown(self) -> None:
        try:
            if self.started and not self.violated:
                with self._checking():
                    self._finish_without_faults()
        finally:
            if self.started:
                for record in self.world.sandbox.requests():
                    self.tally["requests"] += 1
                    self.tally["requests with a fault"] += bool(record.faults)
            self.stack.close()

    def _finish_without_faults(self) -> None:
        """Run without faults and check that everything is correct."""
        world = self.world
        world.sandbox.clear_faults()
        world.renew_authorisation()
        world.sync_settings["guard"] = LENIENT
        self._expire_leases()
        report = self._run_without_faults("run")
        if report.dead:
            report = self._run_without_faults("retry dead")
        assert (report.status, report.deferred, report.dead) == (RunStatus.SUCCEEDED, 0, 0), report.reason
        if self.has_refusals:
            report = self._run_without_faults("full")
        rows = world.apply_mapping(self.people.rows)
        check_converged(world, rows)
        check_fields(world, rows, world.raw_config["syncs"]["people"]["fields"])

    def _run_without_faults(self, run_kind: str) -> RunReport:
        report = self._run_sync(run_kind)
        assert report is not None, f"a run without faults failed: {self.error}"
        return report

    def _run_sync(
        self, run_kind: str, worker_fault: SimulatedFault | None = None, while_frozen: Callable[[], None] | None = None
    ) -> RunReport | None:
        """Run the sync once and check what must hold. Return None if the worker died or the run failed."""
        report = None
        self.tally["runs"] += 1
        with self.environment.injector.worker(worker_fault, while_frozen) as worker:
            try:
                start = self.world.retry if run_kind.startswith("retry") else self.world.run
                report = start(**RUN_KINDS[run_kind], stop=worker.stop)
                self.tally[f"run {report.status.value}"] += 1
            except WarehouseSyncError as error:
                self.tally[f"run ended by {type(error).__name__}"] += 1
                self.error = f"{type(error).__name__}: {error}"
        if worker_fault is not None and worker.triggered:
            self.tally[f"{worker_fault.kind} at a {worker_fault.point}"] += 1
        with self._checking():
            self._record_promotion()
            violations = self.environment.request_checker.violations
            assert not violations, sorted(set(violations))
            if (
                report is not None
                and report.status is RunStatus.SUCCEEDED
                and "retry" not in run_kind
                and not while_frozen
            ):
                self._check_audience()
        return report

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """End the history if the block finds a violation."""
        try:
            yield
        except AssertionError as error:
            self.violated = True
            if self.raise_at_once:
                raise ViolationFound(str(error)) from error
            raise

    def _check_audience(self) -> None:
        """Check after a successful run that the audience equals the query, except for permanently refused ADDs."""
        rows = self.world.apply_mapping(self.people.rows)
        if self.has_refusals:
            check_no_surplus(self.world, rows, refused_members(self.world))
        else:
            self.world.check(rows)
            check_fields(self.world, rows, self.world.raw_config["syncs"]["people"]["fields"])

    def _change_rows(self, codes: bytes | None) -> None:
        if codes is not None:
            self.people.change(codes)
            self.world.fill(self.people.rows)

    def _inject_faults(self, *faults: str | None) -> None:
        for fault in faults:
            if fault:
                self.world.sandbox.inject(fault)

    def _record_promotion(self) -> None:
        if self._has_state():
            self.environment.request_checker.record_promotion()

    def _has_state(self) -> bool:
        found = self.world.query(
            "select 1 from information_schema.tables where table_schema = 'warehouse_sync' and table_name = 'syncs'"
        )
        return bool(found)

    def _is_leased(self) -> bool:
        """Return whether a worker holds the lease. The warehouse uses the clock of this machine."""
        if not self._has_state():
            return False
        ends = self.world.query(
            "select lease_expires_at from warehouse_sync.syncs where lease_holder is not null and sync = 'people' "
            f"and destination = '{self.world.destination_name}'"
        )
        return any(end > datetime.now(UTC).replace(tzinfo=None) for (end,) in ends)

    def _expire_leases(self) -> None:
        """Expire the leases of dead workers."""
        if not self._has_state():
            return
        for attempt in range(EXPIRY_ATTEMPTS):
            try:
                with self.world.connect() as connection:
                    connection.exec_driver_sql(
                        "update warehouse_sync.syncs set lease_expires_at = timestamp '2020-01-01'"
                    )
                return
            except sa.exc.DBAPIError:
                # The thread of a dead worker may renew the lease at this moment, which is a conflict in DuckDB.
                if attempt == EXPIRY_ATTEMPTS - 1:
                    raise
                time.sleep(0.01)
