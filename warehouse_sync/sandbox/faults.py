"""Faults: errors that the sandbox makes on request, by setting, on the command line or for one request."""

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
"""Faults that answer with an error and do not handle the request. `502`, in HTML, and `not_found` do so too."""

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
    """One fault and the requests that it affects.

    kind            what happens
    503 …           that HTTP status, the request is not applied: `401`, `403`, `408`, `409`, `423`, `426`, `429`,
                    `429_daily`, `429_infrastructure`, `500`, `502` (in HTML), `503`, `504`
    65600 …         401 with that service error code: `65600`, `65601`, `65602`
    not_found       404, as for a segment that does not exist yet
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
    refuse_batch_silent   400 for the whole batch, naming no element; nothing is applied

    An element is bad if its index is in `indices` or it has one of the identifier `values`. With neither of the two,
    the first element is bad.

    Attributes:
        kind: What happens; one of the kinds above.
        on: The operation or group of operations that it affects.
        times: How often it happens; 0 is without limit. None is once, or without limit if `values` or a `probability`
            is given.
        after: The number of matching requests that succeed first.
        probability: The probability for each matching request.
        action: Only batches of this action, ADD or REMOVE, are affected.
        retry_after: Seconds in a `Retry-After` header.
        seconds: The delay of `slow` and `timeout_after`.
        count: The number of elements of `short_answer` and `cut_short`.
        indices: Indexes of bad elements, counted from 0.
        values: Identifier values of bad elements. Without `indices`, only requests with one of them are affected.
        status: The status of elements that `refuse_elements` refuses.
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
        """Return how often it happens at most; None is without limit."""
        if self.times is None:
            return None if self.values or self.probability < 1 else 1
        return self.times or None

    def matches(self, operation: str, action: str | None) -> bool:
        """Return whether it affects requests of this operation and action."""
        if self.action is not None and self.action != action:
            return False
        if self.kind in BATCH_FAULTS and operation not in ("users", "companies"):
            return False
        return operation in OPERATION_GROUPS.get(self.on, (self.on,))

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse `kind[:on][:option=value]…`, as in `503:users:times=3`; lists are separated by `|`.

        A part without `=` after the first option belongs to the value before it, so that values may contain colons.

        Raises:
            ConfigurationError: The text describes no fault.
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
        """Create a fault from the names and values of its options; texts are converted.

        Raises:
            ConfigurationError: An option is unknown or invalid.
        """
        known = {option.name for option in fields(cls)}
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


@dataclass(slots=True)
class _ActiveFault:
    """A fault, how many requests matched it and how often it happened."""

    fault: Fault
    matches: int = 0
    triggers: int = 0

    @property
    def is_used_up(self) -> bool:
        return self.fault.max_triggers is not None and self.triggers >= self.fault.max_triggers


class FaultRegistry:
    """The faults that are active, and how often they happened. Thread-safe."""

    def __init__(self, seed: int, faults: Iterable[Fault] = ()) -> None:
        """Activate `faults`; equal seeds give equal random choices."""
        self._random = random.Random(seed)  # noqa: S311  repeatable, not secret
        self._lock = threading.Lock()
        self._entries = [_ActiveFault(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Activate another fault from the next request on."""
        with self._lock:
            self._entries.append(_ActiveFault(fault))

    def clear(self) -> None:
        """Deactivate all faults."""
        with self._lock:
            self._entries.clear()

    def active(self) -> list[Fault]:
        """Return the faults that can still happen."""
        with self._lock:
            return [entry.fault for entry in self._entries]

    def trigger(self, operation: str, action: str | None, values: set[str], own: Fault | None) -> list[Fault]:
        """Return the faults that happen to a request, and count them.

        Args:
            operation: The operation of the request.
            action: The action of its batch: ADD, REMOVE or ADD+REMOVE.
            values: The identifier values in the request.
            own: The fault that the request itself asks for.
        """
        triggered: list[Fault] = []
        with self._lock:
            for entry in self._entries:
                fault = entry.fault
                if not fault.matches(operation, action):
                    continue
                if fault.values and not fault.indices and fault.values.isdisjoint(values):
                    continue
                entry.matches += 1
                if entry.matches <= fault.after or not self._is_drawn(fault):
                    continue
                entry.triggers += 1
                triggered.append(fault)
            self._entries = [entry for entry in self._entries if not entry.is_used_up]
            if own is not None and self._is_drawn(own):
                triggered.append(replace(own, on="any"))
        return triggered

    def depends_on_values(self) -> bool:
        """Return whether any active fault depends on the values of a request."""
        with self._lock:
            return any(entry.fault.values for entry in self._entries)

    def _is_drawn(self, fault: Fault) -> bool:
        return fault.probability >= 1 or self._random.random() < fault.probability


def error_reply(fault: Fault, segment_id: int | None) -> tuple[int, bytes, str] | None:
    """Return status, body and content type of a fault that answers with an error; None for other faults."""
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
