"""Everything that can be found out about a configuration without a run: each check is made, whatever the others say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

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
    """One check after the other: warehouses, destinations, then each sync's query and audience.

    Reads only. Syncs whose warehouse or destination has failed are not looked at there again.
    """
    failed: set[str] = set()
    for warehouse in config.warehouses.values():
        yield _noted(failed, _checked(f"warehouses.{warehouse.name}", lambda w=warehouse: _connects(w)))  # type: ignore[misc]
    for destination in config.destinations.values():
        yield _noted(failed, _checked(f"destinations.{destination.name}", lambda d=destination: _takes_us(d)))  # type: ignore[misc]
    for sync in config.syncs.values():
        if f"warehouses.{sync.warehouse}" not in failed:
            yield _checked(f"syncs.{sync.name}.model", lambda s=sync: _query_works(config, s))  # type: ignore[misc]
        if sync.audience.id is not None and f"destinations.{sync.destination}" not in failed:
            yield _checked(f"syncs.{sync.name}.audience", lambda s=sync: _audience_exists(config, s))  # type: ignore[misc]


def _noted(failed: set[str], check: Check) -> Check:
    if not check.ok:
        failed.add(check.subject)
    return check


def _checked(subject: str, look: Callable[[], tuple[str, bool]]) -> Check:
    try:
        message, warning = look()
    except WarehouseSyncError as error:
        return Check(subject, False, str(error))
    return Check(subject, True, message, warning)


def _connects(config: WarehouseConfig) -> tuple[str, bool]:
    warehouse = make_warehouse(config)
    try:
        warehouse.open()
        return f"connected to {warehouse.address}", False
    finally:
        warehouse.close()


def _takes_us(config: DestinationConfig) -> tuple[str, bool]:
    destination = open_destination(config, interactive=True)
    try:
        expires = destination.check().refresh_token_expires
    finally:
        destination.close()
    warning = expiry_warning(expires, datetime.now(UTC).date())
    until = f"; the refresh token ends on {expires}" if expires else ""
    return warning or f"account {config.account_label} answers{until}", warning is not None


def _query_works(config: Config, sync: SyncConfig) -> tuple[str, bool]:
    with open_warehouse(config, sync) as warehouse:
        resolved = resolve_model(warehouse, model_of(config, sync))
    named = {*resolved.primary_key, *resolved.columns.values()}
    return f"the query has all {len(named)} columns that are named", False


def _audience_exists(config: Config, sync: SyncConfig) -> tuple[str, bool]:
    destination = open_destination(config.destination_of(sync), interactive=True)
    try:
        wanted = sync.audience
        audience = destination.find(AudienceSpec(wanted.type, None, None, wanted.id, ""), None)
    finally:
        destination.close()
    assert audience is not None  # Of an audience that is named by its id the destination would have raised.
    found = f"audience {wanted.id} is there: {audience.name}"
    return f"{found}; {audience.warning}" if audience.warning else found, audience.warning is not None
