"""How a call to LinkedIn ends when it brings no usable answer. Internal to this package.

GaveUp    the same call may go through later         → DestinationUnavailable, or outcomes `deferred`
Refused   the operator must change or grant something → ConfigurationError, or StopRun when a run is under way
"""

from __future__ import annotations

import math

from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import describe
from warehouse_sync.operations import Outcome, deferred

ROLES = "ACCOUNT_BILLING_ADMIN, ACCOUNT_MANAGER, CAMPAIGN_MANAGER or CREATIVE_MANAGER"
"""Roles on an ad account that may manage audiences; VIEWER may not."""

FINAL = frozenset({"stopped", "daily_limit"})
"""Reasons of GaveUp after which no call of this run is tried again."""


class GaveUp(Exception):
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
        self.unclear = unclear
        self.retry_after = retry_after
        self.attempted = attempted

    @property
    def outcome(self) -> Outcome:
        """The end of an operation that this call carried; whole seconds, so that many ends are told as one."""
        wish = None if self.retry_after is None else float(math.ceil(self.retry_after))
        return deferred(self.reason, str(self), attempted=self.attempted, retry_after=wish)


def stopped(*, attempted: bool) -> GaveUp:
    """The worker is being stopped. attempted: a request of this call had left before."""
    return GaveUp("stopped", "The worker is being stopped", attempted=attempted)


def daily_limit(endpoint: str, why: str, seconds: float) -> GaveUp:
    """429 for longer than a minute. The message does not change with time, unlike `seconds`."""
    return GaveUp(
        "daily_limit",
        f"LinkedIn's limit of requests a day to {endpoint} is used up: it {why}",
        retry_after=seconds,
    )


class Refused(Exception):
    """No repetition mends this. `credentials`: it lies with the token or with what its member may do."""

    def __init__(self, message: str, *, credentials: bool = False) -> None:
        super().__init__(message)
        self.credentials = credentials


def forbidden(settings: LinkedInSettings, response: Response) -> Refused:
    """403, and 404 where no id was asked for."""
    return Refused(
        f"LinkedIn denies access to the audiences of ad account {settings.account_id} ({describe(response)}). "
        f"Check {settings.key('account_id')}; the token needs the scope rw_dmp_segments, and the member who granted it "
        f"one of the roles {ROLES} on that account (VIEWER is not enough).",
        credentials=True,
    )


def dead_version(settings: LinkedInSettings, response: Response) -> Refused:
    """426."""
    return Refused(
        f"LinkedIn does not serve API version {settings.api_version} ({describe(response)}). Set "
        f"{settings.key('api_version')} to a version, YYYYMM, that LinkedIn's table of marketing API versions lists as "
        "supported; each lives for about a year, and no December has one."
    )


def segment_limit(settings: LinkedInSettings, response: Response) -> Refused:
    """429 SEGMENT_LIMIT_EXCEEDED."""
    return Refused(
        f"Ad account {settings.account_id} has as many audiences as LinkedIn allows, 1,000 ({describe(response)}). "
        "Delete audiences that are not used any more in Campaign Manager."
    )


def dead_refresh_token(settings: LinkedInSettings, response: Response) -> Refused:
    """400 invalid_grant from the token endpoint."""
    return Refused(
        f"Refresh Token Expired: LinkedIn does not take the refresh token any more (HTTP {response.status} "
        "invalid_grant). Refresh tokens live for 365 days and can be revoked. Authorise the application again and put "
        f"the new token into {settings.key('refresh_token')}.",
        credentials=True,
    )


def refresh_refused(settings: LinkedInSettings, response: Response) -> Refused:
    """Any other refusal of the token endpoint."""
    body = response.json if isinstance(response.json, dict) else {}
    error = body.get("error")
    # Known error codes of OAuth 2 are single words; anything else could quote what was sent.
    word = f" {error}" if isinstance(error, str) and error.replace("_", "").isalpha() and len(error) <= 40 else ""
    return Refused(
        f"Oauth Refresh Failed: LinkedIn's token endpoint answered HTTP {response.status}{word}. "
        f"Check {settings.key('client_id')}, {settings.key('client_secret')} and {settings.key('oauth_url')}: "
        "they must be those of the application that the refresh token was granted to.",
        credentials=True,
    )


def dead_access_token(settings: LinkedInSettings, response: Response) -> Refused:
    """401 where no renewal is possible, or none has helped for minutes."""
    if settings.refresh_token is None:
        return Refused(
            f"LinkedIn does not take the access token ({describe(response)}). Put a new one into "
            f"{settings.key('access_token')}, or better a refresh token into {settings.key('refresh_token')}, with "
            "which access tokens are renewed by themselves.",
            credentials=True,
        )
    return Refused(
        f"Oauth Refresh Failed: LinkedIn refuses even a renewed access token ({describe(response)}). The member may "
        "have revoked the application's access: authorise it again and put the new token into "
        f"{settings.key('refresh_token')}.",
        credentials=True,
    )
