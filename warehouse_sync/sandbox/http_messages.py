"""HTTP requests and replies of the sandbox as data, and refusals, which become error replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


class Refusal(Exception):
    """A request is answered with an error.

    Attributes:
        status: The HTTP status.
        message: The message in the error body.
        code: The `code` in the body; left out if None, as LinkedIn does.
        service_error_code: The `serviceErrorCode` in the body; left out if None.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        service_error_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.service_error_code = service_error_code

    def body(self) -> bytes:
        """Return the error body, with its keys in the order of LinkedIn's samples."""
        content: dict[str, Any] = {"status": self.status}
        if self.service_error_code is not None:
            content["serviceErrorCode"] = self.service_error_code
        if self.code is not None:
            content["code"] = self.code
        content["message"] = self.message
        return orjson.dumps(content)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply. The server adds the headers for length, type and tracing."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    @classmethod
    def json(cls, status: int, content: Any, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
        """Return a reply with `content` as its JSON body."""
        return cls(status, orjson.dumps(content), headers)


@dataclass(slots=True)
class Request:
    """One HTTP request, with its whole body.

    Attributes:
        method: The HTTP method.
        path: The path without the query, percent-encoded as it was sent.
        query: The parameters of the query.
        headers: The headers; names are in lower case.
        body: The body.
        has_length: Whether it had a Content-Length.
        target: The path with the query.
        started: Its number among all starts and ends of requests.
        client_disconnected: Returns whether the client has closed the connection.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    has_length: bool = True
    target: str = ""
    started: int = 0
    client_disconnected: Callable[[], bool] = lambda: False
    _json: Any = field(default=None, init=False)

    def json(self) -> Any:
        """Return the body, parsed as JSON; raise Refusal(400) if it is not JSON."""
        if self._json is None:
            try:
                self._json = orjson.loads(self.body)
            except orjson.JSONDecodeError as error:
                raise Refusal(400, "Cannot parse the request entity as JSON") from error
        return self._json

    @property
    def method_header(self) -> str:
        """Return `X-RestLi-Method` in upper case; empty if it is missing."""
        return self.headers.get("x-restli-method", "").upper()
