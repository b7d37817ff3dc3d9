"""The sandbox without sockets: the library requests calls it in this process.

The adapter does what a socket would do: a reset is a ConnectionError of requests, a late reply its ReadTimeout.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from warehouse_sync.sandbox import Sandbox, SandboxSettings
from warehouse_sync.sandbox.http_messages import Request
from warehouse_sync.sandbox.router import Answer

ADDRESS = "http://127.0.0.1:1"
"""The address of each sandbox; it is constant, so that a configuration is read once."""


class InProcessSandbox(Sandbox):
    """A sandbox without a listening socket; `answer` is called instead. Thread-safe."""

    def start(self) -> Self:
        return self

    @property
    def url(self) -> str:
        return ADDRESS

    def answer(self, request: Request, timeout: float) -> Answer | None:
        """Return the answer to a request; None if it took longer than `timeout` seconds. The request is applied then.

        A request that exceeds the timeout of its client is applied at that moment, not later. A request that LinkedIn
        applies long after its client has given up is beyond what the product guarantees.
        """
        _client.timeout, _client.has_disconnected = timeout, False
        answer = self._answer(request)
        is_late = _client.has_disconnected or answer.delay >= timeout
        return None if is_late else answer

    def tick(self) -> int:
        """Return the next number in the order of all starts and ends of requests."""
        return self._state.next_event_number()

    def _sleep(self, seconds: float) -> None:
        if seconds >= _client.timeout:
            _client.has_disconnected = True
        else:
            super()._sleep(seconds)


class _Client(threading.local):
    """The timeout of the client of this thread's request, and whether it has disconnected."""

    timeout = 0.0
    has_disconnected = False


_client = _Client()


class Adapter(BaseAdapter):
    """Passes the requests of any session to one sandbox."""

    def __init__(self, sandbox: InProcessSandbox) -> None:
        super().__init__()
        self.sandbox = sandbox

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        sandbox = self.sandbox
        parts = urlsplit(request.url or "")
        assert isinstance(parts.path, str)
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        received = Request(
            method=request.method or "",
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=bytes(body),
            target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            started=sandbox.tick(),
            client_disconnected=lambda: _client.has_disconnected,
        )
        answer = sandbox.answer(received, timeout[1])
        if answer is None:
            raise requests.ReadTimeout("the answer took too long")
        if answer.reply is None:
            raise requests.ConnectionError("the connection was reset")
        response = requests.Response()
        response.status_code = answer.reply.status
        response.reason = HTTPStatus(answer.reply.status).phrase
        response.headers = CaseInsensitiveDict(answer.reply.headers)
        if answer.reply.body:
            response.headers["Content-Type"] = answer.reply.content_type
        response._content = answer.reply.body
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        pass


@contextmanager
def in_process_sandbox(patch: pytest.MonkeyPatch, **settings: Any) -> Iterator[InProcessSandbox]:
    """Yield a sandbox that the worker reaches without sockets during the block."""
    running = InProcessSandbox(SandboxSettings(**settings))
    adapter = Adapter(running)
    patch.setattr(requests.Session, "get_adapter", lambda *_, **__: adapter)
    yield running
