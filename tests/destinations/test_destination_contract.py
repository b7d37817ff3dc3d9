"""The protocol of destinations (destinations/base.py), checked for each type against a server.

A further destination joins by a class like `LinkedInBackend` in `BACKENDS`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import TracebackType
from typing import Protocol, Self

import pytest
from harness.worlds.linkedin import batch

from warehouse_sync.destinations.base import UNCONDITIONAL, Audience, AudienceSpec, Destination
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.destinations.linkedin.http import HTTPClient
from warehouse_sync.errors import ConfigurationError, DestinationUnavailable, StopRun
from warehouse_sync.operations import Batch, OperationKind, Outcome, Outcomes, OutcomeStatus
from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings

ADD, REMOVE = OperationKind.ADD, OperationKind.REMOVE
DELIVERED, REJECTED, DEFERRED = OutcomeStatus.DELIVERED, OutcomeStatus.REJECTED, OutcomeStatus.DEFERRED


class Backend(Protocol):
    """A server that plays a destination, with ways to inspect it and to make it fail."""

    audience_type: str
    column: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def open(self) -> Destination:
        """Return a destination whose timeouts are short enough for a test."""
        ...

    def identifier(self, number: int) -> str:
        """Return a value for `column`, different for each number."""
        ...

    def members(self, audience_id: str) -> set[str]:
        """Return the values of `column` in the audience."""
        ...

    def audiences(self) -> int:
        """Return the number of audiences."""
        ...

    def lose_create_answers(self, count: int) -> None:
        """Apply the next creates, but lose their answers."""
        ...

    def go_down(self) -> None:
        """Answer nothing useful from now on."""
        ...

    def come_back(self) -> None:
        """Answer normally again."""
        ...

    def refuse(self, values: set[str], *, by_element: bool) -> None:
        """Refuse elements with these values, each alone or the whole batch."""
        ...

    def withdraw_credentials(self) -> None:
        """Accept our credentials no longer."""
        ...

    def delete_audiences(self) -> None:
        """Delete all audiences."""
        ...


class LinkedInBackend:
    """LinkedIn, played by the sandbox."""

    def __init__(self, audience_type: str) -> None:
        self.audience_type = audience_type
        self.column = "sha256_email" if audience_type == "user" else "company_name"
        self.sandbox = Sandbox(SandboxSettings(ready_after=0.02))

    def __enter__(self) -> Self:
        self.sandbox.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sandbox.stop()

    def open(self) -> LinkedIn:
        settings = self.sandbox.settings
        return LinkedIn(
            LinkedInSettings(
                account_id=min(settings.account_ids),
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                refresh_token=settings.refresh_token,
                api_url=self.sandbox.url,
                oauth_url=self.sandbox.url,
                requests_per_minute=10_000,
                max_in_flight=4,
                wait_after_create=0.05,
                new_audience_timeout=0.2,
                token_propagation=0.02,
                token_timeout=0.2,
                attempts=3,
                backoff_initial=0.01,
                backoff_max=0.03,
                wait_after_429=0.01,
                read_timeout=2.0,
            )
        )

    def identifier(self, number: int) -> str:
        if self.audience_type == "user":
            return hashlib.sha256(f"{number}@example.com".encode()).hexdigest()
        return f"Company {number}"

    def members(self, audience_id: str) -> set[str]:
        return {value for _, value in chain.from_iterable(self.sandbox.members(audience_id))}

    def audiences(self) -> int:
        return len(self.sandbox.segments())

    def lose_create_answers(self, count: int) -> None:
        self.sandbox.inject(Fault("reset_after", on="create", times=count))

    def go_down(self) -> None:
        self.sandbox.inject(Fault("503", times=0))

    def come_back(self) -> None:
        self.sandbox.clear_faults()

    def refuse(self, values: set[str], *, by_element: bool) -> None:
        kind = "refuse_elements" if by_element else "refuse_batch_silent"
        self.sandbox.inject(Fault(kind, times=0, values=frozenset(values)))

    def withdraw_credentials(self) -> None:
        self.sandbox.revoke_access_tokens()
        self.sandbox.revoke_refresh_token()

    def delete_audiences(self) -> None:
        token = self.sandbox.settings.access_token
        client = HTTPClient(LinkedInSettings(account_id=1, api_url=self.sandbox.url))
        for segment in self.sandbox.segments():
            assert client.request("DELETE", f"/rest/dmpSegments/{segment['id']}", token=token).status == 204
        client.close()


BACKENDS = {"linkedin-user": lambda: LinkedInBackend("user"), "linkedin-company": lambda: LinkedInBackend("company")}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with BACKENDS[request.param]() as opened:
        yield opened


@pytest.fixture
def destination(backend: Backend) -> Iterator[Destination]:
    opened = backend.open()
    yield opened
    opened.close()


@pytest.fixture
def spec(backend: Backend) -> AudienceSpec:
    return AudienceSpec(
        type=backend.audience_type,
        name="High-value customers",
        description="Customers above 1,000",
        id=None,
        source_id="4f1c0a6e:high_value_customers",
    )


@pytest.fixture
def audience(destination: Destination, spec: AudienceSpec) -> Audience:
    return destination.create(spec)


def batch_of(backend: Backend, kind: OperationKind, *numbers: int) -> Batch:
    return batch(kind, [{backend.column: backend.identifier(number)} for number in numbers])


def statuses(outcomes: object) -> list[OutcomeStatus]:
    assert isinstance(outcomes, Outcomes)
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert len(outcomes) == len(list(outcomes))
    return [outcome.status for outcome in outcomes]


def test_it_declares_fields_and_a_rate_limit_for_the_audience_type(backend: Backend, destination: Destination) -> None:
    fields = destination.fields(backend.audience_type)
    assert backend.column in [field.name for field in fields.identifiers]
    assert len(set(fields.names)) == len(fields.names)
    assert destination.requests_per_minute(backend.audience_type) > 0
    assert destination.batch_size > 0
    assert destination.max_in_flight > 0


def test_a_check_changes_nothing(backend: Backend, destination: Destination) -> None:
    destination.check()
    assert backend.audiences() == 0


def test_an_audience_that_was_not_created_is_not_found(destination: Destination, spec: AudienceSpec) -> None:
    assert destination.find(spec, None) is None


def test_a_created_audience_is_found_under_the_same_id(
    backend: Backend, destination: Destination, spec: AudienceSpec
) -> None:
    created = destination.create(spec)
    assert created.created
    assert (created.type, created.name) == (spec.type, spec.name)
    for known_id in (None, created.id):
        found = destination.find(spec, known_id)
        assert found is not None
        assert (found.id, found.type, found.name, found.created) == (created.id, spec.type, spec.name, False)


def test_creating_twice_leads_to_one_audience(backend: Backend, destination: Destination, spec: AudienceSpec) -> None:
    first, second = destination.create(spec), destination.create(spec)
    assert first.id == second.id
    assert not second.created
    assert backend.audiences() == 1


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_create_answer_does_not_lead_to_two_audiences(
    backend: Backend, destination: Destination, spec: AudienceSpec, lost: int
) -> None:
    backend.lose_create_answers(lost)
    created = destination.create(spec)
    assert created.created
    assert backend.audiences() == 1
    found = destination.find(spec, None)
    assert found is not None
    assert found.id == created.id


def test_audiences_of_other_syncs_are_not_ours(destination: Destination, spec: AudienceSpec) -> None:
    other = AudienceSpec(spec.type, spec.name, None, None, source_id=spec.source_id + "x")
    assert destination.create(other).id != destination.create(spec).id


def test_an_audience_that_does_not_exist_is_a_configuration_error(
    backend: Backend, destination: Destination, spec: AudienceSpec
) -> None:
    known_id = destination.create(spec).id
    backend.delete_audiences()
    with pytest.raises(ConfigurationError, match=known_id):
        destination.find(spec, known_id)
    with pytest.raises(ConfigurationError, match="424242"):
        destination.find(AudienceSpec(spec.type, None, None, "424242", spec.source_id), None)


def test_an_audience_of_another_type_is_a_configuration_error(destination: Destination, spec: AudienceSpec) -> None:
    known_id = destination.create(spec).id
    other = "company" if spec.type == "user" else "user"
    for wrong in (
        AudienceSpec(other, None, None, known_id, "somebody else's"),
        AudienceSpec(other, spec.name, None, None, spec.source_id),
    ):
        with pytest.raises(ConfigurationError, match=rf"{known_id}.*type"):
            destination.find(wrong, None)


def test_an_audience_of_any_type_and_source_is_returned_by_its_id(
    backend: Backend, destination: Destination, spec: AudienceSpec
) -> None:
    """Only the id is needed, nothing changes, and a deleted audience is None."""
    other = "company" if spec.type == "user" else "user"
    for wanted in (spec, AudienceSpec(other, "Left", None, None, f"{spec.source_id}:2")):
        created = destination.create(wanted)
        seen = destination.get(created.id)
        assert seen is not None
        assert (seen.id, seen.type, seen.created) == (created.id, wanted.type, False)
    assert backend.audiences() == 2
    backend.delete_audiences()
    assert destination.get(created.id) is None


def test_an_unreachable_destination_does_not_mean_that_an_audience_is_deleted(
    backend: Backend, destination: Destination, audience: Audience
) -> None:
    """Only an answer can show that an audience is deleted."""
    backend.go_down()
    with pytest.raises(DestinationUnavailable):
        destination.get(audience.id)
    backend.come_back()
    assert destination.get(audience.id) is not None


def test_an_audience_says_whether_campaigns_can_use_it(destination: Destination, spec: AudienceSpec) -> None:
    """A new audience is not emptied and has no warning, and one sentence describes its usability."""
    for audience in (destination.create(spec), destination.find(spec, None)):
        assert audience is not None
        assert audience.usability
        assert (audience.emptied, audience.warning, audience.match_rate) == (False, None, None)


def test_an_add_adds_and_a_remove_removes(backend: Backend, destination: Destination, audience: Audience) -> None:
    assert statuses(destination.deliver(audience, batch_of(backend, ADD, 1, 2, 3), UNCONDITIONAL)) == [DELIVERED] * 3
    assert backend.members(audience.id) == {backend.identifier(number) for number in (1, 2, 3)}
    assert statuses(destination.deliver(audience, batch_of(backend, REMOVE, 1, 3), UNCONDITIONAL)) == [DELIVERED] * 2
    assert backend.members(audience.id) == {backend.identifier(2)}


def test_repeating_a_batch_changes_nothing(backend: Backend, destination: Destination, audience: Audience) -> None:
    for _ in range(2):
        assert statuses(destination.deliver(audience, batch_of(backend, ADD, 1, 2), UNCONDITIONAL)) == [DELIVERED] * 2
        assert backend.members(audience.id) == {backend.identifier(1), backend.identifier(2)}
    for _ in range(2):
        assert statuses(destination.deliver(audience, batch_of(backend, REMOVE, 1), UNCONDITIONAL)) == [DELIVERED]
        assert backend.members(audience.id) == {backend.identifier(2)}


def test_an_empty_batch_has_no_outcomes(backend: Backend, destination: Destination, audience: Audience) -> None:
    assert list(destination.deliver(audience, batch_of(backend, ADD), UNCONDITIONAL)) == []


@pytest.mark.parametrize("by_element", [True, False])
@pytest.mark.parametrize("kind", [ADD, REMOVE])
def test_each_operation_gets_its_own_outcome_in_order(
    backend: Backend, destination: Destination, audience: Audience, kind: OperationKind, by_element: bool
) -> None:
    destination.deliver(audience, batch_of(backend, ADD, *range(0, 20, 2)), UNCONDITIONAL)
    bad = {3, 4, 11, 19}
    backend.refuse({backend.identifier(number) for number in bad}, by_element=by_element)
    outcomes = destination.deliver(audience, batch_of(backend, kind, *range(20)), UNCONDITIONAL)
    assert statuses(outcomes) == [REJECTED if number in bad else DELIVERED for number in range(20)]
    for outcome in outcomes:
        assert bool(outcome.reason) == (outcome.status is REJECTED)
        assert not any(backend.identifier(number) in outcome.message for number in range(20))


def test_a_full_batch_goes_through(backend: Backend, destination: Destination, audience: Audience) -> None:
    numbers = range(destination.batch_size)
    outcomes = destination.deliver(audience, batch_of(backend, ADD, *numbers), UNCONDITIONAL)
    assert statuses(outcomes) == [DELIVERED] * len(numbers)
    assert len(backend.members(audience.id)) == len(numbers)


def test_operations_are_deferred_while_it_is_down_and_succeed_afterwards(
    backend: Backend, destination: Destination, audience: Audience
) -> None:
    backend.go_down()
    outcomes = destination.deliver(audience, batch_of(backend, ADD, 1, 2), UNCONDITIONAL)
    assert statuses(outcomes) == [DEFERRED] * 2
    assert all(outcome.reason and outcome.message for outcome in outcomes)
    with pytest.raises(DestinationUnavailable):
        destination.check()
    backend.come_back()
    assert statuses(destination.deliver(audience, batch_of(backend, ADD, 1, 2), UNCONDITIONAL)) == [DELIVERED] * 2


def test_while_it_is_down_nothing_can_be_found_or_created(
    backend: Backend, destination: Destination, spec: AudienceSpec
) -> None:
    backend.go_down()
    with pytest.raises(DestinationUnavailable):
        destination.find(spec, None)
    with pytest.raises(DestinationUnavailable):
        destination.create(spec)
    backend.come_back()
    assert destination.create(spec).created


def test_operations_on_an_audience_that_is_deleted_during_a_run_are_deferred(
    backend: Backend, destination: Destination, audience: Audience
) -> None:
    backend.delete_audiences()
    assert statuses(destination.deliver(audience, batch_of(backend, REMOVE, 1), UNCONDITIONAL)) == [DEFERRED]


def test_invalid_credentials_stop_a_run_and_are_a_configuration_error_before_it(
    backend: Backend, destination: Destination, audience: Audience
) -> None:
    backend.withdraw_credentials()
    with pytest.raises(StopRun):
        destination.deliver(audience, batch_of(backend, ADD, 1), UNCONDITIONAL)
    with pytest.raises(ConfigurationError):
        destination.check()
    fresh = backend.open()
    with pytest.raises(ConfigurationError):
        fresh.check()
    fresh.close()


def test_many_threads_deliver_at_once(backend: Backend, destination: Destination, audience: Audience) -> None:
    together = threading.Barrier(destination.max_in_flight)

    def deliver(worker: int) -> list[OutcomeStatus]:
        together.wait(300)
        found: list[OutcomeStatus] = []
        for part in range(5):
            start = worker * 1000 + part * 10
            found += statuses(
                destination.deliver(audience, batch_of(backend, ADD, *range(start, start + 10)), UNCONDITIONAL)
            )
        return found

    with ThreadPoolExecutor(destination.max_in_flight) as pool:
        results = list(pool.map(deliver, range(destination.max_in_flight)))
    assert results == [[DELIVERED] * 50] * destination.max_in_flight
    assert len(backend.members(audience.id)) == 50 * destination.max_in_flight
