"""How a call to LinkedIn ends when it brings no usable answer. Internal to this package.

GaveUp    the same call may go through later         → DestinationUnavailable, or outcomes `deferred`
Refused   the operator must change or grant something → ConfigurationError, or StopRun when a run is under way
"""

from __future__ import annotations

import math

from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import describe_response
from warehouse_sync.operations import Outcome, deferred

ROLES = "ACCOUNT_BILLING_ADMIN, ACCOUNT_MANAGER, CAMPAIGN_MANAGER or CREATIVE_MANAGER"
"""Roles on an ad account that may manage audiences; VIEWER may not."""

FINAL_REASONS = frozenset({"stopped", "daily_limit"})
"""Reasons of GaveUp after which no call of this run is tried again."""


class TransientError(Exception):
    """LinkedIn did not answer usefully for as long as we bear with it.

    reason: short and stable (`timeout`, `connection`, `http_503`, `stopped` …). unclear: what was asked may have been
    done all the same. retry_after: seconds until LinkedIn wants to be asked again. attempted: a request had left.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        unclear: bool = False,
        retry_after: float | None = None,
        attempted: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.may_be_applied = unclear
        self.retry_after = retry_after
        self.attempted = attempted

    @property
    def outcome(self) -> Outcome:
        """The end of an operation that this call carried; whole seconds, so that many ends are told as one."""
        wish = None if self.retry_after is None else float(math.ceil(self.retry_after))
        return deferred(self.reason, str(self), attempted=self.attempted, retry_after=wish)


def stopped_error(*, attempted: bool) -> TransientError:
    """The worker is being stopped. attempted: a request of this call had left before."""
    return TransientError("stopped", "The worker is being stopped", attempted=attempted)


def daily_limit_error(endpoint: str, why: str, seconds: float) -> TransientError:
    """429 for longer than a minute. The message does not change with time, unlike `seconds`."""
    return TransientError(
        "daily_limit",
        f"LinkedIn's limit of requests a day to {endpoint} is used up: it {why}",
        retry_after=seconds,
    )


class PermanentError(Exception):
    """No repetition mends this. `credentials`: it lies with the token or with what its member may do."""

    def __init__(self, message: str, *, credentials: bool = False) -> None:
        super().__init__(message)
        self.is_credentials = credentials


def access_denied_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """403, and 404 where no id was asked for."""
    return PermanentError(
        f"LinkedIn denies access to the audiences of ad account {settings.account_id} ({describe_response(response)}). "
        f"Check {settings.key('account_id')}; the token needs the scope rw_dmp_segments, and the member who granted it "
        f"one of the roles {ROLES} on that account (VIEWER is not enough).",
        credentials=True,
    )


def api_version_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """426."""
    return PermanentError(
        f"LinkedIn does not serve API version {settings.api_version} ({describe_response(response)}). Set "
        f"{settings.key('api_version')} to a version, YYYYMM, that LinkedIn's table of marketing API versions lists as "
        "supported; each lives for about a year, and no December has one."
    )


def segment_limit_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """429 SEGMENT_LIMIT_EXCEEDED."""
    return PermanentError(
        f"Ad account {settings.account_id} has as many audiences as LinkedIn allows, 1,000 "
        f"({describe_response(response)}). "
        "Delete audiences that are not used any more in Campaign Manager."
    )


def refresh_token_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """400 invalid_grant from the token endpoint."""
    return PermanentError(
        f"Refresh Token Expired: LinkedIn does not take the refresh token any more (HTTP {response.status} "
        "invalid_grant). Refresh tokens live for 365 days and can be revoked. Authorise the application again and put "
        f"the new token into {settings.key('refresh_token')}.",
        credentials=True,
    )


def token_refresh_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """Any other refusal of the token endpoint."""
    body = response.json if isinstance(response.json, dict) else {}
    error = body.get("error")
    # Known error codes of OAuth 2 are single words; anything else could quote what was sent.
    word = f" {error}" if isinstance(error, str) and error.replace("_", "").isalpha() and len(error) <= 40 else ""
    return PermanentError(
        f"Oauth Refresh Failed: LinkedIn's token endpoint answered HTTP {response.status}{word}. "
        f"Check {settings.key('client_id')}, {settings.key('client_secret')} and {settings.key('oauth_url')}: "
        "they must be those of the application that the refresh token was granted to.",
        credentials=True,
    )


def access_token_error(settings: LinkedInSettings, response: Response) -> PermanentError:
    """401 where no renewal is possible, or none has helped for minutes."""
    if settings.refresh_token is None:
        return PermanentError(
            f"LinkedIn does not take the access token ({describe_response(response)}). Put a new one into "
            f"{settings.key('access_token')}, or better a refresh token into {settings.key('refresh_token')}, with "
            "which access tokens are renewed by themselves.",
            credentials=True,
        )
    return PermanentError(
        f"Oauth Refresh Failed: LinkedIn refuses even a renewed access token ({describe_response(response)}). "
        "The member may have revoked the application's access: authorise it again and put the new token into "
        f"{settings.key('refresh_token')}.",
        credentials=True,
    )
