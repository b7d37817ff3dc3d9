"""The bytes of requests to LinkedIn, and what malformed answers lead to."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.worlds.linkedin import RevocablePermit

from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.http import HTTPClient, NoResponse


class Recorder(ThreadingHTTPServer):
    """Answers every request with `reply`, which a test sets, and records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict[str, Any]] = []
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
        self.server.received.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
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
def client(server: Recorder) -> Iterator[HTTPClient]:
    opened = HTTPClient(LinkedInSettings(account_id=1, api_url=server.url, oauth_url=server.url, api_version="202608"))
    yield opened
    opened.close()


def test_a_batch_has_every_header_that_linkedin_requires(server: Recorder, client: HTTPClient) -> None:
    client.request(
        "POST", "/rest/dmpSegments/7/users", token="t0ken", body=b'{"elements":[]}', restli_method="BATCH_CREATE"
    )
    received = server.received[0]
    assert received["body"] == b'{"elements":[]}'
    expected = {
        "authorization": "Bearer t0ken",
        "linkedin-version": "202608",
        "x-restli-protocol-version": "2.0.0",
        "x-restli-method": "BATCH_CREATE",
        "content-type": "application/json",
        "content-length": "15",
        "accept-encoding": "identity",
    }
    assert {name: received["headers"].get(name) for name in expected} == expected


def test_the_finders_query_is_percent_encoded(server: Recorder, client: HTTPClient) -> None:
    client.request("GET", "/rest/dmpSegments", token="t", query={"account": "urn:li:sponsoredAccount:1", "x": "a b(c)"})
    assert server.received[0]["path"] == "/rest/dmpSegments?account=urn%3Ali%3AsponsoredAccount%3A1&x=a%20b%28c%29"


