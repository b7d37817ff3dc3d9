"""What a worker that runs many syncs tells whoever watches it."""

from __future__ import annotations

from warehouse_sync.operations import RunReport
from warehouse_sync.progress import Progress


class Observer:
    """Receives what happens to syncs; this one ignores it. Called from several threads; must not raise."""

    def progress(self, sync: str) -> Progress:
        """What a run of `sync` that begins now shall be given."""
        return Progress()

    def ended(self, sync: str, report: RunReport) -> None:
        """A run or retry pass of `sync` has ended as `report` says; a failure's reason stands in it."""
