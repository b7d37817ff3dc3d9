"""How a command ends: turn errors into messages and exit codes.

    0  succeeded or skipped                        3  incomplete: something waits in the retry queue
    1  failed                                      4  blocked by the guard
    2  configuration or usage, nothing touched     130  Ctrl-C, 143 SIGTERM

Of several syncs the most severe code counts: 0 < 3 < 4 < 1 < 2. A run that a first signal stops ends as incomplete. 130
and 143 are for the other verbs, and for a second signal, which ends the process at once.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperGroup

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.cli.signals import CONTEXT_KEY, SIGNALS, signals_handled

FAILED: Final = 1
CONFIGURATION: Final = 2
EXIT_CODES: Final = {"succeeded": 0, "skipped": 0, "incomplete": 3, "blocked": 4, "failed": FAILED}
SEVERITY: Final = (0, 3, 4, FAILED, CONFIGURATION)

Result = TypeVar("Result")


class VerbGroup(TyperGroup):
    """The group of all verbs. It turns what a verb raises into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            typer.Exit: With the exit code. Errors of click about usage are raised as they are.
        """
        from warehouse_sync.errors import ConfigurationError, WarehouseSyncError

        stop = ctx.meta[CONTEXT_KEY] = CancelToken()
        stop.shielded = True  # Until the verb is known.
        with signals_handled(stop):
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                raise _stopped_exit(stop) from None
            except WarehouseSyncError as error:
                if stop.may_interrupt:
                    raise _stopped_exit(stop) from None
                _print_problems(error)
                raise typer.Exit(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED) from None
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except Exception as error:
                if _is_usage_error(error):
                    raise
                if stop.may_interrupt:
                    # DuckDB reports an interrupted query as an error of its own.
                    raise _stopped_exit(stop) from None
                _print_internal_error(error, debug=str(ctx.params.get("log_level")).lower() == "debug")
                raise typer.Exit(FAILED) from None


def run_each(
    names: Sequence[str],
    action: Callable[[str], Result],
    make_failure: Callable[[str, str, Any], Result],
    *,
    log_failures: bool,
    log_key: str = "sync",
) -> tuple[list[Result], list[int]]:
    """Call `action` for each name, also after failures.

    Args:
        names: Names of syncs or warehouses.
        action: Returns the result for a name.
        make_failure: Returns the result for a name whose action failed, from the reason and the error's report.
        log_failures: Write a log line for each failure. Not needed if the same reader sees the results.
        log_key: Key of the name in that line.

    Returns:
        The results, and the exit codes of the failures.
    """
    import structlog

    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
    from warehouse_sync.redaction import redact

    log = structlog.get_logger(__name__)
    results: list[Result] = []
    codes: list[int] = []
    for name in names:
        try:
            results.append(action(name))
        except WarehouseSyncError as error:
            reason = redact(str(error))
            is_logged = getattr(error.report, "run_id", None) is not None  # By the run itself.
            if log_failures and not is_logged:
                log.error("failed", **{log_key: name}, reason=reason)
            results.append(make_failure(name, reason, error.report))
            codes.append(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED)
    return results, codes


def exit_with(codes: Iterable[int]) -> None:
    """Exit with the most severe of these codes; 0 if there are none."""
    raise typer.Exit(max(codes, key=SEVERITY.index, default=0))


def _stopped_exit(stop: CancelToken) -> typer.Exit:
    number = next((number for number, name in SIGNALS.items() if name == stop.reason), signal.SIGINT)
    _print_error("stopped")
    return typer.Exit(128 + number)


def _print_error(message: str) -> None:
    from warehouse_sync.logs import writes_json
    from warehouse_sync.redaction import redact

    if writes_json():
        import structlog

        structlog.get_logger(__name__).error(message)
    else:
        typer.echo(redact(message), err=True)


def _print_problems(error: Exception) -> None:
    problems = getattr(error, "problems", None) or (error,)
    for problem in problems:
        _print_error(f"error: {problem}")


def _print_internal_error(error: Exception, *, debug: bool) -> None:
    """Print where an unexpected error happened, but not its text, which may contain values of rows."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    _print_error(
        f"internal error at {place} ({type(error).__name__}). Nothing is lost: the next run continues from here. "
        "Please report it to the maintainers of warehouse-sync, with the output of --log-level debug."
    )
    if debug:
        _print_error("".join(traceback.format_exception(error)))


def _is_usage_error(error: Exception) -> bool:
    """Whether it is an error of click, which prints itself. By attributes: newer typer bundles its own click."""
    return hasattr(error, "show") and hasattr(error, "exit_code")
