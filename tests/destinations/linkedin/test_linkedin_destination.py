"""LinkedIn's failures, produced by the sandbox: what is retried, what is deferred, what stops a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from harness.worlds.linkedin import (
    ACCOUNT,
    SPEC,
    TEST_ACCOUNT,
    VIEWED_ACCOUNT,
    Lab,
    RevocablePermit,
    adds,
    batch,
    hash_of,
    reasons,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from warehouse_sync.destinations.base import UNCONDITIONAL, Audience, AudienceSpec
from warehouse_sync.destinations.linkedin import segments as segments_module
from warehouse_sync.destinations.linkedin import tokens as tokens_module
from warehouse_sync.destinations.linkedin.config import LinkedInConfig, LinkedInSettings
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.destinations.linkedin.http import HTTPClient
from warehouse_sync.destinations.registry import open_destination
from warehouse_sync.errors import AuthenticationFailed, ConfigurationError, DestinationUnavailable, StopRun
from warehouse_sync.operations import OperationKind, OutcomeStatus
from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings

Opener = Callable[..., LinkedIn]
Starter = Callable[..., Sandbox]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


@pytest.fixture
def start(lab: Lab) -> Starter:
    return lab.start


@pytest.fixture
def connect(lab: Lab) -> Opener:
    return lab.connect


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Sandbox, LinkedIn, Audience]]:
    """One sandbox, destination and audience for many examples."""
    with Sandbox(SandboxSettings(ready_after=0.0, users_per_minute=100_000)) as sandbox:
        theirs = LinkedInSettings(
            account_id=ACCOUNT,
            access_token=sandbox.settings.access_token,
            api_url=sandbox.url,
            oauth_url=sandbox.url,
            requests_per_minute=100_000,
            wait_after_create=0.0,
        )
        linkedin = LinkedIn(theirs)
        yield sandbox, linkedin, linkedin.create(SPEC)
        linkedin.close()


TRANSIENT = (
    "408", "409", "423", "429", "429_infrastructure", "500", "502", "503", "504",
    "reset_before", "reset_after", "bad_json",
)  # fmt: skip


@pytest.mark.parametrize("kind", TRANSIENT)
def test_transient_failures_are_retried(start: Starter, connect: Opener, kind: str) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault(kind, on="users", times=2))
    assert reasons(linkedin, audience, adds(1, 2)) == ["delivered"] * 2
    assert len(sandbox.members(audience.id)) == 2
    assert len(sandbox.requests("users")) == 3


def test_a_request_without_an_answer_in_time_is_repeated(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox, read_timeout=0.2)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("timeout_after", on="users", seconds=0.6))
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    sandbox.inject(Fault("timeout_after", on="users", seconds=0.6, times=0))
    assert reasons(linkedin, audience, adds(2)) == ["timeout"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("503", "http_503"), ("409", "http_409"), ("reset_before", "connection"), ("bad_json", "malformed_answer"),
     ("429", "throttled"), ("429_daily", "throttled")],
)  # fmt: skip
def test_a_lasting_failure_defers_after_some_attempts_and_later_calls_make_one_each(
    start: Starter, connect: Opener, kind: str, reason: str
) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault(kind, on="users", times=0))
    assert reasons(linkedin, audience, adds(1, 2)) == [reason] * 2
    assert len(sandbox.requests("users")) == 4
    assert reasons(linkedin, audience, adds(3)) == [reason]
    assert len(sandbox.requests("users")) == 5
    sandbox.clear_faults()
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    sandbox.inject(Fault("503", on="users", times=2))
    assert reasons(linkedin, audience, adds(2)) == ["delivered"]


def test_a_short_answer_defers_what_is_missing(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("short_answer", on="users", count=2))
    assert reasons(linkedin, audience, adds(1, 2, 3)) == ["delivered", "missing_answer", "missing_answer"]


def test_all_threads_keep_retry_after(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox, retry_timeout=30.0)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("429", on="users", retry_after=1))
    assert reasons(linkedin, audience, adds()) == []  # sends nothing
    with ThreadPoolExecutor(2) as pool:
        throttled = pool.submit(reasons, linkedin, audience, adds(1))
        while not any(record.status == 429 for record in sandbox.requests("users")):
            time.sleep(0.005)
        time.sleep(0.05)
        other = pool.submit(reasons, linkedin, audience, adds(2))
        assert throttled.result() == other.result() == ["delivered"]
    first, *later = sandbox.requests("users")
    assert len(later) == 2
    assert all(record.at - first.at >= 0.99 for record in later)


class MinuteAfterTwo:
    """The sandbox's clock: it stands still until two requests got a certain status, then it advances by a minute."""

    sandbox: Sandbox | None = None

    def __init__(self, operation: str, status: int) -> None:
        self.operation = operation
        self.status = status
        self.begin = time.time()

    def __call__(self) -> float:
        records = self.sandbox.requests(self.operation) if self.sandbox else []
        return self.begin + (60 if [record.status for record in records].count(self.status) >= 2 else 0)


