"""Keep a LinkedIn audience equal to a warehouse query.

The library: `load_config(path)`, `run_sync(config, name)`, `plan_sync(config, name)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warehouse_sync.cancellation import CancelToken
    from warehouse_sync.cancellation import CancelToken as Stop
    from warehouse_sync.config.loader import Config, load_config
    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import PlanReport, RunReport
    from warehouse_sync.run.plan import plan_sync
    from warehouse_sync.run.purge import purge_sync
    from warehouse_sync.run.run import retry_sync, run_sync

__all__ = [
    "CancelToken",
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

_EXPORTS = {
    "CancelToken": ("cancellation", "CancelToken"),
    "Config": ("config.loader", "Config"),
    "ConfigurationError": ("errors", "ConfigurationError"),
    "PlanReport": ("reports", "PlanReport"),
    "RunReport": ("reports", "RunReport"),
    "RunStatus": ("operations", "RunStatus"),
    "Stop": ("cancellation", "CancelToken"),
    "WarehouseSyncError": ("errors", "WarehouseSyncError"),
    "load_config": ("config.loader", "load_config"),
    "plan_sync": ("run.plan", "plan_sync"),
    "purge_sync": ("run.purge", "purge_sync"),
    "retry_sync": ("run.run", "retry_sync"),
    "run_sync": ("run.run", "run_sync"),
}
"""Module and attribute of each public name. `Stop` is the earlier name of `CancelToken`."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `warehouse-sync --help` must not wait for drivers."""
    if name in _EXPORTS:
        from importlib import import_module

        module, attribute = _EXPORTS[name]
        return getattr(import_module(f"warehouse_sync.{module}"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
