"""Three kinds of 429, `Retry-After`, and a worker that is being stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from harness.worlds.linkedin import SPEC, Lab, RevocablePermit, adds, batch, hash_of, reasons

from warehouse_sync.destinations.base import UNCONDITIONAL, AudienceSpec
from warehouse_sync.errors import ConfigurationError, DestinationUnavailable
from warehouse_sync.operations import OperationKind
from warehouse_sync.sandbox import Fault


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


def until_midnight() -> float:
    now = datetime.now(UTC)
    return (datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now).total_seconds()


def test_a_used_up_daily_quota_ends_the_requests_of_the_run(lab: Lab) -> None:
    """429s for longer than a minute mean the daily limit: defer until 00:00 UTC, and send nothing more."""
    sandbox = lab.start(daily_quota=2)
    linkedin = lab.connect(sandbox, daily_limit_after=0.3, attempts=1000)
    audience = linkedin.create(SPEC)
    for number in (1, 2):
        assert reasons(linkedin, audience, adds(number)) == ["delivered"]
    outcomes = list(linkedin.deliver(audience, adds(3, 4), UNCONDITIONAL))
    assert [outcome.reason for outcome in outcomes] == ["daily_limit"] * 2
    for outcome in outcomes:
        assert outcome.retry_after == pytest.approx(until_midnight(), abs=10)
        assert outcome.attempted
        assert "00:00 UTC" in outcome.message
        assert "/users" in outcome.message
    statuses = [record.status for record in sandbox.requests("users")]
    assert statuses[:2] == [200, 200]
    assert set(statuses[2:]) == {429}
    later = list(linkedin.deliver(audience, adds(5), UNCONDITIONAL))
    assert (later[0].reason, later[0].message) == ("daily_limit", outcomes[0].message)
    assert len(sandbox.requests("users")) == len(statuses)


def test_the_limit_per_minute_is_waited_for_and_is_not_taken_for_the_daily_limit(lab: Lab) -> None:
    """429s that end within a minute only cost time, and later ones are counted from zero."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox, daily_limit_after=0.3, attempts=1000)
    audience = linkedin.create(SPEC)
    for number in range(4):
        throttle = Fault("429", on="users", times=0)
        sandbox.inject(throttle)
        threading.Timer(0.2, sandbox.clear_faults).start()
        assert reasons(linkedin, audience, adds(number)) == ["delivered"]


def test_one_throttled_thread_does_not_block_an_endpoint_that_answers_others(lab: Lab) -> None:
    """However long one batch is throttled: while another succeeds, the daily limit is not reached."""
    sandbox = lab.start(users_per_minute=100_000)
    linkedin = lab.connect(sandbox, daily_limit_after=0.3, attempts=10_000, retry_timeout=1.5)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("429", on="users", times=0, values=frozenset({hash_of(1)})))
    with ThreadPoolExecutor(2) as pool:
        unlucky = pool.submit(reasons, linkedin, audience, adds(1))
        lucky = 0
        while not unlucky.done():
            assert reasons(linkedin, audience, adds(2)) == ["delivered"]
            lucky += 1
        assert unlucky.result() == ["throttled"]
    assert lucky > 5


def test_what_one_thread_learns_applies_to_all(lab: Lab) -> None:
    """Waiting threads send nothing more once another thread has reached the daily limit."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    linkedin.deliver(audience, adds(0), UNCONDITIONAL)
    sandbox.inject(Fault("429_daily", on="users", times=0, retry_after=3600))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: reasons(linkedin, audience, adds(number)), range(40)))
    assert found == [["daily_limit"]] * 40
    assert len(sandbox.requests("users")) <= 1 + 4


def test_a_long_retry_after_blocks_one_endpoint_only(lab: Lab) -> None:
    """LinkedIn counts by endpoint, so companies continue while users are blocked."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    companies = linkedin.create(AudienceSpec("company", "x", None, None, "x"))
    sandbox.inject(Fault("429", on="users", retry_after=3600))
    for _ in range(2):
        (outcome,) = linkedin.deliver(audience, adds(1), UNCONDITIONAL)
        assert outcome.reason == "daily_limit"
        assert outcome.retry_after == pytest.approx(3600, abs=10)
    assert len(sandbox.requests("users")) == 1
    named = batch(OperationKind.ADD, [{"company_name": "Acme"}])
    assert reasons(linkedin, companies, named) == ["delivered"]
    linkedin.check()


