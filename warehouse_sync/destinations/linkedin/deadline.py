"""Two bounds on one request: when it may leave, and when its answer must be there.

The timeouts of requests begin anew with every byte that drips in. And between the decision to send and the first byte
on the wire a worker may stand still for hours.
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
    """Nothing, or no more, of the request has left."""


class Deadline:
    """One request, from the start of the `with` block to its end, and the connection that it uses.

    over: whether it was cut. What was read is then worth nothing, even where it looks complete.
    """

    def __init__(self, at: float, may_send: Callable[[], bool]) -> None:
        self.at = at
        self.is_permitted = may_send
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
        """The thread uses this connection now; its socket may come later, or be handed on to the answer."""
        connection.deadline = self
        self._connection = connection
        self._socket = connection.sock or self._socket

    def abort(self) -> None:
        """The time is over: the thread that waits for this connection is woken with an error."""
        self.is_expired = True
        connection, last = self._connection, self._socket
        # A connection that is back in the pool may be another thread's by now.
        if connection is None or connection.deadline is not self:
            return
        # Shutting down wakes a thread that reads; closing would not. TLS must not take part: it would wait as well.
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(connection.sock or last, socket.SHUT_RDWR)


class DeadlineTimer:
    """Cuts the requests that take longer than `seconds`, in one thread that sleeps while none does. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pending: deque[Deadline] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, may_send: Callable[[], bool]) -> Deadline:
        """The deadline of a request that starts now."""
        with self._changed:
            deadline = Deadline(time.monotonic() + self._seconds, may_send)
            self._pending.append(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="linkedin deadlines", daemon=True)
                self._thread.start()
            elif len(self._pending) == 1:
                self._changed.notify()
        return deadline

    def close(self) -> None:
        """No request is cut any more."""
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
                elif (left := self._pending[0].at - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    self._pending.popleft().abort()


class _DeadlineConnection:
    """A connection that tells the deadline of its thread when it is used."""

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
"""For `pool_classes_by_scheme` of a pool manager: connections that a Deadline can cut."""
