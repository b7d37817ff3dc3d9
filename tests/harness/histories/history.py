"""One history: its beginning, its runs with what must hold right after each, and its calm end with the oracle."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import ClassVar

import pytest
import sqlalchemy as sa
from harness.histories.environment import Bench, HistoryWorld
from harness.histories.faults import FAULTS, TROUBLES, WISHES
from harness.histories.injection import Trouble
from harness.histories.oracle import check_converged, check_fields, check_nobody_surplus, refused_members
from harness.histories.people import CODE, People
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.warehouses.base import Warehouse

LENIENT = {"max_removed_percent": 100, "min_members": 0}
"""A guard that lets everything pass."""

EXPIRY_ATTEMPTS = 500
"""Attempts to expire a lease that is being renewed; many, for a machine that is busy."""


class Tally(Counter[str]):
    """What happened in all histories of one call of the harness."""

    def told(self) -> str:
        """One line a number."""
        return "\n".join(f"{name:>32}: {number:,}" for name, number in sorted(self.items()))


class Found(BaseException):
    """Something is wrong, and that is all that is wanted: Hypothesis hands this on without another try."""


class History(RuleBasedStateMachine):
    """The frame of a history; the steps are those of histories.Histories.

    bench, tally: set by whoever runs the machine. only: the names of the rules that may be chosen; None for all.
    faults, troubles: those that runs may meet. abrupt: what the oracle says is raised as Found.
    """

    bench: ClassVar[Bench]
    tally: ClassVar[Tally]
    only: ClassVar[frozenset[str] | None] = None
    faults: ClassVar[Sequence[str]] = FAULTS
    troubles: ClassVar[st.SearchStrategy[Trouble]] = TROUBLES
    abrupt: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.people = People(self.bench.groups)
        self.codes = st.none() | st.binary(min_size=CODE * self.bench.groups, max_size=CODE * self.bench.groups)
        self.begun = False
        self.wrong = False
        self.refusing = False
        self.failure = ""

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
        # So that a handful of members make several batches, in flight together.
        patch.setattr(LinkedIn, "batch_size", batch_size)
        patch.setattr(Warehouse, "record_interval", record_interval)
        settings = {
            "token_propagation": propagation,
            "find_after": find_after,
            "refresh_kills_old_tokens": refresh_kills,
        }
        self.world: HistoryWorld = self.stack.enter_context(self.bench.world(**settings))
        self.world.destination_settings["max_in_flight"] = in_flight
        self.world.sync_settings["guard"] = LENIENT
        self.world.another_audience()
        self.world.fill([])
        self.begun = True
        self._change(data.draw(self.codes))
        self.tally["histories"] += 1
        self.tally["histories of data"] += self.bench.groups

    def teardown(self) -> None:
        try:
            if self.begun and not self.wrong:
                with self._judging():
                    self._calm()
        finally:
            if self.begun:
                for record in self.world.sandbox.requests():
                    self.tally["requests"] += 1
                    self.tally["requests with a fault"] += bool(record.faults)
            self.stack.close()

    def _calm(self) -> None:
        """Nothing goes wrong any more; then all must be well."""
        world = self.world
        world.sandbox.clear_faults()
        world.authorise_again()
        world.sync_settings["guard"] = LENIENT
        self._expire_leases()
        report = self._must("run")
        if report.dead:
            report = self._must("retry dead")
        assert (report.status, report.deferred, report.dead) == (RunStatus.SUCCEEDED, 0, 0), report.reason
        if self.refusing:
            report = self._must("full")
        rows = world.mapped(self.people.rows)
        check_converged(world, rows)
        check_fields(world, rows, world.raw_config["syncs"]["people"]["fields"])

    def _must(self, wish: str) -> RunReport:
        report = self._perform(wish)
        assert report is not None, f"a calm run failed: {self.failure}"
        return report

    def _perform(
        self, wish: str, trouble: Trouble | None = None, meanwhile: Callable[[], None] | None = None
    ) -> RunReport | None:
        """One run, and what must hold right after it. None when it was cut off or failed."""
        report = None
        self.tally["runs"] += 1
        with self.bench.seams.worker(trouble, meanwhile) as worker:
            try:
                act = self.world.retry if wish.startswith("retry") else self.world.run
                report = act(**WISHES[wish], stop=worker.stop)
                self.tally[f"run {report.status.value}"] += 1
            except WarehouseSyncError as failure:
                self.tally[f"run ended by {type(failure).__name__}"] += 1
                self.failure = f"{type(failure).__name__}: {failure}"
        if trouble is not None and worker.struck:
            self.tally[f"{trouble.kind} at a {trouble.place}"] += 1
        with self._judging():
            self._note()
            objections = self.bench.witness.objections
            assert not objections, sorted(set(objections))
            if report is not None and report.status is RunStatus.SUCCEEDED and "retry" not in wish and not meanwhile:
                self._check()
        return report

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """What is found wrong here ends the history."""
        try:
            yield
        except AssertionError as error:
            self.wrong = True
            if self.abrupt:
                raise Found(str(error)) from error
            raise

    def _check(self) -> None:
        """After a run that succeeded, the audience equals the query, but for ADDs that were refused for good."""
        rows = self.world.mapped(self.people.rows)
        if self.refusing:
            check_nobody_surplus(self.world, rows, refused_members(self.world))
        else:
            self.world.check(rows)
            check_fields(self.world, rows, self.world.raw_config["syncs"]["people"]["fields"])

    def _change(self, codes: bytes | None) -> None:
        if codes is not None:
            self.people.change(codes)
            self.world.fill(self.people.rows)

    def _inject(self, *wanted: str | None) -> None:
        for fault in wanted:
            if fault:
                self.world.sandbox.inject(fault)

    def _note(self) -> None:
        if self._has_state():
            self.bench.witness.notes()

    def _has_state(self) -> bool:
        found = self.world.query(
            "select 1 from information_schema.tables where table_schema = 'warehouse_sync' and table_name = 'syncs'"
        )
        return bool(found)

    def _is_leased(self) -> bool:
        """Whether a worker holds the lease of the sync, by the clock of the warehouse, which is this machine's."""
        if not self._has_state():
            return False
        ends = self.world.query(
            "select lease_expires_at from warehouse_sync.syncs where lease_holder is not null and sync = 'people' "
            f"and destination = '{self.world.destination_name}'"
        )
        return any(end > datetime.now(UTC).replace(tzinfo=None) for (end,) in ends)

    def _expire_leases(self) -> None:
        """Let as much time pass as the lease of a dead worker lasts."""
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
                # The thread of a dead worker may renew the lease at this moment, which DuckDB refuses as a conflict.
                if attempt == EXPIRY_ATTEMPTS - 1:
                    raise
                time.sleep(0.01)
