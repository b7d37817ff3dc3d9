"""Structured logging to standard error, and the redaction that every log line and error message goes through.

Nothing that leaves through here holds an e-mail address, a bearer token, the value of a credential, or a secret that
was announced with `hide()`. Log calls are made on `structlog.get_logger()` or `logging.getLogger()`; both end here.
"""

from __future__ import annotations

import codecs
import logging
import os
import sys
from datetime import UTC, datetime
from json import dumps
from typing import TYPE_CHECKING, TextIO

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.redaction import redact_event

if TYPE_CHECKING:
    from structlog.typing import Processor


LEVELS = ("debug", "info", "warning", "error", "critical")


class _Handler(logging.StreamHandler[TextIO]):
    """Writes our lines. A record that cannot be rendered is dropped: logging's own fallback prints it unredacted."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say where a line was lost, without what it said."""
        try:
            self.stream.write(
                format_error_line(f"a log line of {record.name}:{record.lineno} could not be written") + "\n"
            )
        except (OSError, ValueError):
            return


_json = False


def writes_json() -> bool:
    """Whether this process promises one JSON object per line on standard error."""
    return _json


def format_error_line(message: str) -> str:
    """An error as the log has it, for those who cannot log; without a line break."""
    if not _json:
        return message
    now = datetime.now(UTC).isoformat()
    return dumps({"event": message, "level": "error", "timestamp": now, "logger": __name__})


def configure_logs(
    level: str = "info",
    json: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send the log lines of this process to `stream` (standard error), from `level` up; may be called again.

    On a terminal a line is made for reading, in colour unless NO_COLOR is set; elsewhere it is logfmt. With `json`
    each line is one object, with the name of its logger. Python's warnings are log lines too.
    Other libraries speak from `warning` up only: at debug level SQLAlchemy would print rows.
    Raises ConfigurationError when `level` is none of LEVELS.
    """
    import structlog

    if level.lower() not in LEVELS:
        raise ConfigurationError(f"unknown log level {level!r}; known are {', '.join(LEVELS)}")
    global _json
    _json = json
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json:
        before.append(structlog.stdlib.add_logger_name)
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_event,
                _renderer(json, stream),
            ],
        )
    )
    root = logging.getLogger()
    for earlier in [kept for kept in root.handlers if isinstance(kept, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)
    logging.getLogger("warehouse_sync").setLevel(threshold)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def ensure_logging() -> None:
    """For use as a library: lines go to the host's own `logging`, redacted, unless structlog is set up already.

    By itself structlog prints everything to standard output.
    """
    import structlog

    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            redact_event,
            structlog.processors.LogfmtRenderer(key_order=["event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderer(json: bool, stream: TextIO) -> Processor:
    import structlog

    if json:
        # What a stream cannot encode it escapes in Python's way, which is not JSON's.
        return structlog.processors.JSONRenderer(ensure_ascii=codecs.lookup(stream.encoding or "utf-8").name != "utf-8")
    if stream.isatty():
        return structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            # The default prints local variables, and with them rows and tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
