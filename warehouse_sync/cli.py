"""The command line: verbs to function calls; exits.py turns what they raise into exit codes.

Results go to standard output, everything else to standard error. What is slow to import is imported where it is used:
`--help` must not wait for drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from warehouse_sync.exits import CONFIGURATION, EXIT, STOPPED, Verbs, each, end, own_process, stop_of, verb_is_known

if TYPE_CHECKING:
    from warehouse_sync.config import Config
    from warehouse_sync.display import Display
    from warehouse_sync.errors import Problem
    from warehouse_sync.observer import Observer
    from warehouse_sync.operations import PlanReport, RunReport
    from warehouse_sync.progress import Progress

app = typer.Typer(
    cls=Verbs,
    name="warehouse-sync",
    help="Keep a LinkedIn audience equal to a warehouse query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

GONE_THROUGH = ("succeeded", "incomplete")
"""Statuses of a run behind which more may be done."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
MetricsPath = Annotated[
    Path | None,
    typer.Option("--metrics-file", metavar="PATH", help="Write metrics there, for the node exporter's textfiles."),
]
Syncs = Annotated[list[str] | None, typer.Argument(metavar="SYNC", show_default=False)]
Sync = Annotated[str, typer.Argument(metavar="SYNC", show_default=False)]


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"warehouse-sync {version('warehouse-sync')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path, typer.Option(envvar="WAREHOUSE_SYNC_CONFIG", metavar="PATH", help="YAML file, or a folder of them.")
    ] = Path("configs"),
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error; by default info, on a terminal warning."),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="WAREHOUSE_SYNC_LOG_FORMAT", help="text, or json: one object a line.")
    ] = LogFormat.TEXT,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What holds for every verb."""
    from warehouse_sync.display import Display
    from warehouse_sync.logs import configure_logs

    as_json = log_format is LogFormat.JSON
    display = Display(plain=as_json)
    configure_logs(log_level or ("warning" if display.live else "info"), as_json, display.log_stream())
    context.obj = (config, display)
    verb_is_known(context)


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
    from warehouse_sync.run import run_sync

    config, display = _opened(context)
    stop = stop_of(context)
    if (recreate or purge) and (all_syncs or len(syncs or config.syncs) != 1):
        raise ConfigurationError("--recreate and --purge are for one sync at a time: name it")
    if syncs and all_syncs:
        raise ConfigurationError("name syncs or give --all, not both")
    if not syncs and not all_syncs and len(config.syncs) > 1:
        raise ConfigurationError(f"which sync? Name one or more of {', '.join(config.syncs)}, or give --all")

    def one(name: str, progress: Progress) -> RunReport:
        return run_sync(
            config, name, full=full, force=force, recreate=recreate, trigger=trigger, progress=progress, stop=stop
        )

    def earlier(name: str, progress: Progress) -> Sequence[RunReport]:
        from warehouse_sync.purge import purge_sync

        return purge_sync(config, name, trigger=trigger, progress=progress, stop=stop)

    names = _named(config, syncs or list(config.syncs))
    observer = _observer(config, metrics_file)
    _run_each(display, names, one, observer, then=earlier if purge else None, as_json=as_json)


@app.command()
def plan(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Tell what a run would do, without doing it (no SYNC: all that are enabled)."""
    from warehouse_sync.operations import PlanReport, RunStatus
    from warehouse_sync.plan import plan_sync

    config, display = _opened(context)
    enabled = [name for name, sync in config.syncs.items() if sync.enabled]

    def one(name: str) -> PlanReport:
        with display.progress(name) as progress:
            return plan_sync(config, name, progress=progress)

    def failed(name: str, reason: str, _: object) -> PlanReport:
        return PlanReport(name, RunStatus.FAILED, reason=reason)

    names = _named(config, syncs or enabled)
    plans, codes = each(names, one, failed, told=not as_json and display.live)
    _show(display, plans, display.plans, as_json=as_json)
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
    from warehouse_sync.run import retry_sync

    config, display = _opened(context)

    def one(name: str, progress: Progress) -> RunReport:
        return retry_sync(config, name, dead=dead, trigger="manual", progress=progress, stop=stop_of(context))

    _run_each(display, _named(config, [sync]), one, _observer(config, metrics_file), retry=True, as_json=as_json)


