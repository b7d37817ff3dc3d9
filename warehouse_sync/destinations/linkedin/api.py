"""One call to LinkedIn carried through: token, pace, patience.

    trouble                                     borne with
    connection, timeout, 408, 409, 423, 5xx,    `attempts` times with doubling, jittered pauses, at most `patience`
    not JSON                                    seconds
    429, and whatever comes with `Retry-After`  the same, after 429 at least a second, and all threads pause together
    429 and nothing else for over a minute      not at all: the endpoint is shut until 00:00 UTC (daily.py)
    401                                         the token is renewed once; a renewed one may take minutes to be taken
    404 for a new audience                      until the audience is not new any more

After a call has given up, later ones try once only, until one is answered: an outage costs a run minutes, not hours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import structlog

from warehouse_sync.destinations.base import Permit
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.elements import Body
from warehouse_sync.destinations.linkedin.errors import (
    FINAL,
    GaveUp,
    dead_access_token,
    dead_version,
    forbidden,
    segment_limit,
    stopped,
)
from warehouse_sync.destinations.linkedin.fields import MEMBER_PATHS
from warehouse_sync.destinations.linkedin.http import Client, NoAnswer, Response
from warehouse_sync.destinations.linkedin.rate_limit import DailyLimits, Pace
from warehouse_sync.destinations.linkedin.responses import Next, describe, is_segment_limit, retry_after, what_next
from warehouse_sync.destinations.linkedin.tokens import Tokens
from warehouse_sync.events import Action

log = structlog.get_logger(__name__)

UNCLEAR_STATUSES = frozenset({408, 409})
"""Besides 5xx: after these a create may have happened."""


@dataclass(slots=True)
class _Course:
    """How a call has gone so far; moments on the monotonic clock."""

    permit: Permit
    sent: bool = False
    attempts: int = 0
    renewals: int = 0
    not_founds: int = 0
    first_trouble: float | None = None
    first_401: float | None = None

    @property
    def seconds_of_trouble(self) -> float:
        return 0.0 if self.first_trouble is None else time.monotonic() - self.first_trouble


class Calls:
    """Thread-safe."""

    def __init__(self, client: Client, tokens: Tokens, pace: Pace, settings: LinkedInSettings) -> None:
        self._client = client
        self._tokens = tokens
        self._pace = pace
        self._settings = settings
        self._days = DailyLimits(settings.minute_throttle)
        self._outage = False

    def send(
        self,
        method: str,
        path: str,
        *,
        permit: Permit,
        action: Action = Action.READ,
        query: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        restli_method: str | None = None,
        endpoint: str | None = None,
        json_wanted: bool = True,
        once: bool = False,
        new_until: float = 0.0,
    ) -> Response:
        """The first answer that repeating would not change: 2xx, or a refusal of just this request.

        action: what it is for. endpoint: whose limit of requests a minute counts this one. json_wanted: a 2xx whose
        body is not JSON counts as trouble. once: trouble is not borne with (a create must look before it repeats).
        new_until: until when, on the monotonic clock, 404 only means that the audience is new.

        Raises GaveUp, or Refused for 401, 403, 426 and a full account.
        """
        most = 1 if once or self._outage else self._settings.attempts
        limited = f"/{MEMBER_PATHS[endpoint]}" if endpoint else "/dmpSegments"
        course = _Course(permit)
        while True:
            response: Response | None = None
            try:
                token = self._admitted(limited, endpoint, course)
                course.sent = True
                response = self._client.request(
                    method,
                    path,
                    permit=permit,
                    action=action,
                    token=token,
                    query=query,
                    body=body,
                    restli_method=restli_method,
                )
                self._note_limit(limited, response)
                following = what_next(response.status)
                if following is Next.RENEW:
                    self._renew(token, response, course)
                    continue
                trouble = self._trouble(following, response, json_wanted)
                if trouble is None:
                    self._outage = False
                    self._tokens.accepted(token)
                    left = new_until - time.monotonic()
                    if following is Next.NOT_FOUND and left > 0:
                        course.not_founds += 1
                        self._pause(min(self._backoff(course.not_founds), left), course)
                        continue
                    return response
            except NoAnswer as silence:
                trouble = GaveUp(silence.reason, f"LinkedIn did not answer: {silence}", unclear=True)
            except GaveUp as gave_up:
                if gave_up.reason == "stopped":
                    raise stopped(attempted=course.sent) from None
                if gave_up.reason in FINAL:
                    raise
                trouble = gave_up
            pause = self._pause_after(trouble, response, course)
            log.info(
                "linkedin_trouble", reason=trouble.reason, path=path, attempt=course.attempts, pause=round(pause, 2)
            )
            if course.attempts >= most or course.seconds_of_trouble + pause > self._settings.patience:
                self._outage = self._outage or not once
                raise trouble
            with self._pace.throttled if trouble.reason == "throttled" else nullcontext():
                self._pause(pause, course)

    def _admitted(self, limited: str, endpoint: str | None, course: _Course) -> str:
        """A token to send now. The pace comes last, as whoever waits for its turn also makes sure of the lease."""
        self._days.ensure_open(limited)
        self._pause(0, course)
        token = self._tokens.current(course.permit)
        self._pace.turn(endpoint, course.permit)
        self._days.ensure_open(limited)
        return token

    def _trouble(self, following: Next, response: Response, json_wanted: bool) -> GaveUp | None:
        if following is Next.FORBIDDEN:
            raise forbidden(self._settings, response)
        if following is Next.VERSION:
            raise dead_version(self._settings, response)
        if is_segment_limit(response):
            raise segment_limit(self._settings, response)
        if following is Next.ANSWERED and json_wanted and response.json is None:
            return GaveUp("malformed_answer", "LinkedIn's answer is not JSON", unclear=True)
        if following is not Next.RETRY:
            return None
        if response.status == 429:
            return GaveUp(
                "throttled",
                f"LinkedIn wants fewer requests ({describe(response)}): its limit of a minute, or that of a day, which "
                "starts anew at 00:00 UTC",
                retry_after=retry_after(response),
            )
        return GaveUp(
            f"http_{response.status}",
            f"LinkedIn has trouble ({describe(response)})",
            unclear=response.status >= 500 or response.status in UNCLEAR_STATUSES,
            retry_after=retry_after(response),
        )

    def _note_limit(self, limited: str, response: Response) -> None:
        """Raises GaveUp when this answer shows that the requests of the day are used up."""
        if response.status != 429:
            self._days.answered(limited)
        elif not is_segment_limit(response):
            self._days.throttled(limited, retry_after(response))

    def _renew(self, token: str, response: Response, course: _Course) -> None:
        """Make another attempt after a 401 worthwhile. Raises Refused or GaveUp."""
        settings, tokens = self._settings, self._tokens
        course.first_401 = since = course.first_401 or time.monotonic()
        if tokens.renewable:
            dead = tokens.refused_for(token, since, renewed=course.renewals > 0) > settings.token_patience
        else:
            # One that was given to us may be just as new to LinkedIn as a renewed one.
            dead = time.monotonic() - since > settings.token_propagation
        if dead:
            ending = dead_access_token(settings, response)
            tokens.give_up(ending)
            raise ending
        if tokens.renewable and course.renewals == 0:
            course.renewals += tokens.renew(token, course.permit)
        # After the propagation time a refusal still says little for a while: come back less and less eagerly.
        self._pause(max(tokens.seconds_to_propagate(), self._backoff_since(since)), course)

    def _pause_after(self, trouble: GaveUp, response: Response | None, course: _Course) -> float:
        course.attempts += 1
        course.first_trouble = course.first_trouble or time.monotonic()
        pause = max(self._backoff(course.attempts), trouble.retry_after or 0.0)
        if response is not None and what_next(response.status) is Next.RETRY:
            if response.status == 429:
                pause = max(pause, self._settings.wait_after_429)
            if response.status == 429 or trouble.retry_after:
                self._pace.hold(pause)
        return pause

    def _backoff(self, attempt: int) -> float:
        longest = min(self._settings.backoff_max, self._settings.backoff_initial * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _backoff_since(self, moment: float) -> float:
        """A pause that grows with the time since `moment`, so that patience is spent in few requests."""
        waited = time.monotonic() - moment
        return min(self._settings.backoff_max, max(self._settings.backoff_initial, waited / 2))

    def _pause(self, seconds: float, course: _Course) -> None:
        if course.permit.wait(seconds):
            raise stopped(attempted=course.sent)
