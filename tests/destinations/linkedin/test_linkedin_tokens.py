"""Tokens that expire, are revoked or are new during a delivery: what is retried and what ends the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.worlds.linkedin import ACCOUNT, SPEC, Lab, RevocablePermit, adds, hash_of, reasons

from warehouse_sync import redaction
from warehouse_sync.destinations.base import UNCONDITIONAL, Audience
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.errors import AuthenticationFailed, ConfigurationError
from warehouse_sync.sandbox import Fault, Sandbox

BATCHES = 12
PAST_PROPAGATION = 0.03


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


def deliver_all(linkedin: LinkedIn, audience: Audience) -> list[list[str]]:
    """Twelve batches of one member each, from four threads as a run has them."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda number: reasons(linkedin, audience, adds(number)), range(BATCHES)))


def after(sandbox: Sandbox, requests: int, action: str) -> None:
    """Let the sandbox do `action` as soon as it has seen so many requests for members."""
    taken = sandbox._router.answer
    done: list[str] = []

    def answer(request: object) -> object:
        if len(sandbox.requests("users")) >= requests and not done:
            done.append(action)
            getattr(sandbox, action)()
        return taken(request)  # type: ignore[arg-type]

    sandbox._router.answer = answer  # type: ignore[method-assign,assignment]


def held(sandbox: Sandbox, audience: Audience) -> set[str]:
    return {value for ((_, value),) in sandbox.members(audience.id)}


def test_a_token_that_is_revoked_during_a_delivery_is_renewed_once_and_nothing_is_lost(lab: Lab) -> None:
    """All threads get the refusal, one of them fetches the new token, and every member arrives."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    time.sleep(PAST_PROPAGATION)
    after(sandbox, 5, "revoke_access_tokens")
    assert deliver_all(linkedin, audience) == [["delivered"]] * BATCHES
    assert held(sandbox, audience) == set(map(hash_of, range(BATCHES)))
    assert len(sandbox.requests("token")) == 2
    assert 401 in [record.status for record in sandbox.requests("users")]


def test_a_refresh_token_that_is_revoked_during_a_delivery_matters_only_when_it_is_needed(lab: Lab) -> None:
    """The access token stays valid; once it is refused too, the run ends with the advice."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    sandbox.revoke_refresh_token()
    assert deliver_all(linkedin, audience) == [["delivered"]] * BATCHES
    time.sleep(PAST_PROPAGATION)
    sandbox.revoke_access_tokens()
    words = r"Refresh Token Expired.*Authorise.*destinations\.ads\.refresh_token.*Nothing is lost"
    with pytest.raises(AuthenticationFailed, match=words):
        linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    before = len(sandbox.requests())
    with pytest.raises(AuthenticationFailed, match="Refresh Token Expired"):
        linkedin.deliver(audience, adds(2), UNCONDITIONAL)
    with pytest.raises(ConfigurationError, match="Refresh Token Expired"):
        linkedin.check()
    assert len(sandbox.requests()) == before


def test_a_token_that_expires_during_a_delivery_is_renewed(lab: Lab) -> None:
    """Also if our clock shows no expiry: the machine may have slept."""
    began = time.time()
    late = [0.0]
    sandbox = lab.start(now=lambda: began + late[0], token_life=600.0)
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    time.sleep(PAST_PROPAGATION)
    late[0] = 601
    assert deliver_all(linkedin, audience) == [["delivered"]] * BATCHES
    assert len(sandbox.requests("token")) == 2


def test_a_renewed_token_that_is_refused_at_first_is_not_renewed_again(lab: Lab) -> None:
    """LinkedIn refuses a new token with the code of a revoked one for a while."""
    sandbox = lab.start(token_propagation=0.4)
    linkedin = lab.connect(sandbox, token_timeout=30.0)
    audience = linkedin.create(SPEC)
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]
    after(sandbox, 5, "revoke_access_tokens")
    assert deliver_all(linkedin, audience) == [["delivered"]] * BATCHES
    assert len(sandbox.requests("token")) == 2


@pytest.mark.parametrize(
    "kind", ["500", "429", "502", "503", "bad_json", "403", "not_found", "reset_before", "reset_after"]
)
def test_a_refresh_that_fails_for_a_while_is_retried(lab: Lab, kind: str) -> None:
    """An error status, HTML or an answer that is not OAuth's says nothing about the refresh token."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    time.sleep(PAST_PROPAGATION)
    sandbox.inject(Fault(kind, on="token", times=2))
    sandbox.revoke_access_tokens()
    assert deliver_all(linkedin, audience) == [["delivered"]] * BATCHES
    assert len(sandbox.requests("token")) == 4


def test_a_refresh_that_fails_for_longer_than_the_token_timeout_still_only_defers(lab: Lab) -> None:
    """The token endpoint is down: operations wait, and succeed when it is back, with the same destination."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox, token_timeout=0.1, attempts=1000, retry_timeout=0.6)
    audience = linkedin.create(SPEC)
    assert reasons(linkedin, audience, adds(0)) == ["delivered"]
    time.sleep(PAST_PROPAGATION)
    sandbox.inject(Fault("502", on="token", times=0))
    sandbox.revoke_access_tokens()
    assert reasons(linkedin, audience, adds(1)) == ["oauth_http_502"]
    sandbox.clear_faults()
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]


