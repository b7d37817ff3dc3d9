"""For any invalid elements and forms of refusal: one outcome per element, in order; the invalid are rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.bisection import MAX_REQUESTS_PER_BATCH, bisect_batch
from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import BatchResult, parse_batch_response
from warehouse_sync.operations import Outcome, OutcomeStatus

FORMS = ("by element", "Index: n", "indices [n]", "names none")


class Server:
    """Answers batches as LinkedIn may, refusing the positions in `bad`, each time in a form that `choose` picks."""

    def __init__(self, bad: set[int], choose: Callable[[], str]) -> None:
        self.bad = bad
        self.choose = choose
        self.applied: list[int] = []
        self.requests = 0

    def send(self, positions: Sequence[int]) -> BatchResult:
        self.requests += 1
        return parse_batch_response(self._answer(positions), len(positions), lambda at: [f"value {positions[at]}"])

    def _answer(self, positions: Sequence[int]) -> Response:
        refused = [at for at, position in enumerate(positions) if position in self.bad]
        form = self.choose()
        if not refused or form == "by element":
            self.applied += [position for position in positions if position not in self.bad]
            answers = [
                {"status": 400, "error": {"message": "no"}} if position in self.bad else {"status": 201}
                for position in positions
            ]
            return Response(200, {}, {"elements": answers})
        if form == "Index: n":
            return Response(422, {}, {"message": "".join(f"Index: {at}, ERROR :: bad\n" for at in refused)})
        if form == "indices [n]":
            return Response(400, {}, {"message": f"Wrong, indices [{', '.join(map(str, refused))}] (0-indexed)"})
        return Response(400, {}, {"message": "Bad request"})


def _statuses(outcomes: Iterable[Outcome]) -> list[OutcomeStatus]:
    return [outcome.status for outcome in outcomes]


@given(st.data(), st.integers(0, 60))
def test_exactly_the_invalid_elements_are_rejected_in_each_form_of_refusal(data: st.DataObject, size: int) -> None:
    bad = data.draw(st.sets(st.integers(0, max(0, size - 1)))) if size else set()
    server = Server(bad, lambda: data.draw(st.sampled_from(FORMS)))
    outcomes = bisect_batch(size, server.send)
    assert _statuses(outcomes) == [
        OutcomeStatus.REJECTED if position in bad else OutcomeStatus.DELIVERED for position in range(size)
    ]
    assert sorted(server.applied) == sorted(set(range(size)) - bad)


@given(st.integers(1, 40), st.integers(0, 12), st.sets(st.integers(0, 39)))
def test_without_an_answer_known_outcomes_stay_and_the_rest_is_deferred(size: int, answers: int, bad: set[int]) -> None:
    server = Server({position for position in bad if position < size}, lambda: "names none")

    def send(positions: Sequence[int]) -> BatchResult:
        if server.requests >= answers:
            raise TransientError("http_503", "LinkedIn answered with an error")
        return server.send(positions)

    outcomes = bisect_batch(size, send)
    assert len(outcomes) == size
    for position, outcome in enumerate(outcomes):
        if outcome.status is OutcomeStatus.DELIVERED:
            assert position in server.applied
        elif outcome.status is OutcomeStatus.REJECTED:
            assert position in server.bad
        else:
            assert outcome.reason == "http_503"
            assert position not in server.applied


@given(st.integers(1, 5000))
def test_if_an_empty_batch_is_refused_no_element_is_rejected_after_two_requests(size: int) -> None:
    requests = []

    def send(positions: Sequence[int]) -> BatchResult:
        requests.append(len(positions))
        refusal = Response(400, {}, {"message": "A segment of type COMPANY does not take users"})
        return parse_batch_response(refusal, len(positions), lambda _: ["x"])

    outcomes = bisect_batch(size, send)
    assert requests == [size, 0]
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.DEFERRED}
    assert {outcome.reason for outcome in outcomes} == {"http_400"}
    assert "does not take users" in next(iter(outcomes)).message


def test_one_unnamed_invalid_element_among_5000_is_found_in_few_requests() -> None:
    server = Server({3777}, lambda: "names none")
    outcomes = bisect_batch(5000, server.send)
    assert [position for position, outcome in enumerate(outcomes) if outcome.status is OutcomeStatus.REJECTED] == [3777]
    assert server.requests <= 2 + 2 * 13


def test_a_batch_of_mostly_invalid_elements_ends_and_keeps_known_outcomes() -> None:
    server = Server(set(range(0, 5000, 2)), lambda: "names none")
    outcomes = bisect_batch(5000, server.send)
    assert server.requests <= MAX_REQUESTS_PER_BATCH + 1
    counts = {status: _statuses(outcomes).count(status) for status in OutcomeStatus}
    assert counts[OutcomeStatus.REJECTED] > 100
    assert counts[OutcomeStatus.DELIVERED] > 100
    assert {outcome.reason for outcome in outcomes if outcome.status is OutcomeStatus.DEFERRED} == {"too_many_refusals"}


def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    sizes = []

    def send(positions: Sequence[int]) -> BatchResult:
        sizes.append(len(positions))
        fits = len(positions) <= 3
        response = Response(200, {}, {"elements": [{"status": 201}] * len(positions)}) if fits else Response(413, {})
        return parse_batch_response(response, len(positions), lambda _: ["x"])

    assert set(_statuses(bisect_batch(10, send))) == {OutcomeStatus.DELIVERED}
    assert 0 not in sizes
