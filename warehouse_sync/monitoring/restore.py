"""What the state schemas know of the syncs, for the metrics of a process that has just begun."""

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
    """`metrics` tells members, waiting and dead operations and the last success of each sync that has run before.

    Each warehouse is opened once. One that cannot be asked is told in the log, and its syncs are told from their next
    run on.
    """
    everything = sorted(config.syncs.values(), key=lambda sync: sync.warehouse)
    for name, group in groupby(everything, key=lambda sync: sync.warehouse):
        ours = list(group)
        try:
            with open_warehouse(config, ours[0]) as warehouse:
                state = State(warehouse)
                if is_readable(state):
                    for sync in ours:
                        _restore_sync(metrics, state, SyncKey(sync.name, sync.destination))
        except WarehouseSyncError as error:
            log.warning("metrics begin without what was before", warehouse=name, reason=redact(str(error)))


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