def test_a_new_audience_may_answer_404_for_a_while(start: Starter, connect: Opener) -> None:
    time_of = MinuteAfterTwo("users", 404)
    sandbox = time_of.sandbox = start(ready_after=5.0, now=time_of)
    linkedin = connect(sandbox, new_audience_timeout=60.0)
    audience = linkedin.create(SPEC)
    assert audience.created
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    assert [record.status for record in sandbox.requests("users")] == [404, 404, 200]


def test_an_audience_of_an_earlier_worker_may_answer_404_for_a_while(start: Starter, connect: Opener) -> None:
    time_of = MinuteAfterTwo("users", 404)
    sandbox = time_of.sandbox = start(ready_after=5.0, now=time_of)
    created = connect(sandbox).create(SPEC)
    linkedin = connect(sandbox, new_audience_timeout=60.0)
    found = linkedin.find(SPEC, created.id)
    assert found is not None
    assert not found.created
    assert reasons(linkedin, found, adds(1)) == ["delivered"]
    assert [record.status for record in sandbox.requests("users")] == [404, 404, 200]


def test_retries_of_404_end(start: Starter, connect: Opener) -> None:
    sandbox = start(ready_after=60.0)
    linkedin = connect(sandbox, new_audience_timeout=1.0)
    audience = linkedin.create(SPEC)
    assert reasons(linkedin, audience, adds(1)) == ["audience_not_found"]
    sent = len(sandbox.requests("users"))
    assert sent > 2
    assert reasons(linkedin, audience, adds(1)) == ["audience_not_found"]
    assert len(sandbox.requests("users")) == sent + 1


def test_a_404_of_an_old_audience_is_not_retried(start: Starter, connect: Opener) -> None:
    an_hour_ago = time.time() - 3600
    sandbox = start(now=lambda: an_hour_ago)
    connect(sandbox).create(SPEC)
    linkedin = connect(sandbox)
    audience = linkedin.find(SPEC, None)
    assert audience is not None
    sandbox.inject(Fault("not_found", on="users", times=0))
    assert reasons(linkedin, audience, adds(1)) == ["audience_not_found"]
    assert len(sandbox.requests("users")) == 1


@pytest.mark.parametrize("kind", ["65600", "65601", "65602"])
def test_a_401_renews_the_token_once_and_continues(start: Starter, connect: Opener, kind: str) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    time.sleep(0.03)  # past the propagation, within which a refusal proves nothing
    sandbox.inject(Fault(kind, on="users"))
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    assert len(sandbox.requests("token")) == 2


def test_of_many_threads_with_a_revoked_token_one_renews_it(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    time.sleep(0.03)
    sandbox.revoke_access_tokens()
    together = threading.Barrier(4)

    def deliver(number: int) -> list[str]:
        together.wait(300)
        return reasons(linkedin, audience, adds(number))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(deliver, range(4))) == [["delivered"]] * 4
    assert len(sandbox.requests("token")) == 2


