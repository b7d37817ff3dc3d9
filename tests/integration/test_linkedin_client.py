"""What leaves for LinkedIn byte by byte, and what comes back when an answer is odd."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from warehouse_sync.destinations.linkedin.client import Client, NoAnswer
from warehouse_sync.destinations.linkedin.settings import LinkedInSettings


class Recorder(ThreadingHTTPServer):
    """Answers every request with what a test has put into `reply`, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self.reply: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
        self.server.connections.add(self.client_address)
        status, reply_headers, content = self.server.reply
        self.send_response(status)
        for name, value in reply_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield recorder
    recorder.shutdown()
    thread.join()
    recorder.server_close()


@pytest.fixture
def client(server: Recorder) -> Iterator[Client]:
    opened = Client(LinkedInSettings(account_id=1, api_url=server.url, oauth_url=server.url, api_version="202608"))
    yield opened
    opened.close()


def test_a_batch_carries_every_header_that_linkedin_wants(server: Recorder, client: Client) -> None:
    client.request(
        "POST", "/rest/dmpSegments/7/users", token="t0ken", body=b'{"elements":[]}', restli_method="BATCH_CREATE"
    )
    asked = server.asked[0]
    assert asked["body"] == b'{"elements":[]}'
    expected = {
        "authorization": "Bearer t0ken",
        "linkedin-version": "202608",
        "x-restli-protocol-version": "2.0.0",
        "x-restli-method": "BATCH_CREATE",
        "content-type": "application/json",
        "content-length": "15",
        "accept-encoding": "identity",
    }
    assert {name: asked["headers"].get(name) for name in expected} == expected


def test_the_finders_query_is_percent_encoded(server: Recorder, client: Client) -> None:
    client.request("GET", "/rest/dmpSegments", token="t", query={"account": "urn:li:sponsoredAccount:1", "x": "a b(c)"})
    assert server.asked[0]["path"] == "/rest/dmpSegments?account=urn%3Ali%3AsponsoredAccount%3A1&x=a%20b%28c%29"


def test_a_refresh_is_a_form_without_the_headers_of_the_api(server: Recorder, client: Client) -> None:
    client.request("POST", "/oauth/v2/accessToken", form={"grant_type": "refresh_token", "refresh_token": "a/b+c="})
    asked = server.asked[0]
    assert asked["body"] == b"grant_type=refresh_token&refresh_token=a%2Fb%2Bc%3D"
    assert asked["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert not {"authorization", "linkedin-version"} & set(asked["headers"])


def test_a_netrc_does_not_replace_our_token(
    server: Recorder, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client.request("GET", "/rest/dmpSegments/7", token="t0ken")
    assert server.asked[0]["headers"]["authorization"] == "Bearer t0ken"


def test_connections_are_kept_alive_and_cookies_are_not(server: Recorder, client: Client) -> None:
    server.reply = (200, {"Set-Cookie": "lidc=1"}, b"{}")
    for _ in range(3):
        client.request("GET", "/rest/dmpSegments/7", token="t")
    assert len(server.connections) == 1
    assert not any("cookie" in asked["headers"] for asked in server.asked)


@pytest.mark.parametrize("name", ["x-restli-id", "X-RestLi-Id", "X-LinkedIn-Id", "x-linkedin-id"])
def test_the_created_id_is_read_from_either_header(server: Recorder, client: Client, name: str) -> None:
    server.reply = (201, {name: "10804"}, b"")
    response = client.request("POST", "/rest/dmpSegments", token="t", body=b"{}")
    assert (response.status, response.created_id, response.json) == (201, "10804", None)


def test_a_body_that_is_not_json_is_kept_as_its_beginning(server: Recorder, client: Client) -> None:
    server.reply = (502, {"Content-Type": "text/html"}, b"<html>" + b"x" * 9000)
    response = client.request("GET", "/rest/dmpSegments/7", token="t")
    assert (response.status, response.json, len(response.text)) == (502, None, 400)


def test_a_redirect_is_an_answer_and_not_followed(server: Recorder, client: Client) -> None:
    server.reply = (302, {"Location": "http://127.0.0.1:9/"}, b"")
    assert client.request("GET", "/rest/dmpSegments/7", token="t").status == 302
    assert len(server.asked) == 1


@pytest.mark.parametrize("token", ["sec\nret", "sec\rret"])
def test_no_failure_quotes_the_token(client: Client, token: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        client.request("GET", "/rest/dmpSegments/7", token=token)
    assert caught.value.__context__ is None
    assert "sec" not in str(caught.value)


def test_nobody_listening_is_a_matter_of_the_connection() -> None:
    client = Client(LinkedInSettings(account_id=1, api_url="http://127.0.0.1:9"))
    with pytest.raises(NoAnswer) as caught:
        client.request("GET", "/rest/dmpSegments/7", token="t")
    assert caught.value.reason == "connection"
    client.close()
