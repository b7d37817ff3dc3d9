"""Keep a LinkedIn audience equal to a warehouse query.

The library: `load_config(path)`, `run_sync(config, name)`, `plan_sync(config, name)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse_sync.cancellation import Stop
    from warehouse_sync.config.loader import Config, load_config
    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import PlanReport, RunReport
    from warehouse_sync.run.plan import plan_sync
    from warehouse_sync.run.purge import purge_sync
    from warehouse_sync.run.run import retry_sync, run_sync

__all__ = [
    "Config",
    "ConfigurationError",
    "PlanReport",
    "RunReport",
    "RunStatus",
    "Stop",
    "WarehouseSyncError",
    "load_config",
    "plan_sync",
    "purge_sync",
    "retry_sync",
    "run_sync",
]

_HOMES = {
    "Config": "config.loader",
    "ConfigurationError": "errors",
    "PlanReport": "reports",
    "RunReport": "reports",
    "RunStatus": "operations",
    "Stop": "cancellation",
    "WarehouseSyncError": "errors",
    "load_config": "config.loader",
    "plan_sync": "run.plan",
    "purge_sync": "run.purge",
    "retry_sync": "run.run",
    "run_sync": "run.run",
}


def __getattr__(name: str) -> Any:
    # Imported when used: `warehouse-sync --help` must not wait for drivers.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"warehouse_sync.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
