"""The state of the sandbox: tokens, segments, used quota and the log of requests."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from warehouse_sync.sandbox.http_messages import Refusal
from warehouse_sync.sandbox.segment import Segment
from warehouse_sync.sandbox.settings import DAY, SandboxSettings
from warehouse_sync.sandbox.tokens import TokenStore

FIRST_SEGMENT_ID = 10804
MINUTE = 60.0
MAX_LOGGED_REQUESTS = 200_000

THROTTLED = "Resource level throttle limit for calls to this resource is reached."


@dataclass(slots=True)
class RequestRecord:
    """One request in the log. It contains nothing that identifies a member or a token.

    Attributes:
        method: The HTTP method.
        path: The path; for the finder with its query.
        operation: users, companies, create, find, get, update, delete, destinations, token or introspect.
        started: The number of its start among all starts and ends of requests.
        at: When it started, in seconds since the epoch.
        segment_id: The segment that the path names.
        status: The status of the answer; None without an answer, or if the connection was reset.
        elements: The number of elements in the batch.
        action: ADD, REMOVE or `ADD+REMOVE`.
        faults: The kinds of the faults that happened to it.
        finished: The number of its end, when it was applied or refused, among all starts and ends of requests.
        abandoned: Whether the client had closed the connection by then.
    """

    method: str
    path: str
    operation: str
    started: int
    at: float
    segment_id: int | None = None
    status: int | None = None
    elements: int | None = None
    action: str | None = None
    faults: tuple[str, ...] = ()
    finished: int | None = None
    abandoned: bool = False


class SandboxState:
    """What the sandbox keeps between requests. Hold `lock` while using segments or tokens."""

    def __init__(self, settings: SandboxSettings, now: Callable[[], float]) -> None:
        self.settings = settings
        self.now = now
        self.lock = threading.RLock()
        self.tokens = TokenStore(settings, now())
        self.segments: dict[int, Segment] = {}
        self.writable_accounts = set(settings.account_ids)
        self.log: deque[RequestRecord] = deque(maxlen=MAX_LOGGED_REQUESTS)
        self._events = itertools.count(1)
        self._segment_ids = itertools.count(FIRST_SEGMENT_ID)
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self._daily: dict[tuple[str, str, int], int] = {}

    def next_event_number(self) -> int:
        """Return the next number for a start or end of a request."""
        return next(self._events)

    def next_segment_id(self) -> int:
        """Return an id that no segment had before."""
        return next(self._segment_ids)

    def segment(self, segment_id: int) -> Segment:
        """Return a segment as it is now; raise Refusal(404) if there is none."""
        segment = self.segments.get(segment_id)
        if segment is None:
            raise Refusal(404, f"Could not find DMP segment with ID {segment_id}")
        segment.advance(self.now())
        return segment

    def count_call(self, member: str, endpoint: str) -> None:
        """Count one call against the quotas of this member and endpoint.

        Raises:
            Refusal: A quota is used up (429); the call is not counted.
        """
        now = self.now()
        settings = self.settings
        per_minute = {"users": settings.users_per_minute, "companies": settings.companies_per_minute}.get(endpoint)
        with self.lock:
            recent = self._recent.setdefault((member, endpoint), deque())
            while recent and recent[0] <= now - MINUTE:
                recent.popleft()
            today = (member, endpoint, int(now // DAY))
            used = self._daily.get(today, 0)
            throttled = per_minute is not None and len(recent) >= per_minute
            if throttled or (settings.daily_quota is not None and used >= settings.daily_quota):
                raise Refusal(429, THROTTLED, service_error_code=101)
            recent.append(now)
            self._daily[today] = used + 1


def find_violations(log: list[RequestRecord]) -> list[str]:
    """Return how a client broke the rules for ADD and REMOVE, one sentence each; empty if it did not.

    A request must not mix ADD and REMOVE, and no ADD may start while a REMOVE to the same segment is in progress.
    A REMOVE whose connection the client had closed is ignored: for the client it had ended.
    """
    found = [
        f"The {record.operation} request {record.started} to segment {record.segment_id} mixes ADD and REMOVE."
        for record in log
        if record.action == "ADD+REMOVE"
    ]
    removes: dict[int | None, list[RequestRecord]] = {}
    for record in sorted(log, key=lambda each: each.started):
        if record.action == "REMOVE":
            removes.setdefault(record.segment_id, []).append(record)
    for record in log:
        if record.action != "ADD":
            continue
        before = removes.get(record.segment_id, [])
        found.extend(
            f"The ADD request {record.started} to segment {record.segment_id} started while the REMOVE request "
            f"{remove.started} was still under way."
            for remove in before[: bisect_left(before, record.started, key=lambda each: each.started)]
            if not remove.abandoned and (remove.finished is None or remove.finished > record.started)
        )
    return found
