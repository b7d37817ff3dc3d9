"""Kill a worker inside this process: it stops just before one of its steps, and records nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from warehouse_sync.run import steps
from warehouse_sync.run.record import RunEnding

STEP_OWNERS: dict[str, Any] = {"finished": RunEnding}
"""Where a step is defined, if not in `steps`."""


class SimulatedDeath(BaseException):
    """The end of a worker; the product does not catch it."""


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
