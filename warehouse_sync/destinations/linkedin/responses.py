"""What LinkedIn's answers mean. Pure functions.

    status                               class            what happens next
    2xx                                  SUCCESS          read the body
    400, 422                             REFUSED          LinkedIn will never accept a part of the request
    413                                  TOO_LARGE        send smaller requests
    401                                  UNAUTHORIZED     renew the access token
    403                                  FORBIDDEN        the operator must grant something
    404                                  NOT_FOUND        wait, if the audience is new
    426                                  VERSION_RETIRED  the operator must choose another API version
    408, 409, 423, 429, 5xx except 501   TRANSIENT        retry: LinkedIn has a fault, or limits our requests
    everything else                      UNEXPECTED       defer: no element is the reason, and a retry does not help

LinkedIn refuses elements of a batch in one of three forms: 200 with a status per element; 4xx with a message that names
elements (`Index: 3, ERROR :: …` or `indices [3] (0-indexed)`); 4xx that names none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.operations import DELIVERED, Outcome, Outcomes, deferred, rejected


class StatusClass(Enum):
    """The class of an HTTP status; see the table above."""

    SUCCESS = auto()
    REFUSED = auto()
    TOO_LARGE = auto()
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    VERSION_RETIRED = auto()
    TRANSIENT = auto()
    UNEXPECTED = auto()


_STATUS_CLASSES = {
    400: StatusClass.REFUSED,
    401: StatusClass.UNAUTHORIZED,
    403: StatusClass.FORBIDDEN,
    404: StatusClass.NOT_FOUND,
    408: StatusClass.TRANSIENT,
    409: StatusClass.TRANSIENT,
    413: StatusClass.TOO_LARGE,
    422: StatusClass.REFUSED,
    423: StatusClass.TRANSIENT,
    426: StatusClass.VERSION_RETIRED,
    429: StatusClass.TRANSIENT,
    501: StatusClass.UNEXPECTED,
}


def classify_status(status: int) -> StatusClass:
    """Return the class of an HTTP status."""
    if status in _STATUS_CLASSES:
        return _STATUS_CLASSES[status]
    if 200 <= status < 300:
        return StatusClass.SUCCESS
    return StatusClass.TRANSIENT if 500 <= status < 600 else StatusClass.UNEXPECTED


def is_segment_limit(response: Response) -> bool:
    """Return whether this 429 means that the account has the greatest number of segments, so that no retry helps.

    The other 429s look alike: the limit per minute, the daily limit (until 00:00 UTC) and LinkedIn's protection from
    overload. They differ only in how long they last.
    """
    return response.status == 429 and _text_field(response.json, "code") == "SEGMENT_LIMIT_EXCEEDED"


MAX_RETRY_AFTER = 7 * 86400.0
"""The longest `Retry-After` that is kept, in seconds: a wrong value must not block a destination without end."""


def parse_retry_after(response: Response, now: datetime | None = None) -> float | None:
    """Return the seconds in `Retry-After`, which may be a number or a date; None without a valid one."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):  # The standard says whole seconds; some servers send fractions.
        return min(float(value), MAX_RETRY_AFTER)
    moment = _parse_http_date(value)
    if moment is None:
        return None
    # Prefer LinkedIn's clock, in the header `Date`: the clock of this machine may be wrong.
    now = now or _parse_http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (moment - now).total_seconds()), MAX_RETRY_AFTER)


def _parse_http_date(text: str) -> datetime | None:
    """Return the moment of an HTTP date; None if the text is no date."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_EMAIL = re.compile(r"[^\s<>()\[\]\"',;:]+(?:@|%40)[^\s<>()\[\]\"',;:]+", re.IGNORECASE)
_OPAQUE = re.compile(r"[\w+=-]{32,}")
"""Hashes, device ids and tokens: no word of a sentence is as long."""


def sanitise_message(message: str, values: Sequence[str] = ()) -> str:
    """Return a message without e-mail addresses, hashes, tokens and `values`, in one line of at most 200 characters."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        # A short value, such as a country, may occur inside a word; that discloses nothing.
        pattern = re.escape(value) if len(value) > 5 else rf"(?<!\w){re.escape(value)}(?!\w)"
        message = re.sub(pattern, "…", message, flags=re.IGNORECASE)
    message = _OPAQUE.sub("…", _EMAIL.sub("…", message))
    message = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    return message if len(message) <= 200 else message[:199] + "…"


def describe_response(response: Response) -> str:
    """Return status, code and sanitised message in one line, with the request id that LinkedIn's support asks for."""
    code, message = _text_field(response.json, "code"), _text_field(response.json, "message")
    if response.json is None and response.text:
        message = "the answer is not JSON"
    line = sanitise_message(": ".join(part for part in (code, message) if part))
    request_id = response.headers.get("x-li-uuid") or response.headers.get("x-li-request-id")
    line = f"HTTP {response.status}" + (f" {line}" if line else "")
    return line + (f" [LinkedIn request {request_id[:64]}]" if request_id else "")


