"""Workers that are wrong in one way each. The harness is worth something only if it finds every one of them.

Each mutation is put into the running process by a MonkeyPatch, after the bench has been built.
"""

from __future__ import annotations

from harness.histories import wrong_sending, wrong_state
from harness.histories.mutation import LISTED, Mutation

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS: tuple[Mutation, ...] = tuple(LISTED)
"""All of them, in the order in which they are written down."""

assert {wrong_sending.__name__, wrong_state.__name__} == {mutation.apply.__module__ for mutation in MUTATIONS}
