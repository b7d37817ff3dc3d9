"""Histories as a state machine: data, faults, crashes, broken connections, frozen workers, edits, retries.

One history is one run of the machine. It starts with an empty state and no audience, takes its steps, and ends with
runs without faults and the checks of the oracle. It contains one independent history of data per group of people.

    PYTHONPATH=tests python -m harness.histories.machine --histories 2000 --seed 7
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from harness.histories.environment import Environment, open_environment
from harness.histories.faults import (
    EDITS,
    FAULTS,
    REFUSALS,
    WORKER_FAULTS,
    faults,
    freezes,
    run_kinds,
    stops,
    worker_faults,
)
from harness.histories.history import LENIENT, HistoryBase, Tally
from harness.histories.injection import LEASE, SimulatedFault
from hypothesis import HealthCheck, Phase, reproduce_failure, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from warehouse_sync.operations import RunStatus

STEPS = 8
"""The highest number of steps in one history; most of them are runs."""


def step(**arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for a rule that is chosen only if `allowed_rules` contains its name."""

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        name = method.__name__
        allowed: Any = precondition(lambda self: self.allowed_rules is None or name in self.allowed_rules)
        chosen: Any = rule(**arguments)
        conditional: Callable[..., None] = allowed(chosen(method))
        return conditional

    return decorate


class HistoryMachine(HistoryBase):
    """One history with any steps.

    Hypothesis sorts rules and their arguments by name, so that renaming one can change the histories of a seed.
    """

    @step(data=st.data(), run_kind=run_kinds)
    def run(self, data: st.DataObject, run_kind: str) -> None:
        self._change_rows(data.draw(self.change_codes))
        self._run_sync(run_kind)

    @step(data=st.data(), run_kind=run_kinds, fault=faults, additional_fault=st.none() | faults, persists=st.booleans())
    def run_with_faults(
        self, data: st.DataObject, run_kind: str, fault: str, additional_fault: str | None, persists: bool
    ) -> None:
        self._change_rows(data.draw(self.change_codes))
        self._inject_faults(fault, additional_fault)
        self._run_sync(run_kind)
        if not persists:
            self.world.sandbox.clear_faults()

    @step(data=st.data(), run_kind=run_kinds, fault=st.sampled_from(REFUSALS))
    def run_with_refusals(self, data: st.DataObject, run_kind: str, fault: str) -> None:
        self._change_rows(data.draw(self.change_codes))
        self.has_refusals = True
        self._inject_faults(fault)
        self._run_sync(run_kind)
        self.world.sandbox.clear_faults()

    @step(
        data=st.data(),
        run_kind=run_kinds,
        interruption=worker_faults,
        fault=st.none() | st.none() | faults,
        expires=st.sampled_from([True, True, True, False]),
    )
    def run_with_worker_fault(
        self, data: st.DataObject, run_kind: str, interruption: SimulatedFault, fault: str | None, expires: bool
    ) -> None:
        self._change_rows(data.draw(self.change_codes))
        self._inject_faults(fault)
        self._run_sync(run_kind, interruption)
        self.world.sandbox.clear_faults()
        if expires:
            self._expire_leases()

    @step(
        data=st.data(),
        run_kind=run_kinds,
        freeze=freezes,
        additional_run_kind=run_kinds,
        expires=st.sampled_from([True, True, False]),
    )
    def overlap_runs(
        self, data: st.DataObject, run_kind: str, freeze: SimulatedFault, additional_run_kind: str, expires: bool
    ) -> None:
        """Freeze a worker, for longer than its lease or not, while the data changes and a second worker runs."""
        self._change_rows(data.draw(self.change_codes))
        codes = data.draw(self.change_codes)

        def while_frozen() -> None:
            self._record_promotion()
            if expires:
                self.environment.injector.advance_clock(2 * LEASE)
                self._expire_leases()
            held = self._is_leased()
            self._change_rows(codes)
            report = self._run_sync(additional_run_kind)
            self.tally["runs while a lease is held"] += held
            with self._checking():
                assert not held or report is None or report.status is RunStatus.SKIPPED, (
                    "a worker ran while another one held the lease"
                )

        self._run_sync(run_kind, freeze, while_frozen)
        self._expire_leases()

    @step(data=st.data(), run_kind=run_kinds, interruption=stops)
    def stop_run(self, data: st.DataObject, run_kind: str, interruption: SimulatedFault) -> None:
        """Ask the worker to stop, as by a signal."""
        self._change_rows(data.draw(self.change_codes))
        self._run_sync(run_kind, interruption)

    @step(edit=st.sampled_from(sorted(EDITS)))
    def edit_sync(self, edit: str) -> None:
        self.world.sync_settings.update(EDITS[edit])

    @step(name=st.sampled_from(["ads", "adverts"]))
    def rename_destination(self, name: str) -> None:
        self.world.destination_name = self.environment.request_checker.destination = name

    @step(ours=st.booleans())
    def change_audience(self, ours: bool) -> None:
        world = self.world
        world.configured_audience = None if ours else world.foreign_audience()
        named = {"name": "People"} if world.configured_audience is None else {"id": world.configured_audience}
        world.sync_settings["audience"] = {"type": "user", **named}

    @step(refresh=st.booleans())
    def tokens_are_revoked(self, refresh: bool) -> None:
        """Revoke the access tokens and possibly the refresh token, which then must be replaced."""
        self.world.sandbox.revoke_access_tokens()
        if refresh:
            self.world.sandbox.revoke_refresh_token()

    @step()
    def authorise_again(self) -> None:
        self.world.renew_authorisation()

    @step(status=st.sampled_from(["EXPIRED", "EXPIRED", "ARCHIVED"]))
    def age_audiences(self, status: str) -> None:
        for segment in self.world.sandbox.segments():
            # LinkedIn archives idle audiences long before they expire; after that only a write of another user does.
            if status == "EXPIRED" or segment["status"] != "EXPIRED":
                self.world.sandbox.force_status(segment["id"], status)
        if status == "EXPIRED":
            self.world.foreign_members = {segment: set() for segment in self.world.foreign_members}

    @step(data=st.data())
    def run_with_strict_guard(self, data: st.DataObject) -> None:
        self._change_rows(data.draw(self.change_codes))
        self.world.sync_settings["guard"] = {"max_removed_percent": 5, "min_members": 2, "ignore_below": 0}
        self._run_sync("run")
        self.world.sync_settings["guard"] = LENIENT

    @step()
    def let_half_a_day_pass(self) -> None:
        """Make waiting operations due; one that fails once more is dead."""
        if self._has_state():
            with self.world.connect() as connection:
                connection.exec_driver_sql(
                    "update warehouse_sync.retry_queue set deferred_since = deferred_since - interval '14 hours', "
                    "next_attempt_at = next_attempt_at - interval '14 hours'"
                )
            self._expire_leases()

    @step(run_kind=run_kinds)
    def empty_query(self, run_kind: str) -> None:
        self.people.clear()
        self.world.fill([])
        self._run_sync(run_kind)


