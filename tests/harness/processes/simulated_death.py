"""Simulate the death of a worker in this process: it stops just before a step and records nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from warehouse_sync.run import steps
from warehouse_sync.run.record import RunEnding

STEP_OWNERS: dict[str, Any] = {"finished": RunEnding}
"""The owner of a step that is not defined in `warehouse_sync.run.steps`."""


class SimulatedDeath(BaseException):
    """The end of a worker. The product does not catch it."""


def _die(*_: object) -> None:
    raise SimulatedDeath


@contextmanager
def dies_at(step: str) -> Iterator[None]:
    """Kill the worker in the block just before this step of its run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STEP_OWNERS.get(step, steps), step, _die)
        patch.setattr(RunEnding, "failed", lambda *_: None)
        with pytest.raises(SimulatedDeath):
            yield
