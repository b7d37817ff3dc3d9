"""Structured logging to standard error, and the redaction that every log line and error message goes through.

Nothing that leaves through here holds an e-mail address, a bearer token, the value of a credential, or a secret that
was announced with `hide()`. Log calls are made on `structlog.get_logger()` or `logging.getLogger()`; both end here.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime
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

KEPT = 64
"""Retired secrets that stay hidden: every run of a long-lived worker fetches a token of its own."""


class Hidden:
    """The secrets to hide. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasting: set[str] = set()
        self._passing: Counter[str] = Counter()
        self._retired: deque[str] = deque(maxlen=KEPT)
        self._words: tuple[str, ...] = ()
        self._short_words: re.Pattern[str] | None = None

    def add(self, secret: str, *, passing: bool) -> None:
        """Hide it, however many ask for it; a lasting one for ever."""
        if len(secret) < 4 or secret in REDACTED:
            return
        with self._lock:
            if passing:
                self._passing[secret] += 1
            else:
                self._lasting.add(secret)
            self._arrange()

    def retire(self, secret: str) -> None:
        """One of those who asked for a passing secret needs it no more."""
        with self._lock:
            if secret not in self._passing:
                return
            self._passing[secret] -= 1
            if not self._passing[secret]:
                del self._passing[secret]
                if secret in self._retired:
                    self._retired.remove(secret)
                self._retired.append(secret)
                self._arrange()

    def take_out(self, text: str) -> str:
        """`text` with REDACTED in place of each."""
        for word in self._words:
            if word in text:
                text = text.replace(word, REDACTED)
        return self._short_words.sub(REDACTED, text) if self._short_words else text

    def _arrange(self) -> None:
        forms = {
            form
            for secret in {*self._lasting, *self._passing, *self._retired}
            for form in (secret, quote(secret, safe=""), dumps(secret)[1:-1])
        }
        words = sorted(forms, key=len, reverse=True)
        short = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in words if len(word) < _SHORT]
        self._short_words = re.compile("|".join(short)) if short else None
        self._words = tuple(word for word in words if len(word) >= _SHORT)


_hidden = Hidden()


def hide(secret: str, *, passing: bool = False) -> None:
    """Take `secret` out of everything that is logged or redacted from now on; shorter than 4 characters: ignored.

    Its percent-encoded and its escaped form are hidden too. A passing one is given back with `retire()`. Thread-safe.
    """
    _hidden.add(secret, passing=passing)


def retire(secret: str) -> None:
    """Whoever hid this passing secret has forgotten it; it stays hidden until KEPT others have been retired."""
    _hidden.retire(secret)


def redact(text: str) -> str:
    """`text` without e-mail addresses, bearer tokens, values of credentials and hidden secrets."""
    text = _hidden.take_out(text)
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
            self.stream.write(as_line(f"a log line of {record.name}:{record.lineno} could not be written") + "\n")
        except (OSError, ValueError):
            return


_json = False


def is_json() -> bool:
    """Whether this process promises one JSON object per line on standard error."""
    return _json


def as_line(message: str) -> str:
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
        # What a stream cannot encode it escapes in Python's way, which is not JSON's.
        return structlog.processors.JSONRenderer(ensure_ascii=codecs.lookup(stream.encoding or "utf-8").name != "utf-8")
    if stream.isatty():
        return structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
            # The default prints local variables, and with them rows and tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
