"""Structured logging to standard error, and the redaction that every log line and error message goes through.

Nothing that leaves through here holds an e-mail address, a bearer token, the value of a credential, or a secret that
was announced with `hide()`. Log calls are made on `structlog.get_logger()` or `logging.getLogger()`; both end here.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Mapping
from json import dumps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from structlog.typing import EventDict


REDACTED = "[redacted]"

_MIN_SUBSTRING_LENGTH = 12
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

MAX_RETIRED = 64
"""Retired secrets that stay hidden: every run of a long-lived worker fetches a token of its own."""


class SecretRegistry:
    """The secrets to hide. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._permanent: set[str] = set()
        self._temporary: Counter[str] = Counter()
        self._retired: deque[str] = deque(maxlen=MAX_RETIRED)
        self._long_forms: tuple[str, ...] = ()
        self._short_forms: re.Pattern[str] | None = None

    def add(self, secret: str, *, temporary: bool) -> None:
        """Hide it, however many ask for it; a lasting one for ever."""
        if len(secret) < 4 or secret in REDACTED:
            return
        with self._lock:
            if temporary:
                self._temporary[secret] += 1
            else:
                self._permanent.add(secret)
            self._rebuild_patterns()

    def retire(self, secret: str) -> None:
        """One of those who asked for a passing secret needs it no more."""
        with self._lock:
            if secret not in self._temporary:
                return
            self._temporary[secret] -= 1
            if not self._temporary[secret]:
                del self._temporary[secret]
                if secret in self._retired:
                    self._retired.remove(secret)
                self._retired.append(secret)
                self._rebuild_patterns()

    def redact(self, text: str) -> str:
        """`text` with REDACTED in place of each."""
        for word in self._long_forms:
            if word in text:
                text = text.replace(word, REDACTED)
        return self._short_forms.sub(REDACTED, text) if self._short_forms else text

    def _rebuild_patterns(self) -> None:
        forms = {
            form
            for secret in {*self._permanent, *self._temporary, *self._retired}
            for form in (secret, quote(secret, safe=""), dumps(secret)[1:-1])
        }
        words = sorted(forms, key=len, reverse=True)
        short = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in words if len(word) < _MIN_SUBSTRING_LENGTH]
        self._short_forms = re.compile("|".join(short)) if short else None
        self._long_forms = tuple(word for word in words if len(word) >= _MIN_SUBSTRING_LENGTH)


_secrets = SecretRegistry()


def hide_secret(secret: str, *, temporary: bool = False) -> None:
    """Take `secret` out of everything that is logged or redacted from now on; shorter than 4 characters: ignored.

    Its percent-encoded and its escaped form are hidden too. A passing one is given back with `retire()`. Thread-safe.
    """
    _secrets.add(secret, temporary=temporary)


def retire_secret(secret: str) -> None:
    """Whoever hid this passing secret has forgotten it; it stays hidden until KEPT others have been retired."""
    _secrets.retire(secret)


def redact(text: str) -> str:
    """`text` without e-mail addresses, bearer tokens, values of credentials and hidden secrets."""
    text = _secrets.redact(text)
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
    return {redact(str(key)): _redact_value(value, str(key)) for key, value in event.items()}


def _redact_value(value: Any, key: str = "", depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return REDACTED if key.lower() in _CREDENTIALS and value is not None else value
    if key.lower() in _CREDENTIALS:
        return REDACTED
    if depth < 6:
        if isinstance(value, Mapping):
            return {redact(str(inner)): _redact_value(kept, str(inner), depth + 1) for inner, kept in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact_value(inner, "", depth + 1) for inner in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return redact(str(value))