def test_a_new_token_that_is_refused_for_a_while_is_not_renewed_again(start: Starter, connect: Opener) -> None:
    time_of = MinuteAfterTwo("find", 401)
    sandbox = time_of.sandbox = start(token_propagation=5.0, now=time_of)
    connect(sandbox, token_timeout=60.0).check()
    assert len(sandbox.requests("token")) == 1
    assert [record.status for record in sandbox.requests("find")] == [401, 401, 200]


def test_a_renewed_token_that_is_always_refused_is_invalid(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("65601", on="users", times=0))
    with pytest.raises(AuthenticationFailed, match="Oauth Refresh Failed"):
        linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    before = len(sandbox.requests())
    with pytest.raises(AuthenticationFailed):
        linkedin.deliver(audience, adds(2), UNCONDITIONAL)
    assert len(sandbox.requests()) == before


class Clock:
    """A monotonic clock that a test can advance."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which access tokens age."""
    clock = Clock()
    monkeypatch.setattr(tokens_module, "time", clock)
    return clock


def test_a_token_is_renewed_before_it_expires(start: Starter, connect: Opener, clock: Clock) -> None:
    sandbox = start(token_life=600.0)
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    clock.ahead = 530
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    assert len(sandbox.requests("token")) == 1
    clock.ahead = 550
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    assert len(sandbox.requests("token")) == 2


def test_a_token_that_cannot_be_renewed_yet_is_used_until_it_expires(
    start: Starter, connect: Opener, clock: Clock
) -> None:
    sandbox = start(token_life=600.0)
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("503", on="token", times=0))
    clock.ahead = 550
    for _ in range(3):
        assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    assert len(sandbox.requests("token")) == 2  # not tried again for each request
    clock.ahead = 601
    assert reasons(linkedin, audience, adds(1)) == ["oauth_http_503"]


def test_failures_of_the_token_endpoint_are_retried(start: Starter, connect: Opener) -> None:
    sandbox = start()
    sandbox.inject(Fault("503", on="token", times=2))
    connect(sandbox).check()
    assert len(sandbox.requests("token")) == 3


def test_a_check_returns_when_the_refresh_token_expires(start: Starter, connect: Opener) -> None:
    expires = connect(start()).check().refresh_token_expires
    assert expires is not None
    assert abs(expires - (datetime.now(UTC) + timedelta(days=365)).date()) <= timedelta(days=1)
    assert connect(start(refresh_repeats_refresh_token=False)).check().refresh_token_expires is None


