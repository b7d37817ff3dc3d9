"""Answer requests: find the route, apply faults, check headers and quota, call the endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.sandbox import batch_endpoints, oauth_endpoints, segment_endpoints
from warehouse_sync.sandbox.elements import identifier_values
from warehouse_sync.sandbox.faults import Fault, FaultRegistry, error_reply
from warehouse_sync.sandbox.http_messages import Refusal, Reply, Request
from warehouse_sync.sandbox.state import RequestRecord, SandboxState

VERSION_PATTERN = re.compile(r"\d{6}")
ROUTES: tuple[tuple[re.Pattern[str], dict[str, str]], ...] = (
    (re.compile(r"/oauth/v2/accessToken"), {"*": "token"}),
    (re.compile(r"/oauth/v2/introspectToken"), {"*": "introspect"}),
    (re.compile(r"/rest/dmpSegments"), {"POST": "create", "GET": "find"}),
    (re.compile(r"/rest/dmpSegments/(\d+)"), {"GET": "get", "POST": "update", "DELETE": "delete"}),
    (re.compile(r"/rest/dmpSegments/(\d+)/users"), {"*": "users"}),
    (re.compile(r"/rest/dmpSegments/(\d+)/companies"), {"*": "companies"}),
    (re.compile(r"/rest/dmpSegments/(\d+)/destinations(?:/(\w+))?"), {"*": "destinations"}),
)
REQUIRED_SCOPE = "rw_dmp_segments"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with a connection.

    Attributes:
        reply: The reply to send; None resets the connection.
        delay: Seconds to wait before that.
    """

    reply: Reply | None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Route:
    """The operation that a request asks for.

    Attributes:
        operation: The operation; empty if the API has none for this method and path.
        segment_id: The segment that the path names.
        name: The destination that the path names.
        known_path: Whether the API has this path.
    """

    operation: str = ""
    segment_id: int | None = None
    name: str | None = None
    known_path: bool = False


