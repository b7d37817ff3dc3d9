"""The HTTP server of the sandbox: HTTP/1.1 with keep-alive, each reply in one send, connection resets on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from warehouse_sync.sandbox.http_messages import Refusal, Reply, Request
from warehouse_sync.sandbox.router import Answer

MAX_BODY_BYTES = 64 * 1024 * 1024
JOIN_SECONDS = 5.0


class SandboxServer(ThreadingHTTPServer):
    """A server that listens as soon as it is created. `close` ends every connection and thread."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[Request], Answer],
        next_event_number: Callable[[], int],
    ) -> None:
        self.answer = answer
        self.next_event_number = next_event_number
        self.stopping = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._connections_lock = threading.Lock()
        super().__init__(address, ConnectionHandler)

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds, or until the server stops."""
        self.stopping.wait(seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in its own thread, which `close` can end."""
        thread = threading.Thread(
            target=self._serve_connection,
            args=(request, client_address),
            name="sandbox-connection",
            daemon=True,
        )
        with self._connections_lock:
            self._connections[thread] = request
        thread.start()

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._connections_lock:
                self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors of the sandbox itself; ignore that a client disconnected."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, close every connection and end every thread. `serve_forever` must have been started."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._connections_lock:
            open_connections = dict(self._connections)
        for thread, connection in open_connections.items():
            with contextlib.suppress(OSError):  # the client may have closed it already
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(JOIN_SECONDS)


class ConnectionHandler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    server: SandboxServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 256 * 1024

    def handle_one_request(self) -> None:
        """Read one request and answer it, with any method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        started = self.server.next_event_number()
        if not self.parse_request():
            return
        request = self._read(started)
        if request is None:
            return
        answer = self.server.answer(request)
        if answer.delay:
            self.server.sleep(answer.delay)
        if answer.reply is None or self.server.stopping.is_set():
            self._reset()
        else:
            self._send(answer.reply)

    def _read(self, started: int) -> Request | None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = headers.get("content-length")
        if "transfer-encoding" in headers or (length is not None and not length.isdecimal()):
            length = None
            self.close_connection = True  # the end of the body is unknown
        elif length is None and self.command in ("POST", "PUT", "PATCH"):
            self.close_connection = True
        size = int(length or 0)
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(Reply(413, Refusal(413, "The body is too large").body()))
            return None
        body = self.rfile.read(size) if size else b""
        if len(body) < size:
            self.close_connection = True
            return None
        parts = urlsplit(self.path)
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=headers,
            body=body,
            has_length=length is not None,
            target=self.path,
            started=started,
            client_disconnected=self._client_has_disconnected,
        )

    def _client_has_disconnected(self) -> bool:
        try:
            waiting: bytes = self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not waiting

    def _send(self, reply: Reply) -> None:
        try:
            phrase = HTTPStatus(reply.status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {reply.status} {phrase}", f"Date: {formatdate(usegmt=True)}"]
        if reply.body:
            lines.append(f"Content-Type: {reply.content_type}")
        if reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines += [f"x-li-uuid: {uuid.uuid4().hex}", f"x-li-request-id: {uuid.uuid4().hex}", "x-li-fabric: sandbox"]
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.connection.sendall(head + (b"" if self.command == "HEAD" else reply.body))

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing here; the side channel shows the log of requests."""