def test_an_access_token_alone_works_until_it_is_refused(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox, refresh_token=None, access_token=sandbox.settings.access_token)
    audience = linkedin.create(SPEC)
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    sandbox.revoke_access_tokens()
    with pytest.raises(AuthenticationFailed, match=r"destinations\.ads\.access_token.*Nothing is lost"):
        linkedin.deliver(audience, adds(2), UNCONDITIONAL)
    assert sandbox.requests("token") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"refresh_token": "unknown"}, ["Refresh Token Expired", "destinations.ads.refresh_token"]),
        ({"client_secret": "wrong"}, ["Oauth Refresh Failed", "destinations.ads.client_secret"]),
        ({"refresh_token": None, "access_token": "unknown"}, ["destinations.ads.access_token"]),
        ({"refresh_token": None}, ["destinations.ads.refresh_token"]),
        ({"api_version": "202511"}, ["202511", "destinations.ads.api_version", "YYYYMM"]),
    ],
)
def test_a_check_says_what_the_operator_must_correct(
    start: Starter, connect: Opener, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(start(), **settings).check()
    for word in [*words, "Nothing was sent"]:
        assert word in str(caught.value)
    for secret in ("sandbox-refresh", "unknown", "wrong"):
        assert secret not in str(caught.value)


def test_a_token_with_a_line_break_is_a_configuration_error(start: Starter, connect: Opener) -> None:
    with pytest.raises(ConfigurationError, match=r"destinations\.ads\.access_token") as caught:
        connect(start(), access_token="sandbox\naccess")
    assert "sandbox" not in str(caught.value)


def test_a_check_without_access_names_the_scope_and_the_roles(start: Starter, connect: Opener) -> None:
    for linkedin in (
        connect(start(scopes=("r_ads",))),
        connect(start(unknown_account_find="403"), account_id=1),
    ):
        with pytest.raises(ConfigurationError, match=r"rw_dmp_segments.*CAMPAIGN_MANAGER"):
            linkedin.check()


def test_losing_the_role_during_a_run_stops_it(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.set_writable(ACCOUNT, False)
    with pytest.raises(AuthenticationFailed, match="VIEWER"):
        linkedin.deliver(audience, adds(1), UNCONDITIONAL)


def test_a_version_that_is_retired_during_a_run_stops_it(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("426", on="users"))
    with pytest.raises(StopRun, match=r"destinations\.ads\.api_version") as caught:
        linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    assert not isinstance(caught.value, AuthenticationFailed)


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ({"segment_cap": 0}, {}, "1,000.*Delete"),
        ({}, {"account_id": TEST_ACCOUNT}, "test account"),
        ({}, {"account_id": VIEWED_ACCOUNT}, "VIEWER"),
        ({}, {"source_platform": "CARRIER_PIGEON"}, r"destinations\.ads\.source_platform"),
        ({"name_max_length": 3}, {}, "name"),
    ],
)
def test_a_refused_create_is_a_configuration_error_and_not_repeated(
    start: Starter, connect: Opener, theirs: dict[str, Any], ours: dict[str, Any], words: str
) -> None:
    sandbox = start(**theirs)
    with pytest.raises(ConfigurationError, match=words):
        connect(sandbox, **ours).create(SPEC)
    assert len(sandbox.requests("create")) <= 1
    assert sandbox.segments() == []


@pytest.mark.parametrize("kind", ["409", "500", "502", "503", "408", "429", "423", "reset_before", "reset_after"])
def test_failures_of_a_create_lead_to_exactly_one_audience(start: Starter, connect: Opener, kind: str) -> None:
    sandbox = start()
    sandbox.inject(Fault(kind, on="create", times=2))
    assert connect(sandbox).create(SPEC).created
    assert len(sandbox.segments()) == 1


def test_a_lost_create_answer_and_a_delayed_finder_lead_to_exactly_one_audience(
    start: Starter, connect: Opener
) -> None:
    sandbox = start(find_after=0.9)
    sandbox.inject(Fault("timeout_after", on="create", seconds=1.0))
    created = connect(sandbox, read_timeout=0.5, wait_after_create=0.3).create(SPEC)
    assert [str(segment["id"]) for segment in sandbox.segments()] == [created.id]


def test_a_create_waits_before_it_returns(start: Starter, connect: Opener) -> None:
    started = time.monotonic()
    connect(start(), wait_after_create=0.3).create(SPEC)
    assert time.monotonic() - started >= 0.3


def test_of_several_segments_with_our_name_the_oldest_is_found_on_any_page(
    start: Starter, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "PAGE_SIZE", 2)
    sandbox = start()
    client = HTTPClient(LinkedInSettings(account_id=ACCOUNT, api_url=sandbox.url))
    body = (
        b'{"account":"urn:li:sponsoredAccount:507404993","name":"x","type":"USER","sourcePlatform":"%s",'
        b'"sourceSegmentId":"installation:customers","destinations":[{"destination":"LINKEDIN"}]}'
    )
    ids = [
        client.request(
            "POST", "/rest/dmpSegments", token=sandbox.settings.access_token, body=body % platform
        ).created_id
        for platform in (b"SEGMENT", b"DIRECT_API", b"DIRECT_API", b"DIRECT_API", b"DIRECT_API", b"DIRECT_API")
    ]
    client.close()
    found = connect(sandbox).find(SPEC, None)
    assert found is not None
    assert found.id == ids[1]
    assert len(sandbox.requests("find")) == 3


