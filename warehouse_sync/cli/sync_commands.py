"""The verbs that work on syncs, or tell how they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from warehouse_sync.cli.app import Json, Sync, Syncs, app, named, opened, show
from warehouse_sync.cli.exit_codes import EXIT, each, end
from warehouse_sync.cli.signals import stop_of

if TYPE_CHECKING:
    from warehouse_sync.cli.display import Display
    from warehouse_sync.config.loader import Config
    from warehouse_sync.events import Events
    from warehouse_sync.reports import PlanReport, RunReport


GONE_THROUGH = ("succeeded", "incomplete")
"""Statuses of a run behind which more may be done."""

MetricsPath = Annotated[
    Path | None,
    typer.Option("--metrics-file", metavar="PATH", help="Write metrics there, for the node exporter's textfiles."),
]


@app.command()
def run(
    context: typer.Context,
    syncs: Syncs = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Every sync of the configuration.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Add every member again, not only what changed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Pass the guard for this run.")] = False,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Fill a fresh audience instead of the one so far.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Then take out of earlier audiences what this sync has put there.")
    ] = False,
    metrics_file: MetricsPath = None,
    trigger: Annotated[
        Literal["manual", "schedule"], typer.Option(help="Who asks for the run, as the table of runs tells it.")
    ] = "manual",
    as_json: Json = False,
) -> None:
    """Sync now."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.run.run import run_sync

    config, display = opened(context)
    stop = stop_of(context)
    if (recreate or purge) and (all_syncs or len(syncs or config.syncs) != 1):
        raise ConfigurationError("--recreate and --purge are for one sync at a time: name it")
    if syncs and all_syncs:
        raise ConfigurationError("name syncs or give --all, not both")
    if not syncs and not all_syncs and len(config.syncs) > 1:
        raise ConfigurationError(f"which sync? Name one or more of {', '.join(config.syncs)}, or give --all")

    def one(name: str, events: Events) -> RunReport:
        return run_sync(
            config, name, full=full, force=force, recreate=recreate, trigger=trigger, events=events, stop=stop
        )

    def earlier(name: str, events: Events) -> Sequence[RunReport]:
        from warehouse_sync.run.purge import purge_sync

        return purge_sync(config, name, trigger=trigger, events=events, stop=stop)

    names = named(config, syncs or list(config.syncs))
    events = _events(config, metrics_file)
    _run_each(display, names, one, events, then=earlier if purge else None, as_json=as_json)


@app.command()
def plan(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Tell what a run would do, without doing it (no SYNC: all that are enabled)."""
    from warehouse_sync.events import Events
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import PlanReport
    from warehouse_sync.run.plan import plan_sync

    config, display = opened(context)
    enabled = [name for name, sync in config.syncs.items() if sync.enabled]

    def one(name: str) -> PlanReport:
        with display.progress(name) as listener:
            return plan_sync(config, name, events=Events(listener))

    def failed(name: str, reason: str, _: object) -> PlanReport:
        return PlanReport(name, RunStatus.FAILED, reason=reason)

    names = named(config, syncs or enabled)
    plans, codes = each(names, one, failed, told=not as_json and display.live)
    show(display, plans, display.plans, as_json=as_json)
    end([*codes, *(EXIT[report.status] for report in plans)])


@app.command()
def retry(
    context: typer.Context,
    sync: Sync,
    dead: Annotated[bool, typer.Option("--dead", help="Also what is no longer retried by itself.")] = False,
    metrics_file: MetricsPath = None,
    as_json: Json = False,
) -> None:
    """Send what waits in the retry queue of SYNC now."""
    from warehouse_sync.run.run import retry_sync

    config, display = opened(context)

    def one(name: str, events: Events) -> RunReport:
        return retry_sync(config, name, dead=dead, trigger="manual", events=events, stop=stop_of(context))

    _run_each(display, named(config, [sync]), one, _events(config, metrics_file), retry=True, as_json=as_json)


@app.command()
def status(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Tell how syncs stand (no SYNC: all)."""
    from warehouse_sync.admin.status import sync_status
    from warehouse_sync.reports import SyncStatus

    config, display = opened(context)

    def failed(name: str, reason: str, _: object) -> SyncStatus:
        return SyncStatus(name, config.sync(name).enabled, error=reason)

    names = named(config, syncs or list(config.syncs))
    found, codes = each(names, lambda name: sync_status(config, name), failed, told=not as_json and display.live)
    show(display, found, display.statuses, as_json=as_json)
    end(codes)


@app.command()
def log(
    context: typer.Context,
    sync: Sync,
    failed: Annotated[bool, typer.Option("--failed", help="Only what was not delivered.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many lines, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the sync log of SYNC."""
    from warehouse_sync.admin.status import sync_log_lines

    config, display = opened(context)
    lines = sync_log_lines(config, sync, failed=failed, limit=limit)
    display.json(lines) if as_json else display.log_lines(lines)


def _run_each(
    display: Display,
    names: Sequence[str],
    one: Callable[[str, Events], RunReport],
    events: Events,
    *,
    then: Callable[[str, Events], Sequence[RunReport]] | None = None,
    retry: bool = False,
    as_json: bool,
) -> None:
    """Run one sync after the other, show how each went, and end. `then` follows where that did not fail or block."""
    from warehouse_sync.errors import WarehouseSyncError
    from warehouse_sync.events import RunReported
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import RunReport

    reports: list[RunReport] = []
    told: set[str] = set()

    def ended(report: RunReport) -> None:
        reports.append(report)
        if report.sync not in told:  # What comes behind a sync's run is a purge, which says nothing of the sync.
            told.add(report.sync)
            events.for_sync(report.sync).publish(RunReported(report, retry))

    def shown(name: str) -> None:
        with display.progress(name) as listener:
            run_events = events.with_listener(listener)
            try:
                ended(one(name, run_events))
            except WarehouseSyncError:
                raise
            except Exception as error:
                ended(RunReport(name, RunStatus.FAILED, reason=f"internal error ({type(error).__name__})"))
                raise
            if then is not None and reports[-1].status in GONE_THROUGH:
                reports.extend(then(name, run_events))

    def failed(name: str, reason: str, report: RunReport | None) -> None:
        ended(replace(report or RunReport(name, RunStatus.FAILED), reason=reason))

    _, codes = each(names, shown, failed, told=not as_json and display.live)
    show(display, reports, display.reports, as_json=as_json)
    end([*codes, *(EXIT[report.status] for report in reports)])


def _events(config: Config, metrics_file: Path | None) -> Events:
    """Return the publisher for runs of `config`. Raises ConfigurationError."""
    from warehouse_sync.events import Events, Listener

    listeners: list[Listener] = []
    if metrics_file is not None:
        from warehouse_sync.monitoring.metrics import Metrics
        from warehouse_sync.monitoring.textfile import MetricsFile

        metrics = Metrics(config)
        listeners += [metrics.handle, MetricsFile(metrics, metrics_file).handle]
    if config.webhooks:
        from warehouse_sync.monitoring.alerts import Alerts

        listeners.append(Alerts(config).handle)
    return Events(*listeners)
