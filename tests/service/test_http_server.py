"""The health server, as a kubelet, Prometheus and unknown clients use it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.service import http_server
from warehouse_sync.service.http_server import HealthServer


class Worker:
    """The state that the server reports."""

    alive = True
    ready: str | None = None
    output = b"# HELP x\n"


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def server(worker: Worker) -> Iterator[HealthServer]:
    with HealthServer(
        0,
        "127.0.0.1",
        is_alive=lambda: worker.alive,
        not_ready_reason=lambda: worker.ready,
        metrics=lambda: worker.output,
    ) as running:
        yield running


def ask(server: HealthServer, path: str, method: str = "GET") -> requests.Response:
    return requests.request(method, f"http://127.0.0.1:{server.port}{path}", timeout=(300, 300))


def test_the_probes_report_the_state_of_the_worker(worker: Worker, server: HealthServer) -> None:
    """200 if all is well, otherwise 503 with one sentence; each probe independently."""
    assert [ask(server, path).status_code for path in ("/healthz", "/readyz", "/readyz?verbose")] == [200, 200, 200]
    worker.ready = "the warehouse analytics cannot be reached"
    answer = ask(server, "/readyz")
    assert (answer.status_code, answer.text) == (503, "the warehouse analytics cannot be reached\n")
    assert ask(server, "/healthz").status_code == 200
    worker.alive, worker.ready = False, None
    assert ask(server, "/healthz").status_code == 503
    assert ask(server, "/readyz").status_code == 200


def test_metrics_are_what_prometheus_expects(worker: Worker, server: HealthServer) -> None:
    answer = ask(server, "/metrics")
    assert answer.content == worker.output
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    head = ask(server, "/metrics", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(worker.output))


def test_nothing_else_is_answered(server: HealthServer) -> None:
    """No other path or method, and no version of any software is shown."""
    assert ask(server, "/").status_code == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/healthz", method).status_code == 501
    assert "Python" not in str(ask(server, "/").headers)


def test_a_check_that_raises_is_answered_too(server: HealthServer, worker: Worker) -> None:
    del Worker.output
    try:
        assert ask(server, "/metrics").status_code == 500
    finally:
        Worker.output = b"# HELP x\n"
    assert ask(server, "/metrics").status_code == 200


def test_idle_clients_do_not_block_others_for_long(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle and slow connections are closed after their timeout, and their number is limited."""
    monkeypatch.setattr(http_server._Handler, "timeout", 0.3)
    monkeypatch.setattr(http_server, "CONNECTION_TIMEOUT", 0.5)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * http_server.MAX_CONNECTIONS)]
    for _ in range(7):
        for client in clients[::2]:
            with suppress(OSError):
                client.send(b"G")
        time.sleep(0.1)
    assert ask(server, "/healthz").status_code == 200
    for client in clients:
        client.close()


def test_a_taken_port_is_a_configuration_error(server: HealthServer, worker: Worker) -> None:
    """And a port is free again when its server has stopped."""
    with pytest.raises(ConfigurationError, match=f"{server.port}.*choose another port"):
        HealthServer(server.port, "127.0.0.1", is_alive=bool, not_ready_reason=lambda: None, metrics=bytes)
    port = server.port
    server.stop()
    again = HealthServer(port, "127.0.0.1", is_alive=lambda: True, not_ready_reason=lambda: None, metrics=bytes)
    with again:
        assert ask(again, "/healthz").status_code == 200
