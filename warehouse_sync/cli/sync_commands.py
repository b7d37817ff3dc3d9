"""The verbs that run syncs or show their state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from warehouse_sync.cli.app import Json, Sync, Syncs, app, check_names, open_config, print_results
from warehouse_sync.cli.exit_codes import EXIT_CODES, exit_with, run_each
from warehouse_sync.cli.signals import cancel_token

if TYPE_CHECKING:
    from warehouse_sync.cli.display import Display
    from warehouse_sync.config.loader import Config
    from warehouse_sync.events import Events
    from warehouse_sync.reports import PlanReport, RunReport


PURGE_AFTER = ("succeeded", "incomplete")
"""Statuses of a run after which `run --purge` purges."""

MetricsPath = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file", metavar="PATH", help="Write metrics there, for the node exporter's textfile collector."
    ),
]


@app.command()
def run(
    context: typer.Context,
    syncs: Syncs = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Every sync of the configuration.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Add every member again, not only changed ones.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Ignore the guard for this run.")] = False,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Fill a new audience instead of the current one.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Afterwards remove the members of this sync from its earlier audiences.")
    ] = False,
    metrics_file: MetricsPath = None,
    trigger: Annotated[
        Literal["manual", "schedule"], typer.Option(help="What started the run; stored in the table of runs.")
    ] = "manual",
    as_json: Json = False,
) -> None:
    """Run syncs now."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.run.run import run_sync

    config, display = open_config(context)
    stop = cancel_token(context)
    if (recreate or purge) and (all_syncs or len(syncs or config.syncs) != 1):
        raise ConfigurationError("--recreate and --purge work on one sync at a time: name it")
    if syncs and all_syncs:
        raise ConfigurationError("name syncs or give --all, not both")
    if not syncs and not all_syncs and len(config.syncs) > 1:
        raise ConfigurationError(f"which sync? Name one or more of {', '.join(config.syncs)}, or give --all")

    def run_one(name: str, events: Events) -> RunReport:
        return run_sync(
            config, name, full=full, force=force, recreate=recreate, trigger=trigger, events=events, stop=stop
        )

    def purge_one(name: str, events: Events) -> Sequence[RunReport]:
        from warehouse_sync.run.purge import purge_sync

        return purge_sync(config, name, trigger=trigger, events=events, stop=stop)

    names = check_names(config, syncs or list(config.syncs))
    events = _make_events(config, metrics_file)
    _run_syncs(display, names, run_one, events, then=purge_one if purge else None, as_json=as_json)


@app.command()
def plan(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Show what a run would do, without doing it (no SYNC: all that are enabled)."""
    from warehouse_sync.events import Events
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import PlanReport
    from warehouse_sync.run.plan import plan_sync

    config, display = open_config(context)
    enabled = [name for name, sync in config.syncs.items() if sync.enabled]

    def plan_one(name: str) -> PlanReport:
        with display.progress(name) as listener:
            return plan_sync(config, name, events=Events(listener))

    def failed(name: str, reason: str, _: object) -> PlanReport:
        return PlanReport(name, RunStatus.FAILED, reason=reason)

    names = check_names(config, syncs or enabled)
    plans, codes = run_each(names, plan_one, failed, log_failures=as_json or not display.live)
    print_results(display, plans, display.plans, as_json=as_json)
    exit_with([*codes, *(EXIT_CODES[report.status] for report in plans)])


@app.command()
def retry(
    context: typer.Context,
    sync: Sync,
    dead: Annotated[
        bool, typer.Option("--dead", help="Also send dead operations, which are not retried otherwise.")
    ] = False,
    metrics_file: MetricsPath = None,
    as_json: Json = False,
) -> None:
    """Send the operations in the retry queue of SYNC now."""
    from warehouse_sync.run.run import retry_sync

    config, display = open_config(context)

    def retry_one(name: str, events: Events) -> RunReport:
        return retry_sync(config, name, dead=dead, trigger="manual", events=events, stop=cancel_token(context))

    events = _make_events(config, metrics_file)
    _run_syncs(display, check_names(config, [sync]), retry_one, events, is_retry=True, as_json=as_json)


@app.command()
def status(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Show the state of syncs (no SYNC: all)."""
    from warehouse_sync.admin.status import sync_status
    from warehouse_sync.reports import SyncStatus

    config, display = open_config(context)

    def failed(name: str, reason: str, _: object) -> SyncStatus:
        return SyncStatus(name, config.sync(name).enabled, error=reason)

    names = check_names(config, syncs or list(config.syncs))
    log_failures = as_json or not display.live
    statuses, codes = run_each(names, lambda name: sync_status(config, name), failed, log_failures=log_failures)
    print_results(display, statuses, display.statuses, as_json=as_json)
    exit_with(codes)


@app.command()
def log(
    context: typer.Context,
    sync: Sync,
    failed: Annotated[bool, typer.Option("--failed", help="Only operations that were not delivered.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Number of lines, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the sync log of SYNC."""
    from warehouse_sync.admin.status import sync_log_lines

    config, display = open_config(context)
    lines = sync_log_lines(config, sync, failed=failed, limit=limit)
    display.json(lines) if as_json else display.log_lines(lines)


def _run_syncs(
    display: Display,
    names: Sequence[str],
    action: Callable[[str, Events], RunReport],
    events: Events,
    *,
    then: Callable[[str, Events], Sequence[RunReport]] | None = None,
    is_retry: bool = False,
    as_json: bool,
) -> None:
    """Run one sync after the other, print the reports, and exit.

    Args:
        display: Where to print.
        names: Names of the syncs.
        action: Runs a sync.
        events: Where to publish what happens.
        then: Called after a run that did not fail and was not blocked, for example a purge.
        is_retry: Whether the actions are retry passes.
        as_json: Print JSON instead of text.
    """
    from warehouse_sync.errors import WarehouseSyncError
    from warehouse_sync.events import RunReported
    from warehouse_sync.operations import RunStatus
    from warehouse_sync.reports import RunReport

    reports: list[RunReport] = []
    published: set[str] = set()

    def add_report(report: RunReport) -> None:
        reports.append(report)
        if report.sync not in published:  # A second report of a sync is that of a purge, which is not published.
            published.add(report.sync)
            events.for_sync(report.sync).publish(RunReported(report, is_retry))

    def run_one(name: str) -> None:
        with display.progress(name) as listener:
            run_events = events.with_listener(listener)
            try:
                add_report(action(name, run_events))
            except WarehouseSyncError:
                raise
            except Exception as error:
                add_report(RunReport(name, RunStatus.FAILED, reason=f"internal error ({type(error).__name__})"))
                raise
            if then is not None and reports[-1].status in PURGE_AFTER:
                reports.extend(then(name, run_events))

    def failed(name: str, reason: str, report: RunReport | None) -> None:
        add_report(replace(report or RunReport(name, RunStatus.FAILED), reason=reason))

    _, codes = run_each(names, run_one, failed, log_failures=as_json or not display.live)
    print_results(display, reports, display.reports, as_json=as_json)
    exit_with([*codes, *(EXIT_CODES[report.status] for report in reports)])


def _make_events(config: Config, metrics_file: Path | None) -> Events:
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
