"""Rows 33 and 34 of the contract's table: every fault as a client sees it, and what was applied."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.sandbox import Fault, Sandbox, SandboxSettings
from warehouse_sync.sandbox.faults import ERROR_REPLIES, KINDS

HEADERS = {
    "Authorization": "Bearer sandbox-access",
    "LinkedIn-Version": "202609",
    "X-Restli-Protocol-Version": "2.0.0",
    "X-RestLi-Method": "BATCH_CREATE",
}
BODY = {
    "account": "urn:li:sponsoredAccount:507404993",
    "name": "Customers",
    "type": "USER",
    "sourcePlatform": "DIRECT_API",
    "destinations": [{"destination": "LINKEDIN"}],
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(ready_after=0.0)) as running:
        yield running


@pytest.fixture
def segment(sandbox: Sandbox) -> str:
    reply = create(sandbox)
    return str(reply.headers["x-restli-id"])


def create(sandbox: Sandbox, **headers: str) -> Any:
    merged = HEADERS | {"X-RestLi-Method": "CREATE"} | headers
    return requests.post(f"{sandbox.url}/rest/dmpSegments", json=BODY, headers=merged, timeout=300)


def send(
    sandbox: Sandbox, segment: str, *values: str, action: str = "ADD", timeout: float = 10, fault: str = ""
) -> Any:
    elements = [{"action": action, "userIds": [{"idType": "GOOGLE_AID", "idValue": value}]} for value in values]
    headers = HEADERS | ({"X-Sandbox-Fault": fault} if fault else {})
    address = f"{sandbox.url}/rest/dmpSegments/{segment}/users"
    return requests.post(address, json={"elements": elements}, headers=headers, timeout=timeout)


def held(sandbox: Sandbox, segment: str) -> set[str]:
    return {value for ((_, value),) in sandbox.members(segment)}


def statuses(reply: Any) -> list[int]:
    return [element["status"] for element in reply.json()["elements"]]


@pytest.mark.parametrize("kind", sorted({*ERROR_REPLIES, "502", "not_found"}))
def test_an_error_status_applies_nothing_and_passes(sandbox: Sandbox, segment: str, kind: str) -> None:
    sandbox.inject(Fault(kind, on="users"))
    reply = send(sandbox, segment, "a")
    expected = 401 if kind.startswith("656") else 404 if kind == "not_found" else int(kind[:3])
    assert reply.status_code == expected
    assert "Retry-After" not in reply.headers
    assert reply.headers["X-RestLi-Error-Response"] == "true"
    if kind == "502":
        assert reply.headers["Content-Type"] == "text/html"
    else:
        assert reply.json()["status"] == expected
    assert held(sandbox, segment) == set()
    assert statuses(send(sandbox, segment, "a")) == [201]


def test_not_found_names_the_segment_as_linkedin_does(sandbox: Sandbox, segment: str) -> None:
    message = send(sandbox, segment, "a", fault="not_found").json()["message"]
    assert message == f"Could not find DMP segment with ID {segment}"


def test_a_fault_can_send_retry_after(sandbox: Sandbox, segment: str) -> None:
    assert send(sandbox, segment, "a", fault="429:users:retry_after=3").headers["Retry-After"] == "3"


def test_reset_before_applies_nothing_and_reset_after_everything(sandbox: Sandbox, segment: str) -> None:
    sandbox.inject("reset_before:users")
    with pytest.raises(requests.ConnectionError):
        send(sandbox, segment, "a")
    assert held(sandbox, segment) == set()
    sandbox.inject("reset_after:users")
    with pytest.raises(requests.ConnectionError):
        send(sandbox, segment, "a")
    assert held(sandbox, segment) == {"a"}


def test_a_create_whose_answer_is_lost_has_created_the_segment(sandbox: Sandbox) -> None:
    sandbox.inject("reset_after:create")
    with pytest.raises(requests.ConnectionError):
        create(sandbox)
    assert len(sandbox.segments()) == 1


def test_slow_waits_before_applying_and_timeout_after_afterwards(sandbox: Sandbox, segment: str) -> None:
    for kind, applied in (("slow", set()), ("timeout_after", {"a"})):
        sandbox.inject(Fault(kind, on="users", seconds=0.5))
        with pytest.raises(requests.ReadTimeout):
            send(sandbox, segment, "a", timeout=0.2)
        assert held(sandbox, segment) == applied
        if kind == "slow":
            time.sleep(0.6)
            assert held(sandbox, segment) == {"a"}
            send(sandbox, segment, "a", action="REMOVE")
            assert held(sandbox, segment) == set()


def test_a_short_answer_applies_all_elements(sandbox: Sandbox, segment: str) -> None:
    assert statuses(send(sandbox, segment, "a", "b", "c", fault="short_answer:users:count=2")) == [201]
    assert held(sandbox, segment) == {"a", "b", "c"}


def test_a_batch_that_is_cut_short_is_neither_applied_nor_answered_at_its_end(sandbox: Sandbox, segment: str) -> None:
    assert statuses(send(sandbox, segment, "a", "b", "c", fault="cut_short:users:count=2")) == [201]
    assert held(sandbox, segment) == {"a"}


def test_bad_json_is_a_200_that_cannot_be_read(sandbox: Sandbox, segment: str) -> None:
    reply = send(sandbox, segment, "a", fault="bad_json")
    assert reply.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.content)


def test_a_bad_value_is_refused_alone_for_as_long_as_the_fault_is_set(sandbox: Sandbox, segment: str) -> None:
    sandbox.inject(Fault("refuse_elements", on="users", values=frozenset({"bad"})))
    for _ in range(2):
        assert statuses(send(sandbox, segment, "a", "bad", "b")) == [201, 400, 201]
    assert held(sandbox, segment) == {"a", "b"}
    sandbox.clear_faults()
    assert statuses(send(sandbox, segment, "bad")) == [201]


def test_elements_can_be_refused_by_index_and_with_another_status(sandbox: Sandbox, segment: str) -> None:
    reply = send(sandbox, segment, "a", "b", "c", fault="refuse_elements:users:indices=0|2|9:status=503")
    assert statuses(reply) == [503, 201, 503]


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("refuse_batch_named", 422, "Index: 1, ERROR :: / :: the element is not accepted\nIndex: 3, ERROR :: "),
        ("refuse_batch_indices", 400, "indices [1, 3] (0-indexed)"),
        ("refuse_batch_silent", 400, "Bad request"),
    ],
)
def test_a_bad_value_refuses_its_whole_batch(
    sandbox: Sandbox,
    segment: str,
    kind: str,
    status: int,
    message: str,
) -> None:
    sandbox.inject(Fault(kind, on="users", values=frozenset({"bad", "worse"})))
    reply = send(sandbox, segment, "a", "bad", "b", "worse")
    assert reply.status_code == status
    assert message in reply.json()["message"]
    assert held(sandbox, segment) == set()
    assert statuses(send(sandbox, segment, "a", "b")) == [201, 201]


def test_a_batch_fault_does_not_affect_other_requests(sandbox: Sandbox, segment: str) -> None:
    sandbox.inject("refuse_batch_silent:any")
    assert create(sandbox).status_code == 201
    assert send(sandbox, segment, "a").status_code == 400


def test_faults_can_affect_the_token_endpoint(sandbox: Sandbox) -> None:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "sandbox-refresh",
        "client_id": "sandbox",
        "client_secret": "sandbox",
    }
    sandbox.inject("503:token")
    address = f"{sandbox.url}/oauth/v2/accessToken"
    assert [requests.post(address, data=form, timeout=300).status_code for _ in range(2)] == [503, 200]


def test_faults_can_be_set_from_the_start() -> None:
    with Sandbox(SandboxSettings(faults=(Fault("500", on="create"),))) as sandbox:
        assert [create(sandbox).status_code for _ in range(2)] == [500, 201]


def test_an_invalid_fault_header_is_reported_and_applies_nothing(sandbox: Sandbox, segment: str) -> None:
    reply = send(sandbox, segment, "a", fault="earthquake")
    assert reply.status_code == 400
    assert all(kind in reply.json()["message"] for kind in KINDS)
    assert held(sandbox, segment) == set()
    with pytest.raises(ConfigurationError):
        sandbox.inject("earthquake")


def test_the_log_shows_requests_and_their_end_and_no_token(sandbox: Sandbox, segment: str) -> None:
    send(sandbox, segment, "a", "b")
    with pytest.raises(requests.ConnectionError):
        send(sandbox, segment, "a", action="REMOVE", fault="reset_after")
    added, removed = sandbox.requests("users")
    assert (added.method, added.path) == ("POST", f"/rest/dmpSegments/{segment}/users")
    assert (added.status, added.elements, added.action, added.faults) == (200, 2, "ADD", ())
    assert (removed.status, removed.elements, removed.action, removed.faults) == (None, 1, "REMOVE", ("reset_after",))
    assert [record.operation for record in sandbox.requests()] == ["create", "users", "users"]
    assert [record.operation for record in sandbox.requests("segments")] == ["create"]
    assert "sandbox-access" not in str(sandbox.requests())


def test_an_add_beside_a_remove_is_seen_and_answered_by_the_contract(sandbox: Sandbox, segment: str) -> None:
    sandbox.inject(Fault("slow", on="users", action="REMOVE", seconds=0.4))
    remove = threading.Thread(target=send, args=(sandbox, segment, "a"), kwargs={"action": "REMOVE"})
    remove.start()
    while not any(record.action == "REMOVE" for record in sandbox.requests()):
        time.sleep(0.01)
    assert statuses(send(sandbox, segment, "a")) == [201]
    remove.join()
    [sentence] = sandbox.violations()
    assert segment in sentence


def test_an_add_after_an_abandoned_remove_is_no_violation(sandbox: Sandbox, segment: str) -> None:
    sandbox.inject(Fault("slow", on="users", action="REMOVE", seconds=0.4))
    with pytest.raises(requests.ReadTimeout):
        send(sandbox, segment, "a", action="REMOVE", timeout=0.1)
    assert statuses(send(sandbox, segment, "a")) == [201]
    time.sleep(0.5)
    assert held(sandbox, segment) == set()
    assert sandbox.violations() == []


def test_a_mixed_batch_is_seen_and_answered_by_the_contract(sandbox: Sandbox, segment: str) -> None:
    elements = [
        {"action": action, "userIds": [{"idType": "GOOGLE_AID", "idValue": value}]}
        for action, value in (("ADD", "a"), ("REMOVE", "b"))
    ]
    address = f"{sandbox.url}/rest/dmpSegments/{segment}/users"
    reply = requests.post(address, json={"elements": elements}, headers=HEADERS, timeout=300)
    assert statuses(reply) == [201, 201]
    [sentence] = sandbox.violations()
    assert "mixes" in sentence
