"""Faults of workers in this process, injected at their statements, commits, requests and records.

    crash    the worker ends: nothing that it does afterwards reaches the warehouse or the destination
    break    the worker's connection to the warehouse is closed; the worker gets the driver's error
    freeze   the worker pauses while its lease expires and another worker runs, then it continues
    stop     the worker is asked to end soon, as by a signal

One process may run several workers, one after the other, or one while another one is frozen.
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
"""Seconds that a lease lasts by default."""


class Crash(BaseException):
    """The end of a worker, which the product does not catch."""


@dataclass(frozen=True)
class SimulatedFault:
    """A fault of a worker, and the point of its run at which it happens.

    Attributes:
        kind: crash, break, freeze or stop.
        point: statement, commit, request, record, or begin (of a transaction).
        nth: The number of the point of this kind, counted from 1.
        after: Whether the fault happens after the point instead of before it.
        count: The number of statements and commits that fail with a broken connection.
    """

    kind: str
    point: str
    nth: int
    after: bool = False
    count: int = 1


class RequestObserver(Protocol):
    """An observer of requests before they are sent."""

    def observe(self, worker: Worker, method: str, path: str, body: bytes | None) -> None:
        """Observe a request that is about to be sent."""


@dataclass(eq=False)
class Worker:
    """One run in this process, with its fault.

    Attributes:
        fault: The fault that is injected, if any.
        while_frozen: What is called while the worker is frozen.
        counts: The number of points reached so far, by kind.
        triggered: Whether the fault has happened.
        dead: Whether the worker has ended; it then reaches no further point.
        breaks_left: The number of statements and commits that still find a broken connection.
        frozen: Whether the worker is frozen now.
        stop: The token by which the worker is asked to stop.
        resumed: Set when the worker continues after a freeze.
        lock: Guards `counts` and `triggered`: a run reaches points from several threads.
    """

    fault: SimulatedFault | None
    while_frozen: Callable[[], None] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    triggered: bool = False
    dead: bool = False
    breaks_left: int = 0
    frozen: bool = False
    stop: CancelToken = field(default_factory=CancelToken)
    resumed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, point: str, *, after: bool = False, connection: sa.Connection | None = None) -> None:
        """Record that the worker reaches a point, and inject the fault if it is due there.

        Args:
            point: The kind of the point.
            after: Whether the point has been passed.
            connection: The connection that reached the point, if any.

        Raises:
            Crash: The worker is dead.
        """
        if self.dead:
            raise Crash
        if self.frozen and point == "begin":
            self.resumed.wait(600)
        fault = self.fault
        with self.lock:
            if not after:
                self.counts[point] += 1
            due = (
                fault is not None
                and not self.triggered
                and (fault.point, fault.after) == (point, after)
                and self.counts[point] >= fault.nth
            )
            self.triggered = self.triggered or due
        if due:
            assert fault is not None
            if fault.kind == "crash":
                self.dead = True
                raise Crash
            if fault.kind == "freeze":
                self._freeze()
            elif fault.kind == "stop":
                self.stop.request("SIGTERM")
            else:
                self.breaks_left = fault.count
        if self.breaks_left and connection is not None and point in ("statement", "commit"):
            self.breaks_left -= 1
            _break(connection, commit_first=point == "commit" and fault is not None and fault.after)

    def _freeze(self) -> None:
        self.frozen = True
        real_time.sleep(0.002)  # The other threads of the worker reach their next point and wait there.
        try:
            if self.while_frozen is not None:
                self.while_frozen()
        finally:
            self.frozen = False
            self.resumed.set()


def _break(connection: sa.Connection, *, commit_first: bool) -> None:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    if commit_first:
        driver.commit()
    driver.close()


class FaultInjector:
    """Hooks into the product that inject faults into the worker of the current thread.

    Attributes:
        observer: Sees each request before it is sent.
        requests: The number of requests so far.
        statements: The number of statements so far.
    """

    def __init__(self, observer: RequestObserver) -> None:
        self.observer = observer
        self.requests = 0
        self.statements = 0
        self._workers: dict[int, Worker] = {}
        self._clients: WeakKeyDictionary[HTTPClient, Worker] = WeakKeyDictionary()
        self._frozen: Worker | None = None
        self._clock = LeaseClock()

    @contextmanager
    def worker(
        self, fault: SimulatedFault | None = None, while_frozen: Callable[[], None] | None = None
    ) -> Iterator[Worker]:
        """Run the block as a new worker; a Crash ends the block."""
        thread = threading.get_ident()
        outer = self._workers.get(thread)
        worker = self._workers[thread] = Worker(
            fault, while_frozen and partial(self._call_outside_worker, while_frozen)
        )
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

    def _call_outside_worker(self, while_frozen: Callable[[], None]) -> None:
        """Call `while_frozen` in the thread of the frozen worker, but not as this worker."""
        thread = threading.get_ident()
        current = self._workers.pop(thread, None)
        self._frozen = next(worker for worker in (*self._clients.values(), current) if worker and worker.frozen)
        try:
            while_frozen()
        finally:
            self._frozen = None
            if current is not None:
                self._workers[thread] = current

    def advance_clock(self, seconds: float) -> None:
        """Advance the clock by which the workers check their leases."""
        self._clock.advance(seconds)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Replace the methods of the product that send requests and record outcomes."""
        self._clock.install(patch)
        send, flush = HTTPClient.request, Recorder.flush

        def request(client: HTTPClient, method: str, path: str, **options: Any) -> Response:
            return self._request(send, client, method, path, **options)

        def record(recorder: Recorder) -> None:
            worker = self._workers.get(threading.get_ident())
            if worker is None:
                return flush(recorder)
            worker.reach("record")
            flush(recorder)
            return worker.reach("record", after=True)

        patch.setattr(HTTPClient, "request", request)
        patch.setattr(Recorder, "flush", record)

    def _request(
        self, send: Callable[..., Response], client: HTTPClient, method: str, path: str, **options: Any
    ) -> Response:
        self.requests += 1
        current = self._workers.get(threading.get_ident())
        # A run sends requests from several threads; the first one comes from the thread of the worker.
        worker = self._clients.setdefault(client, current) if current is not None else self._clients[client]
        if worker.frozen and worker is not current:
            raise NoResponse("connection", "the worker was frozen for longer than the timeout")
        worker.reach("request")
        self.observer.observe(worker, method, path, options.get("body"))
        response = send(client, method, path, **options)
        worker.reach("request", after=True)
        return response

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Intercept statements, commits and the begin of transactions on all engines during the block."""

        def statement(connection: sa.Connection, *_: Any) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                self.statements += 1
                worker.reach("statement", connection=connection)

        def executed(connection: sa.Connection, *_: Any) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                worker.reach("statement", after=True)

        def commit(connection: sa.Connection) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                fault = worker.fault
                lost = fault is not None and (fault.kind, fault.point, fault.after) == ("break", "commit", True)
                worker.counts["commit"] += lost
                try:
                    worker.reach("commit", after=lost, connection=connection)
                except Crash:
                    # The work of a dead worker is rolled back; SQLAlchemy assumes that this transaction has ended.
                    driver = connection.connection.dbapi_connection
                    assert driver is not None
                    driver.rollback()
                    raise

        def begin(_: sa.Connection) -> None:
            if (worker := self._workers.get(threading.get_ident())) is not None:
                worker.reach("begin")
            elif (frozen := self._frozen) is not None and threading.current_thread().name.startswith("lease of"):
                # The thread that renews the lease is frozen together with its worker.
                frozen.resumed.wait(600)

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
