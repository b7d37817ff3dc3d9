"""A worker that dies inside this process: it is gone at one of its steps, without a last word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from warehouse_sync.run.mirror import Mirror


class Death(BaseException):
    """The end of a worker: nobody catches it."""


def _die(*_: object) -> None:
    raise Death


@contextmanager
def dies_at(step: str, of: type[Mirror] = Mirror) -> Iterator[None]:
    """The worker in the block dies just before this step of its run, and records nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, step, _die)
        patch.setattr(Mirror, "failed", lambda *_: None)
        with pytest.raises(Death):
            yield
