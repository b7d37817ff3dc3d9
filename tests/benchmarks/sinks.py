"""The sink as its users see it: a process to be started, counts to be read, and its own ceiling."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import urlopen

from benchmarks.measuring import module, search_path
from benchmarks.sink import SEGMENT

CONNECTIONS = 8


@dataclass(frozen=True)
class Counts:
    """What came in since the last reset. unclear: elements of batches that say neither ADD nor REMOVE first."""

    add: int
    remove: int
    batches: int
    requests: int
    bytes: int
    unclear: int
    cpu_seconds: float


@dataclass(frozen=True)
class RunningSink:
    """A sink in a process of its own."""

    url: str

    def counts(self) -> Counts:
        """What came in since the last reset; cpu_seconds since the start."""
        with urlopen(f"{self.url}/counts") as answer:
            return Counts(**json.load(answer))

    def reset(self) -> None:
        """Begin to count anew."""
        with urlopen(f"{self.url}/reset", data=b"") as answer:
            answer.read()


@contextmanager
def running_sink(*, per_minute: int = 0) -> Iterator[RunningSink]:
    """A sink for the time of the block."""
    process = subprocess.Popen(
        module("sink", "--per-minute", str(per_minute)), stdout=subprocess.PIPE, text=True, env=search_path()
    )
    try:
        assert process.stdout is not None
        yield RunningSink(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Ceiling:
    """How fast the sink takes batches of 5,000 from a client that has nothing else to do."""

    members_per_second: float
    mb_per_second: float


def ceiling(sink: RunningSink, *, batches: int = 400) -> Ceiling:
    """Send prebuilt bodies over as many connections as the worker has, from plain sockets."""
    body = b'{"elements":[' + b",".join([_element()] * 5000) + b"]}"
    port = int(sink.url.rpartition(":")[2])
    head = (
        f"POST /rest/dmpSegments/{SEGMENT}/users HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
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
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    counts = sink.counts()
    assert counts.add == batches // CONNECTIONS * CONNECTIONS * 5000, counts
    return Ceiling(counts.add / seconds, counts.bytes / seconds / 1e6)


def _element() -> bytes:
    """An element as the worker writes it, of the usual length."""
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
