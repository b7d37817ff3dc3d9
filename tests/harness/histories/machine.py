"""Histories as a stateful machine: data, faults, crashes, broken connections, frozen workers, edits, retries.

One history is one run of the machine: from an empty state and no audience, through its steps, to calm runs and the
oracle. It carries as many independent histories of data as the bench has groups of people.

    PYTHONPATH=tests python -m harness.histories.machine --histories 2000 --seed 7
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from harness.histories.environment import Bench, bench
from harness.histories.faults import EDITS, FAULTS, REFUSALS, TROUBLES, faults, freezes, stops, troubles, wishes
from harness.histories.history import LENIENT, History, Tally
from harness.histories.injection import LEASE, Trouble
from hypothesis import HealthCheck, Phase, reproduce_failure, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from warehouse_sync.operations import RunStatus

STEPS = 8
"""At most, in one history; most of them are runs."""


def step(**arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that is chosen only where the machine allows it by its name."""

    def made(method: Callable[..., None]) -> Callable[..., None]:
        name = method.__name__
        allowed: Any = precondition(lambda self: self.only is None or name in self.only)
        chosen: Any = rule(**arguments)
        made_rule: Callable[..., None] = allowed(chosen(method))
        return made_rule

    return made


class Histories(History):
    """One history of any steps."""

    @step(data=st.data(), wish=wishes)
    def run(self, data: st.DataObject, wish: str) -> None:
        self._change(data.draw(self.codes))
        self._perform(wish)

    @step(data=st.data(), wish=wishes, fault=faults, another=st.none() | faults, stays=st.booleans())
    def run_against_faults(self, data: st.DataObject, wish: str, fault: str, another: str | None, stays: bool) -> None:
        self._change(data.draw(self.codes))
        self._inject(fault, another)
        self._perform(wish)
        if not stays:
            self.world.sandbox.clear_faults()

    @step(data=st.data(), wish=wishes, fault=st.sampled_from(REFUSALS))
    def run_against_refusals(self, data: st.DataObject, wish: str, fault: str) -> None:
        self._change(data.draw(self.codes))
        self.refusing = True
        self._inject(fault)
        self._perform(wish)
        self.world.sandbox.clear_faults()

    @step(
        data=st.data(),
        wish=wishes,
        trouble=troubles,
        fault=st.none() | st.none() | faults,
        expires=st.sampled_from([True, True, True, False]),
    )
    def run_in_trouble(
        self, data: st.DataObject, wish: str, trouble: Trouble, fault: str | None, expires: bool
    ) -> None:
        self._change(data.draw(self.codes))
        self._inject(fault)
        self._perform(wish, trouble)
        self.world.sandbox.clear_faults()
        if expires:
            self._expire_leases()

    @step(data=st.data(), wish=wishes, trouble=freezes, another=wishes, expires=st.sampled_from([True, True, False]))
    def overlap(self, data: st.DataObject, wish: str, trouble: Trouble, another: str, expires: bool) -> None:
        """A worker stands still, for longer than its lease or not; meanwhile the data changes and another one runs."""
        self._change(data.draw(self.codes))
        codes = data.draw(self.codes)

        def meanwhile() -> None:
            self._note()
            if expires:
                self.bench.seams.let_time_pass(2 * LEASE)
                self._expire_leases()
            held = self._is_leased()
            self._change(codes)
            report = self._perform(another)
            self.tally["runs beside a lease"] += held
            with self._judging():
                assert not held or report is None or report.status is RunStatus.SKIPPED, "a worker ran beside a lease"

        self._perform(wish, trouble, meanwhile)
        self._expire_leases()

    @step(data=st.data(), wish=wishes, trouble=stops)
    def stop(self, data: st.DataObject, wish: str, trouble: Trouble) -> None:
        """A signal asks the worker to end soon."""
        self._change(data.draw(self.codes))
        self._perform(wish, trouble)

    @step(edit=st.sampled_from(sorted(EDITS)))
    def edit_the_sync(self, edit: str) -> None:
        self.world.sync_settings.update(EDITS[edit])

    @step(name=st.sampled_from(["ads", "adverts"]))
    def rename_the_destination(self, name: str) -> None:
        self.world.destination_name = self.bench.witness.destination = name

    @step(ours=st.booleans())
    def change_the_audience(self, ours: bool) -> None:
        world = self.world
        world.chosen = None if ours else world.another_audience()
        named = {"name": "People"} if world.chosen is None else {"id": world.chosen}
        world.sync_settings["audience"] = {"type": "user", **named}

    @step(refresh=st.booleans())
    def tokens_are_revoked(self, refresh: bool) -> None:
        """Access tokens until the next refresh, the refresh token until it is replaced."""
        self.world.sandbox.revoke_access_tokens()
        if refresh:
            self.world.sandbox.revoke_refresh_token()

    @step()
    def authorise_again(self) -> None:
        self.world.authorise_again()

    @step(status=st.sampled_from(["EXPIRED", "EXPIRED", "ARCHIVED"]))
    def audiences_age(self, status: str) -> None:
        for segment in self.world.sandbox.segments():
            # Idle audiences are archived long before they expire: behind that only somebody else's write archives one.
            if status == "EXPIRED" or segment["status"] != "EXPIRED":
                self.world.sandbox.force_status(segment["id"], status)
        if status == "EXPIRED":
            self.world.foreign = {segment: set() for segment in self.world.foreign}

    @step(data=st.data())
    def run_against_the_guard(self, data: st.DataObject) -> None:
        self._change(data.draw(self.codes))
        self.world.sync_settings["guard"] = {"max_removed_percent": 5, "min_members": 2, "ignore_below": 0}
        self._perform("run")
        self.world.sync_settings["guard"] = LENIENT

    @step()
    def half_a_day_goes_by(self) -> None:
        """What waits becomes due, and dead when it fails once more."""
        if self._has_state():
            with self.world.connect() as connection:
                connection.exec_driver_sql(
                    "update warehouse_sync.retry_queue set deferred_since = deferred_since - interval '14 hours', "
                    "next_attempt_at = next_attempt_at - interval '14 hours'"
                )
            self._expire_leases()

    @step(wish=wishes)
    def everybody_leaves(self, wish: str) -> None:
        self.people.leave()
        self.world.fill([])
        self._perform(wish)