def test_an_audience_shows_status_and_numbers(start: Starter, connect: Opener) -> None:
    sandbox = start(build_seconds=0.05, update_seconds=0.05)
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    building = linkedin.find(SPEC, audience.id)
    assert building is not None
    assert (building.status, building.size, building.matched, building.input_count) == ("BUILDING", None, None, None)
    linkedin.deliver(audience, adds(*range(7)), UNCONDITIONAL)
    time.sleep(0.1)
    ready = linkedin.find(SPEC, audience.id)
    assert ready is not None
    assert (ready.status, ready.size, ready.input_count) == ("READY", 7, 7)


def test_an_audience_of_another_account_is_a_configuration_error(start: Starter, connect: Opener) -> None:
    sandbox = start(account_ids=frozenset({ACCOUNT, 1}))
    theirs = connect(sandbox, account_id=1).create(SPEC)
    with pytest.raises(ConfigurationError, match=f"{theirs.id} belongs to another ad account than {ACCOUNT}"):
        connect(sandbox).find(AudienceSpec("user", None, None, theirs.id, "x"), None)


def test_getting_another_accounts_audience_is_a_configuration_error(start: Starter, connect: Opener) -> None:
    """An audience of another account is neither changed nor taken for deleted."""
    sandbox = start(account_ids=frozenset({ACCOUNT, 1}))
    theirs = connect(sandbox, account_id=1).create(SPEC)
    with pytest.raises(ConfigurationError, match=f"{theirs.id} belongs to another ad account"):
        connect(sandbox).get(theirs.id)


def test_an_audience_in_the_list_that_cannot_be_read_is_not_deleted(start: Starter, connect: Opener) -> None:
    """LinkedIn may answer 404 for an existing audience for a while; the account's list decides."""
    sandbox = start()
    linkedin = connect(sandbox)
    created = linkedin.create(SPEC)
    sandbox.inject(Fault("not_found", on="get", times=0))
    seen = linkedin.get(created.id)
    assert seen is not None
    assert seen.id == created.id
    assert linkedin.get("999") is None


@pytest.mark.parametrize("status", ["ARCHIVED", "FAILED", "ERROR", "EXPIRED", "READY"])
def test_an_audience_has_its_status_and_warning(start: Starter, connect: Opener, status: str) -> None:
    """Found by its source id or its id, with matching advice; also the create of an existing one returns it."""
    sandbox = start()
    linkedin = connect(sandbox)
    created = linkedin.create(SPEC)
    linkedin.deliver(created, adds(1), UNCONDITIONAL)
    sandbox.force_status(created.id, status)
    by_id = AudienceSpec("user", None, None, created.id, "")
    for found, advice in (
        (linkedin.find(SPEC, None), "--recreate"),
        (linkedin.find(SPEC, created.id), "--recreate"),
        (linkedin.create(SPEC), "--recreate"),
        (linkedin.find(by_id, None), "remove audience.id"),
    ):
        assert found is not None
        assert found.status == status
        assert found.emptied is (status == "EXPIRED")
        assert (found.warning is not None) == (status in ("ARCHIVED", "FAILED", "ERROR"))
        if status in ("FAILED", "ERROR"):
            assert advice in (found.warning or "")


def test_an_audience_that_is_building_for_two_days_has_a_warning(start: Starter, connect: Opener) -> None:
    """The age is counted from LinkedIn's time of creation."""
    for hours, warned in ((47, False), (49, True)):
        then = time.time() - hours * 3600
        sandbox = start(now=lambda then=then: then)
        linkedin = connect(sandbox)
        linkedin.create(SPEC)
        found = linkedin.find(SPEC, None)
        assert found is not None
        assert (found.status, found.warning is not None) == ("BUILDING", warned)


