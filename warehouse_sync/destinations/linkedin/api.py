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
    FINAL_REASONS,
    TransientError,
    access_denied_error,
    access_token_error,
    api_version_error,
    segment_limit_error,
    stopped_error,
)
from warehouse_sync.destinations.linkedin.fields import MEMBER_PATHS
from warehouse_sync.destinations.linkedin.http import HTTPClient, NoResponse, Response
from warehouse_sync.destinations.linkedin.rate_limit import DailyLimits, RateLimiter
from warehouse_sync.destinations.linkedin.responses import (
    StatusClass,
    classify_status,
    describe_response,
    is_segment_limit,
    parse_retry_after,
)
from warehouse_sync.destinations.linkedin.tokens import TokenStore
from warehouse_sync.events import Action

log = structlog.get_logger(__name__)

MAYBE_APPLIED_STATUSES = frozenset({408, 409})
"""Besides 5xx: after these a create may have happened."""


@dataclass(slots=True)
class _Call:
    """How a call has gone so far; moments on the monotonic clock."""

    permit: Permit
    is_sent: bool = False
    attempts: int = 0
    renewals: int = 0
    not_founds: int = 0
    first_failure: float | None = None
    first_401: float | None = None

    @property
    def seconds_failing(self) -> float:
        return 0.0 if self.first_failure is None else time.monotonic() - self.first_failure