class Router:
    """Answers API and token requests as the contract says. Thread-safe."""

    def __init__(self, state: SandboxState, faults: FaultRegistry, sleep: Callable[[float], object]) -> None:
        """Create a router.

        Args:
            state: The state of the sandbox.
            faults: The active faults.
            sleep: Waits for a number of seconds.
        """
        self._state = state
        self._faults = faults
        self._sleep = sleep

    def answer(self, request: Request) -> Answer:
        """Answer one request. The log contains it from its start."""
        route = find_route(request)
        record = RequestRecord(
            request.method,
            request.target if route.operation == "find" else request.path,
            route.operation,
            request.started,
            self._state.now(),
            route.segment_id,
        )
        self._state.log.append(record)
        answer = self._answer(request, route, record)
        if record.finished is None:
            self._finish(request, record)
        record.status = answer.reply.status if answer.reply is not None else None
        return answer

    def _answer(self, request: Request, route: Route, record: RequestRecord) -> Answer:
        values: set[str] = set()
        if route.operation in batch_endpoints.CHECKS:
            elements = batch_endpoints.read_elements(request)
            record.elements = None if elements is None else len(elements)
            record.action = batch_endpoints.summarise_actions(elements)
            if self._faults.depends_on_values():
                values = {value for element in elements or () for value in identifier_values(element)}
        try:
            own_fault_text = request.headers.get("x-sandbox-fault")
            own_fault = None if own_fault_text is None else Fault.parse(own_fault_text)
        except ConfigurationError as error:
            return Answer(self._refuse(request, Refusal(400, f"X-Sandbox-Fault: {error}")))
        faults = self._faults.trigger(route.operation, record.action, values, own_fault)
        record.faults = tuple(fault.kind for fault in faults)

        for fault in faults:
            if fault.kind == "slow":
                self._sleep(fault.seconds)
        for fault in faults:
            if fault.kind == "reset_before":
                return Answer(None)
            if (reply_parts := error_reply(fault, route.segment_id)) is not None:
                status, body, content_type = reply_parts
                return Answer(
                    self._with_error_headers(request, Reply(status, body, (), content_type), fault.retry_after)
                )
        try:
            reply = self._handle(request, route, faults)
        except Refusal as refusal:
            reply = self._refuse(request, refusal)
        self._finish(request, record)
        return self._apply_late_faults(faults, reply)

    def _finish(self, request: Request, record: RequestRecord) -> None:
        record.abandoned = request.client_disconnected()
        record.finished = self._state.next_event_number()

    @staticmethod
    def _apply_late_faults(faults: list[Fault], reply: Reply) -> Answer:
        delay = sum(fault.seconds for fault in faults if fault.kind == "timeout_after")
        for fault in faults:
            if fault.kind == "reset_after":
                return Answer(None, delay)
            if fault.kind == "bad_json":
                reply = Reply(200, b'{"elements":[{"status":2')
        return Answer(reply, delay)

    def _handle(self, request: Request, route: Route, faults: list[Fault]) -> Reply:
        state = self._state
        if route.operation in ("token", "introspect"):
            handler = oauth_endpoints.issue_token if route.operation == "token" else oauth_endpoints.introspect_token
            with state.lock:
                return handler(request, state.settings, state.tokens, state.now())
        with state.lock:
            token = state.tokens.authenticate(request.headers.get("authorization"), state.now())
        self._check_headers(request)
        if not route.operation:
            status = 405 if route.known_path else 404
            raise Refusal(status, f"No virtual resource found for {request.method} {request.path}")
        state.count_call(token.member, route.operation)
        if REQUIRED_SCOPE not in token.scopes:
            resource = f"dmpSegments.{route.operation.upper()}.{request.headers['linkedin-version']}"
            raise Refusal(403, f"Not enough permissions to access: {resource}", "ACCESS_DENIED", 100)
        if route.operation in batch_endpoints.CHECKS:
            if request.method != "POST":
                raise Refusal(405, f"{request.method} is not supported on {route.operation}")
            assert route.segment_id is not None
            return batch_endpoints.apply_batch(state, request, route.segment_id, route.operation, faults)
        with state.lock:
            return self._handle_segment(request, route)

    def _handle_segment(self, request: Request, route: Route) -> Reply:
        state, segment_id = self._state, route.segment_id
        if route.operation == "find":
            return segment_endpoints.find(state, request)
        if route.operation == "create":
            created, _ = segment_endpoints.create(state, request)
            return self._created(request, created, f"/dmpSegments/{created}")
        assert segment_id is not None
        if route.operation == "get":
            return segment_endpoints.get(state, segment_id)
        if route.operation == "update":
            return segment_endpoints.update(state, request, segment_id)
        if route.operation == "delete":
            return segment_endpoints.delete(state, segment_id)
        if request.method == "POST" and route.name is None:
            created, _ = segment_endpoints.add_destination(state, request, segment_id)
            return self._created(request, created, f"/dmpSegments/{segment_id}/destinations/{created}")
        if request.method == "GET" and route.name is not None:
            return segment_endpoints.get_destination(state, segment_id, route.name)
        raise Refusal(405, f"{request.method} is not supported here")

    def _check_headers(self, request: Request) -> None:
        settings = self._state.settings
        version = request.headers.get("linkedin-version")
        if version is None:
            message = "A version must be present. Please specify a version by adding the LinkedIn-Version header."
            raise Refusal(settings.missing_version_status, message, "VERSION_MISSING")
        if not VERSION_PATTERN.fullmatch(version) or version not in settings.versions:
            raise Refusal(426, f"Requested version {version}01 is not active", "NONEXISTENT_VERSION")
        protocol = request.headers.get("x-restli-protocol-version", "1.0.0")
        if protocol not in ("1.0.0", "2.0.0"):
            raise Refusal(400, f"Rest.li protocol version {protocol} is not supported")
        if request.method != "POST":
            return
        if not request.has_length:
            raise Refusal(411, "A POST needs a Content-Length")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if settings.check_content_type and request.body and content_type != "application/json":
            raise Refusal(415, "The body must be application/json")

    def _created(self, request: Request, created: str, location: str) -> Reply:
        name = "x-restli-id" if _uses_protocol_2(request) else "X-LinkedIn-Id"
        return Reply(201, headers=((name, created), ("Location", location)))

    def _refuse(self, request: Request, refusal: Refusal) -> Reply:
        return self._with_error_headers(request, Reply(refusal.status, refusal.body()), None)

    def _with_error_headers(self, request: Request, reply: Reply, retry_after: float | None) -> Reply:
        marker = "X-RestLi-Error-Response" if _uses_protocol_2(request) else "X-LinkedIn-Error-Response"
        headers = [(marker, "true")]
        if reply.status == 429 and retry_after is None:
            retry_after = self._state.settings.retry_after
        if retry_after is not None:
            headers.append(("Retry-After", f"{retry_after:g}"))
        return replace(reply, headers=(*reply.headers, *headers))


def find_route(request: Request) -> Route:
    """Return the route of a request, by method and path."""
    for pattern, operations in ROUTES:
        match = pattern.fullmatch(request.path)
        if match is None:
            continue
        groups = [*match.groups(), None, None]
        segment_id = int(groups[0]) if groups[0] is not None else None
        operation = operations.get(request.method) or operations.get("*", "")
        return Route(operation, segment_id, groups[1], known_path=True)
    return Route()


def _uses_protocol_2(request: Request) -> bool:
    return request.headers.get("x-restli-protocol-version", "1.0.0").startswith("2")
