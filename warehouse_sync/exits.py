"""How a command ends: errors to messages and exit codes.

    0  succeeded or skipped                        3  incomplete: something waits in the retry queue
    1  failed                                      4  blocked by the guard
    2  configuration or usage, nothing touched     130  Ctrl-C

Of several syncs the gravest counts: 0 < 3 < 4 < 1 < 2.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperGroup

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
            _tell_bug(error, debug=str(ctx.params.get("log_level")).lower() == "debug")
            raise typer.Exit(FAILED) from None
        finally:
            signal.signal(signal.SIGTERM, previous)


def each(
    names: Sequence[str], one: Callable[[str], Result], failed: Callable[[str, str], Result], *, told: bool
) -> tuple[list[Result], list[int]]:
    """A result for each name and the exit codes of the failures; a failure does not keep the others from their turn.

    failed: makes the result of a failure from a name and the reason, unless the error brings a report of its own.
    told: whoever reads standard error will read the results too, so failures need no log line.
    """
    import structlog

    from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
    from warehouse_sync.logs import redact

    results: list[Result] = []
    codes: list[int] = []
    for name in names:
        try:
            results.append(one(name))
        except WarehouseSyncError as error:
            reason = redact(str(error))
            logged = getattr(error.report, "run_id", None) is not None
            if not told and not logged:
                structlog.get_logger(__name__).error("failed", name=name, reason=reason)
            results.append(replace(error.report, reason=reason) if error.report else failed(name, reason))
            codes.append(CONFIGURATION if isinstance(error, ConfigurationError) else FAILED)
    return results, codes


def end(codes: Iterable[int]) -> None:
    """Exit with the gravest of these codes; none is 0."""
    raise typer.Exit(max(codes, key=GRAVITY.index, default=0))


def _terminate(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(128 + number)


def _tell(message: str) -> None:
    from warehouse_sync.logs import redact

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