class Api:
    """Thread-safe."""

    def __init__(self, client: HTTPClient, tokens: TokenStore, pace: RateLimiter, settings: LinkedInSettings) -> None:
        self._client = client
        self._tokens = tokens
        self._rate_limiter = pace
        self._settings = settings
        self._daily_limits = DailyLimits(settings.daily_limit_after)
        self._is_outage = False

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
        expects_json: bool = True,
        is_single_attempt: bool = False,
        new_until: float = 0.0,
    ) -> Response:
        """The first answer that repeating would not change: 2xx, or a refusal of just this request.

        action: what it is for. endpoint: whose limit of requests a minute counts this one. json_wanted: a 2xx whose
        body is not JSON counts as trouble. once: trouble is not borne with (a create must look before it repeats).
        new_until: until when, on the monotonic clock, 404 only means that the audience is new.

        Raises GaveUp, or Refused for 401, 403, 426 and a full account.
        """
        most = 1 if is_single_attempt or self._is_outage else self._settings.attempts
        limited = f"/{MEMBER_PATHS[endpoint]}" if endpoint else "/dmpSegments"
        course = _Call(permit)
        while True:
            response: Response | None = None
            try:
                token = self._acquire_token(limited, endpoint, course)
                course.is_sent = True
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
                self._record_for_daily_limit(limited, response)
                following = classify_status(response.status)
                if following is StatusClass.UNAUTHORIZED:
                    self._handle_unauthorized(token, response, course)
                    continue
                trouble = self._classify_failure(following, response, expects_json)
                if trouble is None:
                    self._is_outage = False
                    self._tokens.mark_accepted(token)
                    left = new_until - time.monotonic()
                    if following is StatusClass.NOT_FOUND and left > 0:
                        course.not_founds += 1
                        self._wait(min(self._backoff(course.not_founds), left), course)
                        continue
                    return response
            except NoResponse as silence:
                trouble = TransientError(silence.reason, f"LinkedIn did not answer: {silence}", unclear=True)
            except TransientError as gave_up:
                if gave_up.reason == "stopped":
                    raise stopped_error(attempted=course.is_sent) from None
                if gave_up.reason in FINAL_REASONS:
                    raise
                trouble = gave_up
            pause = self._record_failure(trouble, response, course)
            log.info(
                "linkedin_trouble", reason=trouble.reason, path=path, attempt=course.attempts, pause=round(pause, 2)
            )
            if course.attempts >= most or course.seconds_failing + pause > self._settings.retry_timeout:
                self._is_outage = self._is_outage or not is_single_attempt
                raise trouble
            with self._rate_limiter.destination_delay if trouble.reason == "throttled" else nullcontext():
                self._wait(pause, course)

    def _acquire_token(self, limited: str, endpoint: str | None, course: _Call) -> str:
        """A token to send now. The pace comes last, as whoever waits for its turn also makes sure of the lease."""
        self._daily_limits.check(limited)
        self._wait(0, course)
        token = self._tokens.get(course.permit)
        self._rate_limiter.acquire(endpoint, course.permit)
        self._daily_limits.check(limited)
        return token

    def _classify_failure(self, following: StatusClass, response: Response, json_wanted: bool) -> TransientError | None:
        if following is StatusClass.FORBIDDEN:
            raise access_denied_error(self._settings, response)
        if following is StatusClass.VERSION_RETIRED:
            raise api_version_error(self._settings, response)
        if is_segment_limit(response):
            raise segment_limit_error(self._settings, response)
        if following is StatusClass.SUCCESS and json_wanted and response.json is None:
            return TransientError("malformed_answer", "LinkedIn's answer is not JSON", unclear=True)
        if following is not StatusClass.TRANSIENT:
            return None
        if response.status == 429:
            return TransientError(
                "throttled",
                f"LinkedIn limits our requests ({describe_response(response)}): its limit of a minute is used up, or "
                "that of a day, which is reset at 00:00 UTC",
                retry_after=parse_retry_after(response),
            )
        return TransientError(
            f"http_{response.status}",
            f"LinkedIn has trouble ({describe_response(response)})",
            unclear=response.status >= 500 or response.status in MAYBE_APPLIED_STATUSES,
            retry_after=parse_retry_after(response),
        )

    def _record_for_daily_limit(self, limited: str, response: Response) -> None:
        """Raises GaveUp when this answer shows that the requests of the day are used up."""
        if response.status != 429:
            self._daily_limits.record_other_status(limited)
        elif not is_segment_limit(response):
            self._daily_limits.record_429(limited, parse_retry_after(response))

    def _handle_unauthorized(self, token: str, response: Response, course: _Call) -> None:
        """Make another attempt after a 401 worthwhile. Raises Refused or GaveUp."""
        settings, tokens = self._settings, self._tokens
        course.first_401 = since = course.first_401 or time.monotonic()
        if tokens.is_renewable:
            dead = tokens.seconds_refused(token, since, renewed=course.renewals > 0) > settings.token_timeout
        else:
            # One that was given to us may be just as new to LinkedIn as a renewed one.
            dead = time.monotonic() - since > settings.token_propagation
        if dead:
            ending = access_token_error(settings, response)
            tokens.invalidate(ending)
            raise ending
        if tokens.is_renewable and course.renewals == 0:
            course.renewals += tokens.renew(token, course.permit)
        # After the propagation time a refusal still says little for a while: come back less and less eagerly.
        self._wait(max(tokens.propagation_remaining(), self._backoff_since(since)), course)

    def _record_failure(self, trouble: TransientError, response: Response | None, course: _Call) -> float:
        course.attempts += 1
        course.first_failure = course.first_failure or time.monotonic()
        pause = max(self._backoff(course.attempts), trouble.retry_after or 0.0)
        if response is not None and classify_status(response.status) is StatusClass.TRANSIENT:
            if response.status == 429:
                pause = max(pause, self._settings.wait_after_429)
            if response.status == 429 or trouble.retry_after:
                self._rate_limiter.pause(pause)
        return pause

    def _backoff(self, attempt: int) -> float:
        longest = min(self._settings.backoff_max, self._settings.backoff_initial * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _backoff_since(self, moment: float) -> float:
        """A pause that grows with the time since `moment`, so that patience is spent in few requests."""
        waited = time.monotonic() - moment
        return min(self._settings.backoff_max, max(self._settings.backoff_initial, waited / 2))

    def _wait(self, seconds: float, course: _Call) -> None:
        if course.permit.wait(seconds):
            raise stopped_error(attempted=course.is_sent)
