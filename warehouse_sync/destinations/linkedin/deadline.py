"""Two limits of one request: it may only leave while it is permitted, and its answer has a deadline.

The timeouts of the library requests restart with every byte of an answer. And a worker may be suspended for hours
between the decision to send and the first byte.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_of_this_thread = threading.local()


class SendingNotPermitted(OSError):
    """The request is no longer permitted; no further byte of it leaves."""


class Deadline:
    """The deadline of the request that the `with` block sends.

    Attributes:
        at: The moment of the deadline on the monotonic clock.
        is_permitted: Returns whether the request may leave; called before each part of it.
        is_expired: Whether the request was aborted. Its answer must not be used then, even if it looks complete.
        is_done: Whether the block has ended.
    """

    def __init__(self, at: float, is_permitted: Callable[[], bool]) -> None:
        self.at = at
        self.is_permitted = is_permitted
        self.is_expired = False
        self.is_done = False
        self._connection: Any = None
        self._socket: Any = None

    def __enter__(self) -> Self:
        _of_this_thread.deadline = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_this_thread.deadline = None
        self.is_done = True
        self._connection = self._socket = None

    def use(self, connection: Any) -> None:
        """Note the connection of the request. Its socket may be created later, or be moved to the answer."""
        connection.deadline = self
        self._connection = connection
        self._socket = connection.sock or self._socket

    def abort(self) -> None:
        """Abort the request: wake the thread that waits for the connection with an error."""
        self.is_expired = True
        connection, last_socket = self._connection, self._socket
        # A connection that was returned to the pool may belong to another thread.
        if connection is None or connection.deadline is not self:
            return
        # A shutdown wakes a reading thread; a close does not. It bypasses TLS, which would wait for the server.
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(connection.sock or last_socket, socket.SHUT_RDWR)


class DeadlineTimer:
    """Aborts requests that take longer than `seconds`, in one thread that sleeps while there are none. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pending: deque[Deadline] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, is_permitted: Callable[[], bool]) -> Deadline:
        """Return the deadline of a request that starts now."""
        with self._changed:
            deadline = Deadline(time.monotonic() + self._seconds, is_permitted)
            self._pending.append(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="linkedin deadlines", daemon=True)
                self._thread.start()
            elif len(self._pending) == 1:
                self._changed.notify()
        return deadline

    def close(self) -> None:
        """Stop; no request is aborted any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                while self._pending and self._pending[0].is_done:
                    self._pending.popleft()
                if not self._pending:
                    self._changed.wait()
                elif (remaining := self._pending[0].at - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                else:
                    self._pending.popleft().abort()


class _DeadlineConnection:
    """A connection that registers itself with the deadline of its thread."""

    deadline: Deadline | None = None
    sock: Any

    def connect(self) -> None:
        _report_use(self)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **options: Any) -> None:
        _report_use(self)
        super().request(*args, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        deadline: Deadline | None = getattr(_of_this_thread, "deadline", None)
        if deadline is not None and not deadline.is_permitted():
            raise SendingNotPermitted
        super().send(data)  # type: ignore[misc]

    def getresponse(self) -> Any:
        _report_use(self)
        return super().getresponse()  # type: ignore[misc]


def _report_use(connection: _DeadlineConnection) -> None:
    deadline: Deadline | None = getattr(_of_this_thread, "deadline", None)
    if deadline is not None:
        deadline.use(connection)


class _HTTPConnection(_DeadlineConnection, HTTPConnection):
    pass


class _HTTPSConnection(_DeadlineConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


DEADLINE_POOLS: Mapping[str, type[HTTPConnectionPool]] = {"http": _HTTPPool, "https": _HTTPSPool}
"""Connection pools by scheme, for `pool_classes_by_scheme` of a pool manager; a Deadline can abort their requests."""