def run_histories(
    place: Bench,
    histories: int,
    *,
    number: int = 0,
    only: Collection[str] | None = None,
    faults: Sequence[str] = FAULTS,
    crashing: st.SearchStrategy[Trouble] = TROUBLES,
    shrink: bool = True,
    abrupt: bool = False,
    blob: str | None = None,
) -> Tally:
    """Run so many histories, which follow from `number`; what happened in them. Raises what the oracle says.

    only, faults, crashing: what may be chosen. abrupt: what the oracle says is raised at once, as Found.
    blob: the one failing history that Hypothesis printed instead (version:blob).
    """
    tally = Tally()
    allowed = None if only is None else frozenset(only)
    own = {
        "bench": place,
        "tally": tally,
        "only": allowed,
        "faults": tuple(faults),
        "troubles": crashing,
        "abrupt": abrupt,
    }
    machine: Any = type("History", (Histories,), own)
    machine = seed(number)(machine) if blob is None else _reproducing(blob)(machine)
    begun, cpu = time.monotonic(), time.process_time()
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
        tally["statements"] = place.seams.statements
        tally["elements sent"] = place.witness.elements
        tally["seconds"] = round(time.monotonic() - begun)
        tally["seconds of processor"] = round(time.process_time() - cpu)
    return tally


def _reproducing(blob: str) -> Callable[[Any], Any]:
    version, _, content = blob.partition(":")
    return reproduce_failure(version, content.encode())


def main() -> None:
    """Histories on DuckDB or on a PostgreSQL of one's own, and what happened in them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, default=64, help="groups of people: histories of data in each history")
    parser.add_argument("--url", help="SQLAlchemy URL of an empty PostgreSQL database; DuckDB when left out")
    parser.add_argument("--far", action="store_true", help="over real sockets, DuckDB in a file")
    parser.add_argument("--reproduce", metavar="VERSION:BLOB", help="the one history that Hypothesis printed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = asked.url or f"duckdb:///{name}/warehouse.duckdb"
        with bench(url, Path(name), near=not asked.far, groups=asked.groups) as place:
            tally = run_histories(place, asked.histories, number=asked.seed, blob=asked.reproduce)
    print(tally.told())  # noqa: T201


if __name__ == "__main__":
    main()
