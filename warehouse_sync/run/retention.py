"""Apply retention without a run: old log lines and tables are deleted even where a sync has not run for days."""

from __future__ import annotations

import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.pipeline import cleanup
from warehouse_sync.run.context import open_warehouse
from warehouse_sync.run.recovery import discard_unpromoted_runs
from warehouse_sync.state import runs, sync_log, syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.migrate import is_current
from warehouse_sync.state.store import State, SyncKey

log = structlog.get_logger(__name__)


def apply_retention(config: Config, name: str, stop: CancelToken | None = None) -> bool:
    """Delete old log lines, old snapshots and the tables of dead runs of sync `name`, by its `retention`.

    Nothing that a later run needs is touched.

    Args:
        config: The configuration.
        name: The sync.
        stop: Requests a stop.

    Returns:
        False when nothing was done: another worker has the lease, or the state tables do not exist.

    Raises:
        ConfigurationError: The warehouse refuses us.
        WarehouseUnavailable: It does not answer.
    """
    sync = config.sync(name)
    key = SyncKey(sync.name, sync.destination)
    with open_warehouse(config, sync) as warehouse:
        state = State(warehouse)
        if not is_current(state):
            return False
        lease = Lease.take(state, key, stop)
        if lease is None:
            return False
        with lease:
            retention = sync.retention
            # A run that was promoted stays open: the next run defers what it did not send.
            discard_unpromoted_runs(state, lease, runs.last_run_number(state) + 1)
            promoted = syncs.read(state, key).promoted_run
            if promoted is None:
                with state.fenced(key, lease.token, "delete old log lines") as connection:
                    sync_log.delete_older(state, connection, key, retention.sync_log_days)
            else:
                run = runs.load(state, promoted)
                cleanup.apply_retention(
                    state,
                    lease,
                    run,
                    str(run.audience_id),
                    snapshots=retention.snapshots,
                    sync_log_days=retention.sync_log_days,
                )
    log.debug("retention applied")
    return True
