"""The lease of a sync: the right to run it, renewed by a thread, lost when another worker takes over."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from contextvars import copy_context
from types import TracebackType

import sqlalchemy as sa
import structlog

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.errors import LeaseLost, WarehouseSyncError
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.state.syncs import ensure_row

log = structlog.get_logger(__name__)

POLL_INTERVAL = 0.2
"""Seconds between two checks for a requested stop; a signal handler may not wake a waiting thread itself."""

MIN_REMAINING_TO_START = 2 / 3
"""The part of the lease that must remain when a request starts: of the default 60 s, 40, longer than any request."""

MIN_REMAINING_TO_SEND = 1 / 3
"""The part of the lease that must remain right before a request leaves; less means that the worker was suspended."""


def _now() -> float:
    """Return seconds that also count while the machine sleeps, where possible: Linux's monotonic clock stops then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The right to run one sync, from `take()` to the end of the `with` block.

    A thread renews it three times per lease. `token` fences every write to state. The lease is also the permit to send
    requests (destinations/base.py): a caller of `wait()` or `require()` before each request never sends without the
    lease. A worker that was suspended learns that it has lost the lease when it wakes.

    Attributes:
        state: The state schema.
        key: The sync.
        token: The number of this lease; each lease of the sync has a larger one.
        stop: Requests a stop of the run.
    """

    def __init__(self, state: State, key: SyncKey, token: int, deadline: float, stop: CancelToken) -> None:
        self.state = state
        self.key = key
        self.token = token
        self.stop = stop
        self._deadline = deadline
        self._lost = False
        self._ended = threading.Event()
        self._renewing = threading.Lock()
        self._cancelled = threading.Event()
        self._context = copy_context()
        self._thread = threading.Thread(target=self._run_heartbeat, name=f"lease of {key.sync}", daemon=True)

    @classmethod
    def take(cls, state: State, key: SyncKey, stop: CancelToken | None = None) -> Lease | None:
        """Take the lease; return None while another worker holds it."""
        warehouse, syncs = state.warehouse, state.tables.syncs
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"[-100:]
        ensure_row(state, key)
        started = _now()
        with warehouse.write("take the lease") as connection:
            free = sa.or_(
                syncs.c.lease_holder.is_(None),
                syncs.c.lease_expires_at.is_(None),
                syncs.c.lease_expires_at < warehouse.dialect.utc_now(),
            )
            connection.execute(
                sa.update(syncs)
                .where(key.match(syncs), free)
                .values(
                    lease_holder=holder,
                    lease_token=syncs.c.lease_token + 1,
                    lease_expires_at=warehouse.dialect.utc_now(warehouse.lease_seconds),
                )
            )
            found = connection.execute(
                sa.select(syncs.c.lease_holder, syncs.c.lease_token).where(key.match(syncs))
            ).one()
        if found.lease_holder != holder:
            return None
        return cls(state, key, int(found.lease_token), started + warehouse.lease_seconds, stop or CancelToken())

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            self.release()
        except WarehouseSyncError as failure:
            log.warning("lease not released, it will expire by itself", error=str(failure))

    def log_with_current_context(self) -> None:
        """Give the log lines of the heartbeat the context variables of the caller."""
        self._context = copy_context()

    @property
    def is_cancelled(self) -> bool:
        """Whether work under this lease must end: the lease is lost, or a stop was requested a moment ago."""
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`, or less when the lease is lost or a stop is requested meanwhile.

        Returns:
            True when no further request may be started: a stop was requested, or the lease is lost or could not be
            renewed.
        """
        return self._cancelled.wait(seconds) or self.stop.requested or not self.permits_request()

    def permits_request(self) -> bool:
        """Return whether a request may start now: the lease is ours for `MIN_REMAINING_TO_START` of its length.

        By this machine's clock. The lease is renewed if necessary; False when another worker has it or the warehouse
        cannot be reached.
        """
        with self._renewing:
            if self._lost:
                return False
            if self._deadline - _now() >= self.state.warehouse.lease_seconds * MIN_REMAINING_TO_START:
                return True
            try:
                self.renew()
            except WarehouseSyncError as error:
                log.warning("lease not renewed, nothing is sent", error=str(error))
                return False
            return True

    def is_valid(self) -> bool:
        """Return whether a request may leave now: the lease is ours for `MIN_REMAINING_TO_SEND` of its length.

        By this machine's clock; no statement is sent.
        """
        needed = self.state.warehouse.lease_seconds * MIN_REMAINING_TO_SEND
        return not self._lost and self._deadline - _now() >= needed

    def require(self) -> None:
        """Raise LeaseLost unless a request may be started now."""
        if not self.permits_request():
            raise LeaseLost(
                f"sync {self.key.sync}: this worker could not renew its lease and has stopped. Nothing is lost; the "
                "next run sends what is pending."
            )

    def renew(self) -> None:
        """Extend the lease to its full length from now; raise LeaseLost when another worker has taken over."""
        started = _now()
        try:
            with self.state.fenced(self.key, self.token, "renew the lease"):
                pass
        except LeaseLost:
            self._lost = True
            self._cancelled.set()
            raise
        self._deadline = max(self._deadline, started + self.state.warehouse.lease_seconds)

    def release(self) -> None:
        """Release the lease, unless another worker has taken it already."""
        syncs = self.state.tables.syncs
        with self.state.warehouse.write("release the lease") as connection:
            connection.execute(
                sa.update(syncs)
                .where(self.key.match(syncs), syncs.c.lease_token == self.token)
                .values(lease_holder=None, lease_expires_at=None)
            )

    def _run_heartbeat(self) -> None:
        interval = self.state.warehouse.lease_seconds / 3
        due = _now() + interval
        while not self._ended.wait(min(POLL_INTERVAL, interval)):
            if self.stop.requested and not self._cancelled.is_set():
                self._context.run(self._log_stop)
                self._cancelled.set()
            if self.stop.may_interrupt and self.stop.from_other_thread:
                self.state.warehouse.interrupt()
            if _now() < due:
                continue
            due = _now() + interval
            if not self._context.run(self._renew_or_log):
                return

    def _log_stop(self) -> None:
        log.warning("stopping: no new request is started, those under way are awaited", why=self.stop.reason)

    def _renew_or_log(self) -> bool:
        """Renew the lease; return False once it is lost."""
        try:
            self.renew()
        except LeaseLost:
            return False
        except WarehouseSyncError as error:
            log.warning("lease not renewed, trying again", error=str(error))
        return True
