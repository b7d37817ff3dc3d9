"""`/users` and `/companies` of a segment: batches of ADD and REMOVE, refused as a whole or element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from warehouse_sync.sandbox.elements import (
    MISSING_FIELD,
    Check,
    ElementProblem,
    ParsedBatch,
    check_company,
    check_user,
    identifier_values,
    parse_batch,
    read_action,
)
from warehouse_sync.sandbox.faults import SHORT_ANSWERS, Fault
from warehouse_sync.sandbox.http_messages import Refusal, Reply, Request
from warehouse_sync.sandbox.segment_endpoints import check_write_role
from warehouse_sync.sandbox.settings import SandboxSettings
from warehouse_sync.sandbox.state import SandboxState

CHECKS: dict[str, tuple[Check, str]] = {"users": (check_user, "USER"), "companies": (check_company, "COMPANY")}
CREATED_RESULT = {"status": 201}


def read_elements(request: Request) -> list[Any] | None:
    """Return the elements of a batch; None if the body has none. Never raises."""
    try:
        body = request.json()
    except Refusal:
        return None
    elements = body.get("elements") if isinstance(body, dict) else None
    return elements if isinstance(elements, list) else None


def summarise_actions(elements: list[Any] | None) -> str | None:
    """Return ADD, REMOVE or ADD+REMOVE: the actions of the elements; None if they have none."""
    found = [element.get("action") for element in elements or () if isinstance(element, dict)]
    return "+".join(action for action in ("ADD", "REMOVE") if action in found) or None


def apply_batch(
    state: SandboxState,
    request: Request,
    segment_id: int,
    kind: str,
    faults: Sequence[Fault],
) -> Reply:
    """Apply a batch, or the single element of a plain CREATE.

    Args:
        state: The sandbox.
        request: The request.
        segment_id: The segment that its path names.
        kind: The endpoint, `users` or `companies`.
        faults: The faults that happen to the request.

    Raises:
        Refusal: The batch is refused, and nothing was applied.
    """
    settings = state.settings
    with state.lock:
        segment = state.segment(segment_id)
        check_write_role(state, segment.account_id, f"dmpSegments.{kind}.BATCH_CREATE")
        if state.now() < segment.created_at + settings.ready_after:
            raise Refusal(404, f"Could not find DMP segment with ID {segment_id}")
        check, segment_type = CHECKS[kind]
        if segment.type != segment_type:
            raise Refusal(400, f"A segment of type {segment.type} does not take {kind}")
        if segment.status(state.now()) == "EXPIRED" and settings.expired_writes == "refuse":
            raise Refusal(400, f"DMP segment {segment_id} is EXPIRED")
    single = request.method_header in ("", "CREATE")
    elements = _read_single(request) if single else _read_batch(request, settings)
    parsed = parse_batch(elements, check, settings)
    refused = {index: (400, str(problem)) for index, problem in parsed.problems.items()}
    if refused and (single or not settings.partial_validation):
        raise Refusal(422, _format_problems({index: message for index, (_, message) in refused.items()}))
    for fault in faults:
        refused |= _refuse_by_fault(fault, elements, settings)
    cut = sum(fault.count for fault in faults if fault.kind == "cut_short")
    lost = dict.fromkeys(range(max(0, len(elements) - cut), len(elements)), (0, ""))
    _apply(state, segment_id, parsed, refused | lost)
    if single:
        return Reply(201)
    results: list[Any] = [CREATED_RESULT] * len(elements)
    for index, (status, message) in refused.items():
        error: dict[str, Any] = {"status": status, "message": message}
        if settings.batch_index:
            error["batchIndex"] = index
        results[index] = {"status": status, "error": error}
    for fault in faults:
        if fault.kind in SHORT_ANSWERS:
            results = results[: max(0, len(results) - fault.count)]
    return Reply(200, orjson.dumps({"elements": results}))


def _read_single(request: Request) -> list[Any]:
    body = request.json()
    try:
        read_action(body)
    except ElementProblem as problem:
        raise Refusal(422, f"{problem}\n") from problem
    return [body]


def _read_batch(request: Request, settings: SandboxSettings) -> list[Any]:
    if request.method_header != "BATCH_CREATE":
        raise Refusal(400, f"Method {request.method_header} is not supported here")
    body = request.json()
    if not isinstance(body, dict) or not isinstance(body.get("elements"), list):
        raise Refusal(400, f"ERROR :: /elements :: {MISSING_FIELD}\n")
    elements: list[Any] = body["elements"]
    if len(elements) > settings.batch_limit:
        raise Refusal(400, f"A batch has at most {settings.batch_limit} elements, this one has {len(elements)}")
    return elements


def _refuse_by_fault(fault: Fault, elements: list[Any], settings: SandboxSettings) -> dict[int, tuple[int, str]]:
    """Return the elements that a fault refuses, with status and message; raise Refusal if it refuses the batch."""

    def echoed(index: int) -> str:
        return f": {orjson.dumps(elements[index]).decode()}" if settings.echo_values else ""

    if not fault.kind.startswith("refuse_"):
        return {}
    bad = {index for index in fault.indices if index < len(elements)}
    if fault.values:
        bad |= {
            index for index, element in enumerate(elements) if not fault.values.isdisjoint(identifier_values(element))
        }
    if not fault.values and not fault.indices and elements:
        bad = {0}
    if not bad:
        return {}
    if fault.kind == "refuse_elements":
        return {index: (fault.status, f"The element is not accepted{echoed(index)}") for index in sorted(bad)}
    if fault.kind == "refuse_batch_named":
        raise Refusal(
            422,
            _format_problems(
                {index: f"ERROR :: / :: the element is not accepted{echoed(index)}" for index in sorted(bad)}
            ),
        )
    if fault.kind == "refuse_batch_indices":
        indices = ", ".join(map(str, sorted(bad)))
        raise Refusal(400, f"Incorrect elements information provided. Bad elements, indices [{indices}] (0-indexed)")
    raise Refusal(400, "Bad request")


def _format_problems(messages: dict[int, str]) -> str:
    return "".join(f"Index: {index}, {message}\n" for index, message in messages.items())


def _apply(state: SandboxState, segment_id: int, parsed: ParsedBatch, refused: dict[int, tuple[int, str]]) -> None:
    good = [each for each in parsed.valid if each[0] not in refused] if refused else parsed.valid
    adds = [(key, fields) for _, action, key, fields in good if action == "ADD"]
    removes = [key for _, action, key, _ in good if action == "REMOVE"]
    if not good:
        return
    with state.lock:
        state.segment(segment_id).apply(adds, removes, state.now())
