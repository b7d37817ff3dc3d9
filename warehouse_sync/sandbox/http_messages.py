"""Requests and replies of the sandbox as data, and the refusals that become error replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


class Refusal(Exception):
    """The request is answered with this error body.

    code and service_error_code are left out of the body when None, as LinkedIn leaves them out.
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
        """The error body, keys in the order in which LinkedIn's samples show them."""
        content: dict[str, Any] = {"status": self.status}
        if self.service_error_code is not None:
            content["serviceErrorCode"] = self.service_error_code
        if self.code is not None:
            content["code"] = self.code
        content["message"] = self.message
        return orjson.dumps(content)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: status, body and headers beyond length, type and trace."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    @classmethod
    def json(cls, status: int, content: Any, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
        """A reply with `content` as its JSON body."""
        return cls(status, orjson.dumps(content), headers)


@dataclass(slots=True)
class Request:
    """One request as it came in, its body read in full.

    path: without the query, percent-encoding kept. target: with it. headers: names in lower case.
    has_length: Content-Length was there.
    started: place among all starts and ends of requests that the sandbox saw. gone: whether the client hung up.
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
        """The body as JSON. Raises Refusal(400) when it is not."""
        if self._json is None:
            try:
                self._json = orjson.loads(self.body)
            except orjson.JSONDecodeError as error:
                raise Refusal(400, "Cannot parse the request entity as JSON") from error
        return self._json

    @property
    def method_header(self) -> str:
        """`X-RestLi-Method`, upper-cased; empty when absent."""
        return self.headers.get("x-restli-method", "").upper()
