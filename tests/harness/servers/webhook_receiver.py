"""A server on this machine that takes what webhooks are posted, and may refuse to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class WebhookReceiver:
    """Keeps every body by its path. `answers` are the statuses to come, then 200; 0 never answers in time.

    attempts: requests that arrived, the refused ones too.
    """

    def __init__(self) -> None:
        hooks = self
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.attempts: list[str] = []
        self.statuses: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = hooks._answer(self.path, body)
                if status == 0:
                    hooks._closed.wait(60)
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
        """The address of one hook."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def accepted(self, path: str = "/hook") -> list[dict[str, Any]]:
        """What was posted to a hook and answered with 200, in order."""
        return [body for where, body in self.bodies if where == path]

    def states(self, path: str = "/hook") -> list[tuple[str, str]]:
        """The previous and the new state of each of them."""
        return [(body["previous_state"], body["state"]) for body in self.accepted(path)]

    def _answer(self, path: str, body: dict[str, Any]) -> int:
        with self._lock:
            self.attempts.append(path)
            due = self.statuses.get(path)
            status = due.pop(0) if due else 200
            if status == 200:
                self.bodies.append((path, body))
            return status
