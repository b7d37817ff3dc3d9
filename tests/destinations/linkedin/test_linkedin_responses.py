"""What LinkedIn's answers mean, for every status and every form of answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import (
    AllAnswered,
    BatchResult,
    NamedRefusal,
    StatusClass,
    UnnamedRefusal,
    classify_status,
    describe_response,
    is_segment_limit,
    parse_batch_response,
    parse_retry_after,
    sanitise_message,
)
from warehouse_sync.operations import DELIVERED, Outcome, Outcomes, OutcomeStatus

HASH = hashlib.sha256(b"ann@example.com").hexdigest()
VALUES = ["a-value", "b-value", "c-value"]


def parse(response: Response, size: int = 3) -> BatchResult:
    """Return the result for three sent elements, each with one of the values."""
    return parse_batch_response(response, size, lambda at: [VALUES[at]])


CONTRACT = {
    200: StatusClass.SUCCESS,
    201: StatusClass.SUCCESS,
    204: StatusClass.SUCCESS,
    302: StatusClass.UNEXPECTED,
    400: StatusClass.REFUSED,
    401: StatusClass.UNAUTHORIZED,
    403: StatusClass.FORBIDDEN,
    404: StatusClass.NOT_FOUND,
    405: StatusClass.UNEXPECTED,
    408: StatusClass.TRANSIENT,
    409: StatusClass.TRANSIENT,
    411: StatusClass.UNEXPECTED,
    412: StatusClass.UNEXPECTED,
    413: StatusClass.TOO_LARGE,
    415: StatusClass.UNEXPECTED,
    422: StatusClass.REFUSED,
    423: StatusClass.TRANSIENT,
    426: StatusClass.VERSION_RETIRED,
    429: StatusClass.TRANSIENT,
    500: StatusClass.TRANSIENT,
    501: StatusClass.UNEXPECTED,
    502: StatusClass.TRANSIENT,
    503: StatusClass.TRANSIENT,
    504: StatusClass.TRANSIENT,
}


def answer(status: int, json: Any = None, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, json)


def statuses(outcomes: Iterable[Outcome]) -> list[str]:
    return [outcome.status.value for outcome in outcomes]


@pytest.mark.parametrize(("status", "following"), CONTRACT.items())
def test_each_status_has_the_class_of_the_contract(status: int, following: StatusClass) -> None:
    assert classify_status(status) is following


@given(st.integers(100, 999))
def test_every_status_has_a_class_and_only_400_and_422_can_reject(status: int) -> None:
    result = parse(answer(status, {"message": "no"}))
    if classify_status(status) is StatusClass.REFUSED:
        assert status in (400, 422)
        assert isinstance(result, UnnamedRefusal)
        assert result.single_outcome.status is OutcomeStatus.REJECTED
    elif isinstance(result, UnnamedRefusal):
        assert result.single_outcome.status is OutcomeStatus.DEFERRED
    else:
        assert isinstance(result, AllAnswered)
        assert statuses(result.outcomes) == ["deferred"] * 3


@given(st.integers(100, 999))
def test_a_status_of_an_element_means_what_it_means_for_a_request(status: int) -> None:
    result = parse(answer(200, {"elements": [{"status": status}] * 3}))
    assert isinstance(result, AllAnswered)
    expected = {StatusClass.SUCCESS: "delivered", StatusClass.REFUSED: "rejected"}.get(
        classify_status(status), "deferred"
    )
    assert statuses(result.outcomes) == [expected] * 3


def test_statuses_by_element_are_outcomes_in_order_with_their_reasons() -> None:
    refusal = {"status": 400, "error": {"status": 400, "code": "INVALID_VALUE_FOR_FIELD", "message": "Invalid urn"}}
    result = parse(answer(200, {"elements": [{"status": 201}, refusal, {"status": 503}]}))
    assert isinstance(result, AllAnswered)
    assert statuses(result.outcomes) == ["delivered", "rejected", "deferred"]
    assert list(result.outcomes)[1].reason == "invalid_value_for_field"
    assert "Invalid urn" in list(result.outcomes)[1].message
    assert list(result.outcomes)[2].reason == "http_503"


@pytest.mark.parametrize("status", [200, 201])
def test_an_answer_that_says_the_same_of_all_is_one_run(status: int) -> None:
    result = parse(answer(200, {"elements": [{"status": status}] * 3}))
    assert result == AllAnswered(Outcomes([(DELIVERED, 3)]))


def test_a_shorter_answer_defers_what_is_missing() -> None:
    result = parse(answer(200, {"elements": [{"status": 201}]}))
    assert isinstance(result, AllAnswered)
    assert statuses(result.outcomes) == ["delivered", "deferred", "deferred"]
    assert {outcome.reason for outcome in list(result.outcomes)[1:]} == {"missing_answer"}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "fine",
        {},
        {"elements": None},
        {"elements": {"0": {"status": 201}}},
        {"elements": [{"status": 201}] * 4},
        {"elements": [{"status": 201}, {"status": 201}, {"status": 400, "error": {"batchIndex": 0}}]},
        {"elements": [{"status": 201}, {"status": 400, "batchIndex": 2}, {"status": 201}]},
    ],
)
def test_an_answer_that_does_not_match_the_request_defers_all(body: Any) -> None:
    result = parse(answer(200, body))
    assert isinstance(result, AllAnswered)
    assert {outcome.reason for outcome in result.outcomes} == {"malformed_answer"}
    assert statuses(result.outcomes) == ["deferred"] * 3


@pytest.mark.parametrize("element", [None, 201, "201", [], {}, {"status": "201"}, {"status": True}, {"status": None}])
def test_an_element_without_a_status_is_deferred_alone(element: Any) -> None:
    result = parse(answer(200, {"elements": [{"status": 201}, element, {"status": 201}]}))
    assert isinstance(result, AllAnswered)
    assert statuses(result.outcomes) == ["delivered", "deferred", "delivered"]


def test_a_batch_index_that_matches_its_position_changes_nothing() -> None:
    refusal = {"status": 400, "error": {"status": 400, "errorDetails": {"batchIndex": 2}, "message": "no"}}
    result = parse(answer(200, {"elements": [{"status": 201}, {"status": 201}, refusal]}))
    assert isinstance(result, AllAnswered)
    assert list(result.outcomes)[:2] == [DELIVERED, DELIVERED]
    assert list(result.outcomes)[2].status is OutcomeStatus.REJECTED


def test_a_422_that_names_elements_by_index_refuses_each_with_its_own_message() -> None:
    message = (
        "Index: 0, ERROR :: /action :: field is required but not found and has no default value\n"
        "ERROR :: /x :: second\nIndex: 2, ERROR :: /userIds :: is bad\n"
    )
    result = parse(answer(422, {"status": 422, "message": message}))
    assert isinstance(result, NamedRefusal)
    assert list(result.outcomes) == [0, 2]
    assert "/action :: field is required" in result.outcomes[0].message
    assert "second" in result.outcomes[0].message
    assert "/userIds :: is bad" in result.outcomes[2].message
    assert "/action" not in result.outcomes[2].message


def test_a_400_that_lists_indices_refuses_those() -> None:
    message = "Incorrect conversions information provided. Bad, indices [0, 2] (0-indexed)"
    result = parse(answer(400, {"message": message}))
    assert isinstance(result, NamedRefusal)
    assert list(result.outcomes) == [0, 2]
    assert all(outcome.status is OutcomeStatus.REJECTED for outcome in result.outcomes.values())


@pytest.mark.parametrize("message", ["Bad request", "Index: 3, beyond", "indices [17] (0-indexed)", "", "Index: x"])
def test_a_refusal_that_names_no_sent_element_is_unnamed(message: str) -> None:
    assert isinstance(parse(answer(400, {"message": message})), UnnamedRefusal)


def test_a_request_that_is_too_large_rejects_no_element() -> None:
    result = parse(answer(413), 1)
    assert isinstance(result, UnnamedRefusal)
    assert result.single_outcome.status is OutcomeStatus.DEFERRED


def test_only_the_code_distinguishes_a_full_account_from_other_429s() -> None:
    throttle = {"serviceErrorCode": 101, "message": "Resource level throttle limit …", "status": 429}
    assert not is_segment_limit(answer(429, throttle))
    assert not is_segment_limit(answer(429))
    assert not is_segment_limit(answer(400, {"code": "SEGMENT_LIMIT_EXCEEDED"}))
    assert is_segment_limit(answer(429, {"code": "SEGMENT_LIMIT_EXCEEDED", "status": 429}))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Sun, 22 Nov 2026 00:01:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 00:01:00 -0000", 60.0),
        ("Sat, 21 Nov 2026 23:59:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-3", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert parse_retry_after(answer(429, None, retry_after=header), now) == seconds


@given(
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.integers(0).map(str)
    | st.floats(0).map(str)
    | st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
)
def test_any_retry_after_is_at_most_a_week_or_none(header: str) -> None:
    """A wrong value neither ends a run nor blocks the destination without end."""
    seconds = parse_retry_after(answer(429, None, retry_after=header))
    assert seconds is None or 0 <= seconds <= 7 * 86400


def test_without_a_retry_after_header_there_is_none() -> None:
    assert parse_retry_after(answer(429)) is None


SECRETS = st.sampled_from(
    [
        "ann@example.com",
        "Ann.O'Hara+x@mail.example.co.uk",
        "ann%40example.com",
        HASH,
        HASH.upper(),
        hashlib.sha512(b"x").hexdigest(),
        "38400000-8cf0-11bd-b23e-10b96e40000d",
        "AQXb3Zr_0wS9-Fk1PqLmTnUvWxYz0123456789abcdefABCDEF",
        "Secret Holdings",
    ]
)


@given(st.lists(st.text(max_size=30) | SECRETS, max_size=8), st.sampled_from([" ", ": ", "'", "\n", ", ", '="']))
def test_a_sanitised_message_is_short_and_printable_and_contains_nothing_personal(
    parts: list[str], separator: str
) -> None:
    cleaned = sanitise_message(separator.join(["", *parts, ""]), ("Secret Holdings",))
    assert len(cleaned) <= 200
    assert cleaned.isprintable()
    assert "Secret Holdings" not in cleaned
    assert HASH.lower() not in cleaned.lower()
    assert "example.com" not in cleaned.lower() or "ann" not in cleaned.lower()
    assert "38400000-8cf0" not in cleaned
    assert "AQXb3Zr" not in cleaned


def test_a_refusal_keeps_its_message_without_the_value_that_it_quotes() -> None:
    refusal = {"status": 400, "error": {"status": 400, "message": "Invalid company name: a-value (at /companyName)"}}
    result = parse(answer(200, {"elements": [refusal]}), 1)
    assert isinstance(result, AllAnswered)
    assert "a-value" not in next(iter(result.outcomes)).message
    assert "Invalid company name: … (at /companyName)" in next(iter(result.outcomes)).message


def test_a_short_value_is_removed_as_a_word_but_not_inside_words() -> None:
    assert sanitise_message("US is no country; must be used", ("us",)) == "… is no country; must be used"


def test_a_description_names_status_code_message_and_request() -> None:
    response = answer(403, {"code": "ACCESS_DENIED", "message": "Not enough permissions"}, x_li_uuid="AAYk1")
    assert describe_response(response) == "HTTP 403 ACCESS_DENIED: Not enough permissions [LinkedIn request AAYk1]"
    assert (
        describe_response(Response(502, {}, None, "<html>ann@example.com</html>")) == "HTTP 502 the answer is not JSON"
    )
    assert describe_response(answer(500)) == "HTTP 500"


def test_a_retry_after_date_is_relative_to_linkedins_clock() -> None:
    """If the answer contains LinkedIn's time, the clock of this machine does not matter."""
    headers = {"retry_after": "Sun, 22 Nov 2026 08:10:00 GMT", "date": "Sun, 22 Nov 2026 08:00:00 GMT"}
    assert parse_retry_after(answer(429, None, **headers)) == 600