@app.command()
def status(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Tell how syncs stand (no SYNC: all)."""
    from warehouse_sync.status import SyncStatus, sync_status

    config, display = _opened(context)

    def failed(name: str, reason: str, _: object) -> SyncStatus:
        return SyncStatus(name, config.sync(name).enabled, error=reason)

    names = _named(config, syncs or list(config.syncs))
    found, codes = each(names, lambda name: sync_status(config, name), failed, told=not as_json and display.live)
    _show(display, found, display.statuses, as_json=as_json)
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
    from warehouse_sync.status import sync_log_lines

    config, display = _opened(context)
    lines = sync_log_lines(config, sync, failed=failed, limit=limit)
    display.json(lines) if as_json else display.log_lines(lines)


@app.command()
def validate(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Only the configuration itself.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration, then connections, queries, accounts and audiences."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.validate import Check, validate

    display = context.obj[1]
    checks: Iterable[Check]
    try:
        config, _ = _opened(context)
    except ConfigurationError as error:
        checks = [Check("configuration", False, str(problem)) for problem in error.problems]
    else:
        read = Check("configuration", True, f"syncs in {context.obj[0]}: {len(config.syncs)}")
        checks = chain([read], () if offline else validate(config))
    made = []
    for check in checks:
        made.append(check)
        if not as_json:
            display.check(check)
    valid = all(check.ok for check in made)
    if as_json:
        display.json({"valid": valid, "checks": [check.as_dict() for check in made]})
    end([] if valid else [CONFIGURATION])


@app.command()
def migrate(context: typer.Context, as_json: Json = False) -> None:
    """Bring the state tables of every warehouse to this release (a run does it by itself)."""
    from warehouse_sync.warehouse_setup import Preparation, prepare

    config, display = _opened(context)

    def failed(name: str, reason: str, _: object) -> Preparation:
        return Preparation(name, error=reason)

    names = list(config.warehouses)
    done, codes = each(
        names,
        lambda name: prepare(config.warehouses[name]),
        failed,
        told=not as_json and display.live,
        what="warehouse",
    )
    _show(display, done, display.preparations, as_json=as_json)
    end(codes)


@app.command()
def grants(
    context: typer.Context,
    warehouses: Annotated[list[str] | None, typer.Argument(metavar="WAREHOUSE", show_default=False)] = None,
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="Who gets them; by default who the URL names.")
    ] = None,
    create_schema: Annotated[
        bool, typer.Option("--create-schema", help="The role makes the schema of the worker's tables itself.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the SQL that gives the worker its rights (no WAREHOUSE: all)."""
    from warehouse_sync.grants import Grants, grants

    config, display = _opened(context)

    def one(name: str) -> Grants:
        return grants(config, name, role=role, may_create_schema=create_schema)

    def failed(name: str, reason: str, _: object) -> Grants:
        return Grants(name, error=reason)

    found, codes = each(
        warehouses or list(config.warehouses), one, failed, told=not as_json and display.live, what="warehouse"
    )
    _show(display, found, display.grants, as_json=as_json)
    end(codes)


@app.command()
def serve(
    context: typer.Context,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many syncs run at once.")] = 4,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of /healthz, /readyz and /metrics; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where that port is open.")] = "0.0.0.0",  # noqa: S104
) -> None:
    """Run every sync on its schedule until Ctrl-C or SIGTERM; SIGHUP reads the configuration again."""
    from warehouse_sync.serve import serve

    serve(context.obj[0], workers=workers, port=port, host=host, stop=stop_of(context))


@app.command()
def kubernetes(
    context: typer.Context,
    syncs: Syncs = None,
    image: Annotated[str, typer.Option(metavar="IMAGE", help="Of the container.")] = "warehouse-sync",
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the CronJobs; left out, it is said when they are applied.")
    ] = None,
    config_map: Annotated[
        str, typer.Option(metavar="NAME", help="The ConfigMap with the files of the configuration.")
    ] = "warehouse-sync",
    variables: Annotated[
        str, typer.Option("--secret", metavar="NAME", help="The Secret whose keys become environment variables.")
    ] = "warehouse-sync",
    secret_files: Annotated[
        str | None, typer.Option(metavar="NAME", help="A Secret to mount as files in /run/secrets/warehouse-sync.")
    ] = None,
    data_claim: Annotated[
        str | None, typer.Option(metavar="NAME", help="The volume claim to mount in /data, for DuckDB files.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a CronJob for each scheduled sync, as YAML (no SYNC: all that are enabled)."""
    from warehouse_sync.kubernetes import Cluster, as_yaml, cron_jobs

    cluster = Cluster(image, namespace, config_map, variables, secret_files, data_claim)
    config, display = _opened(context)
    jobs = cron_jobs(config, _named(config, syncs or []), cluster)
    display.json(jobs) if as_json else display.text(as_yaml(jobs).rstrip())


@app.command()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this machine only; 0 takes a free one.")] = 8080,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="What goes wrong, as in 503:users:times=3; repeatable.")
    ] = None,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long a new audience cannot be written to.")
    ] = 5.0,
) -> None:
    """Run a LinkedIn of your own until Ctrl-C."""
    from warehouse_sync import wording
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings

    faults = tuple(Fault.parse(text) for text in fault or ())
    settings = SandboxSettings(port=port, faults=faults, ready_after=ready_after)
    server = Sandbox(settings)
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on port {port}: {error.strerror}; choose another --port") from None
    context.obj[1].text(wording.sandbox(server.url, settings))
    server.serve_forever()


