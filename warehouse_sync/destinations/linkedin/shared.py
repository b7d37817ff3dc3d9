"""What those have in common who use the same credentials at the same time, in one process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Shared(Generic[Value]):
    """One value for each set of credentials: made for the first who joins, ended behind the last who leaves.

    Thread-safe. The credentials themselves are not kept.
    """

    def __init__(self, end: Callable[[Value], None] = lambda _: None) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Value, int]] = {}

    def join(self, credentials: object, make: Callable[[], Value]) -> Share[Value]:
        """A share in the value of these credentials; `make` makes it where nobody has one."""
        key = hashlib.sha256(repr(credentials).encode()).hexdigest()
        with self._lock:
            value, members = self._held.get(key) or (make(), 0)
            self._held[key] = value, members + 1
        return Share(value, lambda: self._leave(key))

    def _leave(self, key: str) -> None:
        with self._lock:
            value, members = self._held.pop(key)
            if members > 1:
                self._held[key] = value, members - 1
                return
        self._end(value)


class Share(Generic[Value]):
    """A share in `value` until `leave()`."""

    def __init__(self, value: Value, left: Callable[[], None]) -> None:
        self.value = value
        self._left: Callable[[], None] | None = left

    def leave(self) -> None:
        """The value is used no more; may be called again."""
        left, self._left = self._left, None
        if left is not None:
            left()
