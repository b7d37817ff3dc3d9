"""The configuration of a LinkedIn destination, and the timeouts of its client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
)

from warehouse_sync.config import types as kind
from warehouse_sync.config.destination_types import DestinationConfig
from warehouse_sync.config.secrets import Secret, SecretText
from warehouse_sync.config.types import digits_json_schema, number_to_text, reject_bool
from warehouse_sync.config.validation import Violation, invalid_value
from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS
from warehouse_sync.fields import AudienceFields


def _validate_account(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        raise invalid_value("the number of the ad account is expected here, digits only")
    return reject_bool(value)


def _validate_version(value: str) -> str:
    if not re.fullmatch(r"20[0-9]{2}(0[1-9]|1[0-2])", value):
        raise invalid_value('a version is a year and a month, YYYYMM, such as "202609"')
    if value.endswith("12"):
        raise invalid_value("LinkedIn has no December version; take the one of November or of January")
    return value


def _validate_platform(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", value):
        raise invalid_value("a platform is in capital letters, digits and _, such as DIRECT_API")
    return value


AccountId = Annotated[int, Field(gt=0), BeforeValidator(_validate_account), digits_json_schema(r"^\s*[0-9]{1,18}\s*$")]
ApiVersion = Annotated[
    str,
    AfterValidator(_validate_version),
    BeforeValidator(number_to_text),
    digits_json_schema(r"^20[0-9]{2}(0[1-9]|1[01])$"),
]
Platform = Annotated[str, AfterValidator(_validate_platform)]


@dataclass(frozen=True, slots=True)
class LinkedInSettings:
    """Settings of one LinkedIn destination. All durations are in seconds; `repr()` contains no secret.

    Attributes:
        account_id: Number of the ad account.
        client_id: Client id of the LinkedIn application.
        client_secret: Client secret of the LinkedIn application.
        refresh_token: Token with which access tokens are fetched.
        access_token: Access token that is used instead of a refresh token.
        api_version: Version of LinkedIn's marketing API, YYYYMM.
        source_platform: Value of `sourcePlatform` in our segments.
        api_url: Address of the API.
        oauth_url: Address of the token endpoint.
        requests_per_minute: Rate limit of each member endpoint; None for 80 % of LinkedIn's published limits.
        max_in_flight: Greatest number of requests at the same time.
        name: Key under `destinations:` in the configuration, for error messages.
        wait_after_create: Pause before the first members of a new audience. LinkedIn's documentation: "wait 5 seconds
            for it to become available".
        new_audience_timeout: How long a new audience may answer 404. In production it took up to two minutes.
        token_propagation: How long LinkedIn may refuse a new access token. Five seconds were enough in all reports.
        token_timeout: How long LinkedIn may refuse a new access token before the credentials count as invalid.
        attempts: Greatest number of attempts of one call. Twelve take at least 90 s, which is long enough to
            recognise LinkedIn's daily limit.
        retry_timeout: How long one call is retried.
        backoff_initial: First pause between two attempts; the pauses double, with jitter.
        backoff_max: Longest pause between two attempts.
        wait_after_429: Shortest pause after HTTP 429. LinkedIn asks for at least one second.
        daily_limit_after: After so long with no status but 429 the daily limit is reached: the limit per minute would
            be over after a minute.
        connect_timeout: Until a connection is open.
        read_timeout: Between two bytes of an answer.
        answer_timeout: Until an answer is complete. It is below the default lease of 60 s, so that no request outlives
            its lease.
    """

    account_id: int
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    api_version: str = "202609"
    source_platform: str = "DIRECT_API"
    api_url: str = "https://api.linkedin.com"
    oauth_url: str = "https://www.linkedin.com"
    requests_per_minute: int | None = None
    max_in_flight: int = 8
    name: str = "<name>"

    wait_after_create: float = 5.0
    new_audience_timeout: float = 120.0
    token_propagation: float = 5.0
    token_timeout: float = 180.0
    attempts: int = 12
    retry_timeout: float = 300.0
    backoff_initial: float = 0.5
    backoff_max: float = 30.0
    wait_after_429: float = 1.0
    daily_limit_after: float = 75.0
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    answer_timeout: float = 35.0

    @property
    def account_urn(self) -> str:
        """Return the URN of the ad account."""
        return f"urn:li:sponsoredAccount:{self.account_id}"

    @property
    def credentials(self) -> tuple[str | None, ...]:
        """Return what identifies the sender for LinkedIn. Destinations with equal ones share rate limits and tokens."""
        app = self.oauth_url, self.client_id, self.client_secret
        return (self.api_url, *app, self.refresh_token, self.access_token)

    def key(self, name: str) -> str:
        """Return the path of setting `name` in the configuration."""
        return f"destinations.{self.name}.{name}"


INTERACTIVE_SETTINGS: Final[Mapping[str, Any]] = {
    "attempts": 2,
    "retry_timeout": 5.0,
    "token_timeout": 10.0,
    "answer_timeout": 10.0,
}
"""Settings for a caller that waits for the answer: a call ends within seconds."""


class LinkedInConfig(DestinationConfig):
    """One ad account at LinkedIn, and the credentials of a member who may manage its audiences."""

    audience_fields: ClassVar[Mapping[str, AudienceFields]] = AUDIENCE_FIELDS
    json_schema_rules: ClassVar[Mapping[str, Any]] = {
        "oneOf": [{"required": ["refresh_token", "client_id", "client_secret"]}, {"required": ["access_token"]}]
    }

    type: Annotated[Literal["linkedin"], Field(description="The kind of destination")]
    account_id: Annotated[AccountId, Field(description="Number of the ad account")]
    client_id: Annotated[SecretText | None, Field(description="Of the LinkedIn app; with refresh_token")] = None
    client_secret: Annotated[Secret | None, Field(description="Of the LinkedIn app; with refresh_token")] = None
    refresh_token: Annotated[
        Secret | None,
        Field(description="Lives a year; access tokens are fetched with it"),
    ] = None
    access_token: Annotated[
        Secret | None,
        Field(description="Instead of refresh_token, for a short life: 60 days at most"),
    ] = None
    api_version: Annotated[
        ApiVersion,
        Field(description="LinkedIn API version, YYYYMM; a version lives for about a year"),
    ] = "202609"
    source_platform: Annotated[
        Platform,
        Field(description="DIRECT_API, or the name that LinkedIn gave to your company as a partner"),
    ] = "DIRECT_API"
    api_url: Annotated[
        kind.WebAddress,
        Field(description="For proxies and tests; http:// on this machine only"),
    ] = "https://api.linkedin.com"
    oauth_url: Annotated[
        kind.WebAddress,
        Field(description="For proxies and tests; http:// on this machine only"),
    ] = "https://www.linkedin.com"
    requests_per_minute: Annotated[
        kind.Count | None,
        Field(ge=1, description="Rate limit of deliveries; by default 80 % of LinkedIn's limits"),
    ] = None
    max_in_flight: Annotated[kind.Count, Field(ge=1, le=64, description="Requests in flight at the same time")] = 8

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Yield a violation unless there is a refresh token with its application, or an access token."""
        has_refresh_token, has_access_token = (
            written.get(key) is not None for key in ("refresh_token", "access_token")
        )
        if has_refresh_token and has_access_token:
            yield (), "refresh_token and access_token exclude each other; leave one of them out"
        elif not has_refresh_token and not has_access_token:
            yield (), "credentials are missing: client_id, client_secret and refresh_token, or access_token"
        elif has_refresh_token:
            for key in ("client_id", "client_secret"):
                if written.get(key) is None:
                    yield (key,), f"missing; a refresh_token is of use only with {key}"

    @property
    def account_label(self) -> str:
        """Return the number of the ad account."""
        return str(self.account_id)

    @property
    def account_key(self) -> tuple[Any, ...]:
        """Return the API and the number of the ad account."""
        return (self.api_url, self.account_id)

    def settings(self, *, interactive: bool = False) -> LinkedInSettings:
        """Return the settings of the client.

        Args:
            interactive: Whether somebody waits for the answer: calls end within seconds.

        """

        def reveal(secret: SecretStr | None) -> str | None:
            return None if secret is None else secret.get_secret_value()

        settings = LinkedInSettings(
            name=self.name,
            account_id=self.account_id,
            client_id=self.client_id,
            client_secret=reveal(self.client_secret),
            refresh_token=reveal(self.refresh_token),
            access_token=reveal(self.access_token),
            api_version=self.api_version,
            source_platform=self.source_platform,
            api_url=self.api_url,
            oauth_url=self.oauth_url,
            requests_per_minute=self.requests_per_minute,
            max_in_flight=self.max_in_flight,
        )
        return replace(settings, **INTERACTIVE_SETTINGS) if interactive else settings


CONFIG = LinkedInConfig
"""The class that the registry of destination types finds."""
