"""Check a configuration against its warehouses and destinations, without a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from warehouse_sync.admin.status import expiry_warning
from warehouse_sync.config.destination_types import DestinationConfig
from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import SyncConfig, WarehouseConfig
from warehouse_sync.destinations.base import AudienceSpec
from warehouse_sync.destinations.registry import open_destination
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.pipeline.snapshot import resolve_model
from warehouse_sync.reports import Check
from warehouse_sync.run.context import model_of, open_warehouse
from warehouse_sync.warehouses.registry import make_warehouse


def validate(config: Config) -> Iterator[Check]:
    """Yield one check after the other: warehouses, destinations, then each sync's query and audience. Reads only.

    Every check is done, also after failures, except those of a sync whose warehouse or destination has failed.
    """
    failed: set[str] = set()
    for warehouse in config.warehouses.values():
        check = _run_check(f"warehouses.{warehouse.name}", partial(_check_warehouse, warehouse))
        yield _remember_failure(failed, check)
    for destination in config.destinations.values():
        check = _run_check(f"destinations.{destination.name}", partial(_check_destination, destination))
        yield _remember_failure(failed, check)
    for sync in config.syncs.values():
        if f"warehouses.{sync.warehouse}" not in failed:
            yield _run_check(f"syncs.{sync.name}.model", partial(_check_query, config, sync))
        if sync.audience.id is not None and f"destinations.{sync.destination}" not in failed:
            yield _run_check(f"syncs.{sync.name}.audience", partial(_check_audience, config, sync))


def _remember_failure(failed: set[str], check: Check) -> Check:
    if not check.ok:
        failed.add(check.subject)
    return check


def _run_check(subject: str, action: Callable[[], tuple[str, bool]]) -> Check:
    try:
        message, warning = action()
    except WarehouseSyncError as error:
        return Check(subject, False, str(error))
    return Check(subject, True, message, warning)


def _check_warehouse(config: WarehouseConfig) -> tuple[str, bool]:
    warehouse = make_warehouse(config)
    try:
        warehouse.open()
        return f"connected to {warehouse.address}", False
    finally:
        warehouse.close()


def _check_destination(config: DestinationConfig) -> tuple[str, bool]:
    destination = open_destination(config, interactive=True)
    try:
        expires = destination.check().refresh_token_expires
    finally:
        destination.close()
    warning = expiry_warning(expires, datetime.now(UTC).date())
    until = f"; the refresh token ends on {expires}" if expires else ""
    return warning or f"account {config.account_label} answers{until}", warning is not None


def _check_query(config: Config, sync: SyncConfig) -> tuple[str, bool]:
    with open_warehouse(config, sync) as warehouse:
        resolved = resolve_model(warehouse, model_of(config, sync))
    columns = {*resolved.primary_key, *resolved.columns.values()}
    return f"the query has all {len(columns)} columns that the configuration names", False


def _check_audience(config: Config, sync: SyncConfig) -> tuple[str, bool]:
    destination = open_destination(config.destination_of(sync), interactive=True)
    try:
        configured = sync.audience
        audience = destination.find(AudienceSpec(configured.type, None, None, configured.id, ""), None)
    finally:
        destination.close()
    assert audience is not None  # For an audience that is configured by its id, find() raises instead.
    message = f"audience {configured.id} exists: {audience.name}"
    return f"{message}; {audience.warning}" if audience.warning else message, audience.warning is not None
