"""Workers that are wrong in one way each. The harness must find every one of them.

A MonkeyPatch applies each mutation to the running process after the environment has been opened.
"""

from __future__ import annotations

from harness.histories import sending_mutations, state_mutations
from harness.histories.mutation import REGISTERED, Mutation

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS: tuple[Mutation, ...] = tuple(REGISTERED)
"""All mutations, in the order of their definition."""

assert {sending_mutations.__name__, state_mutations.__name__} == {mutation.apply.__module__ for mutation in MUTATIONS}
