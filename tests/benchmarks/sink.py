"""A fake LinkedIn that answers at once, so that the measured cost is that of the sender.

It accepts and counts all elements without parsing them: an element has `"action"` once, as a key, and a value with this
text has its quotes escaped. `python -m benchmarks.sink` prints its port and serves until it is terminated;
`GET /counts` returns what was received since the last `POST /reset`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import socket
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

ACCOUNT = "urn:li:sponsoredAccount:507404993"
SEGMENT = 10804
"""The audience that exists from the start, because a new one takes five seconds."""

ELEMENT, ADD, REMOVE = b'"action"', b'"ADD"', b'"REMOVE"'
MAX_HEAD_SIZE = 64 * 1024


class Sink:
    """Counts of received elements, and segments. Thread-safe."""

    def __init__(self, per_minute: int = 0) -> None:
        """Create a sink.

        Args:
            per_minute: The number of batches to answer in a minute, one after another; 0 answers at once.
        """
        self._lock = threading.Lock()
        self._seconds_each = 60 / per_minute if per_minute else 0.0
        self._next_answer_at = 0.0
        self._ids = itertools.count(SEGMENT + 1)
        self._bodies: dict[int, bytes] = {}
        self.segments = {SEGMENT: {"name": "Benchmark", "sourceSegmentId": "benchmark", "sourcePlatform": "DIRECT_API"}}
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self.counts = dict.fromkeys(("add", "remove", "batches", "requests", "bytes", "unclear"), 0)

    def take(self, body: bytearray, size: int) -> bytes:
        """Count the batch in the first `size` bytes of `body`; return the answer."""
        elements = body.count(ELEMENT, 0, size)
        first = body.find(ELEMENT, 0, size) + len(ELEMENT)
        kind = body[first : first + 16].lstrip(b": ")
        name = "add" if kind.startswith(ADD) else "remove" if kind.startswith(REMOVE) else "unclear"
        with self._lock:
            self.counts[name] += elements
            self.counts["batches"] += 1
            self.counts["bytes"] += size
            answer_at = self._next_answer_at = max(time.monotonic(), self._next_answer_at + self._seconds_each)
        if self._seconds_each:
            time.sleep(max(0.0, answer_at - time.monotonic()))
        if elements not in self._bodies:
            self._bodies[elements] = _answer(200, b'{"elements":[' + b",".join([b'{"status":201}'] * elements) + b"]}")
        return self._bodies[elements]

    def answer(self, method: str, target: str, body: bytearray, size: int) -> bytes:
        """Return the answer to a request."""
        parts = urlsplit(target)
        if method == "POST" and parts.path.endswith(("/users", "/companies")):
            with self._lock:
                self.counts["requests"] += 1
            return self.take(body, size)
        if parts.path == "/counts":
            with self._lock:
                times = os.times()
                return _json({**self.counts, "cpu_seconds": times.user + times.system})
        if parts.path == "/reset":
            self.reset()
            return _json({})
        with self._lock:
            self.counts["requests"] += 1
        if parts.path == "/oauth/v2/accessToken":
            return _json({"access_token": "benchmark" * 50, "expires_in": 5184000, "scope": "rw_dmp_segments"})
        if parts.path == "/rest/dmpSegments" and method == "POST":
            created = next(self._ids)
            self.segments[created] = json.loads(body[:size])
            return _answer(201, b"", f"x-restli-id: {created}\r\n")
        if parts.path == "/rest/dmpSegments":
            wanted = parse_qs(parts.query).get("sourceSegmentId")
            found = [
                self._entity(number)
                for number, segment in self.segments.items()
                if wanted is None or segment.get("sourceSegmentId") == wanted[0]
            ]
            paging = {"start": 0, "count": len(found), "links": [], "total": len(found)}
            return _json({"paging": paging, "elements": found})
        number = int(parts.path.rpartition("/")[2]) if parts.path.rpartition("/")[2].isdecimal() else 0
        if parts.path == f"/rest/dmpSegments/{number}" and number in self.segments:
            return _json(self._entity(number))
        return _answer(404, b'{"status":404,"message":"Not found"}')

    def _entity(self, number: int) -> dict[str, object]:
        created = 1_700_000_000_000
        place = {"destination": "LINKEDIN", "status": "READY", "created": created, "lastModified": created}
        return {
            "created": created,
            "lastModified": created,
            "account": ACCOUNT,
            "type": "USER",
            **self.segments[number],
            "id": number,
            "destinations": [{**place, "destinationSegmentId": "urn:li:adSegment:1", "audienceSize": 1_000_000}],
        }

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of a connection until the client closes it."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(MAX_HEAD_SIZE)
        filled = 0
        with connection:
            while True:
                while (end := buffer.find(b"\r\n\r\n", 0, filled)) < 0:
                    if filled == len(buffer):
                        return
                    got = connection.recv_into(memoryview(buffer)[filled:])
                    if not got:
                        return
                    filled += got
                head, start = bytes(buffer[:end]), end + 4
                size = _length(head)
                if b"100-continue" in head:
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = bytearray(size)
                received = min(size, filled - start)
                body[:received] = buffer[start : start + received]
                with memoryview(body) as view:
                    while received < size:
                        got = connection.recv_into(view[received:])
                        if not got:
                            return
                        received += got
                method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                connection.sendall(self.answer(method, target, body, size))
                rest = buffer[start + size : filled]
                buffer[: len(rest)] = rest
                filled = len(rest)


def _length(head: bytes) -> int:
    found = head.lower().partition(b"content-length:")[2]
    return int(found.partition(b"\r\n")[0]) if found else 0


def _answer(status: int, body: bytes, more: str = "") -> bytes:
    """Return a complete response, with the headers that the sandbox sends."""
    phrase = {200: "OK", 201: "Created", 404: "Not Found"}[status]
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more}x-li-uuid: {0:032}\r\nx-li-request-id: {0:032}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _json(content: object) -> bytes:
    return _answer(200, json.dumps(content).encode())


def main() -> None:
    """Serve until the process is terminated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--per-minute", type=int, default=0)
    given = parser.parse_args()
    sink = Sink(given.per_minute)
    with socket.create_server(("127.0.0.1", given.port), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_connection, args=(sink, connection), daemon=True).start()


def _serve_connection(sink: Sink, connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):  # A client may close its connection at any time.
        sink.serve(connection)


if __name__ == "__main__":
    main()
