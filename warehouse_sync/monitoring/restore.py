"""Restore metrics from the state schemas when a process starts."""

from __future__ import annotations

from itertools import groupby

import structlog

from warehouse_sync.config.loader import Config
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.monitoring.metrics import Metrics
from warehouse_sync.redaction import redact
from warehouse_sync.run.context import open_warehouse
from warehouse_sync.state import retry_queue, runs, syncs
from warehouse_sync.state.migrate import is_readable
from warehouse_sync.state.store import State, SyncKey

log = structlog.get_logger(__name__)


def restore_metrics(metrics: Metrics, config: Config) -> None:
    """Set members, waiting and dead operations and the last success of each sync that has run before.

    Each warehouse is opened once. If one cannot be read, a warning is logged, and the metrics of its syncs appear after
    their next run.
    """
    by_warehouse = sorted(config.syncs.values(), key=lambda sync: sync.warehouse)
    for name, group in groupby(by_warehouse, key=lambda sync: sync.warehouse):
        group_syncs = list(group)
        try:
            with open_warehouse(config, group_syncs[0]) as warehouse:
                state = State(warehouse)
                if is_readable(state):
                    for sync in group_syncs:
                        _restore_sync(metrics, state, SyncKey(sync.name, sync.destination))
        except WarehouseSyncError as error:
            log.warning("metrics start without their previous values", warehouse=name, reason=redact(str(error)))


def _restore_sync(metrics: Metrics, state: State, key: SyncKey) -> None:
    row = syncs.read(state, key)
    if row.promoted_run is None:
        return
    promoted = runs.load(state, row.promoted_run)
    with state.warehouse.connect("count the retry queue") as connection:
        waiting, dead = retry_queue.count(state, connection, key, promoted.run_id)
    metrics.restore_sync(
        key.sync,
        members=promoted.members,
        waiting=waiting + promoted.last_seq - promoted.watermark,
        dead=dead,
        last_success=runs.last_success(state, key),
    )
