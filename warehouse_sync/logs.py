"""Structured logging to standard error.

Call `structlog.get_logger()` or `logging.getLogger()` to log; the lines of both are redacted and written here.
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
    """The handler of our lines. It drops a record that it cannot render: logging's fallback prints it unredacted."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Write where a line was lost, without its content."""
        try:
            self.stream.write(
                format_error_line(f"a log line of {record.name}:{record.lineno} could not be written") + "\n"
            )
        except (OSError, ValueError):
            return


_json = False


def writes_json() -> bool:
    """Return whether this process writes one JSON object per line to standard error."""
    return _json


def format_error_line(message: str) -> str:
    """Return an error message in the format of the log, without a line break; for places that cannot log."""
    if not _json:
        return message
    now = datetime.now(UTC).isoformat()
    return dumps({"event": message, "level": "error", "timestamp": now, "logger": __name__})


def configure_logs(
    level: str = "info",
    json: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Write the log lines of this process to `stream`. A later call replaces the settings of an earlier one.

    Lines for a terminal are formatted for reading, in colour unless NO_COLOR is set; other lines are logfmt or JSON.
    Python's warnings become log lines too. Other libraries log from `warning` up only: at debug level SQLAlchemy
    would log rows.

    Args:
        level: The lowest level that is written; one of LEVELS.
        json: Write each line as one JSON object, with the name of its logger.
        stream: Where lines are written; standard error by default.

    Raises:
        ConfigurationError: `level` is not one of LEVELS.
    """
    import structlog

    if level.lower() not in LEVELS:
        raise ConfigurationError(f"unknown log level {level!r}; known are {', '.join(LEVELS)}")
    global _json
    _json = json
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared_processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json:
        shared_processors.append(structlog.stdlib.add_logger_name)
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_event,
                _renderer(json, stream),
            ],
        )
    )
    root = logging.getLogger()
    for previous in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)
    logging.getLogger("warehouse_sync").setLevel(threshold)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared_processors,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def ensure_logging() -> None:
    """Send redacted lines to the host program's `logging`, unless structlog is configured already.

    This is for use as a library. Without a configuration structlog prints everything to standard output.
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
        # A stream escapes what it cannot encode as Python does, which is not valid JSON.
        return structlog.processors.JSONRenderer(ensure_ascii=codecs.lookup(stream.encoding or "utf-8").name != "utf-8")
    if stream.isatty():
        return structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            # The default formatter prints local variables, and with them rows and tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
