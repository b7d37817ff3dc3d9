"""The sandbox: start it, inspect it, and make it fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from warehouse_sync.sandbox import sidechannel
from warehouse_sync.sandbox.faults import OPERATION_GROUPS, Fault, FaultRegistry
from warehouse_sync.sandbox.http_messages import Request
from warehouse_sync.sandbox.members import ElementKey, Fields, Reading
from warehouse_sync.sandbox.router import Answer, Router
from warehouse_sync.sandbox.segment import STATUSES
from warehouse_sync.sandbox.server import SandboxServer
from warehouse_sync.sandbox.settings import SandboxSettings
from warehouse_sync.sandbox.state import RequestRecord, SandboxState, find_violations


class Sandbox:
    """A local LinkedIn: the audience API under `/rest`, OAuth under `/oauth`, a side channel under `/_sandbox`.

    It keeps nothing on disk. All methods may be called from any thread, also while it is not started.

        with Sandbox() as sandbox:
            requests.get(f"{sandbox.url}/rest/dmpSegments", …)
    """

    def __init__(self, settings: SandboxSettings | None = None, now: Callable[[], float] = time.time) -> None:
        """Create a sandbox that is not started yet.

        Args:
            settings: Its settings; the defaults follow LinkedIn.
            now: Returns seconds since the epoch; a test may pass its own clock.
        """
        self.settings = settings or SandboxSettings()
        self._state = SandboxState(self.settings, now)
        self._faults = FaultRegistry(self.settings.seed, self.settings.faults)
        self._router = Router(self._state, self._faults, self._sleep)
        self._server: SandboxServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen and answer in separate threads; raise OSError if the port is in use."""
        if self._server is None:
            self._server = SandboxServer(
                (self.settings.host, self.settings.port), self._answer, self._state.next_event_number
            )
            self._thread = threading.Thread(
                target=self._server.serve_forever,
                kwargs={"poll_interval": 0.05},
                name="sandbox",
                daemon=True,
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Close every connection and end every thread. The content can still be inspected. May be repeated."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.close()
            thread.join()

    def serve_forever(self) -> None:
        """Start if necessary, and wait until `stop` is called or Ctrl-C is pressed."""
        self.start()
        thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                thread.join(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    @property
    def url(self) -> str:
        """Return the base of the API and OAuth addresses; raise RuntimeError if it is not started."""
        if self._server is None:
            raise RuntimeError("the sandbox is not started")
        host = "127.0.0.1" if self.settings.host in ("", "0.0.0.0") else self.settings.host  # noqa: S104
        return f"http://{host}:{self._server.server_address[1]}"

    def members(self, segment_id: int | str, reading: Reading | str = Reading.ELEMENTS) -> dict[ElementKey, Fields]:
        """Return the members of a segment: a key of sorted identifiers, each (idType or field, value), with its fields.

        Args:
            segment_id: The number of the segment.
            reading: What a REMOVE is taken to mean. Under `identifiers` every key has a single identifier.

        Raises:
            KeyError: There is no such segment.
        """
        with self._state.lock:
            segment = self._state.segments[int(segment_id)]
            segment.advance(self._state.now())
            return segment.members.under(Reading(reading))

    def segments(self) -> list[dict[str, Any]]:
        """Return all segments as the API shows them, with the additional keys `status` and `members` (their number)."""
        with self._state.lock:
            now = self._state.now()
            shown = []
            for segment in self._state.segments.values():
                segment.advance(now)
                held = {"status": segment.status(now), "members": len(segment.members)}
                shown.append(segment.as_entity(now) | held)
            return shown

    def requests(self, kind: str | None = None) -> list[RequestRecord]:
        """Return the log of API and token requests in the order of their start.

        Args:
            kind: Only requests of this operation or group of operations, as in `Fault.on`.
        """
        operations = None if kind is None else OPERATION_GROUPS.get(kind, frozenset({kind}))
        records = [record for record in list(self._state.log) if operations is None or record.operation in operations]
        return sorted((replace(record) for record in records), key=lambda record: record.started)

    def violations(self) -> list[str]:
        """Return how the client broke the rules for ADD and REMOVE, one sentence each; empty if it did not."""
        return find_violations(self.requests())

    def inject(self, fault: Fault | str) -> None:
        """Activate a fault from the next request on; raise ConfigurationError if its text is invalid."""
        self._faults.add(Fault.parse(fault) if isinstance(fault, str) else fault)

    def clear_faults(self) -> None:
        """Deactivate all faults."""
        self._faults.clear()

    def faults(self) -> list[Fault]:
        """Return the faults that can still happen."""
        return self._faults.active()

    def force_status(self, segment_id: int | str, status: str) -> None:
        """Set the status of a segment until its next write; EXPIRED deletes its members.

        Raises:
            KeyError: There is no such segment.
            ValueError: The status is unknown, or ARCHIVED for an EXPIRED segment, which only a write can change.
        """
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}")
        with self._state.lock:
            segment, now = self._state.segments[int(segment_id)], self._state.now()
            segment.advance(now)
            if status == "ARCHIVED" and segment.status(now) == "EXPIRED":
                raise ValueError("an EXPIRED segment is not ARCHIVED before it has been written to")
            segment.force_status(status, now)

    def set_writable(self, account_id: int, writable: bool) -> None:
        """Grant or remove the write role on an account; without it writes answer 403."""
        with self._state.lock:
            (self._state.writable_accounts.add if writable else self._state.writable_accounts.discard)(account_id)

    def revoke_access_tokens(self) -> None:
        """Revoke every access token issued so far: they answer 65601, and a refresh gives a valid one."""
        with self._state.lock:
            self._state.tokens.revoke_access_tokens()

    def revoke_refresh_token(self) -> None:
        """Revoke the refresh token: it answers invalid_grant."""
        with self._state.lock:
            self._state.tokens.revoke_refresh_tokens()

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith(sidechannel.PREFIX):
            return Answer(sidechannel.answer(self, request))
        return self._router.answer(request)

    def _sleep(self, seconds: float) -> None:
        server = self._server
        if server is None:
            time.sleep(seconds)
        else:
            server.sleep(seconds)
