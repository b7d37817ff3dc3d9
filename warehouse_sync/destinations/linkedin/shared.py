"""What those have in common who use the same credentials at the same time, in one process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedRegistry(Generic[Value]):
    """One value for each set of credentials: made for the first who joins, ended behind the last who leaves.

    Thread-safe. The credentials themselves are not kept.
    """

    def __init__(self, close: Callable[[Value], None] = lambda _: None) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._values: dict[str, tuple[Value, int]] = {}

    def acquire(self, credentials: object, make: Callable[[], Value]) -> SharedHandle[Value]:
        """A share in the value of these credentials; `make` makes it where nobody has one."""
        key = hashlib.sha256(repr(credentials).encode()).hexdigest()
        with self._lock:
            value, members = self._values.get(key) or (make(), 0)
            self._values[key] = value, members + 1
        return SharedHandle(value, lambda: self._release(key))

    def _release(self, key: str) -> None:
        with self._lock:
            value, members = self._values.pop(key)
            if members > 1:
                self._values[key] = value, members - 1
                return
        self._close(value)


class SharedHandle(Generic[Value]):
    """A share in `value` until `leave()`."""

    def __init__(self, value: Value, release: Callable[[], None]) -> None:
        self.value = value
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """The value is used no more; may be called again."""
        left, self._release = self._release, None
        if left is not None:
            left()
