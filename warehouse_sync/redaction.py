"""Redaction: what every log line and error message goes through before it leaves the process.

A redacted text contains no e-mail address, no bearer token, no value of a credential and no secret that was registered
with `hide_secret()`.
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
"""Shorter secrets are replaced as whole words only: the password `post` must not change the word `postgresql`."""

_CREDENTIALS = frozenset(
    {"access_token", "authorization", "client_secret", "passwd", "password", "refresh_token", "secret"}
)
"""Keys of an event whose value is always replaced."""

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
"""The pieces of a text that may be an e-mail address. The first pattern ends a piece at characters that no unquoted
address contains (RFC 5322), so that the text around an address stays. The second one takes whole words, for what still
has the form x@y.z then."""

MAX_RETIRED = 64
"""Retired secrets that stay hidden. Every run of a long-lived worker fetches a new token, so the number is limited."""


class SecretRegistry:
    """The secrets that must not appear in logs and messages. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._permanent: set[str] = set()
        self._temporary: Counter[str] = Counter()
        self._retired: deque[str] = deque(maxlen=MAX_RETIRED)
        self._long_forms: tuple[str, ...] = ()
        self._short_forms: re.Pattern[str] | None = None

    def add(self, secret: str, *, temporary: bool) -> None:
        """Hide a secret for ever, or a temporary one until each `add` was followed by a `retire`."""
        if len(secret) < 4 or secret in REDACTED:
            return
        with self._lock:
            if temporary:
                self._temporary[secret] += 1
            else:
                self._permanent.add(secret)
            self._rebuild_patterns()

    def retire(self, secret: str) -> None:
        """Undo one `add` of a temporary secret. After the last one it is among the MAX_RETIRED that stay hidden."""
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
        """Return `text` with REDACTED in place of each secret."""
        for form in self._long_forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return self._short_forms.sub(REDACTED, text) if self._short_forms else text

    def _rebuild_patterns(self) -> None:
        forms = {
            form
            for secret in {*self._permanent, *self._temporary, *self._retired}
            for form in (secret, quote(secret, safe=""), dumps(secret)[1:-1])
        }
        longest_first = sorted(forms, key=len, reverse=True)
        short = [rf"(?<!\w){re.escape(form)}(?!\w)" for form in longest_first if len(form) < _MIN_SUBSTRING_LENGTH]
        self._short_forms = re.compile("|".join(short)) if short else None
        self._long_forms = tuple(form for form in longest_first if len(form) >= _MIN_SUBSTRING_LENGTH)


_secrets = SecretRegistry()


def hide_secret(secret: str, *, temporary: bool = False) -> None:
    """Hide `secret` in everything that is logged or redacted from now on. Thread-safe.

    Its percent-encoded and its escaped form are hidden too. Secrets of fewer than 4 characters are ignored.

    Args:
        secret: The secret.
        temporary: It can be retired later with `retire_secret`; otherwise it stays hidden for ever.
    """
    _secrets.add(secret, temporary=temporary)


def retire_secret(secret: str) -> None:
    """Declare that a caller of `hide_secret` no longer uses this temporary secret.

    Once all of them have retired it, it stays hidden until MAX_RETIRED other secrets have been retired.
    """
    _secrets.retire(secret)


def redact(text: str) -> str:
    """Return `text` without e-mail addresses, bearer tokens, values of credentials and hidden secrets."""
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
    """Redact every key and value of an event, nested ones too; a structlog processor."""
    return {redact(str(key)): _redact_value(value, str(key)) for key, value in event.items()}


def _redact_value(value: Any, key: str = "", depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return REDACTED if key.lower() in _CREDENTIALS and value is not None else value
    if key.lower() in _CREDENTIALS:
        return REDACTED
    if depth < 6:
        if isinstance(value, Mapping):
            return {redact(str(inner)): _redact_value(nested, str(inner), depth + 1) for inner, nested in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact_value(inner, "", depth + 1) for inner in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return redact(str(value))
