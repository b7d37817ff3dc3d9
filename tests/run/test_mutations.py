"""The histories find every worker that is wrong in one of the ways of harness/histories/mutations.py.

`make test` tries those that are found at once; MUTATIONS=all and `make test-all` try all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.histories.environment import Bench, bench
from harness.histories.history import Found
from harness.histories.machine import run_histories
from harness.histories.mutations import MUTATIONS, Mutation
from harness.selection import ALL_MUTATIONS

HISTORIES = 30
"""Within so many each mutation must be found; most are found in the first few."""

GROUPS = 8

FOUND_AT_ONCE = frozenset({"create_twice", "ignore_expiry", "promote_last"})
"""Mutations that take a few seconds to be found; the others take up to a minute each."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One warehouse for all mutations."""
    folder = tmp_path_factory.mktemp("mutations")
    with bench(f"duckdb:///{folder}/warehouse.duckdb", folder, near=True, groups=GROUPS) as built:
        yield built


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_still_fits_the_worker(mutation: Mutation) -> None:
    """What it puts something wrong in place of is there, also for mutations that are seldom tried."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_harness_finds(place: Bench, mutation: Mutation) -> None:
    """A worker that is wrong in this way is found within the budget of histories."""
    if mutation.name not in FOUND_AT_ONCE and not ALL_MUTATIONS:
        pytest.skip("takes its time: MUTATIONS=all")
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)
        with pytest.raises(Found):
            run_histories(
                place,
                HISTORIES,
                only=mutation.only,
                faults=mutation.faults,
                crashing=mutation.troubles,
                abrupt=True,
            )
