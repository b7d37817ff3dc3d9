"""The side channel `/_sandbox/…`: inspect and control the sandbox over HTTP, without authentication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.sandbox.faults import Fault
from warehouse_sync.sandbox.http_messages import Refusal, Reply, Request
from warehouse_sync.sandbox.members import ElementKey, Fields, Reading
from warehouse_sync.sandbox.state import RequestRecord

PREFIX = "/_sandbox/"


class SandboxControls(Protocol):
    """What the side channel reads and changes.

    `Sandbox` implements and documents it. It uses the side channel, so the side channel cannot import `Sandbox`.
    """

    @property
    def url(self) -> str: ...

    def members(self, segment_id: int | str, reading: Reading | str = ...) -> dict[ElementKey, Fields]: ...

    def segments(self) -> list[dict[str, Any]]: ...

    def requests(self, kind: str | None = None) -> list[RequestRecord]: ...

    def violations(self) -> list[str]: ...

    def inject(self, fault: Fault | str) -> None: ...

    def clear_faults(self) -> None: ...

    def faults(self) -> list[Fault]: ...

    def force_status(self, segment_id: int | str, status: str) -> None: ...

    def set_writable(self, account_id: int, writable: bool) -> None: ...

    def revoke_access_tokens(self) -> None: ...

    def revoke_refresh_token(self) -> None: ...


def answer(sandbox: SandboxControls, request: Request) -> Reply:
    """Answer a request whose path starts with PREFIX.

    GET    state                        segments, violations, faults and the number of requests
    GET    requests[?kind=…]            the log
    GET    segments/{id}/members        ?reading=identifiers|elements|persons (default elements)
    POST   segments/{id}/status         {"status": …}
    POST   accounts/{id}/role           {"writable": false} removes the write role
    POST   faults                       {"fault": "503:users:times=3"}, the options of a fault, or a list of these
    DELETE faults
    POST   tokens/revoke                {"refresh": true} revokes the refresh token too
    """
    try:
        return _answer(sandbox, request, request.path.removeprefix(PREFIX).split("/"))
    except Refusal as refusal:
        return Reply(refusal.status, refusal.body())
    except KeyError:
        return Reply.json(404, {"status": 404, "message": "The sandbox has no such segment"})
    except ConfigurationError as error:
        return Reply.json(400, {"status": 400, "message": str(error)})


def _answer(sandbox: SandboxControls, request: Request, path: list[str]) -> Reply:
    match request.method, path:
        case "GET", ["state"]:
            return Reply.json(200, _state(sandbox))
        case "GET", ["requests"]:
            kind = request.query.get("kind")
            return Reply.json(200, [asdict(record) for record in sandbox.requests(kind)])
        case "GET", ["segments", segment_id, "members"] if segment_id.isdecimal():
            return _members(sandbox, int(segment_id), request.query.get("reading", Reading.ELEMENTS))
        case "POST", ["segments", segment_id, "status"] if segment_id.isdecimal():
            try:
                sandbox.force_status(int(segment_id), str(_read_object(request).get("status")))
            except ValueError as error:
                raise Refusal(400, str(error)) from None
            return Reply(204)
        case "POST", ["accounts", account_id, "role"] if account_id.isdecimal():
            sandbox.set_writable(int(account_id), bool(_read_object(request).get("writable")))
            return Reply(204)
        case "POST", ["faults"]:
            content = request.json()
            for fault in [_parse_fault(each) for each in (content if isinstance(content, list) else [content])]:
                sandbox.inject(fault)
            return Reply(204)
        case "DELETE", ["faults"]:
            sandbox.clear_faults()
            return Reply(204)
        case "POST", ["tokens", "revoke"]:
            sandbox.revoke_access_tokens()
            if request.body and _read_object(request).get("refresh"):
                sandbox.revoke_refresh_token()
            return Reply(204)
    raise Refusal(404, f"The sandbox has no {request.method} {request.path}")


def _state(sandbox: SandboxControls) -> dict[str, Any]:
    return {
        "url": sandbox.url,
        "segments": sandbox.segments(),
        "requests": len(sandbox.requests()),
        "faults": [asdict(fault) | {"values": sorted(fault.values)} for fault in sandbox.faults()],
        "violations": sandbox.violations(),
    }


def _members(sandbox: SandboxControls, segment_id: int, reading: str) -> Reply:
    if reading not in list(Reading):
        raise Refusal(400, f"reading must be one of {', '.join(Reading)}")
    held = sandbox.members(segment_id, reading)
    members = [
        {"identifiers": [{"idType": id_type, "idValue": value} for id_type, value in key], "fields": fields}
        for key, fields in held.items()
    ]
    return Reply(200, orjson.dumps({"count": len(members), "reading": reading, "members": members}))


def _read_object(request: Request) -> Mapping[str, Any]:
    content = request.json()
    if not isinstance(content, dict):
        raise Refusal(400, "The body must be a JSON object")
    return content


def _parse_fault(content: Any) -> Fault:
    if isinstance(content, dict) and content.keys() == {"fault"}:
        content = content["fault"]
    if isinstance(content, str):
        return Fault.parse(content)
    if isinstance(content, dict):
        return Fault.from_options(content)
    raise Refusal(400, "A fault must be a text or an object")
