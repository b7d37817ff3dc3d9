"""Faults that the sandbox can be told to have, by setting, on the command line or for one request."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson

from warehouse_sync.errors import ConfigurationError, Problem

INVALID_TOKEN = {
    "status": 401,
    "serviceErrorCode": 65600,
    "code": "INVALID_ACCESS_TOKEN",
    "message": "Invalid access token",
}
THROTTLED = {
    "status": 429,
    "serviceErrorCode": 101,
    "message": "Resource level throttle limit for calls to this resource is reached.",
}
ERROR_REPLIES: Mapping[str, Mapping[str, Any]] = {
    "401": INVALID_TOKEN,
    "65600": INVALID_TOKEN,
    "65601": {
        "status": 401,
        "serviceErrorCode": 65601,
        "code": "REVOKED_ACCESS_TOKEN",
        "message": "The token used in the request has been revoked by the user",
    },
    "65602": {
        "status": 401,
        "serviceErrorCode": 65602,
        "code": "EXPIRED_ACCESS_TOKEN",
        "message": "The token used in the request has expired",
    },
    "403": {
        "status": 403,
        "serviceErrorCode": 100,
        "code": "ACCESS_DENIED",
        "message": "Not enough permissions to access: dmpSegments",
    },
    "408": {"status": 408, "code": "TIMEOUT", "message": "Request timed out"},
    "409": {"status": 409, "code": "CONFLICT", "message": "Write Conflict"},
    "423": {"status": 423, "message": "Locked"},
    "426": {"status": 426, "code": "NONEXISTENT_VERSION", "message": "Requested version 20250401 is not active"},
    "429": THROTTLED,
    "429_daily": THROTTLED,
    "429_infrastructure": {"status": 429, "message": "Too Many Requests"},
    "500": {"status": 500, "message": "Internal Server Error"},
    "503": {"status": 503, "code": "UNDER_MAINTENANCE", "message": "Service Unavailable"},
    "504": {"status": 504, "code": "GATEWAY_TIMEOUT", "message": "Gateway Timeout"},
}
"""Kinds that answer an error instead of handling the request; beside them `502`, in HTML, and `not_found`."""

HTML_BODY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

EARLY_FAULTS = frozenset({"slow", "reset_before"})
LATE_FAULTS = frozenset({"reset_after", "timeout_after", "bad_json"})
SHORT_ANSWERS = frozenset({"short_answer", "cut_short"})
REFUSALS = frozenset({"refuse_elements", "refuse_batch_named", "refuse_batch_indices", "refuse_batch_silent"})
BATCH_FAULTS = REFUSALS | SHORT_ANSWERS
KINDS = tuple(sorted({*ERROR_REPLIES, "502", "not_found", *EARLY_FAULTS, *LATE_FAULTS, *SHORT_ANSWERS, *REFUSALS}))

OPERATION_GROUPS: Mapping[str, frozenset[str]] = {
    "segments": frozenset({"create", "find", "get", "update", "delete", "destinations"}),
    "any": frozenset(
        {"users", "companies", "create", "find", "get", "update", "delete", "destinations", "token", "introspect"},
    ),
}
OPERATIONS = tuple(sorted({*OPERATION_GROUPS, *OPERATION_GROUPS["any"]}))


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    kind            what happens
    503 …           that HTTP status, the request is not applied: `401`, `403`, `408`, `409`, `423`, `426`, `429`,
                    `429_daily`, `429_infrastructure`, `500`, `502` (in HTML), `503`, `504`
    65600 …         401 with that service error code: `65600`, `65601`, `65602`
    not_found       404 as for a segment that is not there yet
    reset_before    the connection is reset, the request is not applied
    reset_after     the request is applied, then the connection is reset
    slow            `seconds` pass before the request is applied
    timeout_after   the request is applied, then `seconds` pass before the answer
    short_answer    the last `count` results are missing from the answer; all elements were applied
    cut_short       the last `count` elements are neither applied nor answered
    bad_json        the request is applied and answered 200 with a body that is not JSON
    refuse_elements       bad elements are refused alone with `status`, the others are applied
    refuse_batch_named    422 for the whole batch, naming the bad elements in `Index: n` lines; nothing is applied
    refuse_batch_indices  400 for the whole batch, naming them as `indices [n] (0-indexed)`; nothing is applied
    refuse_batch_silent   400 for the whole batch, naming nobody; nothing is applied

    on: the operation or group of operations that it befalls. action: only batches of this action (ADD, REMOVE).
    times: how often; 0 is without end. None is once, or without end when `values` or a `probability` is given.
    after: so many matching requests go through first. probability: of each matching request.
    retry_after: seconds in a `Retry-After` header. seconds: of `slow` and `timeout_after`.
    Elements are bad whose index is in `indices` or that hold one of the identifier `values`; with `values` alone, a
    request without any of them is left alone. With neither, the first element is bad.
    """

    kind: str
    on: str = "any"
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    action: str | None = None
    retry_after: float | None = None
    seconds: float = 1.0
    count: int = 1
    indices: tuple[int, ...] = ()
    values: frozenset[str] = frozenset()
    status: int = 400

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _invalid_fault(f"unknown fault {self.kind!r}; known are {', '.join(KINDS)}")
        if self.on not in OPERATIONS:
            raise _invalid_fault(f"unknown operation {self.on!r} of a fault; known are {', '.join(OPERATIONS)}")
        if self.action not in (None, "ADD", "REMOVE"):
            raise _invalid_fault("the action of a fault must be ADD or REMOVE")

    @property
    def max_triggers(self) -> int | None:
        """How often it strikes at most; None is without end."""
        if self.times is None:
            return None if self.values or self.probability < 1 else 1
        return self.times or None

    def matches(self, operation: str, action: str | None) -> bool:
        """Whether it can strike a request of this operation and action."""
        if self.action is not None and self.action != action:
            return False
        if self.kind in BATCH_FAULTS and operation not in ("users", "companies"):
            return False
        return operation in OPERATION_GROUPS.get(self.on, (self.on,))

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault from `kind[:on][:option=value]…`, as in `503:users:times=3`; lists are separated by `|`.

        A part without `=` after the first option belongs to the value before it, so that values may hold colons.
        Raises ConfigurationError.
        """
        parts: list[str] = []
        for part in text.strip().split(":"):
            if parts and "=" in parts[-1] and "=" not in part:
                parts[-1] += f":{part}"
            else:
                parts.append(part)
        options = [part.partition("=") for part in parts if "=" in part]
        words = [part for part in parts if "=" not in part]
        if not words or len(words) > 2:
            raise _invalid_fault(f"cannot read the fault {text!r}; write kind:on:option=value, as in 503:users:times=3")
        content: dict[str, Any] = {name.strip(): value.strip() for name, _, value in options}
        content["kind"] = words[0]
        if len(words) == 2:
            content["on"] = words[1]
        return cls.from_options(content)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Fault:
        """A fault from the names and values of its options; texts are converted. Raises ConfigurationError."""
        known = {each.name for each in fields(cls)}
        content: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                raise _invalid_fault(f"unknown option {name!r} of a fault; known are {', '.join(sorted(known))}")
            try:
                content[name] = _convert(name, value)
            except (TypeError, ValueError) as error:
                raise _invalid_fault(f"the option {name} of a fault cannot be {value!r}") from error
        if "kind" not in content:
            raise _invalid_fault(f"a fault needs a kind; known are {', '.join(KINDS)}")
        return cls(**content)


class FaultRegistry:
    """The faults that are set now, and their counting. Thread-safe; the random choice follows from `seed`."""

    def __init__(self, seed: int, faults: Iterable[Fault] = ()) -> None:
        self._random = random.Random(seed)  # noqa: S311  repeatable, not secret
        self._lock = threading.Lock()
        self._entries: list[list[Any]] = [[fault, 0, 0] for fault in faults]  # fault, matching requests, strikes so far

    def add(self, fault: Fault) -> None:
        """Have this fault from the next request on, beside those that are set."""
        with self._lock:
            self._entries.append([fault, 0, 0])

    def clear(self) -> None:
        """Have no fault any more."""
        with self._lock:
            self._entries.clear()

    def active(self) -> list[Fault]:
        """The faults that can still strike."""
        with self._lock:
            return [fault for fault, _, _ in self._entries]

    def trigger(self, operation: str, action: str | None, values: set[str], own: Fault | None) -> list[Fault]:
        """The faults that befall this request, counted as struck.

        values: the identifier values in the request. own: the fault that the request asked for itself.
        """
        struck: list[Fault] = []
        with self._lock:
            for entry in self._entries:
                fault: Fault = entry[0]
                if not fault.matches(operation, action):
                    continue
                if fault.values and not fault.indices and fault.values.isdisjoint(values):
                    continue
                entry[1] += 1
                if entry[1] <= fault.after or not self._is_drawn(fault):
                    continue
                entry[2] += 1
                struck.append(fault)
            self._entries = [entry for entry in self._entries if entry[0].limit is None or entry[2] < entry[0].limit]
            if own is not None and self._is_drawn(own):
                struck.append(replace(own, on="any"))
        return struck

    def depends_on_values(self) -> bool:
        """Whether any fault looks at the values of a request."""
        with self._lock:
            return any(fault.values for fault, _, _ in self._entries)

    def _is_drawn(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._random.random() < fault.probability


def error_reply(fault: Fault, segment_id: int | None) -> tuple[int, bytes, str] | None:
    """Status, body and content type of a fault that answers an error, else None."""
    if fault.kind == "502":
        return 502, HTML_BODY, "text/html"
    if fault.kind == "not_found":
        body = {"status": 404, "message": f"Could not find DMP segment with ID {segment_id}"}
        return 404, orjson.dumps(body), "application/json"
    content = ERROR_REPLIES.get(fault.kind)
    return None if content is None else (int(content["status"]), orjson.dumps(content), "application/json")


def _convert(name: str, value: Any) -> Any:
    if name in ("kind", "on"):
        return str(value)
    if value is None:
        return None
    if name == "action":
        return str(value).upper()
    if name in ("times", "after", "count", "status"):
        return int(value)
    if name in ("probability", "retry_after", "seconds"):
        return float(value)
    items = value.split("|") if isinstance(value, str) else value
    return frozenset(str(item) for item in items) if name == "values" else tuple(int(item) for item in items)


def _invalid_fault(message: str) -> ConfigurationError:
    return ConfigurationError(Problem(message, path="fault"))