def test_a_refresh_is_a_form_without_the_headers_of_the_api(server: Recorder, client: HTTPClient) -> None:
    client.request("POST", "/oauth/v2/accessToken", form={"grant_type": "refresh_token", "refresh_token": "a/b+c="})
    received = server.received[0]
    assert received["body"] == b"grant_type=refresh_token&refresh_token=a%2Fb%2Bc%3D"
    assert received["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert not {"authorization", "linkedin-version"} & set(received["headers"])


def test_a_netrc_does_not_replace_our_token(
    server: Recorder, client: HTTPClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client.request("GET", "/rest/dmpSegments/7", token="t0ken")
    assert server.received[0]["headers"]["authorization"] == "Bearer t0ken"


def test_connections_are_kept_alive_and_cookies_are_not(server: Recorder, client: HTTPClient) -> None:
    server.reply = (200, {"Set-Cookie": "lidc=1"}, b"{}")
    for _ in range(3):
        client.request("GET", "/rest/dmpSegments/7", token="t")
    assert len(server.connections) == 1
    assert not any("cookie" in received["headers"] for received in server.received)


@pytest.mark.parametrize("name", ["x-restli-id", "X-RestLi-Id", "X-LinkedIn-Id", "x-linkedin-id"])
def test_the_created_id_is_read_from_either_header(server: Recorder, client: HTTPClient, name: str) -> None:
    server.reply = (201, {name: "10804"}, b"")
    response = client.request("POST", "/rest/dmpSegments", token="t", body=b"{}")
    assert (response.status, response.created_id, response.json) == (201, "10804", None)


def test_a_body_that_is_not_json_is_kept_as_its_beginning(server: Recorder, client: HTTPClient) -> None:
    server.reply = (502, {"Content-Type": "text/html"}, b"<html>" + b"x" * 9000)
    response = client.request("GET", "/rest/dmpSegments/7", token="t")
    assert (response.status, response.json, len(response.text)) == (502, None, 400)


def test_a_redirect_is_an_answer_and_not_followed(server: Recorder, client: HTTPClient) -> None:
    server.reply = (302, {"Location": "http://127.0.0.1:9/"}, b"")
    assert client.request("GET", "/rest/dmpSegments/7", token="t").status == 302
    assert len(server.received) == 1


def test_a_redirect_to_an_invalid_address_is_no_answer(server: Recorder, client: HTTPClient) -> None:
    """An answer that the library cannot read is a failure of the connection, not an error of ours."""
    server.reply = (302, {"Location": "http://[::1"}, b"")
    with pytest.raises(NoResponse) as caught:
        client.request("GET", "/rest/dmpSegments/7", token="t")
    assert caught.value.reason == "connection"


@pytest.mark.parametrize("token", ["sec\nret", "sec\rret"])
def test_no_failure_quotes_the_token(client: HTTPClient, token: str) -> None:
    with pytest.raises(NoResponse) as caught:
        client.request("GET", "/rest/dmpSegments/7", token=token)
    assert caught.value.__context__ is None
    assert "sec" not in str(caught.value)


def test_a_closed_port_is_a_connection_failure() -> None:
    client = HTTPClient(LinkedInSettings(account_id=1, api_url="http://127.0.0.1:9"))
    with pytest.raises(NoResponse) as caught:
        client.request("GET", "/rest/dmpSegments/7", token="t")
    assert caught.value.reason == "connection"
    client.close()


HEAD = b"HTTP/1.1 200 OK\r\nX: y\r\n"
TRICKLES = {
    "headers": (HEAD[:12], HEAD[12:] + b"Content-Length: 2\r\n\r\n{}"),
    "body": (HEAD + b"Content-Length: 900\r\n\r\n", b"[" * 900),
    "a body without length": (HEAD + b"Connection: close\r\n\r\n", b"1" * 900),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n1\r\n" * 300),
    "nothing": (b"", b""),
}


class Trickler:
    """Sends the head of an answer at once and then one byte every `gap` seconds; reads the request if it `listens`."""

    def __init__(self, at_once: bytes, then: bytes, *, gap: float = 0.05, listens: bool = True) -> None:
        self._bytes = (at_once, then)
        self._gap = gap
        self._listens = listens
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._socket.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        at_once, then = self._bytes
        with contextlib.suppress(OSError), connection:
            if self._listens:
                connection.recv(65536)
            connection.sendall(at_once)
            for byte in then:
                if self._over.wait(self._gap):
                    return
                connection.sendall(bytes([byte]))
            self._over.wait()

    def close(self) -> None:
        self._over.set()
        self._socket.close()


@pytest.fixture
def trickle() -> Iterator[Callable[..., tuple[Trickler, HTTPClient]]]:
    with contextlib.ExitStack() as stack:

        def start(
            at_once: bytes, then: bytes, *, answer_timeout: float = 0.4, **how: Any
        ) -> tuple[Trickler, HTTPClient]:
            server = Trickler(at_once, then, **how)
            stack.callback(server.close)
            client = HTTPClient(LinkedInSettings(account_id=1, api_url=server.url, answer_timeout=answer_timeout))
            stack.callback(client.close)
            return server, client

        yield start


@pytest.mark.parametrize("part", TRICKLES)
def test_an_answer_in_single_bytes_is_aborted_at_the_deadline(
    trickle: Callable[..., tuple[Trickler, HTTPClient]], part: str
) -> None:
    """Each byte is in time, the whole is not. What was received is no answer, even if it looks complete."""
    _, client = trickle(*TRICKLES[part])
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(NoResponse) as caught:
            client.request("GET", "/rest/dmpSegments/7", token="t")
        assert 0.35 < time.monotonic() - started < 2
        assert caught.value.reason == "timeout"


def test_a_request_that_the_server_does_not_read_is_aborted_at_the_deadline(
    trickle: Callable[..., tuple[Trickler, HTTPClient]],
) -> None:
    """The deadline counts from the start of the request, not from its end."""
    _, client = trickle(b"", b"", listens=False)
    started = time.monotonic()
    with pytest.raises(NoResponse) as caught:
        client.request("POST", "/rest/dmpSegments/7/users", token="t", body=b"x" * 50_000_000)
    assert time.monotonic() - started < 3
    assert caught.value.reason == "timeout"


def test_an_answer_in_single_bytes_before_the_deadline_is_complete(
    trickle: Callable[..., tuple[Trickler, HTTPClient]],
) -> None:
    """The deadline is for the whole answer; single bytes are no failure by themselves."""
    _, client = trickle(HEAD + b"Content-Length: 9\r\n\r\n", b"[1, 2, 3]", gap=0.01, answer_timeout=5.0)
    assert client.request("GET", "/rest/dmpSegments/7", token="t").json == [1, 2, 3]


def test_an_aborted_request_does_not_affect_others(server: Recorder) -> None:
    """Of many concurrent requests on pooled connections only the late ones are aborted."""
    count = itertools.count()
    slow_every = 5

    class Sluggish(Handler):
        def _answer(self) -> None:
            if next(count) % slow_every == 0:
                time.sleep(0.6)
            with contextlib.suppress(ConnectionError):
                super()._answer()

        do_GET = do_POST = _answer  # noqa: N815

    server.RequestHandlerClass = Sluggish
    client = HTTPClient(LinkedInSettings(account_id=1, api_url=server.url, answer_timeout=0.3, max_in_flight=4))

    def ask(number: int) -> str:
        try:
            return str(client.request("GET", f"/rest/dmpSegments/{number}", token="t").status)
        except NoResponse as silence:
            return silence.reason

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(ask, range(60)))
    client.close()
    assert statuses.count("timeout") == 60 / slow_every
    assert statuses.count("200") == 60 - 60 / slow_every


@pytest.mark.parametrize("warm", [True, False], ids=["on an open connection", "on a new one"])
def test_a_request_whose_permit_is_not_valid_does_not_leave(server: Recorder, warm: bool) -> None:
    """A worker that was suspended until its lease had expired sends no byte of a prepared request."""
    permit = RevocablePermit()
    client = HTTPClient(LinkedInSettings(account_id=1, api_url=server.url, oauth_url=server.url))
    with contextlib.closing(client):
        if warm:
            client.request("POST", "/x", permit=permit, token="t", body=b"{}")
        before = len(server.received)
        permit.is_revoked = True
        with pytest.raises(NoResponse, match="connection"):
            client.request("POST", "/x", permit=permit, token="t", body=b"{}")
        assert len(server.received) == before
        permit.is_revoked = False
        assert client.request("POST", "/x", permit=permit, token="t", body=b"{}").status == 200
