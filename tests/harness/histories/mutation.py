"""Mutations of the worker and their registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from harness.histories.faults import FAULTS, WORKER_FAULTS
from harness.histories.injection import SimulatedFault
from hypothesis import strategies as st

Apply = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutation:
    """One way in which a worker can be wrong.

    Attributes:
        name: The name of the function that applies the mutation.
        description: What the worker does wrong, in one sentence.
        apply: Puts the mutation into the running process.
        allowed_rules: The rules of the state machine that can reveal it.
        faults: The faults of LinkedIn that can reveal it.
        worker_faults: The faults of the worker that can reveal it.
    """

    name: str
    description: str
    apply: Apply
    allowed_rules: tuple[str, ...]
    faults: tuple[str, ...]
    worker_faults: st.SearchStrategy[SimulatedFault]


REGISTERED: list[Mutation] = []


def mutation(
    description: str,
    *allowed_rules: str,
    faults: tuple[str, ...] = FAULTS,
    worker_faults: st.SearchStrategy[SimulatedFault] = WORKER_FAULTS,
) -> Callable[[Apply], Apply]:
    """Register a function that applies a mutation, under its own name."""

    def register(apply: Apply) -> Apply:
        REGISTERED.append(Mutation(apply.__name__, description, apply, allowed_rules, faults, worker_faults))
        return apply

    return register