def test_before_a_run_the_daily_limit_is_an_error_with_the_time_of_its_reset(lab: Lab) -> None:
    """Neither a find nor a create is repeated; the error contains the time of the reset, and the seconds until then."""
    for operation in ("find", "create"):
        sandbox = lab.start()
        linkedin = lab.connect(sandbox)
        sandbox.inject(Fault("429_daily", on=operation, times=0, retry_after=3600))
        with pytest.raises(DestinationUnavailable, match=r"/dmpSegments .*3,600 s.*Nothing was sent") as caught:
            linkedin.create(SPEC)
        assert caught.value.retry_after == pytest.approx(3600, abs=10)
        assert len(sandbox.requests(operation)) == 1


def test_a_full_account_is_not_taken_for_a_rate_limit(lab: Lab) -> None:
    """SEGMENT_LIMIT_EXCEEDED is a 429 too, but only deleting audiences helps."""
    sandbox = lab.start(segment_cap=0, retry_after=3600)
    with pytest.raises(ConfigurationError, match="1,000"):
        lab.connect(sandbox).create(SPEC)
    assert len(sandbox.requests("create")) == 1


def test_all_threads_keep_the_retry_after_of_any_error(lab: Lab) -> None:
    """`Retry-After` applies to any status, and deferred outcomes carry it."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("503", on="users", retry_after=3600))
    (first,) = linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    assert (first.reason, first.retry_after) == ("http_503", 3600)
    (second,) = linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    assert second.reason == "throttled"
    assert second.retry_after == pytest.approx(3600, abs=10)
    assert len(sandbox.requests("users")) == 1
    with pytest.raises(DestinationUnavailable) as caught:
        linkedin.check()
    assert caught.value.retry_after == pytest.approx(3600, abs=10)


def test_a_short_retry_after_of_a_503_is_waited_for(lab: Lab) -> None:
    """The repeated request leaves after the requested seconds."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("503", on="users", retry_after=1))
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    first, second = sandbox.requests("users")
    assert second.at - first.at >= 0.99


def test_what_a_stopped_worker_never_sent_was_not_attempted(lab: Lab) -> None:
    """It may be sent at once by the next run, and no attempt counts against it."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    permit = RevocablePermit()
    permit.revoke()
    outcomes = linkedin.deliver(audience, adds(1, 2), permit)
    assert [(outcome.reason, outcome.attempted) for outcome in outcomes] == [("stopped", False)] * 2
    assert sandbox.requests("users") == []


@pytest.mark.parametrize("kind", ["503", "429", "not_found", "65601", "reset_after", "refuse_batch_silent"])
def test_what_had_left_before_the_stop_was_attempted(lab: Lab, kind: str) -> None:
    """A request that failed or had no answer is an attempt, also if its repetition was stopped."""
    sandbox = lab.start()
    slow = {"backoff_initial": 60.0, "backoff_max": 60.0, "new_audience_timeout": 60.0, "token_timeout": 60.0}
    linkedin = lab.connect(sandbox, **slow, retry_timeout=600.0, requests_per_minute=3)
    audience = linkedin.create(SPEC)
    if kind == "refuse_batch_silent":
        # The empty batch and the first half do not fit into this minute any more.
        linkedin.deliver(audience, adds(0), UNCONDITIONAL)
    sandbox.inject(Fault(kind, on="users", times=0))
    permit = RevocablePermit()
    threading.Timer(0.3, permit.revoke).start()
    started = time.monotonic()
    outcomes = linkedin.deliver(audience, adds(1, 2), permit)
    assert time.monotonic() - started < 5
    assert [(outcome.reason, outcome.attempted) for outcome in outcomes] == [("stopped", True)] * 2


def test_no_token_is_fetched_after_a_stop(lab: Lab) -> None:
    """No request to the token endpoint is started either."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    permit = RevocablePermit()
    permit.revoke()
    with pytest.raises(DestinationUnavailable, match="stopped"):
        linkedin.check(permit)
    assert sandbox.requests() == []
