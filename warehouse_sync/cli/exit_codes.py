"""How a command ends: errors to messages and exit codes.

    0  succeeded or skipped                        3  incomplete: something waits in the retry queue
    1  failed                                      4  blocked by the guard
    2  configuration or usage, nothing touched     130  Ctrl-C, 143 SIGTERM

Of several syncs the gravest counts: 0 < 3 < 4 < 1 < 2. A run that is stopped by a first signal ends as incomplete. 130
and 143 are for the other verbs, and for a second signal, which ends the process where it stands.
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
from warehouse_sync.cli.signals import SIGNALS, STOP, handled

FAILED: Final = 1
CONFIGURATION: Final = 2
EXIT: Final = {"succeeded": 0, "skipped": 0, "incomplete": 3, "blocked": 4, "failed": FAILED}
GRAVITY: Final = (0, 3, 4, FAILED, CONFIGURATION)

Result = TypeVar("Result")


class Verbs(TyperGroup):
    """All verbs; whatever one of them raises becomes a message and an exit code here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb. Raises typer.Exit, or click's own errors about usage."""
        from warehouse_sync.errors import ConfigurationError, WarehouseSyncError

        stop = ctx.meta[STOP] = CancelToken()
        stop.shielded = True  # Until it is known which verb a signal would break off.
        with handled(stop):
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                raise _stopped(stop) from None
            except WarehouseSyncError as error:
                if stop.may_interrupt:
                    raise _stopped(stop) from None
                _tell_error(error)
                raise typer.Exit(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED) from None
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except Exception as error:
                if _is_usage_error(error):
                    raise
                if stop.may_interrupt:
                    # DuckDB tells the interruption of a query as an error of its own.
                    raise _stopped(stop) from None
                _tell_bug(error, debug=str(ctx.params.get("log_level")).lower() == "debug")
                raise typer.Exit(FAILED) from None


def each(
    names: Sequence[str],
    one: Callable[[str], Result],
    failed: Callable[[str, str, Any], Result],
    *,
    told: bool,
    what: str = "sync",
) -> tuple[list[Result], list[int]]:
    """A result for each name and the exit codes of the failures; a failure does not keep the others from their turn.

    failed: makes the result of a failure from a name, the reason and the error's own report, if it has one.
    told: whoever reads standard error will read the results too, so failures need no log line.
    what: the names are names of.
    """
    import structlog

    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
    from warehouse_sync.redaction import redact

    log = structlog.get_logger(__name__)
    results: list[Result] = []
    codes: list[int] = []
    for name in names:
        try:
            results.append(one(name))
        except WarehouseSyncError as error:
            reason = redact(str(error))
            logged = getattr(error.report, "run_id", None) is not None
            if not told and not logged:
                log.error("failed", **{what: name}, reason=reason)
            results.append(failed(name, reason, error.report))
            codes.append(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED)
    return results, codes


def end(codes: Iterable[int]) -> None:
    """Exit with the gravest of these codes; none is 0."""
    raise typer.Exit(max(codes, key=GRAVITY.index, default=0))


def _stopped(stop: CancelToken) -> typer.Exit:
    number = next((number for number, name in SIGNALS.items() if name == stop.reason), signal.SIGINT)
    _tell("stopped")
    return typer.Exit(128 + number)


def _tell(message: str) -> None:
    from warehouse_sync.logs import writes_json
    from warehouse_sync.redaction import redact

    if writes_json():
        import structlog

        structlog.get_logger(__name__).error(message)
    else:
        typer.echo(redact(message), err=True)


def _tell_error(error: Exception) -> None:
    problems = getattr(error, "problems", None) or (error,)
    for problem in problems:
        _tell(f"error: {problem}")


def _tell_bug(error: Exception, *, debug: bool) -> None:
    """Only where it happened: the text of an error nobody has foreseen may hold values of rows."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    _tell(
        f"internal error at {place} ({type(error).__name__}). Nothing is lost: the next run goes on from here. Please "
        "report it to the maintainers of warehouse-sync, with the output of --log-level debug."
    )
    if debug:
        _tell("".join(traceback.format_exception(error)))


def _is_usage_error(error: Exception) -> bool:
    """Whether it is click's own, which prints itself. By its shape: newer releases of typer carry their own click."""
    return hasattr(error, "show") and hasattr(error, "exit_code")
