"""The harness can fail: it finds every worker that is wrong in one of the ways of harness/mutations.py.

MUTATIONS=all tries all of them; without it those that are left out of the normal suite for their time are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from harness.histories.environment import Bench, bench
from harness.histories.history import Found
from harness.histories.machine import run_histories
from harness.histories.mutations import MUTATIONS, Mutation

HISTORIES = 30
"""Within so many each mutation must be found; most are found in the first few."""

GROUPS = 8

ALL = os.environ.get("MUTATIONS") == "all"

SELDOM = frozenset(
    {
        "drop_the_readds",
        "forget_the_tail",
        "forget_what_was_put_off",
        "ignore_new_fields",
        "ignore_refused_elements",
        "log_only_success",
        "no_fence",
        "promote_before_the_changes",
        "remove_by_primary_key",
        "send_stale_adds",
        "send_stale_removes",
        "send_without_the_lease",
        "take_any_lease",
        "watermark_first",
    }
)
"""Mutations that take more than a few histories to be found, or long ones."""


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
    if mutation.name in SELDOM and not ALL:
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
