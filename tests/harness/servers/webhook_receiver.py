"""A local server that accepts or refuses what is posted to webhooks."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class WebhookReceiver:
    """A server that records the requests to webhooks.

    Attributes:
        bodies: Path and body of each accepted request, in order.
        attempts: The paths of all requests, refused ones included.
        statuses: The next HTTP statuses by path; afterwards 200. Status 0 gives no answer in time.
    """

    def __init__(self) -> None:
        receiver = self
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.attempts: list[str] = []
        self.statuses: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver._answer(self.path, body)
                if status == 0:
                    receiver._closed.wait(60)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/hook") -> str:
        """Return the URL of a webhook."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def accepted(self, path: str = "/hook") -> list[dict[str, Any]]:
        """Return the bodies that a webhook received and answered with 200, in order."""
        return [body for body_path, body in self.bodies if body_path == path]

    def states(self, path: str = "/hook") -> list[tuple[str, str]]:
        """Return the previous and the new state of each accepted body."""
        return [(body["previous_state"], body["state"]) for body in self.accepted(path)]

    def _answer(self, path: str, body: dict[str, Any]) -> int:
        with self._lock:
            self.attempts.append(path)
            upcoming = self.statuses.get(path)
            status = upcoming.pop(0) if upcoming else 200
            if status == 200:
                self.bodies.append((path, body))
            return status
