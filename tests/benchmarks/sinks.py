"""Sinks in processes of their own: start one, read its counts, and measure its maximum speed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen

from benchmarks.measuring import module_command, module_environment
from benchmarks.sink import ACCOUNT, SEGMENT

CONNECTIONS = 8
ACTIONS = ("ADD", "REMOVE")
SANDBOX_HEADERS = (
    "Authorization: Bearer sandbox-access\r\nLinkedIn-Version: 202609\r\nX-Restli-Protocol-Version: 2.0.0\r\n"
    "Content-Type: application/json\r\n"
)
"""The headers that the sandbox requires."""


@dataclass(frozen=True)
class Counts:
    """What a sink received since the last reset.

    Attributes:
        add: The elements of ADD batches.
        remove: The elements of REMOVE batches.
        batches: The number of batches.
        requests: The number of requests.
        bytes: The size of all batches.
        unclear: The elements of batches whose first action is neither ADD nor REMOVE.
        cpu_seconds: The processor seconds of the sink since its start.
    """

    add: int
    remove: int
    batches: int
    requests: int
    bytes: int
    unclear: int
    cpu_seconds: float


@dataclass(frozen=True)
class RunningSink:
    """A sink in a process of its own.

    Attributes:
        url: Its URL.
        segment: The id of the audience that accepts members.
    """

    url: str
    segment: int = SEGMENT

    def counts(self) -> Counts:
        """Return what was received since the last reset."""
        with urlopen(f"{self.url}/counts") as answer:
            return Counts(**json.load(answer))

    def reset(self) -> None:
        """Set the counts to zero."""
        with urlopen(f"{self.url}/reset", data=b"") as answer:
            answer.read()


@contextmanager
def running_sink(*, per_minute: int = 0) -> Iterator[RunningSink]:
    """Run a sink during the block."""
    process = subprocess.Popen(
        module_command("sink", "--per-minute", str(per_minute)),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **module_environment()},
    )
    try:
        assert process.stdout is not None
        yield RunningSink(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.terminate()
        process.wait()


class RunningSandbox(RunningSink):
    """A sandbox in a process of its own, which counts from its start and cannot be reset."""

    def counts(self) -> Counts:
        with urlopen(f"{self.url}/_sandbox/requests") as answer:
            accepted = [each for each in json.load(answer) if each["status"] in (200, 201)]
        batches = [each for each in accepted if each["operation"] == "users"]
        sums = {action: sum(each["elements"] for each in batches if each["action"] == action) for action in ACTIONS}
        return Counts(sums["ADD"], sums["REMOVE"], len(batches), len(accepted), 0, 0, 0.0)

    def reset(self) -> None:
        pass


@contextmanager
def running_sandbox() -> Iterator[RunningSink]:
    """Run `warehouse-sync sandbox` with an empty audience during the block; it accepts 600 requests a minute."""
    process = subprocess.Popen(
        [sys.executable, "-m", "warehouse_sync", "sandbox", "--port", "0", "--ready-after", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **module_environment()},
    )
    try:
        assert process.stdout is not None
        found = next(found for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        create = Request(
            f"{found[0]}/rest/dmpSegments",
            json.dumps(
                {
                    "account": ACCOUNT,
                    "name": "Benchmark",
                    "type": "USER",
                    "sourcePlatform": "DIRECT_API",
                    "destinations": [{"destination": "LINKEDIN"}],
                }
            ).encode(),
            dict(line.split(": ") for line in SANDBOX_HEADERS.strip().splitlines()),
        )
        with urlopen(create) as answer:
            yield RunningSandbox(found[0], int(answer.headers["x-restli-id"]))
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Ceiling:
    """The speed of a sink for batches of 5,000 from a client that only sends."""

    members_per_second: float
    mb_per_second: float


def measure_ceiling(sink: RunningSink, *, batches: int = 400) -> Ceiling:
    """Measure the maximum speed of a sink with prebuilt bodies, over as many connections as the worker has."""
    body = b'{"elements":[' + b",".join([_element()] * 5000) + b"]}"
    port = int(sink.url.rpartition(":")[2])
    head = (
        f"POST /rest/dmpSegments/{sink.segment}/users HTTP/1.1\r\nHost: 127.0.0.1\r\n{SANDBOX_HEADERS}"
        f"X-RestLi-Method: BATCH_CREATE\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    sink.reset()

    def send() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as answers:
                for _ in range(batches // CONNECTIONS):
                    connection.sendall(head)
                    connection.sendall(body)
                    size = 0
                    while (line := answers.readline()) != b"\r\n":
                        if line.startswith(b"Content-Length:"):
                            size = int(line.split()[1])
                    answers.read(size)

    threads = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    counts = sink.counts()
    assert counts.add == batches // CONNECTIONS * CONNECTIONS * 5000, counts
    return Ceiling(counts.add / seconds, counts.batches * len(body) / seconds / 1e6)


def _element() -> bytes:
    """Return an element of typical length, as the worker writes it."""
    return json.dumps(
        {
            "action": "ADD",
            "userIds": [{"idType": "SHA256_EMAIL", "idValue": "0123456789abcdef" * 4}],
            "firstName": "Alexander",
            "lastName": "Blackwood",
            "title": "Chief Information Officer",
            "company": "Northwind Logistics GmbH",
            "country": "DE",
        },
        separators=(",", ":"),
    ).encode()