def _opened(context: typer.Context) -> tuple[Config, Display]:
    """The configuration, and where to show things. Raises ConfigurationError."""
    from warehouse_sync.config import load_config

    path, display = context.obj
    return load_config(path), display


def _named(config: Config, names: Sequence[str]) -> list[str]:
    """These syncs, each once. Raises ConfigurationError that tells of all unknown ones."""
    from warehouse_sync.errors import ConfigurationError

    problems: list[Problem] = []
    for name in names:
        try:
            config.sync(name)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if not config.syncs:
        problems.append(*ConfigurationError("there is nothing to do: the configuration has no syncs").problems)
    if problems:
        raise ConfigurationError(problems)
    return list(dict.fromkeys(names))


def _run_each(
    display: Display,
    names: Sequence[str],
    one: Callable[[str, Progress], RunReport],
    observer: Observer,
    *,
    then: Callable[[str, Progress], Sequence[RunReport]] | None = None,
    retry: bool = False,
    as_json: bool,
) -> None:
    """Run one sync after the other, show how each went, and end. `then` follows where that did not fail or block."""
    from warehouse_sync.errors import WarehouseSyncError
    from warehouse_sync.operations import RunReport, RunStatus
    from warehouse_sync.progress import EachProgress

    reports: list[RunReport] = []
    told: set[str] = set()

    def ended(report: RunReport) -> None:
        reports.append(report)
        if report.sync not in told:  # What comes behind a sync's run is a purge, which says nothing of the sync.
            told.add(report.sync)
            observer.ended(report.sync, report, retry=retry)

    def shown(name: str) -> None:
        with display.progress(name) as shown_progress:
            progress = EachProgress(shown_progress, observer.progress(name))
            try:
                ended(one(name, progress))
            except WarehouseSyncError:
                raise
            except Exception as error:
                ended(RunReport(name, RunStatus.FAILED, reason=f"internal error ({type(error).__name__})"))
                raise
            if then is not None and reports[-1].status in GONE_THROUGH:
                reports.extend(then(name, progress))

    def failed(name: str, reason: str, report: RunReport | None) -> None:
        ended(replace(report or RunReport(name, RunStatus.FAILED), reason=reason))

    _, codes = each(names, shown, failed, told=not as_json and display.live)
    _show(display, reports, display.reports, as_json=as_json)
    end([*codes, *(EXIT[report.status] for report in reports)])


def _observer(config: Config, metrics_file: Path | None) -> Observer:
    """Who is told of the runs. Raises ConfigurationError."""
    from warehouse_sync.observer import EachObserver

    observers: list[Observer] = []
    if metrics_file is not None:
        from warehouse_sync.metrics import Metrics
        from warehouse_sync.metrics_file import MetricsFile

        metrics = Metrics(config)
        observers += [metrics, MetricsFile(metrics, metrics_file)]
    if config.webhooks:
        from warehouse_sync.alerts import Alerts

        observers.append(Alerts(config))
    return EachObserver(*observers)


def _show(display: Display, results: Sequence[Any], as_text: Callable[[Any], None], *, as_json: bool) -> None:
    if as_json:
        display.json([result.as_dict() for result in results])
    else:
        as_text(results)


def main() -> None:
    """The entry point of `warehouse-sync`."""
    own_process()
    try:
        app(prog_name="warehouse-sync")
    except KeyboardInterrupt:  # Before any verb is known.
        raise SystemExit(STOPPED) from None