def test_the_advice_for_a_deleted_audience_depends_on_how_it_was_chosen(start: Starter, connect: Opener) -> None:
    """Our own audience is replaced with --recreate, one that was named by its id is not."""
    linkedin = connect(start())
    with pytest.raises(ConfigurationError, match="start with a new audience, run the sync once with --recreate"):
        linkedin.find(SPEC, "4711")
    with pytest.raises(ConfigurationError, match=r"Remove audience\.id .* or correct it") as caught:
        linkedin.find(AudienceSpec("user", None, None, "4711", ""), None)
    assert "--recreate" not in str(caught.value)
    created = linkedin.create(SPEC)
    with pytest.raises(ConfigurationError, match="--recreate"):
        linkedin.find(AudienceSpec("company", "x", None, None, SPEC.source_id), created.id)
    with pytest.raises(ConfigurationError, match="type") as caught:
        linkedin.find(AudienceSpec("company", None, None, created.id, ""), None)
    assert "--recreate" not in str(caught.value)


@pytest.mark.parametrize("audience_id", ["urn:li:adSegment:1", "7/users", "", "٣"])
def test_an_id_that_is_no_number_is_a_configuration_error(start: Starter, connect: Opener, audience_id: str) -> None:
    sandbox = start()
    spec = AudienceSpec("user", None, None, audience_id, "x")
    with pytest.raises(ConfigurationError, match=r"audience\.id"):
        connect(sandbox).find(spec, None)
    assert sandbox.requests("segments") == []


def test_stopping_ends_a_wait_and_defers(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox, backoff_initial=60.0, backoff_max=60.0, retry_timeout=600.0)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("503", on="users", times=0))
    permit = RevocablePermit()
    threading.Timer(0.2, permit.revoke).start()
    started = time.monotonic()
    assert reasons(linkedin, audience, adds(1, 2), permit) == ["stopped"] * 2
    assert time.monotonic() - started < 30
    sent = len(sandbox.requests())
    assert reasons(linkedin, audience, adds(3), permit) == ["stopped"]
    with pytest.raises(DestinationUnavailable):
        linkedin.check(permit)
    assert len(sandbox.requests()) == sent


def test_a_request_that_is_always_refused_rejects_no_element(start: Starter, connect: Opener) -> None:
    """A company audience refuses every batch of users: no element is the reason."""
    sandbox = start()
    linkedin = connect(sandbox)
    company = linkedin.create(AudienceSpec("company", "x", None, None, "x"))
    mistaken = Audience(id=company.id, type="user", name="x")
    assert reasons(linkedin, mistaken, adds(*range(50))) == ["http_400"] * 50
    assert len(sandbox.requests("users")) == 2


def test_a_batch_that_is_too_large_is_an_error_of_the_caller(start: Starter, connect: Opener) -> None:
    linkedin = connect(start())
    with pytest.raises(ValueError, match="5001"):
        linkedin.deliver(Audience(id="1", type="user", name="x"), adds(*range(5001)), UNCONDITIONAL)


@pytest.mark.parametrize("partial", [True, False])
def test_elements_that_linkedin_validates_are_rejected_alone(start: Starter, connect: Opener, partial: bool) -> None:
    sandbox = start(partial_validation=partial, echo_values=True)
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    people = [(hash_of(1), None), ("no-hash-at-all", None), (hash_of(2), "x" * 60), (hash_of(3), "Ann")]
    rows = [{"sha256_email": hashed, "first_name": name} for hashed, name in people]
    outcomes = linkedin.deliver(audience, batch(OperationKind.ADD, rows), UNCONDITIONAL)
    assert [outcome.status.value for outcome in outcomes] == ["delivered", "rejected", "rejected", "delivered"]
    assert not any("no-hash-at-all" in outcome.message or "xxx" in outcome.message for outcome in outcomes)
    assert len(sandbox.members(audience.id)) == 2


