"""A bound on the whole of one request. The timeouts of requests begin anew with every byte that drips in."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_of_this_thread = threading.local()


class Deadline:
    """Cuts the connection that this thread uses inside the `with` block when `seconds` are over.

    over: whether it did. What was read from the connection is then worth nothing, even where it looks complete.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._connection: Any = None
        self._socket: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _of_this_thread.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        _of_this_thread.deadline = None

    def watch(self, connection: Any) -> None:
        """The thread uses this connection now; its socket may come later, or be handed on to the answer."""
        connection.deadline = self
        self._connection = connection
        self._socket = connection.sock or self._socket

    def _cut(self) -> None:
        self.over = True
        connection = self._connection
        # A connection that is back in the pool may be another thread's by now.
        if connection is None or connection.deadline is not self:
            return
        # Shutting down wakes the thread that reads; closing would not. TLS must not take part: it would wait as well.
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(connection.sock or self._socket, socket.SHUT_RDWR)


class _Watched:
    """A connection that tells the deadline of its thread when it is used."""

    deadline: Deadline | None = None

    def connect(self) -> None:
        _watch(self)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **options: Any) -> None:
        _watch(self)
        super().request(*args, **options)  # type: ignore[misc]

    def getresponse(self) -> HTTPResponse:
        _watch(self)
        answer: HTTPResponse = super().getresponse()  # type: ignore[misc]
        return answer


def _watch(connection: _Watched) -> None:
    deadline: Deadline | None = getattr(_of_this_thread, "deadline", None)
    if deadline is not None:
        deadline.watch(connection)


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


WATCHED_POOLS: Mapping[str, type[HTTPConnectionPool]] = {"http": _HTTPPool, "https": _HTTPSPool}
"""For `pool_classes_by_scheme` of a pool manager: connections that a Deadline can cut."""
