"""Faults of a worker at a point of its run, and the hooks inside the worker that inject them.

`install_hooks()` sets all hooks into the product and its libraries. They use interfaces that rarely change:
SQLAlchemy's events, the COMMIT of the driver, the HTTP adapter of requests, the flush of the recorder.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import requests
import sqlalchemy as sa

KINDS = ("statement", "commit", "request", "record")
SIDES = ("before", "after")
ACTS = ("kill", "break", "outage", "terminate", "terminate twice", "interrupt")
POINTS_BETWEEN_SIGNALS = 3
"""Points that the worker passes between the two signals of `terminate twice`."""


@dataclass(frozen=True, slots=True)
class WorkerFault:
    """What happens to a worker, and at which point of its run.

    Kinds of points:
        statement: A statement in the warehouse; `after` is after its execution.
        commit: A COMMIT in the warehouse.
        request: An HTTP request, also one for a token.
        record: A flush of outcomes to the warehouse.
        moment: `number` milliseconds after the start of the process. It has no side and only signals as acts.

    Acts:
        kill: SIGKILL.
        break: The warehouse connection that reached the point is lost. After a COMMIT only its answer is lost, which
            cannot happen to an embedded database.
        outage: As `break`, and every later statement fails too.
        terminate: SIGTERM.
        terminate twice: SIGTERM, and again some points later.
        interrupt: SIGINT.

    Attributes:
        kind: The kind of the point.
        side: Whether it happens `before` or `after` the point.
        number: The number of the point among those of its kind, from 1.
        act: What happens.
    """

    kind: str
    side: str
    number: int
    act: str = "kill"

    def __str__(self) -> str:
        point = f"after {self.number} ms" if self.kind == "moment" else f"{self.side} {self.kind} {self.number}"
        return f"{self.act} {point}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the fault that `str()` wrote."""
        words = text.split()
        if words[-1] == "ms":
            return cls("moment", "", int(words[-2]), " ".join(words[:-3]))
        return cls(words[-2], words[-3], int(words[-1]), " ".join(words[:-3]))


class FaultInjector:
    """Counts the points that this process reaches and injects the fault at its point. Thread-safe.

    Attributes:
        fault: The fault; None only counts.
        marker: A file that is written when the fault happens.
        counts: How many points of each kind were reached.
    """

    def __init__(self, fault: WorkerFault | None, marker: Path) -> None:
        self.fault = fault
        self.marker = marker
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._has_fired = False
        self._points_until_second_signal: int | None = None

    def count(self, kind: str) -> int:
        """Count one more point of this kind and return its number."""
        with self._lock:
            self.counts[kind] += 1
            return self.counts[kind]

    def reach(
        self, kind: str, side: str, number: int, break_connection: Callable[[], None] | None = None, what: str = ""
    ) -> None:
        """Inject the fault if it belongs to this point.

        Args:
            kind: The kind of the point.
            side: `before` or `after` it.
            number: The number of the point.
            break_connection: Breaks the connection that reached the point; it may raise the driver's error.
            what: A description of the point for the marker.
        """
        fault = self.fault
        if fault is None:
            return
        if self._points_until_second_signal is not None:
            self._count_down()
        is_still_out = self._has_fired and fault.act == "outage" and side == "before" and break_connection is not None
        if (kind, side, number) != (fault.kind, fault.side, fault.number) and not is_still_out:
            return
        if fault.act in ("break", "outage") and break_connection is None:
            return
        if not self._has_fired:
            self._has_fired = True
            self.marker.write_text(json.dumps({**asdict(fault), "what": what}))
        match fault.act:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            case "terminate" | "terminate twice":
                os.kill(os.getpid(), signal.SIGTERM)
                self._points_until_second_signal = POINTS_BETWEEN_SIGNALS if fault.act == "terminate twice" else None
            case _:
                assert break_connection is not None
                break_connection()

    def _count_down(self) -> None:
        with self._lock:
            if self._points_until_second_signal is None:
                return
            self._points_until_second_signal -= 1
            if self._points_until_second_signal > 0:
                return
            self._points_until_second_signal = None
        os.kill(os.getpid(), signal.SIGTERM)


def install_hooks(injector: FaultInjector, url: str) -> None:
    """Make this process report its points to the injector from now on; `url` is that of its warehouse."""
    break_connection = _break_postgres if url.startswith("postgres") else _break_duckdb
    _hook_statements(injector, url, break_connection)
    _hook_commits(injector, url, break_connection)
    _hook_requests(injector)
    _hook_records(injector)


BreakConnection = Callable[[str, Any, bool], None]


def _hook_statements(injector: FaultInjector, url: str, break_connection: BreakConnection) -> None:
    current = threading.local()

    def before(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        current.number = injector.count("statement")
        driver = connection.connection.dbapi_connection
        injector.reach(
            "statement", "before", current.number, lambda: break_connection(url, driver, False), statement[:200]
        )

    def after(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        injector.reach("statement", "after", current.number, None, statement[:200])

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)


def _hook_commits(injector: FaultInjector, url: str, break_connection: BreakConnection) -> None:
    dialect: Any = sa.make_url(url).get_dialect()
    is_remote = break_connection is _break_postgres
    commit = dialect.do_commit

    def counted(self: Any, driver: Any) -> None:
        number = injector.count("commit")
        connection = getattr(driver, "dbapi_connection", driver)
        injector.reach("commit", "before", number, lambda: break_connection(url, connection, False))
        commit(self, driver)
        injector.reach(
            "commit", "after", number, (lambda: break_connection(url, connection, True)) if is_remote else None
        )

    dialect.do_commit = counted


def _hook_requests(injector: FaultInjector) -> None:
    send: Any = requests.adapters.HTTPAdapter.send

    def counted(self: Any, request: Any, *arguments: Any, **more: Any) -> Any:
        number = injector.count("request")
        what = f"{request.method} {request.path_url.partition('?')[0]}"
        injector.reach("request", "before", number, None, what)
        try:
            return send(self, request, *arguments, **more)
        finally:
            injector.reach("request", "after", number, None, what)

    requests.adapters.HTTPAdapter.send = counted  # type: ignore[method-assign]


def _hook_records(injector: FaultInjector) -> None:
    from warehouse_sync.pipeline.recording import Recorder

    flush = Recorder.flush

    def counted(self: Recorder) -> None:
        number = injector.count("record")
        injector.reach("record", "before", number)
        flush(self)
        injector.reach("record", "after", number)

    Recorder.flush = counted  # type: ignore[method-assign]


def _break_postgres(url: str, driver: Any, answer_only: bool) -> None:
    """End the connection at the server; the next statement fails as it does with a lost connection."""
    import psycopg

    if answer_only:
        driver.close()
        raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")
    pid = driver.info.backend_pid
    admin = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True, application_name="harness") as connection:
        connection.execute("select pg_terminate_backend(%s)", [pid])
        while connection.execute("select 1 from pg_stat_activity where pid = %s", [pid]).fetchone():
            time.sleep(0.002)


def _break_duckdb(_url: str, _driver: Any, _answer_only: bool) -> None:
    """Raise the error of a full disk: an embedded database has no connection that can break."""
    import duckdb

    raise duckdb.IOException("IO Error: Could not write to the database file: No space left on device")
