"""How a call to LinkedIn fails. Internal to this package: the destination translates these errors.

TransientError   the same call may succeed later               → DestinationUnavailable, or `deferred` outcomes
PermanentError   the operator must change or grant something   → ConfigurationError, or StopRun during a delivery
"""

from __future__ import annotations

import math

from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import describe_response
from warehouse_sync.operations import Outcome, deferred

ROLES = "ACCOUNT_BILLING_ADMIN, ACCOUNT_MANAGER, CAMPAIGN_MANAGER or CREATIVE_MANAGER"
"""The roles on an ad account that may manage audiences; VIEWER may not."""

FINAL_REASONS = frozenset({"stopped", "daily_limit"})
"""Reasons of a TransientError after which no call of this run is retried."""


class TransientError(Exception):
    """LinkedIn gave no usable answer within the timeout of the call; a later call may succeed.

    Attributes:
        reason: A short stable code (`timeout`, `connection`, `http_503`, `stopped` …).
        may_be_applied: Whether LinkedIn may have applied the request all the same.
        retry_after: Seconds until LinkedIn accepts the next request, if it said so.
        attempted: Whether a request had left.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        may_be_applied: bool = False,
        retry_after: float | None = None,
        attempted: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.may_be_applied = may_be_applied
        self.retry_after = retry_after
        self.attempted = attempted

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of the operations that this call carried.

        `retry_after` is rounded up to whole seconds, so that the outcomes of many batches are equal.
        """
        retry_after = None if self.retry_after is None else float(math.ceil(self.retry_after))
        return deferred(self.reason, str(self), attempted=self.attempted, retry_after=retry_after)


def stopped_error(*, attempted: bool) -> TransientError:
    """Return the error of a call whose permit has ended; `attempted` if one of its requests had left."""
    return TransientError("stopped", "The worker is being stopped", attempted=attempted)


def daily_limit_error(endpoint: str, evidence: str, seconds: float) -> TransientError:
    """Return the error of a call to an endpoint whose daily limit is reached.

    Args:
        endpoint: The endpoint.
        evidence: How we know, as the predicate of a sentence about the endpoint. It does not change with time.
        seconds: Time until the endpoint may be called again.
    """
    return TransientError(
        "daily_limit",
        f"LinkedIn's limit of requests a day to {endpoint} is used up: it {evidence}",
        retry_after=seconds,
    )


class PermanentError(Exception):
    """No repetition of the call can succeed until the operator changes or grants something.

    Attributes:
        is_credentials: Whether the reason is the token, or the rights of the member who granted it.
    """

    def __init__(self, message: str, *, is_credentials: bool = False) -> None:
        super().__init__(message)
        self.is_credentials = is_credentials


def access_denied_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for 403, and for 404 to a request without an id."""
    return PermanentError(
        f"LinkedIn denies access to the audiences of ad account {settings.account_id} ({describe_response(response)}). "
        f"Check {settings.key('account_id')}; the token needs the scope rw_dmp_segments, and the member who granted it "
        f"one of the roles {ROLES} on that account (VIEWER is not enough).",
        is_credentials=True,
    )


def api_version_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for 426."""
    return PermanentError(
        f"LinkedIn does not serve API version {settings.api_version} ({describe_response(response)}). Set "
        f"{settings.key('api_version')} to a version, YYYYMM, that LinkedIn's table of marketing API versions lists as "
        "supported; each lives for about a year, and no December has one."
    )


def segment_limit_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for 429 SEGMENT_LIMIT_EXCEEDED."""
    return PermanentError(
        f"Ad account {settings.account_id} has as many audiences as LinkedIn allows, 1,000 "
        f"({describe_response(response)}). "
        "Delete audiences that are no longer used, in Campaign Manager."
    )


def refresh_token_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for 400 invalid_grant from the token endpoint."""
    return PermanentError(
        f"Refresh Token Expired: LinkedIn no longer accepts the refresh token (HTTP {response.status} "
        "invalid_grant). Refresh tokens live for 365 days and can be revoked. Authorise the application again and put "
        f"the new token into {settings.key('refresh_token')}.",
        is_credentials=True,
    )


def token_refresh_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for any other refusal by the token endpoint."""
    body = response.json if isinstance(response.json, dict) else {}
    error = body.get("error")
    # Error codes of OAuth 2 are single words. Other text could quote what was sent.
    code = f" {error}" if isinstance(error, str) and error.replace("_", "").isalpha() and len(error) <= 40 else ""
    return PermanentError(
        f"Oauth Refresh Failed: LinkedIn's token endpoint answered HTTP {response.status}{code}. "
        f"Check {settings.key('client_id')}, {settings.key('client_secret')} and {settings.key('oauth_url')}: "
        "they must be those of the application that the refresh token was granted to.",
        is_credentials=True,
    )


def access_token_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Return the error for 401 if the token cannot be renewed, or renewed tokens were refused for minutes."""
    if settings.refresh_token is None:
        return PermanentError(
            f"LinkedIn does not accept the access token ({describe_response(response)}). Put a new one into "
            f"{settings.key('access_token')}, or better a refresh token into {settings.key('refresh_token')}, from "
            "which access tokens are renewed automatically.",
            is_credentials=True,
        )
    return PermanentError(
        f"Oauth Refresh Failed: LinkedIn refuses even a renewed access token ({describe_response(response)}). "
        "The member may have revoked the application's access: authorise it again and put the new token into "
        f"{settings.key('refresh_token')}.",
        is_credentials=True,
    )
