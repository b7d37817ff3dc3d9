"""The command line: verbs to function calls, errors to exit codes.

    0  succeeded or skipped        3  incomplete: something waits in the retry queue
    1  failed                      4  blocked by the guard
    2  configuration or usage, nothing touched         of several syncs the gravest: 0 < 3 < 4 < 1 < 2

Results go to standard output, everything else to standard error. What is slow to import is imported where it is used:
`--help` must not wait for drivers.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from warehouse_sync.config import Config
    from warehouse_sync.display import Display
    from warehouse_sync.operations import PlanReport, RunReport
    from warehouse_sync.progress import Progress

FAILED: Final = 1
CONFIGURATION: Final = 2
EXIT: Final = {"succeeded": 0, "skipped": 0, "incomplete": 3, "blocked": 4, "failed": FAILED}
GRAVITY: Final = (0, 3, 4, FAILED, CONFIGURATION)
STOPPED: Final = 130
"""128 and the number of the signal, as shells have it; Ctrl-C is 2."""

Result = TypeVar("Result")


class Verbs(TyperGroup):
    """All verbs; whatever one of them raises becomes a message and an exit code here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb. Raises typer.Exit, or click's own errors about usage."""
        from warehouse_sync.errors import ConfigurationError, WarehouseSyncError

        previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            runs = ctx.invoked_subcommand in ("run", "retry")
            _tell("stopped; the next run goes on from here" if runs else "stopped")
            raise typer.Exit(stop.args[0] if stop.args else STOPPED) from None
        except WarehouseSyncError as error:
            _tell_error(error)
            raise typer.Exit(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if _is_usage_error(error):
                raise
            _tell_bug(error, debug=ctx.params.get("log_level") == "debug")
            raise typer.Exit(FAILED) from None
        finally:
            signal.signal(signal.SIGTERM, previous)


app = typer.Typer(
    cls=Verbs,
    name="warehouse-sync",
    help="Keep a LinkedIn audience equal to a warehouse query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Syncs = Annotated[list[str] | None, typer.Argument(metavar="[SYNC]...", show_default=False)]
Sync = Annotated[str, typer.Argument(metavar="SYNC", show_default=False)]


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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What holds for every verb."""
    from warehouse_sync.display import Display
    from warehouse_sync.logs import configure_logs

    display = Display()
    configure_logs(log_level or ("warning" if display.live else "info"), stream=display.log_stream())
    context.obj = (config, display)


@app.command()
def run(
    context: typer.Context,
    syncs: Syncs = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Every sync of the configuration.")] = False,
    full: Annotated[bool, typer.Option(help="Add every member again, not only what changed.")] = False,
    force: Annotated[bool, typer.Option(help="Pass the guard for this run.")] = False,
    as_json: Json = False,
) -> None:
    """Sync now."""
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.run import run_sync

    config, display = _opened(context)
    if syncs and all_syncs:
        raise ConfigurationError("name syncs or give --all, not both")
    if not syncs and not all_syncs and len(config.syncs) > 1:
        raise ConfigurationError(f"which sync? Name one or more of {', '.join(config.syncs)}, or give --all")

    def one(name: str, progress: Progress) -> RunReport:
        return run_sync(config, name, full=full, force=force, trigger="manual", progress=progress)

    _run_each(display, _named(config, syncs or list(config.syncs)), one, as_json=as_json)


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

    def failed(name: str, error: Exception) -> PlanReport:
        return PlanReport(name, RunStatus.FAILED, reason=str(error))

    plans, codes = _each(_named(config, syncs or enabled), one, failed)
    _show(display, plans, display.plans, as_json=as_json)
    _end([*codes, *(EXIT[report.status] for report in plans)])


@app.command()
def retry(
    context: typer.Context,
    sync: Sync,
    dead: Annotated[bool, typer.Option("--dead", help="Also what is no longer retried by itself.")] = False,
    as_json: Json = False,
) -> None:
    """Send what waits in the retry queue of SYNC now."""
    from warehouse_sync.run import retry_sync

    config, display = _opened(context)

    def one(name: str, progress: Progress) -> RunReport:
        return retry_sync(config, name, dead=dead, trigger="manual", progress=progress)

    _run_each(display, _named(config, [sync]), one, as_json=as_json)


@app.command()
def status(context: typer.Context, syncs: Syncs = None, as_json: Json = False) -> None:
    """Tell how syncs stand (no SYNC: all)."""
    from warehouse_sync.status import SyncStatus, sync_status

    config, display = _opened(context)

    def failed(name: str, error: Exception) -> SyncStatus:
        return SyncStatus(name, config.sync(name).enabled, error=str(error))

    found, codes = _each(_named(config, syncs or list(config.syncs)), lambda name: sync_status(config, name), failed)
    _show(display, found, display.statuses, as_json=as_json)
    _end(codes)


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

    config, display = None, context.obj[1]
    try:
        config, _ = _opened(context)
    except ConfigurationError as error:
        checks: Iterable[Check] = (Check("configuration", False, str(problem)) for problem in error.problems)
    else:
        read = Check("configuration", True, f"{len(config.syncs)} syncs in {context.obj[0]}")
        checks = [read] if offline else (check for part in ([read], validate(config)) for check in part)
    made = []
    for check in checks:
        made.append(check)
        if not as_json:
            display.check(check)
    valid = all(check.ok for check in made)
    if as_json:
        display.json({"valid": valid, "checks": [check.as_dict() for check in made]})
    _end([] if valid else [CONFIGURATION])


@app.command()
def migrate(context: typer.Context, as_json: Json = False) -> None:
    """Bring the state tables of every warehouse to this release (a run does it by itself)."""
    from warehouse_sync.state.migrate import Migration, migrate_warehouse

    config, display = _opened(context)

    def failed(name: str, error: Exception) -> Migration:
        return Migration(name, error=str(error))

    done, codes = _each(list(config.warehouses), lambda name: migrate_warehouse(config.warehouses[name]), failed)
    _show(display, done, display.migrations, as_json=as_json)
    _end(codes)


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
    from warehouse_sync.errors import ConfigurationError
    from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings

    faults = tuple(Fault.parse(text) for text in fault or ())
    settings = SandboxSettings(port=port, faults=faults, ready_after=ready_after)
    server = Sandbox(settings)
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on port {port}: {error.strerror}; choose another --port") from None
    context.obj[1].sandbox(server.url, settings)
    server.serve_forever()


def _opened(context: typer.Context) -> tuple[Config, Display]:
    """The configuration, and where to show things. Raises ConfigurationError."""
    from warehouse_sync.config import load_config

    path, display = context.obj
    return load_config(path), display


def _named(config: Config, names: Sequence[str]) -> list[str]:
    """These syncs, each once. Raises ConfigurationError that tells of all unknown ones."""
    from warehouse_sync.errors import ConfigurationError

    problems = []
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
    display: Display, names: Sequence[str], one: Callable[[str, Progress], RunReport], *, as_json: bool
) -> None:
    """Run one sync after the other, show how each went, and end."""
    from warehouse_sync.operations import RunReport, RunStatus

    def shown(name: str) -> RunReport:
        with display.progress(name) as progress:
            return one(name, progress)

    def failed(name: str, error: Exception) -> RunReport:
        report: RunReport | None = getattr(error, "report", None)
        return report or RunReport(name, RunStatus.FAILED, reason=str(error))

    reports, codes = _each(names, shown, failed)
    _show(display, reports, display.reports, as_json=as_json)
    _end([*codes, *(EXIT[report.status] for report in reports)])


def _each(
    names: Sequence[str], one: Callable[[str], Result], failed: Callable[[str, Exception], Result]
) -> tuple[list[Result], list[int]]:
    """A result for each name, be it a failure, and the exit codes of the failures."""
    import structlog

    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError

    results, codes = [], []
    for name in names:
        try:
            results.append(one(name))
        except WarehouseSyncError as error:
            structlog.get_logger(__name__).error("failed", name=name, reason=str(error))
            results.append(failed(name, error))
            codes.append(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED)
    return results, codes


def _show(display: Display, results: Sequence[Any], as_text: Callable[[Any], None], *, as_json: bool) -> None:
    if as_json:
        display.json([result.as_dict() for result in results])
    else:
        as_text(results)


def _end(codes: Iterable[int]) -> None:
    raise typer.Exit(max(codes, key=GRAVITY.index, default=0))
