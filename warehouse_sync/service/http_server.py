"""The HTTP server for monitoring: /healthz, /readyz and /metrics. Its answers contain no data of members."""

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

IDLE_TIMEOUT: Final = 5.0
"""Seconds that a client may send nothing."""

CONNECTION_TIMEOUT: Final = 10.0
"""Seconds after which a connection is closed, even while bytes still arrive."""

MAX_CONNECTIONS: Final = 16
"""Connections that are served at the same time. Further ones are closed, so clients cannot exhaust the threads."""

POLL: Final = 0.1
"""Seconds until a request to stop is noticed."""

ALL_INTERFACES: Final = "0.0.0.0"  # noqa: S104
"""All interfaces: a kubelet connects from outside the container."""

TEXT: Final = "text/plain; charset=utf-8"


class HealthServer:
    """The server. It answers from `start()` to `stop()`, or inside a `with` block, in its own threads."""

    def __init__(
        self,
        port: int,
        host: str = ALL_INTERFACES,
        *,
        is_alive: Callable[[], bool],
        not_ready_reason: Callable[[], str | None],
        metrics: Callable[[], bytes],
    ) -> None:
        """Bind the port; the three callables are called from several threads.

        Args:
            port: Port to listen on; 0 chooses a free one.
            host: Address to listen on.
            is_alive: Return whether the scheduler's loop is running.
            not_ready_reason: Return None if the worker is ready, otherwise the reason in one sentence.
            metrics: Return the metrics in Prometheus' text format.

        Raises:
            ConfigurationError: The port cannot be bound.
        """
        self._is_alive = is_alive
        self._not_ready_reason = not_ready_reason
        self._metrics = metrics
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {reason}. Nothing was started; choose another port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()
        log.info("answering /healthz, /readyz and /metrics", port=self.port)

    def stop(self) -> None:
        """Stop to answer and release the port."""
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

    def respond(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/healthz":
                if self._is_alive():
                    return HTTPStatus.OK, TEXT, b"alive\n"
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the scheduler's loop is not running\n"
            case "/readyz":
                reason = self._not_ready_reason()
                if reason is None:
                    return HTTPStatus.OK, TEXT, b"ready\n"
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{redact(reason)}\n".encode()
            case "/metrics":
                return HTTPStatus.OK, CONTENT_TYPE, self._metrics()
        return HTTPStatus.NOT_FOUND, TEXT, b"only /healthz, /readyz and /metrics exist\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 4 * MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], health: HealthServer) -> None:
        self.health = health
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind() looks up the host name, which can take long and is not used.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "health", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        timer = threading.Timer(CONNECTION_TIMEOUT, _close, (request,))
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that disconnects is no problem."""


def _close(request: socket.socket) -> None:
    with suppress(OSError):  # Already closed.
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "warehouse-sync"
    sys_version = ""
    timeout = IDLE_TIMEOUT

    def do_GET(self) -> None:
        try:
            status, kind, body = self.server.health.respond(self.path)
        except Exception as error:  # noqa: BLE001 - a probe gets an answer in any case
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
        """Log nothing: a probe comes every few seconds."""