def _text_field(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class AllAnswered:
    """The answer contains the outcome of every element, in order."""

    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class NamedRefusal:
    """LinkedIn has applied nothing and names the invalid elements; the others may be sent again.

    Attributes:
        outcomes: The outcomes of the invalid elements, by position.
    """

    outcomes: dict[int, Outcome]


@dataclass(frozen=True, slots=True)
class UnnamedRefusal:
    """LinkedIn has applied nothing and does not say which element is invalid.

    Attributes:
        single_outcome: The outcome of the element if the batch has only one.
    """

    single_outcome: Outcome


BatchResult = AllAnswered | NamedRefusal | UnnamedRefusal

GetValues = Callable[[int], Sequence[str]]
"""Returns the personal values of the element at a position, which no message may contain."""


def parse_batch_response(response: Response, size: int, values: GetValues) -> BatchResult:
    """Return what the answer to a batch means for its elements. No element is rejected unless the answer says so.

    Args:
        response: The answer.
        size: Number of elements in the batch.
        values: Returns the personal values of an element; called for refused elements only.
    """
    status_class = classify_status(response.status)
    if status_class is StatusClass.SUCCESS:
        return AllAnswered(_parse_outcomes(response.json, size, values))
    message = _text_field(response.json, "message")
    if status_class is StatusClass.REFUSED:
        named = _named_positions(message, size)
        if named:
            return NamedRefusal(
                {at: _rejected_outcome(response.status, response.json, values(at), text) for at, text in named.items()}
            )
        known_values = values(0) if size == 1 else ()
        return UnnamedRefusal(_rejected_outcome(response.status, response.json, known_values, message))
    if status_class is StatusClass.TOO_LARGE:
        return UnnamedRefusal(
            deferred("http_413", "A server between this worker and LinkedIn accepts no request of this size")
        )
    return AllAnswered(Outcomes([(_deferred_outcome(response.status), size)]))


def _parse_outcomes(body: Any, size: int, values: GetValues) -> Outcomes:
    answers = body.get("elements") if isinstance(body, Mapping) else None
    if not isinstance(answers, list) or len(answers) > size:
        return _malformed_outcomes(size)
    # The most frequent answer is equal for all elements; the fast path saves the loop.
    if answers and _is_plain_success(answers[0]) and answers.count(answers[0]) == size:
        return Outcomes([(DELIVERED, size)])
    if not _has_matching_positions(answers):
        return _malformed_outcomes(size)
    outcomes = [_element_outcome(answer, at, values) for at, answer in enumerate(answers)]
    missing = deferred("missing_answer", "LinkedIn's answer has fewer elements than the request")
    return Outcomes.from_outcomes(outcomes + [missing] * (size - len(outcomes)))


def _malformed_outcomes(size: int) -> Outcomes:
    return Outcomes([(deferred("malformed_answer", "LinkedIn's answer does not match the request"), size)])


def _is_plain_success(answer: Any) -> bool:
    return (
        isinstance(answer, Mapping)
        and answer.keys() == {"status"}
        and type(answer["status"]) is int
        and classify_status(answer["status"]) is StatusClass.SUCCESS
    )


def _has_matching_positions(answers: list[Any]) -> bool:
    """Return whether no answer states a position other than its own.

    Rest.li pairs answers with elements by array index. According to LinkedIn, errors also contain a `batchIndex` since
    202502; no source shows where. If the two disagree, it is unknown which element is meant.
    """
    for at, answer in enumerate(answers):
        error = answer.get("error") if isinstance(answer, Mapping) else None
        details = error.get("errorDetails") if isinstance(error, Mapping) else None
        for part in (answer, error, details):
            stated = part.get("batchIndex") if isinstance(part, Mapping) else None
            if isinstance(stated, int) and stated != at:
                return False
    return True


def _element_outcome(answer: Any, at: int, values: GetValues) -> Outcome:
    status = answer.get("status") if isinstance(answer, Mapping) else None
    if not isinstance(status, int) or isinstance(status, bool):
        return deferred("malformed_answer", "LinkedIn's answer for this element has no status")
    status_class = classify_status(status)
    if status_class is StatusClass.SUCCESS:
        return DELIVERED
    if status_class is StatusClass.REFUSED:
        error = answer.get("error")
        error = error if isinstance(error, Mapping) else answer
        return _rejected_outcome(status, error, values(at), _text_field(error, "message"))
    return _deferred_outcome(status)


def _rejected_outcome(status: int, body: Any, values: Sequence[str], message: str) -> Outcome:
    code = _text_field(body, "code")
    reason = code.lower() if re.fullmatch(r"[A-Z][A-Z_]{2,47}", code) else f"http_{status}"
    return rejected(reason, f"refused by LinkedIn: {sanitise_message(message, values) or 'no message'}")


def _deferred_outcome(status: int) -> Outcome:
    return deferred(f"http_{status}", f"LinkedIn answered HTTP {status}")


_INDEX = re.compile(r"\bIndex:\s*(\d{1,9})\b[,\s]*(.*?)(?=\bIndex:\s*\d|\Z)", re.DOTALL)
_INDICES = re.compile(r"\bindices\s*\[([\d,\s]+)\]")


def _named_positions(message: str, size: int) -> dict[int, str]:
    """Return the positions below `size` that a refusal names, each with its message."""
    named: dict[int, str] = {}
    for position, text in _INDEX.findall(message):
        named.setdefault(int(position), text)
    for positions in _INDICES.findall(message):
        for position in positions.replace(",", " ").split():
            named.setdefault(int(position), message)
    return {position: text for position, text in sorted(named.items()) if position < size}
