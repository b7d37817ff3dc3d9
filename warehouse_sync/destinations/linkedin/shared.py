"""Values that all destinations of this process share which use the same credentials at the same time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedRegistry(Generic[Value]):
    """One value per set of credentials, created for its first user and closed after its last. Thread-safe.

    The credentials themselves are not stored.
    """

    def __init__(self, close: Callable[[Value], None] = lambda _: None) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._values: dict[str, tuple[Value, int]] = {}

    def acquire(self, credentials: object, create: Callable[[], Value]) -> SharedHandle[Value]:
        """Return a handle on the value of these credentials; `create` returns a new value if there is none."""
        key = hashlib.sha256(repr(credentials).encode()).hexdigest()
        with self._lock:
            value, users = self._values.get(key) or (create(), 0)
            self._values[key] = value, users + 1
        return SharedHandle(value, lambda: self._release(key))

    def _release(self, key: str) -> None:
        with self._lock:
            value, users = self._values.pop(key)
            if users > 1:
                self._values[key] = value, users - 1
                return
        self._close(value)


class SharedHandle(Generic[Value]):
    """The right to use `value` until `release()`."""

    def __init__(self, value: Value, release: Callable[[], None]) -> None:
        self.value = value
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """End the use of the value. May be called again."""
        release, self._release = self._release, None
        if release is not None:
            release()
