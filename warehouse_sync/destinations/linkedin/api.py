"""One call to LinkedIn: with a token, within the rate limits, and with retries.

    failure                                     what a call does
    connection, timeout, 408, 409, 423, 5xx,    retries: `attempts` times, for `retry_timeout` seconds, with doubling
    not JSON                                    and jittered pauses
    429, and each status with `Retry-After`     the same; after 429 at least a second; all threads pause together
    no status but 429 for over a minute         fails: the endpoint is blocked until 00:00 UTC (daily_limit.py)
    401                                         renews the token once, then retries: LinkedIn may refuse a new token for
                                                minutes
    404 for a new audience                      retries until the audience is no longer new

After a call has failed, later calls make a single attempt until one is answered: an outage costs a run minutes, not
hours.
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
from warehouse_sync.destinations.linkedin.daily_limit import DailyLimits
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
from warehouse_sync.destinations.linkedin.rate_limit import RateLimiter
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
"""With 5xx the statuses after which a request may have been applied."""


@dataclass(slots=True)
class _Call:
    """The state of one call. Moments are of the monotonic clock.

    Attributes:
        permit: The right to send its requests.
        is_sent: Whether a request has left.
        attempts: Number of attempts that have failed.
        renewals: Number of times that the token was renewed.
        not_founds: Number of 404s for a new audience.
        first_failure: When the first attempt failed.
        first_401: When the first 401 came.
    """

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
    """Calls to LinkedIn's API. Thread-safe."""

    def __init__(
        self, client: HTTPClient, tokens: TokenStore, rate_limiter: RateLimiter, settings: LinkedInSettings
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._rate_limiter = rate_limiter
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
        """Send a request, with retries, and return the first answer that a repetition would not change.

        Args:
            method: HTTP method.
            path: Path below the address of the API.
            permit: The right to send requests.
            action: Purpose of the request.
            query: Query parameters.
            body: JSON text.
            restli_method: Value of the header X-RestLi-Method.
            endpoint: Audience type whose rate limit counts the request; None for requests without such a limit.
            expects_json: Treat a 2xx whose body is not JSON as a failure.
            is_single_attempt: Do not retry failures. A create must search before it is repeated.
            new_until: Retry a 404 until this moment of the monotonic clock: the audience is new.

        Returns:
            A 2xx, or a refusal of this one request.

        Raises:
            TransientError: All attempts failed, or the permit has ended.
            PermanentError: The answer is 401, 403, 426, or the account is full.
        """
        max_attempts = 1 if is_single_attempt or self._is_outage else self._settings.attempts
        daily_endpoint = f"/{MEMBER_PATHS[endpoint]}" if endpoint else "/dmpSegments"
        call = _Call(permit)
        while True:
            response: Response | None = None
            try:
                token = self._acquire_token(daily_endpoint, endpoint, call)
                call.is_sent = True
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
                self._record_for_daily_limit(daily_endpoint, response)
                status_class = classify_status(response.status)
                if status_class is StatusClass.UNAUTHORIZED:
                    self._handle_unauthorized(token, response, call)
                    continue
                failure = self._classify_failure(status_class, response, expects_json)
                if failure is None:
                    self._is_outage = False
                    self._tokens.mark_accepted(token)
                    remaining = new_until - time.monotonic()
                    if status_class is StatusClass.NOT_FOUND and remaining > 0:
                        call.not_founds += 1
                        self._wait(min(self._backoff(call.not_founds), remaining), call)
                        continue
                    return response
            except NoResponse as error:
                failure = TransientError(error.reason, f"LinkedIn did not answer: {error}", may_be_applied=True)
            except TransientError as error:
                if error.reason == "stopped":
                    raise stopped_error(attempted=call.is_sent) from None
                if error.reason in FINAL_REASONS:
                    raise
                failure = error
            pause = self._record_failure(failure, response, call)
            log.info(
                "linkedin_request_failed",
                reason=failure.reason,
                path=path,
                attempt=call.attempts,
                pause=round(pause, 2),
            )
            if call.attempts >= max_attempts or call.seconds_failing + pause > self._settings.retry_timeout:
                self._is_outage = self._is_outage or not is_single_attempt
                raise failure
            with self._rate_limiter.destination_delay if failure.reason == "throttled" else nullcontext():
                self._wait(pause, call)

    def _acquire_token(self, daily_endpoint: str, endpoint: str | None, call: _Call) -> str:
        """Return a token for a request that may be sent now.

        The rate limiter comes last: it also checks the permit after its wait. The daily limit is checked twice, as
        another thread may reach it during that wait.
        """
        self._daily_limits.check(daily_endpoint)
        self._wait(0, call)
        token = self._tokens.get(call.permit)
        self._rate_limiter.acquire(endpoint, call.permit)
        self._daily_limits.check(daily_endpoint)
        return token

    def _classify_failure(
        self, status_class: StatusClass, response: Response, expects_json: bool
    ) -> TransientError | None:
        """Return the failure that should be retried, or None. Raise PermanentError if no retry can succeed."""
        if status_class is StatusClass.FORBIDDEN:
            raise access_denied_error(self._settings, response)
        if status_class is StatusClass.VERSION_RETIRED:
            raise api_version_error(self._settings, response)
        if is_segment_limit(response):
            raise segment_limit_error(self._settings, response)
        if status_class is StatusClass.SUCCESS and expects_json and response.json is None:
            return TransientError("malformed_answer", "LinkedIn's answer is not JSON", may_be_applied=True)
        if status_class is not StatusClass.TRANSIENT:
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
            f"LinkedIn answered with an error ({describe_response(response)})",
            may_be_applied=response.status >= 500 or response.status in MAYBE_APPLIED_STATUSES,
            retry_after=parse_retry_after(response),
        )

    def _record_for_daily_limit(self, endpoint: str, response: Response) -> None:
        """Raise TransientError if this answer shows that the daily limit is reached."""
        if response.status != 429:
            self._daily_limits.record_other_status(endpoint)
        elif not is_segment_limit(response):
            self._daily_limits.record_429(endpoint, parse_retry_after(response))

    def _handle_unauthorized(self, token: str, response: Response, call: _Call) -> None:
        """Renew the token or wait, so that another attempt may succeed. Raise if no attempt can."""
        settings, tokens = self._settings, self._tokens
        call.first_401 = since = call.first_401 or time.monotonic()
        if tokens.is_renewable:
            is_invalid = tokens.seconds_refused(token, since, renewed=call.renewals > 0) > settings.token_timeout
        else:
            # A configured access token may be as new to LinkedIn as a renewed one.
            is_invalid = time.monotonic() - since > settings.token_propagation
        if is_invalid:
            error = access_token_error(settings, response)
            tokens.invalidate(error)
            raise error
        if tokens.is_renewable and call.renewals == 0:
            call.renewals += tokens.renew(token, call.permit)
        # LinkedIn may refuse a new token for longer than the propagation time, so the pauses grow.
        self._wait(max(tokens.propagation_remaining(), self._backoff_since(since)), call)

    def _record_failure(self, failure: TransientError, response: Response | None, call: _Call) -> float:
        """Return the pause before the next attempt, in seconds. All threads keep a pause that LinkedIn asked for."""
        call.attempts += 1
        call.first_failure = call.first_failure or time.monotonic()
        pause = max(self._backoff(call.attempts), failure.retry_after or 0.0)
        if response is not None and classify_status(response.status) is StatusClass.TRANSIENT:
            if response.status == 429:
                pause = max(pause, self._settings.wait_after_429)
            if response.status == 429 or failure.retry_after:
                self._rate_limiter.pause(pause)
        return pause

    def _backoff(self, attempt: int) -> float:
        longest = min(self._settings.backoff_max, self._settings.backoff_initial * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _backoff_since(self, moment: float) -> float:
        """Return a pause that grows with the time since `moment`, so that a long timeout takes few requests."""
        waited = time.monotonic() - moment
        return min(self._settings.backoff_max, max(self._settings.backoff_initial, waited / 2))

    def _wait(self, seconds: float, call: _Call) -> None:
        if call.permit.wait(seconds):
            raise stopped_error(attempted=call.is_sent)