def test_no_log_outcome_or_error_contains_a_secret_or_a_value(start: Starter, connect: Opener) -> None:
    sandbox = start(echo_values=True)
    shown: list[str] = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    try:
        with structlog.testing.capture_logs() as logs:
            linkedin = connect(sandbox)
            audience = linkedin.create(SPEC)
            for kind in ("503", "reset_after", "65601", "429", "refuse_batch_named", "refuse_batch_silent"):
                sandbox.inject(Fault(kind, on="users"))
                shown += map(str, linkedin.deliver(audience, adds(1, 2), UNCONDITIONAL))
            bad = batch(OperationKind.ADD, [{"sha256_email": "ann@example.com"}])
            shown += map(str, linkedin.deliver(audience, bad, UNCONDITIONAL))
            sandbox.revoke_access_tokens()
            sandbox.revoke_refresh_token()
            with pytest.raises(AuthenticationFailed) as caught:
                linkedin.deliver(audience, adds(3), UNCONDITIONAL)
            shown.append(str(caught.value))
    finally:
        structlog.reset_defaults()
    assert {entry["event"] for entry in logs} >= {
        "linkedin_response",
        "linkedin_request_failed",
        "linkedin_token_renewed",
    }
    assert any(entry.get("uuid") for entry in logs)
    everything = "\n".join([*shown, *map(str, logs), repr(linkedin._settings)])
    minted = linkedin._tokens._state.token
    assert minted
    for secret in (
        "ann@example.com", hash_of(1), hash_of(2), hash_of(3), minted,
        sandbox.settings.refresh_token, sandbox.settings.access_token,
    ):  # fmt: skip
        assert secret not in everything


def test_every_outcome_status_is_reachable_in_one_batch(start: Starter, connect: Opener) -> None:
    sandbox = start()
    linkedin = connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("refuse_elements", on="users", indices=(1,)))
    sandbox.inject(Fault("refuse_elements", on="users", indices=(2,), status=503))
    outcomes = linkedin.deliver(audience, adds(1, 2, 3), UNCONDITIONAL)
    assert [outcome.status for outcome in outcomes] == list(OutcomeStatus)


@given(
    bad=st.sets(st.integers(0, 11)),
    size=st.integers(0, 12),
    form=st.sampled_from(["refuse_elements", "refuse_batch_named", "refuse_batch_indices", "refuse_batch_silent"]),
    kind=st.sampled_from(list(OperationKind)),
)
@settings(max_examples=40, deadline=None)
def test_exactly_the_invalid_elements_are_rejected_however_they_are_refused(
    shared: tuple[Sandbox, LinkedIn, Audience], bad: set[int], size: int, form: str, kind: OperationKind
) -> None:
    sandbox, linkedin, audience = shared
    sandbox.clear_faults()
    if bad:
        sandbox.inject(Fault(form, on="users", times=0, values=frozenset(map(hash_of, bad))))
    rows = [{"sha256_email": hash_of(at)} for at in range(size)]
    outcomes = linkedin.deliver(audience, batch(kind, rows, first_seq=7), UNCONDITIONAL)
    assert [outcome.status is OutcomeStatus.REJECTED for outcome in outcomes] == [at in bad for at in range(size)]
    assert [outcome.status is OutcomeStatus.DELIVERED for outcome in outcomes] == [at not in bad for at in range(size)]
    held = {value for ((_, value),) in sandbox.members(audience.id)}
    for at in set(range(size)) - bad:
        assert (hash_of(at) in held) is (kind is OperationKind.ADD)
    assert max((record.elements or 0 for record in sandbox.requests("users")), default=0) <= linkedin.batch_size


def test_a_destination_is_opened_from_its_configuration(start: Starter) -> None:
    sandbox = start()
    config = LinkedInConfig(
        name="ads",
        type="linkedin",
        account_id=ACCOUNT,
        client_id="sandbox",
        client_secret=SecretStr("sandbox"),
        refresh_token=SecretStr("sandbox-refresh"),
        api_url=sandbox.url,
        oauth_url=sandbox.url,
        requests_per_minute=7,
        max_in_flight=3,
    )
    destination = open_destination(config)
    try:
        assert destination.check().refresh_token_expires is not None
        assert (destination.requests_per_minute("user"), destination.requests_per_minute("company")) == (7, 7)
        assert destination.max_in_flight == 3
    finally:
        destination.close()


def test_without_a_configured_rate_limit_each_audience_type_has_its_own(start: Starter, connect: Opener) -> None:
    linkedin = connect(start(), requests_per_minute=None)
    assert (linkedin.requests_per_minute("user"), linkedin.requests_per_minute("company")) == (480, 240)
