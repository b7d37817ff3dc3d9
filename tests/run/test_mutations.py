"""The harness finds every wrong worker: each mutation of harness/histories/mutations.py must fail a history.

`make test` tries the fast mutations; MUTATIONS=all and `make test-all` try all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.histories.environment import Environment, open_environment
from harness.histories.history import ViolationFound
from harness.histories.machine import run_histories
from harness.histories.mutations import MUTATIONS, Mutation
from harness.selection import ALL_MUTATIONS

HISTORIES = 30
"""The number of histories within which each mutation must be found; most are found in the first few."""

GROUPS = 8

FAST_MUTATIONS = frozenset({"create_twice", "ignore_expiry", "promote_last"})
"""Mutations that are found in a few seconds; the others take up to a minute each."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Yield one environment for all mutations."""
    folder = tmp_path_factory.mktemp("mutations")
    with open_environment(
        f"duckdb:///{folder}/warehouse.duckdb", folder, in_process=True, groups=GROUPS
    ) as environment:
        yield environment


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_applied(mutation: Mutation) -> None:
    """The code that a mutation replaces exists, also for the slow mutations."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_harness_finds_a_mutation(environment: Environment, mutation: Mutation) -> None:
    """A worker with this mutation fails a history within the budget."""
    if mutation.name not in FAST_MUTATIONS and not ALL_MUTATIONS:
        pytest.skip("slow: run it with MUTATIONS=all")
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)
        with pytest.raises(ViolationFound):
            run_histories(
                environment,
                HISTORIES,
                allowed_rules=mutation.allowed_rules,
                faults=mutation.faults,
                worker_faults=mutation.worker_faults,
                raise_at_once=True,
            )
