"""What a mutation is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from harness.histories.faults import FAULTS, TROUBLES
from harness.histories.injection import Trouble
from hypothesis import strategies as st

Apply = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutation:
    """breaks: what the worker does wrong, in a sentence. only, faults, troubles: what leads to it."""

    name: str
    breaks: str
    apply: Apply
    only: tuple[str, ...]
    faults: tuple[str, ...]
    troubles: st.SearchStrategy[Trouble]


LISTED: list[Mutation] = []


def mutation(
    breaks: str,
    *only: str,
    faults: tuple[str, ...] = FAULTS,
    troubles: st.SearchStrategy[Trouble] = TROUBLES,
) -> Callable[[Apply], Apply]:
    """A function that puts a mutation into the running process, listed under its own name."""

    def listed(apply: Apply) -> Apply:
        LISTED.append(Mutation(apply.__name__, breaks, apply, only, faults, troubles))
        return apply

    return listed
