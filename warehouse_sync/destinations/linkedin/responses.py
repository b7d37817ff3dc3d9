"""What an answer of LinkedIn means. Pure.

    status                               what happens next
    2xx                                  ANSWERED   read the body
    400, 422                             REFUSED    something in the request will never be taken
    413                                  TOO_LARGE  the same in smaller requests
    401                                  RENEW      the access token
    403                                  FORBIDDEN  the operator must grant something
    404                                  NOT_FOUND  wait, if the audience is new
    426                                  VERSION    the operator must choose another API version
    408, 409, 423, 429, 5xx but 501      RETRY      LinkedIn has trouble, or wants us slower
    everything else                      UNEXPECTED neither the elements' fault nor one that repeating mends

A batch that is refused comes back in one of three forms: 200 with a status per element; 4xx with a message that names
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
    """What happens after an answer; the table stands above."""

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
    """The table above, for any status."""
    if status in _STATUS_CLASSES:
        return _STATUS_CLASSES[status]
    if 200 <= status < 300:
        return StatusClass.SUCCESS
    return StatusClass.TRANSIENT if 500 <= status < 600 else StatusClass.UNEXPECTED


def is_segment_limit(response: Response) -> bool:
    """Whether this 429 means that the account is full: no waiting mends it.

    Of the other 429s the minute limit, the daily quota (until 00:00 UTC) and LinkedIn protecting itself read alike;
    only how long they last tells them apart.
    """
    return response.status == 429 and _text_field(response.json, "code") == "SEGMENT_LIMIT_EXCEEDED"


MAX_RETRY_AFTER = 7 * 86400.0
"""Seconds of a `Retry-After` that are heeded: a slip of a server must not shut a destination for ever."""


def parse_retry_after(response: Response, now: datetime | None = None) -> float | None:
    """Seconds that LinkedIn wants us to wait, from either form of `Retry-After`; None when it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):  # Whole seconds by the standard; not every server keeps to it.
        return min(float(value), MAX_RETRY_AFTER)
    moment = _parse_http_date(value)
    if moment is None:
        return None
    # LinkedIn's own clock where it tells it: this machine's may be wrong.
    now = now or _parse_http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (moment - now).total_seconds()), MAX_RETRY_AFTER)


def _parse_http_date(text: str) -> datetime | None:
    """A date as HTTP writes it."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_EMAIL = re.compile(r"[^\s<>()\[\]\"',;:]+(?:@|%40)[^\s<>()\[\]\"',;:]+", re.IGNORECASE)
_OPAQUE = re.compile(r"[\w+=-]{32,}")
"""Hashes, device ids and tokens: nothing that a sentence holds is as long without a break."""


def sanitise_message(message: str, values: Sequence[str] = ()) -> str:
    """A message of LinkedIn, fit for logs: no address, hash, token or one of `values`; one line of 200 characters."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        # A short value (a country) may be part of a word, which is not its disclosure.
        pattern = re.escape(value) if len(value) > 5 else rf"(?<!\w){re.escape(value)}(?!\w)"
        message = re.sub(pattern, "…", message, flags=re.IGNORECASE)
    message = _OPAQUE.sub("…", _EMAIL.sub("…", message))
    message = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    return message if len(message) <= 200 else message[:199] + "…"


def describe_response(response: Response) -> str:
    """Status, code and message of an answer on one line, cleaned, with the id that LinkedIn's support asks for."""
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
    """The answer tells the outcome of every element, in order."""

    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class NamedRefusal:
    """Nothing was applied; these elements (by position) are at fault, the others may be sent again."""

    outcomes: dict[int, Outcome]


@dataclass(frozen=True, slots=True)
class UnnamedRefusal:
    """Nothing was applied; some element is at fault and the answer does not say which.

    `alone`: the outcome of an element that gets this answer without company.
    """

    single_outcome: Outcome


BatchResult = AllAnswered | NamedRefusal | UnnamedRefusal

GetValues = Callable[[int], Sequence[str]]
"""What the element at a position says of somebody: never to be told."""


def parse_batch_response(response: Response, size: int, values: GetValues) -> BatchResult:
    """What the answer to a batch of `size` elements means for each; never a REJECTED that it does not state.

    values: asked only for what is refused.
    """
    following = classify_status(response.status)
    if following is StatusClass.SUCCESS:
        return AllAnswered(_parse_outcomes(response.json, size, values))
    message = _text_field(response.json, "message")
    if following is StatusClass.REFUSED:
        named = _named_positions(message, size)
        if named:
            return NamedRefusal(
                {at: _rejected_outcome(response.status, response.json, values(at), text) for at, text in named.items()}
            )
        alone = values(0) if size == 1 else ()
        return UnnamedRefusal(_rejected_outcome(response.status, response.json, alone, message))
    if following is StatusClass.TOO_LARGE:
        return UnnamedRefusal(deferred("http_413", "Something between here and LinkedIn takes no request of this size"))
    return AllAnswered(Outcomes([(_deferred_outcome(response.status), size)]))


def _parse_outcomes(body: Any, size: int, values: GetValues) -> Outcomes:
    answers = body.get("elements") if isinstance(body, Mapping) else None
    if not isinstance(answers, list) or len(answers) > size:
        return _malformed_outcomes(size)
    # The usual answer, which is the same for all, is not worth a look at each.
    if answers and _is_plain_success(answers[0]) and answers.count(answers[0]) == size:
        return Outcomes([(DELIVERED, size)])
    if not _has_matching_positions(answers):
        return _malformed_outcomes(size)
    told = [_element_outcome(answer, at, values) for at, answer in enumerate(answers)]
    missing = deferred("missing_answer", "LinkedIn's answer is shorter than what was asked")
    return Outcomes.from_outcomes(told + [missing] * (size - len(told)))


def _malformed_outcomes(size: int) -> Outcomes:
    return Outcomes([(deferred("malformed_answer", "LinkedIn's answer does not fit what was asked"), size)])


def _is_plain_success(answer: Any) -> bool:
    return (
        isinstance(answer, Mapping)
        and answer.keys() == {"status"}
        and type(answer["status"]) is int
        and classify_status(answer["status"]) is StatusClass.SUCCESS
    )


def _has_matching_positions(answers: list[Any]) -> bool:
    """Whether no answer claims another position than its own.

    Rest.li pairs answers by array index; since 202502 a `batchIndex` is said to come with errors, at a place that no
    source shows. Where the two disagree, nobody knows which element is meant.
    """
    for at, answer in enumerate(answers):
        error = answer.get("error") if isinstance(answer, Mapping) else None
        details = error.get("errorDetails") if isinstance(error, Mapping) else None
        for place in (answer, error, details):
            claimed = place.get("batchIndex") if isinstance(place, Mapping) else None
            if isinstance(claimed, int) and claimed != at:
                return False
    return True


def _element_outcome(answer: Any, at: int, values: GetValues) -> Outcome:
    status = answer.get("status") if isinstance(answer, Mapping) else None
    if not isinstance(status, int) or isinstance(status, bool):
        return deferred("malformed_answer", "LinkedIn's answer for this element has no status")
    following = classify_status(status)
    if following is StatusClass.SUCCESS:
        return DELIVERED
    if following is StatusClass.REFUSED:
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
    """Positions below `size` that a refusal names, each with what it says about it."""
    named: dict[int, str] = {}
    for position, text in _INDEX.findall(message):
        named.setdefault(int(position), text)
    for positions in _INDICES.findall(message):
        for position in positions.replace(",", " ").split():
            named.setdefault(int(position), message)
    return {position: text for position, text in sorted(named.items()) if position < size}
