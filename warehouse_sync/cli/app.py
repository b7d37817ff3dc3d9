"""What all verbs of the command line share: the program, its options, reading the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from warehouse_sync.cli.exit_codes import VerbGroup
from warehouse_sync.cli.signals import set_verb

if TYPE_CHECKING:
    from warehouse_sync.cli.display import Display
    from warehouse_sync.config.loader import Config
    from warehouse_sync.errors import Problem


app = typer.Typer(
    cls=VerbGroup,
    name="warehouse-sync",
    help="Keep a LinkedIn audience equal to a warehouse query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Syncs = Annotated[list[str] | None, typer.Argument(metavar="SYNC", show_default=False)]
Sync = Annotated[str, typer.Argument(metavar="SYNC", show_default=False)]


class LogFormat(StrEnum):
    """Format of log lines."""

    TEXT = "text"
    JSON = "json"


def _version(requested: bool) -> None:
    if requested:
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
        LogFormat, typer.Option(envvar="WAREHOUSE_SYNC_LOG_FORMAT", help="text, or json: one object per line.")
    ] = LogFormat.TEXT,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Read the options that apply to every verb."""
    from warehouse_sync.cli.display import Display
    from warehouse_sync.logs import configure_logs

    as_json = log_format is LogFormat.JSON
    display = Display(plain=as_json)
    configure_logs(log_level or ("warning" if display.live else "info"), as_json, display.log_stream())
    context.obj = (config, display)
    set_verb(context)


def open_config(context: typer.Context) -> tuple[Config, Display]:
    """Return the configuration and the display. Raises ConfigurationError."""
    from warehouse_sync.config.loader import load_config

    path, display = context.obj
    return load_config(path), display


def check_names(config: Config, names: Sequence[str]) -> list[str]:
    """Return the names without duplicates. Raises ConfigurationError that lists all unknown ones."""
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


def print_results(display: Display, results: Sequence[Any], as_text: Callable[[Any], None], *, as_json: bool) -> None:
    """Print the results as one JSON array or as text."""
    if as_json:
        display.json([result.as_dict() for result in results])
    else:
        as_text(results)
