"""An HTTP server for those who watch over a worker: /healthz, /readyz and /metrics. It tells nothing of any member."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, Self

import structlog

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.monitoring.metrics import CONTENT_TYPE
from warehouse_sync.redaction import redact

log = structlog.get_logger(__name__)

TIMEOUT: Final = 5.0
"""Seconds that a client may stay silent."""

DEADLINE: Final = 10.0
"""Seconds after which a connection is cut, however its bytes drip in."""

AT_ONCE: Final = 16
"""Connections that are answered at once; more are closed, so that nobody can exhaust the worker's threads."""

POLL: Final = 0.1
"""Seconds until a wish to stop is noticed."""

ANYWHERE: Final = "0.0.0.0"  # noqa: S104
"""All interfaces: a kubelet comes from outside the container."""

TEXT: Final = "text/plain; charset=utf-8"


class HealthServer:
    """Answers from `start()` to `stop()`, or for the length of a `with` block, in threads of its own.

    port: 0 takes a free one. alive: whether the worker's loop turns. ready: None, or in one sentence why it is not.
    metrics: Prometheus' text. All three are called from several threads. Raises ConfigurationError when the port cannot
    be had.
    """

    def __init__(
        self,
        port: int,
        host: str = ANYWHERE,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], str | None],
        metrics: Callable[[], bytes],
    ) -> None:
        self._alive = alive
        self._ready = ready
        self._metrics = metrics
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {why}. Nothing was started; choose another port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("answering /healthz, /readyz and /metrics", port=self.port)

    def stop(self) -> None:
        """Answer no more; the port is free afterwards."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/healthz":
                if self._alive():
                    return HTTPStatus.OK, TEXT, b"alive\n"
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the scheduler does not turn any more\n"
            case "/readyz":
                reason = self._ready()
                if reason is None:
                    return HTTPStatus.OK, TEXT, b"ready\n"
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{redact(reason)}\n".encode()
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE, self._metrics()
        return HTTPStatus.NOT_FOUND, TEXT, b"there are /healthz, /readyz and /metrics\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 4 * AT_ONCE

    def __init__(self, address: tuple[str, int], health: HealthServer) -> None:
        self.health = health
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # The library's own asks the name service for this machine's name, which may take long and is not used.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "health", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(DEADLINE, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no line in anybody's log."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):  # It is over already.
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "warehouse-sync"
    sys_version = ""
    timeout = TIMEOUT

    def do_GET(self) -> None:
        try:
            status, kind, body = self.server.health.answer(self.path)
        except Exception as error:  # noqa: BLE001 - whatever fails, a probe wants an answer
            log.error("health check failed", path=self.path[:100], error=type(error).__name__)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"internal error, see the log\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """A probe every few seconds is not worth a line."""
