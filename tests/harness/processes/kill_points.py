"""Points of a run at which something happens to the worker, and the hooks inside the worker that make it happen.

All hooks into the product and its libraries are in `arm()`. They sit at seams that outlive changes of the product:
SQLAlchemy's events, the driver's COMMIT, the HTTP adapter of requests, the flush of the recorder.
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
"""Points that pass between the two signals of `terminate twice`."""


@dataclass(frozen=True, slots=True)
class WorkerFault:
    """What happens to a worker, and at which point of its run.

    kind      the n-th, counted from 1
    statement statement in the warehouse; `after` is after its execution
    commit    COMMIT in the warehouse
    request   HTTP request, those for tokens included
    record    flush of outcomes to the warehouse
    moment    `number` milliseconds after the start of the process; has no side and only signals as acts

    act             what happens
    kill            SIGKILL
    break           the warehouse connection that reached the point is gone; after a COMMIT only its answer is, which
                    cannot happen to an embedded database
    outage          the same, and again for every statement from then on
    terminate       SIGTERM; `terminate twice` a second time some points later
    interrupt       SIGINT
    """

    kind: str
    side: str
    number: int
    act: str = "kill"

    def __str__(self) -> str:
        place = f"after {self.number} ms" if self.kind == "moment" else f"{self.side} {self.kind} {self.number}"
        return f"{self.act} {place}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The upset that `str()` wrote."""
        words = text.split()
        if words[-1] == "ms":
            return cls("moment", "", int(words[-2]), " ".join(words[:-3]))
        return cls(words[-2], words[-3], int(words[-1]), " ".join(words[:-3]))


class FaultInjector:
    """Counts the points of this process and does what the upset says. Thread-safe.

    mark: a file that is written when it strikes. counts: how many points of each kind were passed.
    """

    def __init__(self, upset: WorkerFault | None, mark: Path) -> None:
        self.fault = upset
        self.marker = mark
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._has_fired = False
        self._points_until_second_signal: int | None = None

    def count(self, kind: str) -> int:
        """The number of the point that is reached now."""
        with self._lock:
            self.counts[kind] += 1
            return self.counts[kind]

    def reach(self, kind: str, side: str, number: int, cut: Callable[[], None] | None = None, what: str = "") -> None:
        """A point is reached. `cut` breaks the connection that reached it; it may raise the driver's error."""
        upset = self.fault
        if upset is None:
            return
        if self._points_until_second_signal is not None:
            self._count_down()
        goes_on = self._has_fired and upset.act == "outage" and side == "before" and cut is not None
        if (kind, side, number) != (upset.kind, upset.side, upset.number) and not goes_on:
            return
        if upset.act in ("break", "outage") and cut is None:
            return
        if not self._has_fired:
            self._has_fired = True
            self.marker.write_text(json.dumps({**asdict(upset), "what": what}))
        match upset.act:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            case "terminate" | "terminate twice":
                os.kill(os.getpid(), signal.SIGTERM)
                self._points_until_second_signal = POINTS_BETWEEN_SIGNALS if upset.act == "terminate twice" else None
            case _:
                assert cut is not None
                cut()

    def _count_down(self) -> None:
        with self._lock:
            if self._points_until_second_signal is None:
                return
            self._points_until_second_signal -= 1
            if self._points_until_second_signal > 0:
                return
            self._points_until_second_signal = None
        os.kill(os.getpid(), signal.SIGTERM)


def install_hooks(watch: FaultInjector, url: str) -> None:
    """This process passes its points to `watch` from now on. url: of its warehouse."""
    cut = _break_postgres if url.startswith("postgres") else _break_duckdb
    _hook_statements(watch, url, cut)
    _hook_commits(watch, url, cut)
    _hook_requests(watch)
    _hook_records(watch)


BreakConnection = Callable[[str, Any, bool], None]


def _hook_statements(watch: FaultInjector, url: str, cut: BreakConnection) -> None:
    own = threading.local()

    def before(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        own.number = watch.count("statement")
        driver = connection.connection.dbapi_connection
        watch.reach("statement", "before", own.number, lambda: cut(url, driver, False), statement[:200])

    def after(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        watch.reach("statement", "after", own.number, None, statement[:200])

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)


def _hook_commits(watch: FaultInjector, url: str, cut: BreakConnection) -> None:
    dialect: Any = sa.make_url(url).get_dialect()
    remote = cut is _break_postgres
    commit = dialect.do_commit

    def watched(self: Any, driver: Any) -> None:
        number = watch.count("commit")
        connection = getattr(driver, "dbapi_connection", driver)
        watch.reach("commit", "before", number, lambda: cut(url, connection, False))
        commit(self, driver)
        watch.reach("commit", "after", number, (lambda: cut(url, connection, True)) if remote else None)

    dialect.do_commit = watched


def _hook_requests(watch: FaultInjector) -> None:
    send: Any = requests.adapters.HTTPAdapter.send

    def watched(self: Any, request: Any, *arguments: Any, **more: Any) -> Any:
        number = watch.count("request")
        what = f"{request.method} {request.path_url.partition('?')[0]}"
        watch.reach("request", "before", number, None, what)
        try:
            return send(self, request, *arguments, **more)
        finally:
            watch.reach("request", "after", number, None, what)

    requests.adapters.HTTPAdapter.send = watched  # type: ignore[method-assign]


def _hook_records(watch: FaultInjector) -> None:
    from warehouse_sync.pipeline.recording import Recorder

    flush = Recorder.flush

    def watched(self: Recorder) -> None:
        number = watch.count("record")
        watch.reach("record", "before", number)
        flush(self)
        watch.reach("record", "after", number)

    Recorder.flush = watched  # type: ignore[method-assign]


def _break_postgres(url: str, driver: Any, answer_only: bool) -> None:
    """The server ends the connection; what is tried on it next fails as it does in the field."""
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
    """An embedded database has no connection to lose; its disk can fail under it."""
    import duckdb

    raise duckdb.IOException("IO Error: Could not write to the database file: No space left on device")