def run_histories(
    environment: Environment,
    histories: int,
    *,
    seed_number: int = 0,
    allowed_rules: Collection[str] | None = None,
    faults: Sequence[str] = FAULTS,
    worker_faults: st.SearchStrategy[SimulatedFault] = WORKER_FAULTS,
    shrink: bool = True,
    raise_at_once: bool = False,
    blob: str | None = None,
) -> Tally:
    """Run random histories.

    Args:
        environment: Where the histories run.
        histories: The number of histories.
        seed_number: The seed; the same seed gives the same histories.
        allowed_rules: The names of the rules that may be chosen; None for all.
        faults: The faults of LinkedIn that may be injected.
        worker_faults: The faults of the worker that may be injected.
        shrink: Whether a failing history is reduced to a smaller one.
        raise_at_once: Raise the first violated promise as ViolationFound, without another attempt.
        blob: Run only the failing history that Hypothesis printed, as version:blob.

    Returns:
        Counters of what happened.

    Raises:
        AssertionError: A promise is violated.
        ViolationFound: The same, with `raise_at_once`.
    """
    tally = Tally()
    attributes = {
        "environment": environment,
        "tally": tally,
        "allowed_rules": None if allowed_rules is None else frozenset(allowed_rules),
        "faults": tuple(faults),
        "worker_faults": worker_faults,
        "raise_at_once": raise_at_once,
    }
    machine: Any = type("History", (HistoryMachine,), attributes)
    machine = seed(seed_number)(machine) if blob is None else _reproduce(blob)(machine)
    started, cpu_started = time.monotonic(), time.process_time()
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=histories,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
                print_blob=True,
                report_multiple_bugs=False,
            ),
        )
    finally:
        tally["statements"] = environment.injector.statements
        tally["elements sent"] = environment.request_checker.elements
        tally["seconds"] = round(time.monotonic() - started)
        tally["processor seconds"] = round(time.process_time() - cpu_started)
    return tally


def _reproduce(blob: str) -> Callable[[Any], Any]:
    version, _, content = blob.partition(":")
    return reproduce_failure(version, content.encode())


def main() -> None:
    """Run histories on DuckDB or on a PostgreSQL database, and print what happened."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, default=64, help="groups of people in each history")
    parser.add_argument("--url", help="SQLAlchemy URL of an empty PostgreSQL database; DuckDB by default")
    parser.add_argument("--sockets", action="store_true", help="use real sockets and a DuckDB file")
    parser.add_argument("--reproduce", metavar="VERSION:BLOB", help="run only the history that Hypothesis printed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = options.url or f"duckdb:///{name}/warehouse.duckdb"
        with open_environment(url, Path(name), in_process=not options.sockets, groups=options.groups) as environment:
            tally = run_histories(environment, options.histories, seed_number=options.seed, blob=options.reproduce)
    print(tally.format_lines())  # noqa: T201


if __name__ == "__main__":
    main()
