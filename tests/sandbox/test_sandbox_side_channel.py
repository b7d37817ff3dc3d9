"""The sandbox's side channel, and its life and death as a server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from warehouse_sync.sandbox import Sandbox, SandboxSettings

HEADERS = {"Authorization": "Bearer sandbox-access", "LinkedIn-Version": "202609"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(ready_after=0.0)) as running:
        yield running


@pytest.fixture
def segment(sandbox: Sandbox) -> str:
    body = {
        "account": "urn:li:sponsoredAccount:507404993",
        "name": "Customers",
        "type": "USER",
        "sourcePlatform": "DIRECT_API",
        "destinations": [{"destination": "LINKEDIN"}],
    }
    reply = requests.post(f"{sandbox.url}/rest/dmpSegments", json=body, headers=HEADERS, timeout=300)
    made = reply.headers["x-linkedin-id"]
    user_ids = [{"idType": "GOOGLE_AID", "idValue": "x"}, {"idType": "SHA256_EMAIL", "idValue": "a" * 64}]
    elements = [{"action": "ADD", "userIds": user_ids, "title": "Dr"}]
    requests.post(
        f"{sandbox.url}/rest/dmpSegments/{made}/users",
        json={"elements": elements},
        headers=HEADERS | {"X-RestLi-Method": "BATCH_CREATE"},
        timeout=300,
    )
    return str(made)


def side(sandbox: Sandbox, method: str, path: str, **rest: Any) -> Any:
    return requests.request(method, f"{sandbox.url}/_sandbox/{path}", timeout=300, **rest)


def test_state_shows_segments_and_violations(sandbox: Sandbox, segment: str) -> None:
    shown = side(sandbox, "GET", "state").json()
    assert shown["url"] == sandbox.url
    assert [(each["id"], each["members"], each["status"]) for each in shown["segments"]] == [
        (int(segment), 1, "BUILDING"),
    ]
    assert shown["requests"] == 2
    assert (shown["violations"], shown["faults"]) == ([], [])


def test_members_are_shown_under_every_reading(sandbox: Sandbox, segment: str) -> None:
    device, email = {"idType": "GOOGLE_AID", "idValue": "x"}, {"idType": "SHA256_EMAIL", "idValue": "a" * 64}
    path = f"segments/{segment}/members"
    for reading in ("elements", "persons"):
        shown = side(sandbox, "GET", path, params={"reading": reading}).json()
        assert shown["members"] == [{"identifiers": [device, email], "fields": {"title": "Dr"}}]
    shown = side(sandbox, "GET", path, params={"reading": "identifiers"}).json()
    assert shown["count"] == 2
    assert [member["identifiers"] for member in shown["members"]] == [[device], [email]]
    assert side(sandbox, "GET", path, params={"reading": "tea leaves"}).status_code == 400
    assert side(sandbox, "GET", "segments/1/members").status_code == 404


def test_the_log_is_shown_without_tokens(sandbox: Sandbox, segment: str) -> None:
    reply = side(sandbox, "GET", "requests", params={"kind": "users"})
    [record] = reply.json()
    assert (record["method"], record["status"], record["elements"], record["action"]) == ("POST", 200, 1, "ADD")
    assert "sandbox-access" not in reply.text


def test_faults_are_set_and_cleared(sandbox: Sandbox, segment: str) -> None:
    def find() -> int:
        address = f"{sandbox.url}/rest/dmpSegments/{segment}"
        return requests.get(address, headers=HEADERS, timeout=300).status_code

    for content in ({"fault": "503:get"}, "503:get", {"kind": "503", "on": "get"}, [{"fault": "503:get"}]):
        assert side(sandbox, "POST", "faults", json=content).status_code == 204
        assert [find(), find()] == [503, 200]
    side(sandbox, "POST", "faults", json={"fault": "503:get:times=0"})
    assert side(sandbox, "GET", "state").json()["faults"][0]["kind"] == "503"
    assert side(sandbox, "DELETE", "faults").status_code == 204
    assert find() == 200
    assert side(sandbox, "POST", "faults", json={"fault": "earthquake"}).status_code == 400
    assert side(sandbox, "POST", "faults", json=5).status_code == 400


def test_a_status_is_forced_and_expired_deletes_the_members(sandbox: Sandbox, segment: str) -> None:
    path = f"segments/{segment}/status"
    for status in ("ARCHIVED", "FAILED"):
        assert side(sandbox, "POST", path, json={"status": status}).status_code == 204
        assert sandbox.segments()[0]["status"] == status
        assert len(sandbox.members(segment)) == 1
    side(sandbox, "POST", path, json={"status": "EXPIRED"})
    assert sandbox.segments()[0]["status"] == "EXPIRED"
    assert side(sandbox, "POST", path, json={"status": "ARCHIVED"}).status_code == 400
    assert sandbox.segments()[0]["status"] == "EXPIRED"
    assert sandbox.members(segment) == {}
    assert side(sandbox, "POST", path, json={"status": "TIRED"}).status_code == 400
    assert side(sandbox, "POST", "segments/1/status", json={"status": "READY"}).status_code == 404


def test_tokens_and_roles_are_revoked(sandbox: Sandbox, segment: str) -> None:
    def delete() -> int:
        address = f"{sandbox.url}/rest/dmpSegments/{segment}"
        return requests.delete(address, headers=HEADERS, timeout=300).status_code

    assert side(sandbox, "POST", "accounts/507404993/role", json={"writable": False}).status_code == 204
    assert delete() == 403
    assert side(sandbox, "POST", "tokens/revoke").status_code == 204
    assert delete() == 401
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "sandbox-refresh",
        "client_id": "sandbox",
        "client_secret": "sandbox",
    }
    address = f"{sandbox.url}/oauth/v2/accessToken"
    assert requests.post(address, data=form, timeout=300).status_code == 200
    side(sandbox, "POST", "tokens/revoke", json={"refresh": True})
    assert requests.post(address, data=form, timeout=300).json()["error"] == "invalid_grant"


def test_unknown_paths_are_not_found(sandbox: Sandbox) -> None:
    assert side(sandbox, "GET", "cellar").status_code == 404
    assert side(sandbox, "DELETE", "state").status_code == 404


def test_stopping_leaves_no_thread_and_no_open_connection() -> None:
    before = set(threading.enumerate())
    sandbox = Sandbox().start()
    port = int(sandbox.url.rpartition(":")[2])
    session = requests.Session()
    session.get(f"{sandbox.url}/_sandbox/state", timeout=300)
    idle = socket.create_connection(("127.0.0.1", port))
    sandbox.inject("slow:get:seconds=60")

    def wait_for_an_answer() -> None:
        with pytest.raises(requests.ConnectionError):
            session.get(f"{sandbox.url}/rest/dmpSegments/1")

    waiting = threading.Thread(target=wait_for_an_answer)
    waiting.start()
    while not sandbox.requests():
        time.sleep(0.01)
    started = time.monotonic()
    sandbox.stop()
    sandbox.stop()
    waiting.join()
    assert time.monotonic() - started < 30
    assert idle.recv(1) == b""
    idle.close()
    session.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError):
        _ = sandbox.url


def test_members_are_kept_when_the_server_restarts(sandbox: Sandbox, segment: str) -> None:
    sandbox.stop()
    assert len(sandbox.members(segment)) == 1
    sandbox.start()
    assert side(sandbox, "GET", "state").json()["segments"][0]["id"] == int(segment)


def test_serve_forever_returns_when_stopped() -> None:
    sandbox = Sandbox()
    serving = threading.Thread(target=sandbox.serve_forever)
    serving.start()
    for _ in range(10_000):
        try:
            assert requests.get(f"{sandbox.url}/_sandbox/state", timeout=300).status_code == 200
            break
        except RuntimeError:
            time.sleep(0.01)
    sandbox.stop()
    serving.join(300)
    assert not serving.is_alive()


def test_a_port_in_use_is_an_os_error(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError):
        Sandbox(SandboxSettings(port=port)).start()
