"""Malformed answers about segments lead to an error that says what to do, never to a wrong id."""

from __future__ import annotations

from typing import Any, cast

import pytest

from warehouse_sync.destinations.base import AudienceSpec
from warehouse_sync.destinations.linkedin.api import Api
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.errors import PermanentError, TransientError
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.segments import Segments

SPEC = AudienceSpec("user", "Customers", None, None, "ours")
OURS = {
    "id": 10804,
    "name": "Customers",
    "type": "USER",
    "account": "urn:li:sponsoredAccount:1",
    "sourcePlatform": "DIRECT_API",
    "sourceSegmentId": "ours",
    "created": 1634519022000,
    "destinations": [{"destination": "LINKEDIN", "status": "READY", "audienceSize": 5, "matchedCount": 2}],
    "inputCount": 9,
}
Answer = Response | TransientError


class Script:
    """Answers calls from a list, and records the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str]]] = []

    def send(self, method: str, path: str, *, query: dict[str, str] | None = None, **_: Any) -> Response:
        self.requests.append((method, query or {}))
        answer = self.answers.pop(0)
        if isinstance(answer, TransientError):
            raise answer
        return answer


class Instant:
    """A permit whose waits take no time."""

    def __init__(self, *, is_ended: bool = False) -> None:
        self._is_ended = is_ended

    def wait(self, seconds: float) -> bool:
        return self._is_ended

    def is_valid(self) -> bool:
        return not self._is_ended


def segments(script: Script, *, is_ended: bool = False, **settings: Any) -> Segments:
    own = LinkedInSettings(account_id=1, **{"attempts": 3, "backoff_initial": 0.001, **settings})
    return Segments(cast("Api", script), own, Instant(is_ended=is_ended))


def page(*elements: Any, **paging: int) -> Response:
    return Response(200, {}, {"elements": list(elements), **({"paging": paging} if paging else {})})


def test_an_audience_is_described_from_its_destination() -> None:
    found = segments(Script(Response(200, {}, OURS))).get("10804")
    assert found is not None
    audience = found.audience
    assert (audience.id, audience.type, audience.status) == ("10804", "user", "READY")
    assert (audience.size, audience.matched, audience.input_count) == (5, 2, 9)
    assert found.created_at == 1634519022


def test_numbers_that_are_absent_stay_unknown() -> None:
    found = segments(Script(Response(200, {}, {"id": 1, "type": "USER_LIST_UPLOAD", "account": "x"}))).get("1")
    assert found is not None
    assert found.audience.type == "user_list_upload"
    assert (found.audience.status, found.audience.size, found.created_at) == (None, None, None)


@pytest.mark.parametrize(
    "body", [[], "x", {}, OURS | {"id": "10804"}, OURS | {"id": True}, OURS | {"type": None}, OURS | {"account": 1}]
)
def test_an_incomplete_description_is_no_segment(body: Any) -> None:
    with pytest.raises(TransientError, match="has no id"):
        segments(Script(Response(200, {}, body))).get("10804")
    assert segments(Script(page(body))).find("ours") is None


@pytest.mark.parametrize(
    "change",
    [
        {"sourceSegmentId": "ours too"},
        {"sourceSegmentId": None},
        {"account": "urn:li:sponsoredAccount:2"},
        {"sourcePlatform": "SEGMENT"},
    ],
)
def test_other_segments_in_the_answer_of_a_finder_are_ignored(change: dict[str, Any]) -> None:
    assert segments(Script(page(OURS | change, total=1))).find("ours") is None
    found = segments(Script(page(OURS | change, OURS | {"id": 10805}, total=2))).find("ours")
    assert found is not None
    assert found.audience.id == "10805"


def test_pages_are_read_up_to_the_total_even_if_they_are_short() -> None:
    script = Script(page(OURS | {"id": 3}, total=3), page(OURS | {"id": 1}, total=3), page(OURS | {"id": 2}, total=3))
    found = segments(script).find("ours")
    assert found is not None
    assert found.audience.id == "1"
    assert [query["start"] for _, query in script.requests] == ["0", "1", "2"]
    assert {query["count"] for _, query in script.requests} == {"100"}


def test_an_empty_page_ends_the_list_whatever_the_total_says() -> None:
    assert segments(Script(page(total=7))).find("ours") is None
    assert segments(Script(page())).find("ours") is None


def test_a_finder_that_repeats_a_page_is_asked_only_once_more() -> None:
    """The list ends where a page repeats, whatever the total says."""
    script = Script(page(OURS, total=9), page(OURS, total=9))
    found = segments(script).find("ours")
    assert found is not None
    assert len(script.requests) == 2


@pytest.mark.parametrize("places", [5, True, 1.5, "LINKEDIN", {"destination": "LINKEDIN"}, [5, None, []], None])
def test_a_segment_with_malformed_destinations_has_no_status(places: Any) -> None:
    """A value that does not have the form of the contract is unknown."""
    found = segments(Script(Response(200, {}, OURS | {"destinations": places}))).get("10804")
    assert found is not None
    assert (found.audience.status, found.audience.size) == (None, None)


def test_find_in_list_reads_all_segments_of_the_account() -> None:
    """The request contains no name, and all pages are read."""
    script = Script(page(OURS | {"id": 1}, total=2), page(OURS | {"id": 7, "sourceSegmentId": None}, total=2))
    found = segments(script).find_in_list("7")
    assert found is not None
    assert found.audience.id == "7"
    assert all("sourceSegmentId" not in query for _, query in script.requests)
    assert segments(Script(page(OURS, total=1))).find_in_list("7") is None


@pytest.mark.parametrize(
    ("answer", "ending", "words"),
    [
        (
            Response(400, {}, {"message": "bad account"}),
            PermanentError,
            r"bad account.*destinations\.<name>\.account_id",
        ),
        (Response(404, {}), PermanentError, "rw_dmp_segments"),
        (Response(412, {}), TransientError, "HTTP 412"),
        (Response(200, {}, {"elements": None}), TransientError, "has no elements"),
        (Response(200, {}, []), TransientError, "has no elements"),
    ],
)
def test_a_finder_that_does_not_answer_as_expected(answer: Response, ending: type[Exception], words: str) -> None:
    with pytest.raises(ending, match=words):
        segments(Script(answer)).find("ours")


@pytest.mark.parametrize(("status", "ending"), [(400, PermanentError), (412, TransientError)])
def test_a_get_that_does_not_answer_as_expected(status: int, ending: type[Exception]) -> None:
    with pytest.raises(ending):
        segments(Script(Response(status, {}))).get("7")


@pytest.mark.parametrize(
    ("answer", "ending"),
    [(Response(404, {}), PermanentError), (Response(422, {}), PermanentError), (Response(412, {}), TransientError)],
)
def test_a_create_that_does_not_answer_as_expected(answer: Response, ending: type[Exception]) -> None:
    with pytest.raises(ending):
        segments(Script(page(), answer), attempts=1).create(SPEC)


@pytest.mark.parametrize("headers", [{}, {"x-restli-id": "urn:li:dmpSegment:7"}])
def test_after_a_create_without_an_id_the_segment_is_searched_for(headers: dict[str, str]) -> None:
    script = Script(page(), Response(201, headers), page(), page(OURS))
    found, created = segments(script).create(SPEC)
    assert (found.audience.id, created) == ("10804", True)
    assert [method for method, _ in script.requests] == ["GET", "POST", "GET", "GET"]


def test_a_create_that_was_not_applied_is_repeated_without_a_search_delay() -> None:
    throttled = TransientError("throttled", "slower")
    script = Script(page(), throttled, page(), Response(201, {"x-linkedin-id": "7"}))
    found, created = segments(script).create(SPEC)
    assert (found.audience.id, created) == ("7", True)
    assert [method for method, _ in script.requests] == ["GET", "POST", "GET", "POST"]


def test_a_create_fails_after_its_attempts_or_its_timeout() -> None:
    silence = TransientError("timeout", "silence", may_be_applied=True)
    round_trip: list[Answer] = [page(), silence, page(), page(), page()]
    script = Script(*round_trip * 3)
    with pytest.raises(TransientError, match="silence"):
        segments(script).create(SPEC)
    assert script.answers == []
    throttled = TransientError("throttled", "later", retry_after=3600)
    with pytest.raises(TransientError, match="later"):
        segments(Script(page(), throttled)).create(SPEC)


def test_a_worker_that_is_stopped_while_it_waits_for_a_new_audience_says_so() -> None:
    script = Script(page(), Response(201, {"x-restli-id": "7"}))
    with pytest.raises(TransientError) as caught:
        segments(script, is_ended=True).create(SPEC)
    assert caught.value.reason == "stopped"
