"""The sandbox without sockets: `requests` hands its requests over in this process, everything else is as it is.

What a socket would do is done here: a reset is requests' ConnectionError, a reply that comes too late its ReadTimeout.
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
"""Where the sandbox claims to be; the same each time, so that a configuration is read once."""


class NearSandbox(Sandbox):
    """A sandbox that listens nowhere; `answer` is called instead. Thread-safe."""

    def start(self) -> Self:
        return self

    @property
    def url(self) -> str:
        return ADDRESS

    def answer(self, request: Request, patience: float) -> Answer | None:
        """The answer to a request; None when it took longer than `patience` seconds, the request then being applied.

        A request that is slow beyond its client's patience is applied at that moment, not later: what a request does
        that LinkedIn carries out long after its client has given it up is a limit of the promise.
        """
        _waiting.patience, _waiting.gone = patience, False
        answer = self._answer(request)
        late = _waiting.gone or answer.delay >= patience
        return None if late else answer

    def tick(self) -> int:
        """The next place among all starts and ends of requests."""
        return self._state.next_event_number()

    def _sleep(self, seconds: float) -> None:
        if seconds >= _waiting.patience:
            _waiting.gone = True
        else:
            super()._sleep(seconds)


class _Waiting(threading.local):
    """What the client of this thread's request bears with, and whether it has hung up."""

    patience = 0.0
    gone = False


_waiting = _Waiting()


class Adapter(BaseAdapter):
    """Carries the requests of any session to one sandbox."""

    def __init__(self, sandbox: NearSandbox) -> None:
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
        asked = Request(
            method=request.method or "",
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=bytes(body),
            target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            started=sandbox.tick(),
            client_disconnected=lambda: _waiting.gone,
        )
        answer = sandbox.answer(asked, timeout[1])
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
def near_sandbox(patch: pytest.MonkeyPatch, **settings: Any) -> Iterator[NearSandbox]:
    """A sandbox that the worker reaches without sockets for the time of the block."""
    running = NearSandbox(SandboxSettings(**settings))
    adapter = Adapter(running)
    patch.setattr(requests.Session, "get_adapter", lambda *_, **__: adapter)
    yield running
