"""What a worker that runs many syncs tells whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from warehouse_sync.operations import RunReport
from warehouse_sync.progress import EachProgress, Progress

if TYPE_CHECKING:
    from warehouse_sync.config import Config

log = structlog.get_logger(__name__)


class Observer:
    """Receives what happens to syncs; this one ignores it. Called from several threads; must not raise."""

    def configured(self, config: Config) -> None:
        """From now on the syncs are those of `config`."""

    def progress(self, sync: str) -> Progress:
        """What a run of `sync` that begins now shall be given."""
        return Progress()

    def ended(self, sync: str, report: RunReport, *, retry: bool = False) -> None:
        """A run of `sync` has ended as `report` says; a failure's reason stands in it.

        retry: it was a retry pass, which says nothing of whether the query can be run. Purges are not told.
        """


class EachObserver(Observer):
    """Hands everything on to several others, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def configured(self, config: Config) -> None:
        for observer in self._observers:
            observer.configured(config)

    def progress(self, sync: str) -> Progress:
        return EachProgress(*(observer.progress(sync) for observer in self._observers))

    def ended(self, sync: str, report: RunReport, *, retry: bool = False) -> None:
        for observer in self._observers:
            try:
                observer.ended(sync, report, retry=retry)
            except Exception as error:  # noqa: BLE001 - how a run ended does not depend on who watches it
                log.error("an observer failed", observer=type(observer).__name__, error=type(error).__name__, sync=sync)