def test_deferred_outcomes_carry_the_retry_after_of_the_token_endpoint(lab: Lab) -> None:
    """Its `Retry-After` decides when the next attempt is due."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox)
    audience = linkedin.create(SPEC)
    time.sleep(PAST_PROPAGATION)
    sandbox.inject(Fault("503", on="token", times=0, retry_after=3600))
    sandbox.revoke_access_tokens()
    (outcome,) = linkedin.deliver(audience, adds(1), UNCONDITIONAL)
    assert (outcome.reason, outcome.retry_after) == ("oauth_http_503", 3600)


def test_a_token_that_one_endpoint_accepts_and_another_always_refuses_ends_the_run(lab: Lab) -> None:
    """Acceptance by another endpoint does not prolong the retries without end."""
    sandbox = lab.start()
    linkedin = lab.connect(sandbox, token_timeout=0.4)
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("65601", on="users", times=0))
    permit = RevocablePermit()
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(linkedin.deliver, audience, adds(1), permit)
        deadline = time.monotonic() + 10
        while not refused.done() and time.monotonic() < deadline:
            with contextlib.suppress(ConfigurationError):  # an invalid token is invalid for all
                linkedin.find(SPEC, None, permit)
        permit.revoke()
        with pytest.raises(AuthenticationFailed, match=r"Oauth Refresh Failed.*authorise it again"):
            refused.result(10)
    assert len(sandbox.requests("token")) <= 3


def test_a_configured_access_token_is_not_invalid_after_one_refusal(lab: Lab) -> None:
    """It may be as new to LinkedIn as a renewed one."""
    sandbox = lab.start()
    linkedin = lab.connect(
        sandbox, refresh_token=None, access_token=sandbox.settings.access_token, token_propagation=2.0
    )
    audience = linkedin.create(SPEC)
    sandbox.inject(Fault("65601", on="users", times=2))
    assert reasons(linkedin, audience, adds(1)) == ["delivered"]


def test_the_error_for_a_missing_scope_or_role_names_both(lab: Lab) -> None:
    """403 ends the run; the message contains the account, the scope and the sufficient roles."""
    for scopes in (("r_ads",), ("rw_dmp_segments",)):
        sandbox = lab.start(scopes=scopes)
        linkedin = lab.connect(sandbox)
        if scopes == ("rw_dmp_segments",):
            linkedin.create(SPEC)
            sandbox.set_writable(ACCOUNT, False)
        with pytest.raises(AuthenticationFailed) as caught:
            linkedin.deliver(Audience("10804", "user", "x"), adds(1), UNCONDITIONAL)
        for word in (str(ACCOUNT), "rw_dmp_segments", "CAMPAIGN_MANAGER", "VIEWER", "destinations.ads.account_id"):
            assert word in str(caught.value)


def test_a_fetched_token_stays_hidden_during_and_long_after_its_use(lab: Lab) -> None:
    """However many other tokens follow; a worker that runs for years does not keep it without end."""
    linkedin = lab.connect(lab.start())
    linkedin.check()
    token = linkedin._tokens.get(UNCONDITIONAL)

    def others(count: int) -> None:
        for number in range(count):
            redaction.hide_secret(f"another-token-{number}", temporary=True)
            redaction.retire_secret(f"another-token-{number}")

    others(2 * redaction.MAX_RETIRED)
    assert redaction.redact(token) == redaction.REDACTED
    linkedin.close()
    others(redaction.MAX_RETIRED - 1)
    assert redaction.redact(token) == redaction.REDACTED
    others(redaction.MAX_RETIRED)
    assert redaction.redact(token) == token


def test_concurrent_syncs_do_not_invalidate_each_others_tokens(lab: Lab) -> None:
    """With the same credentials one token is fetched for all, even if a refresh invalidates earlier tokens."""
    sandbox = lab.start(refresh_kills_old_tokens=True)
    side_by_side = [lab.connect(sandbox, token_timeout=0.4) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda linkedin: linkedin.check(), side_by_side))
    side_by_side[0].close()
    for linkedin in side_by_side[1:]:
        linkedin.check()
        linkedin.close()
    assert len(sandbox.requests("token")) == 1
    lab.connect(sandbox).check()
    assert len(sandbox.requests("token")) == 2
