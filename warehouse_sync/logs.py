"""Structured logging to standard error, and the redaction that every log line and error message goes through.

Nothing that leaves through here holds an e-mail address, a bearer token, the value of a credential, or a secret that
was announced with `hide()`. Log calls are made on `structlog.get_logger()` or `logging.getLogger()`; both end here.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from json import dumps
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from warehouse_sync.errors import ConfigurationError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

REDACTED = "[redacted]"

LEVELS = ("debug", "info", "warning", "error", "critical")

_SHORT = 12
"""Secrets below this length are hidden as whole words only: a password `post` must not eat a hole into `postgresql`."""

_CREDENTIALS = frozenset(
    {"access_token", "authorization", "client_secret", "passwd", "password", "refresh_token", "secret"}
)
"""Keys of an event whose value goes whatever it looks like."""

_USER_INFO = re.compile(r"(?<=://)[^\s/]+(?=@)")
_BEARER = re.compile(r"\b(bearer)\s+[\w.~+/=%-]{8,}", re.IGNORECASE)
_ASSIGNED = re.compile(
    # name=value as in forms, 'name': 'value' as in JSON and Python, name: value when it is long enough for a token
    r"""((?:access_token|refresh_token|client_secret|password|passwd)
        (?: ["']? = ["']? | \\?["'] \s* : \s* \\?["'] | : \s* (?=[\w.~+/%-]{20}) ))
        [^\s"'&,;}\\]+""",
    re.IGNORECASE | re.VERBOSE,
)
_ADDRESS = re.compile(r"[^\s@](?<!\[redacted\])(?:@|%40)[^\s@]+\.[^\s@]", re.IGNORECASE)
_PIECES = (re.compile(r"[^\s\"<>()\[\],;:\\]+"), re.compile(r"\S+"))
"""Where an address may begin and end: first between characters that no plain address holds (RFC 5322), which keeps what
stands around it; then whatever is still of the form x@y.z goes with its whole word."""

_hidden: set[str] = set()
_hidden_pattern: re.Pattern[str] | None = None
_hidden_lock = threading.Lock()


def hide(secret: str) -> None:
    """Take `secret` out of everything that is logged or redacted from now on; shorter than 4 characters: ignored.

    Its percent-encoded and its escaped form are hidden too. Thread-safe.
    """
    global _hidden_pattern
    if len(secret) < 4:
        return
    with _hidden_lock:
        _hidden.update({secret, quote(secret, safe=""), dumps(secret)[1:-1]})
        words = sorted(_hidden, key=len, reverse=True)
        _hidden_pattern = re.compile(
            "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" if len(word) < _SHORT else re.escape(word) for word in words)
        )


def redact(text: str) -> str:
    """`text` without e-mail addresses, bearer tokens, values of credentials and hidden secrets."""
    if _hidden_pattern is not None:
        text = _hidden_pattern.sub(REDACTED, text)
    if "://" in text:
        text = _USER_INFO.sub(REDACTED, text)
    text = _BEARER.sub(rf"\1 {REDACTED}", text)
    text = _ASSIGNED.sub(rf"\1{REDACTED}", text)
    for piece in _PIECES:
        if "@" in text or "%40" in text:
            text = piece.sub(lambda found: REDACTED if _ADDRESS.search(found[0]) else found[0], text)
    return text


def redact_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Put every key and value of the event through `redact`, however deep; a structlog processor."""
    return {redact(str(key)): _redacted(value, str(key)) for key, value in event.items()}


def _redacted(value: Any, key: str = "", depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return REDACTED if key.lower() in _CREDENTIALS and value is not None else value
    if key.lower() in _CREDENTIALS:
        return REDACTED
    if depth < 6:
        if isinstance(value, Mapping):
            return {redact(str(inner)): _redacted(kept, str(inner), depth + 1) for inner, kept in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redacted(inner, "", depth + 1) for inner in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return redact(str(value))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes our lines. A record that cannot be rendered is dropped: logging's own fallback prints it unredacted."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say where a line was lost, without what it said."""
        try:
            self.stream.write(f"a log line of {record.name}:{record.lineno} could not be written\n")
        except (OSError, ValueError):
            return


def configure_logs(
    level: str = "info",
    json: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send the log lines of this process to `stream` (standard error), from `level` up; may be called again.

    On a terminal a line is made for reading, in colour unless NO_COLOR is set; elsewhere it is logfmt, or JSON.
    Other libraries speak from `warning` up only: at debug level SQLAlchemy would print rows.
    Raises ConfigurationError when `level` is none of LEVELS.
    """
    import structlog

    if level.lower() not in LEVELS:
        raise ConfigurationError(f"unknown log level {level!r}; known are {', '.join(LEVELS)}")
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
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


def ensure_configured() -> None:
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
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    if stream.isatty():
        return structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            # The default prints local variables, and with them rows and tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
