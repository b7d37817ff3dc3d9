"""One call to LinkedIn carried through: token, pace, patience.

    trouble                                     borne with
    connection, timeout, 408, 409, 423, 5xx,    `attempts` times with doubling, jittered pauses, at most `patience`
    not JSON                                    seconds; as long as `Retry-After` says, when it does
    429                                         the same, at least a second, and all threads pause together
    401                                         the token is renewed once; a renewed one may take minutes to be taken
    404 for a new audience                      until the audience is not new any more

After a call has given up, later ones try once only, until one is answered: an outage costs a run minutes, not hours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import structlog

from warehouse_sync.destinations.linkedin.client import Client, NoAnswer, Response
from warehouse_sync.destinations.linkedin.endings import (
    GaveUp,
    dead_access_token,
    dead_version,
    forbidden,
    segment_limit,
)
from warehouse_sync.destinations.linkedin.pace import Pace, Wait
from warehouse_sync.destinations.linkedin.responses import Next, describe, is_segment_limit, retry_after, what_next
from warehouse_sync.destinations.linkedin.settings import LinkedInSettings
from warehouse_sync.destinations.linkedin.tokens import Tokens

log = structlog.get_logger(__name__)

UNCLEAR_STATUSES = frozenset({408, 409})
"""Besides 5xx: after these a create may have happened."""


class Calls:
    """Thread-safe."""

    def __init__(self, client: Client, tokens: Tokens, pace: Pace, settings: LinkedInSettings, wait: Wait) -> None:
        self._client = client
        self._tokens = tokens
        self._pace = pace
        self._settings = settings
        self._wait = wait
        self._outage = False

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        restli_method: str | None = None,
        endpoint: str | None = None,
        json_wanted: bool = True,
        once: bool = False,
        new_until: float = 0.0,
    ) -> Response:
        """The first answer that repeating would not change: 2xx, or a refusal of just this request.

        endpoint: whose limit of requests a minute counts this one. json_wanted: a 2xx whose body is not JSON counts as
        trouble. once: trouble is not borne with (a create must look before it repeats). new_until: until when, on the
        monotonic clock, 404 only means that the audience is new.

        Raises GaveUp, or Refused for 401, 403, 426 and a full account.
        """
        attempts = 1 if once or self._outage else self._settings.attempts
        attempt = 0
        renewals = 0
        not_founds = 0
        first_trouble: float | None = None
        first_401: float | None = None
        while True:
            token: str | None = None
            response: Response | None = None
            try:
                self._pace.turn(endpoint)
                token = self._tokens.current()
                response = self._client.request(
                    method, path, token=token, query=query, body=body, restli_method=restli_method
                )
                following = what_next(response.status)
                if following is Next.RENEW:
                    first_401 = first_401 or time.monotonic()
                    renewals += self._renew(token, response, renewals, first_401)
                    continue
                trouble = self._trouble(following, response, json_wanted)
            except NoAnswer as silence:
                trouble = GaveUp(silence.reason, f"LinkedIn did not answer: {silence}", unclear=True)
            except GaveUp as gave_up:
                if gave_up.reason == "stopped":
                    raise
                trouble = gave_up
            if trouble is None:
                assert response is not None
                assert token is not None
                self._outage = False
                self._tokens.accepted(token)
                if what_next(response.status) is Next.NOT_FOUND and (left := new_until - time.monotonic()) > 0:
                    not_founds += 1
                    self._pause(min(self._backoff(not_founds), left))
                    continue
                return response
            attempt += 1
            first_trouble = first_trouble or time.monotonic()
            pause = self._pause_after(attempt, trouble, response)
            over = time.monotonic() + pause - first_trouble > self._settings.patience
            log.info("linkedin_trouble", reason=trouble.reason, path=path, attempt=attempt, pause=round(pause, 2))
            if attempt >= attempts or over:
                self._outage = self._outage or not once
                raise trouble
            self._pause(pause)

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

    def _renew(self, token: str, response: Response, renewals: int, first_401: float) -> int:
        """Make another attempt after a 401 worthwhile; 1 when the token was renewed for it.

        Raises Refused or GaveUp.
        """
        dead = dead_access_token(self._settings, response)
        if not self._tokens.renewable or time.monotonic() - first_401 > self._settings.token_patience:
            self._tokens.give_up(dead)
            raise dead
        renewed = renewals == 0 and self._tokens.renew(token)
        # After the propagation time a refusal still says little for a while: come back less and less eagerly.
        self._pause(max(self._tokens.seconds_to_propagate(), self._backoff_since(first_401)))
        return int(renewed)

    def _pause_after(self, attempt: int, trouble: GaveUp, response: Response | None) -> float:
        pause = self._backoff(attempt)
        if response is not None and response.status == 429:
            pause = max(pause, self._settings.wait_after_429, trouble.retry_after or 0.0)
            self._pace.hold(pause)
        return max(pause, trouble.retry_after or 0.0)

    def _backoff(self, attempt: int) -> float:
        longest = min(self._settings.backoff_max, self._settings.backoff_initial * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _backoff_since(self, moment: float) -> float:
        """A pause that grows with the time since `moment`, so that patience is spent in few requests."""
        waited = time.monotonic() - moment
        return min(self._settings.backoff_max, max(self._settings.backoff_initial, waited / 2))

    def _pause(self, seconds: float) -> None:
        if self._wait(seconds):
            raise GaveUp("stopped", "The worker is being stopped")
