"""`/rest/dmpSegments`: create, find, get, update and delete segments, and their destinations.

Each function raises Refusal if the request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from warehouse_sync.sandbox.elements import MISSING_FIELD
from warehouse_sync.sandbox.http_messages import Refusal, Reply, Request
from warehouse_sync.sandbox.segment import Segment
from warehouse_sync.sandbox.state import SandboxState

ACCOUNT_URN = re.compile(r"urn:li:sponsoredAccount:(\d+)")
SEGMENT_TYPES = frozenset({"USER", "COMPANY", "USER_LIST_UPLOAD", "COMPANY_LIST_UPLOAD"})
REQUIRED_FIELDS = ("account", "name", "type", "sourcePlatform", "destinations")
MUTABLE_FIELDS = {"name": "name", "description": "description", "sourceSegmentId": "source_segment_id"}
OPTIONAL_FIELDS = frozenset({"description", "sourceSegmentId", "accessPolicy"})
DEFAULT_COUNT = 10


def create(state: SandboxState, request: Request) -> tuple[str, Segment]:
    """Create a segment. Return the id for the created-id header, and the segment."""
    settings = state.settings
    if request.method_header not in ("", "CREATE"):
        raise Refusal(400, f"Method {request.method_header} is not supported on dmpSegments")
    body = _read_object(request)
    missing = [name for name in REQUIRED_FIELDS if body.get(name) is None]
    if missing:
        raise Refusal(
            settings.missing_field_status, "".join(f"ERROR :: /{name} :: {MISSING_FIELD}\n" for name in missing)
        )
    unknown = body.keys() - OPTIONAL_FIELDS.union(REQUIRED_FIELDS)
    if unknown and settings.unknown_fields == "refuse":
        raise Refusal(422, f"ERROR :: /{min(unknown)} :: unrecognized field found but not allowed\n")
    _check_texts(state, body)
    account_id = _parse_account_urn(body["account"])
    if body["type"] not in SEGMENT_TYPES:
        raise Refusal(400, "ERROR :: /type :: is not a member of the enumeration\n")
    if body["sourcePlatform"] not in settings.source_platforms:
        raise Refusal(400, "ERROR :: /sourcePlatform :: is not a member of the enumeration\n")
    if body["destinations"] != [{"destination": "LINKEDIN"}]:
        raise Refusal(400, "ERROR :: /destinations :: the only accepted value is LINKEDIN\n")
    if body.get("accessPolicy") not in (None, "PRIVATE"):
        raise Refusal(400, "ERROR :: /accessPolicy :: the only accepted value is PRIVATE\n")
    if account_id in settings.test_account_ids:
        raise Refusal(400, "Test accounts cannot have segments", "SEGMENT_CREATION_NOT_ALLOWED_FOR_TEST_ACCOUNTS")
    check_write_role(state, account_id, "dmpSegments.CREATE")
    siblings = [segment for segment in state.segments.values() if segment.account == body["account"]]
    if len(siblings) >= settings.segment_cap:
        message = f"The account has reached its maximum of {settings.segment_cap} segments"
        raise Refusal(429, message, "SEGMENT_LIMIT_EXCEEDED")
    source_id = body.get("sourceSegmentId")
    if settings.duplicate_source_segment == "409" and source_id is not None:
        source = (body["sourcePlatform"], source_id)
        if any((sibling.source_platform, sibling.source_segment_id) == source for sibling in siblings):
            raise Refusal(409, "A segment with this sourceSegmentId exists", "CONFLICT")
    now = state.now()
    segment = Segment(
        id=state.next_segment_id(),
        account=body["account"],
        type=body["type"],
        name=body["name"],
        source_platform=body["sourcePlatform"],
        created_at=now,
        settings=settings,
        source_segment_id=source_id,
        description=body.get("description"),
        access_policy=body.get("accessPolicy"),
        destinations={"LINKEDIN": now},
    )
    state.segments[segment.id] = segment
    return str(segment.id), segment


def find(state: SandboxState, request: Request) -> Reply:
    """Answer the finder `q=account`; a segment must match all filters."""
    query = request.query
    if query.get("q") != "account":
        raise Refusal(400, "The finder q=account is the only one")
    if not query.get("account"):
        raise Refusal(400, "Parameter 'account' is required")
    account_id = _parse_account_urn(query["account"])
    settings = state.settings
    known = settings.account_ids | settings.viewer_account_ids | settings.test_account_ids
    if account_id not in known and settings.unknown_account_find == "403":
        raise _access_denied("dmpSegments.FINDER-account")
    now = state.now()
    found = [
        segment
        for segment in state.segments.values()
        if segment.account == query["account"]
        and now >= segment.created_at + settings.find_after
        and query.get("sourcePlatform") in (None, segment.source_platform)
        and query.get("sourceSegmentId") in (None, segment.source_segment_id)
    ]
    start, count = _read_number(query, "start", 0), _read_number(query, "count", DEFAULT_COUNT)
    unpaged = "start" not in query and "count" not in query and settings.unpaged_find == "all"
    shown = found if unpaged else found[start : start + count]
    for segment in shown:
        segment.advance(now)
    paging = {"start": start, "count": count, "links": [], "total": len(found)}
    return Reply.json(200, {"paging": paging, "elements": [segment.as_entity(now) for segment in shown]})


def get(state: SandboxState, segment_id: int) -> Reply:
    """Answer with one segment."""
    return Reply.json(200, state.segment(segment_id).as_entity(state.now()))


def update(state: SandboxState, request: Request, segment_id: int) -> Reply:
    """Change name, description and sourceSegmentId by PARTIAL_UPDATE."""
    if request.method_header != "PARTIAL_UPDATE":
        raise Refusal(400, "X-RestLi-Method must be PARTIAL_UPDATE")
    segment = state.segment(segment_id)
    check_write_role(state, segment.account_id, "dmpSegments.PARTIAL_UPDATE")
    body = _read_object(request)
    patch = body.get("patch")
    if not isinstance(patch, dict) or patch.keys() != {"$set"} or not isinstance(patch["$set"], dict):
        raise Refusal(400, 'The body must be {"patch":{"$set":{…}}}')
    values: dict[str, Any] = patch["$set"]
    immutable = values.keys() - MUTABLE_FIELDS.keys() - {"accessPolicy"}
    if immutable:
        raise Refusal(400, f"ERROR :: /{min(immutable)} :: field cannot be changed\n")
    _check_texts(state, values)
    for name, attribute in MUTABLE_FIELDS.items():
        if name in values:
            setattr(segment, attribute, values[name])
    segment.last_modified = segment.last_active = state.now()
    return Reply(204)


def delete(state: SandboxState, segment_id: int) -> Reply:
    """Delete a segment with its members."""
    segment = state.segment(segment_id)
    check_write_role(state, segment.account_id, "dmpSegments.DELETE")
    del state.segments[segment_id]
    return Reply(204)


def add_destination(state: SandboxState, request: Request, segment_id: int) -> tuple[str, Segment]:
    """Add LINKEDIN to the destinations if it is missing. Return the name for the created-id header, and the segment."""
    segment = state.segment(segment_id)
    check_write_role(state, segment.account_id, "dmpSegments.destinations.CREATE")
    if _read_object(request) != {"destination": "LINKEDIN"}:
        raise Refusal(400, "ERROR :: /destination :: the only accepted value is LINKEDIN\n")
    segment.destinations.setdefault("LINKEDIN", state.now())
    return "LINKEDIN", segment


def get_destination(state: SandboxState, segment_id: int, name: str) -> Reply:
    """Answer with status and counts of one destination."""
    segment = state.segment(segment_id)
    if name not in segment.destinations:
        raise Refusal(404, f"Could not find destination {name} of DMP segment {segment_id}")
    return Reply.json(200, segment.as_destination(name, state.now()))


def check_write_role(state: SandboxState, account_id: int, resource: str) -> None:
    """Raise Refusal(403) unless the member may write to this account."""
    if account_id not in state.writable_accounts:
        raise _access_denied(resource)


def _access_denied(resource: str) -> Refusal:
    return Refusal(403, f"Not enough permissions to access: {resource}", "ACCESS_DENIED", 100)


def _read_object(request: Request) -> dict[str, Any]:
    body = request.json()
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object")
    return body


def _check_texts(state: SandboxState, values: Mapping[str, Any]) -> None:
    for name in ("account", "name", "type", "sourcePlatform", "description", "sourceSegmentId"):
        if name in values and not isinstance(values[name], str):
            raise Refusal(400, f"ERROR :: /{name} :: must be a text\n")
    limit = state.settings.name_max_length
    if "name" in values and (not values["name"].strip() or (limit is not None and len(values["name"]) > limit)):
        raise Refusal(400, "ERROR :: /name :: is blank or too long\n", "FIELD_LENGTH_TOO_LONG")


def _parse_account_urn(urn: str) -> int:
    match = ACCOUNT_URN.fullmatch(urn)
    if match is None:
        raise Refusal(400, "ERROR :: /account :: must be urn:li:sponsoredAccount:<number>\n")
    return int(match.group(1))


def _read_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise Refusal(400, f"Parameter '{name}' must be a number")
    return int(text)
