"""The seams where a worker can be hurt: its statements and commits, its requests, its records.

    crash    the worker is cut off: nothing that it does afterwards reaches the warehouse or the destination
    break    its connection to the warehouse is closed under it; the worker lives and meets the driver's error
    freeze   it stands still while its lease runs out and another worker goes on, then it continues
    stop     it is asked to end soon, as by a signal

One process may hold several workers, one behind the other or one inside another's freeze.
"""

from __future__ import annotations

import contextlib
import threading
import time as real_time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import pytest
import sqlalchemy as sa
from harness.worlds.lease_clock import LeaseClock

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.destinations.linkedin.http import HTTPClient, NoResponse, Response
from warehouse_sync.pipeline.recording import Recorder

LEASE = 60.0
"""Seconds of the lease that the configuration leaves at its default."""


class Crash(BaseException):
    """The end of a worker: nobody catches it."""


@dataclass(frozen=True)
class Trouble:
    """What befalls a worker when it has come to its `nth` statement, commit, request, record or begin (of a
    transaction), before it or after it. `lasting`: how many statements and commits meet a broken connection."""

    kind: str
    place: str
    nth: int
    after: bool = False
    lasting: int = 1


class Sight(Protocol):
    """Whoever looks at requests before they leave."""

    def sees(self, worker: Worker, method: str, path: str, body: bytes | None) -> None:
        """A request is about to leave."""


@dataclass(eq=False)
class Worker:
    """One run in this process, and what happens to it. `done`: how often it came to each place."""

    trouble: Trouble | None
    meanwhile: Callable[[], None] | None = None
    done: Counter[str] = field(default_factory=Counter)
    struck: bool = False
    dead: bool = False
    breaking: int = 0
    frozen: bool = False
    stop: CancelToken = field(default_factory=CancelToken)
    thawed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def comes_to(self, place: str, *, after: bool = False, connection: sa.Connection | None = None) -> None:
        """The worker is at a seam. Raises Crash when it is dead."""
        if self.dead:
            raise Crash
        if self.frozen and place == "begin":
            self.thawed.wait(600)
        trouble = self.trouble
        with self.lock:
            if not after:
                self.done[place] += 1
            due = (
                trouble is not None
                and not self.struck
                and (trouble.place, trouble.after) == (place, after)
                and self.done[place] >= trouble.nth
            )
            self.struck = self.struck or due
        if due:
            assert trouble is not None
            if trouble.kind == "crash":
                self.dead = True
                raise Crash
            if trouble.kind == "freeze":
                self._freeze()
            elif trouble.kind == "stop":
                self.stop.request("SIGTERM")
            else:
                self.breaking = trouble.lasting
        if self.breaking and connection is not None and place in ("statement", "commit"):
            self.breaking -= 1
            _break(connection, commit_first=place == "commit" and trouble is not None and trouble.after)

    def _freeze(self) -> None:
        self.frozen = True
        real_time.sleep(0.002)  # The worker's other threads come to rest at a seam.
        try:
            if self.meanwhile is not None:
                self.meanwhile()
        finally:
            self.frozen = False
            self.thawed.set()


def _break(connection: sa.Connection, *, commit_first: bool) -> None:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    if commit_first:
        driver.commit()
    driver.close()


class Seams:
    """Installed once; `worker()` says whose run it is that a thread carries out."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self.requests = 0
        self.statements = 0
        self._workers: dict[int, Worker] = {}
        self._clients: WeakKeyDictionary[HTTPClient, Worker] = WeakKeyDictionary()
        self._standing: Worker | None = None
        self._clock = LeaseClock()

    @contextmanager
    def worker(self, trouble: Trouble | None = None, meanwhile: Callable[[], None] | None = None) -> Iterator[Worker]:
        """The worker that this thread is for the time of the block; a Crash ends it."""
        thread = threading.get_ident()
        outer = self._workers.get(thread)
        worker = self._workers[thread] = Worker(trouble, meanwhile and partial(self._aside, meanwhile))
        try:
            yield worker
        except Crash:
            if not worker.dead:
                raise
        finally:
            worker.dead = True
            if outer is None:
                self._workers.pop(thread, None)
            else:
                self._workers[thread] = outer

    def _aside(self, meanwhile: Callable[[], None]) -> None:
        """Call it as nobody's worker, in the thread of one that stands still."""
        thread = threading.get_ident()
        here = self._workers.pop(thread, None)
        self._standing = next(worker for worker in (*self._clients.values(), here) if worker and worker.frozen)
        try:
            meanwhile()
        finally:
            self._standing = None
            if here is not None:
                self._workers[thread] = here

    def let_time_pass(self, seconds: float) -> None:
        """The workers' clock, as their leases read it, is so much later."""
        self._clock.advance(seconds)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """From now on every worker passes here."""
        self._clock.install(patch)
        send, flush = HTTPClient.request, Recorder.flush

        def request(client: HTTPClient, method: str, path: str, **given: Any) -> Response:
            return self._request(send, client, method, path, **given)

        def record(recorder: Recorder) -> None:
            worker = self._workers.get(threading.get_ident())
            if worker is None:
                return flush(recorder)
            worker.comes_to("record")
            flush(recorder)
            return worker.comes_to("record", after=True)

        patch.setattr(HTTPClient, "request", request)
        patch.setattr(Recorder, "flush", record)

    def _request(
        self, send: Callable[..., Response], client: HTTPClient, method: str, path: str, **given: Any
    ) -> Response:
        self.requests += 1
        here = self._workers.get(threading.get_ident())
        # Requests leave from threads of the run's own; its first one is a question asked by the run itself.
        worker = self._clients.setdefault(client, here) if here is not None else self._clients[client]
        if worker.frozen and worker is not here:
            raise NoResponse("connection", "the worker stood still for longer than anybody waits")
        worker.comes_to("request")
        self.sight.sees(worker, method, path, given.get("body"))
        response = send(client, method, path, **given)
        worker.comes_to("request", after=True)
        return response

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Statements, commits and beginnings of all engines are seen for the time of the block."""

        def statement(connection: sa.Connection, *_: Any) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                self.statements += 1
                worker.comes_to("statement", connection=connection)

        def executed(connection: sa.Connection, *_: Any) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                worker.comes_to("statement", after=True)

        def commit(connection: sa.Connection) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                trouble = worker.trouble
                lost = trouble is not None and (trouble.kind, trouble.place, trouble.after) == ("break", "commit", True)
                worker.done["commit"] += lost
                try:
                    worker.comes_to("commit", after=lost, connection=connection)
                except Crash:
                    # What a dead worker had not committed is gone; SQLAlchemy takes this transaction for ended.
                    driver = connection.connection.dbapi_connection
                    assert driver is not None
                    driver.rollback()
                    raise

        def begin(_: sa.Connection) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                worker.comes_to("begin")
            elif (standing := self._standing) is not None and threading.current_thread().name.startswith("lease of"):
                # The thread that renews the lease stands still with its worker.
                standing.thawed.wait(600)

        listeners: list[tuple[str, Callable[..., None]]] = [
            ("before_cursor_execute", statement),
            ("after_cursor_execute", executed),
            ("commit", commit),
            ("begin", begin),
        ]
        with contextlib.ExitStack() as stack:
            for name, listener in listeners:
                sa.event.listen(sa.Engine, name, listener)
                stack.callback(sa.event.remove, sa.Engine, name, listener)
            yield
