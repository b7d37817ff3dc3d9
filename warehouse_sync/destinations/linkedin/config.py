"""What a LinkedIn destination must be told, and how patient it is."""

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
    """One LinkedIn destination. All durations are in seconds; `repr()` holds no secret.

    name: key under `destinations:` in the configuration, for error messages.
    requests_per_minute: for each member endpoint; None leaves the pace to LinkedIn's published limits.

    wait_after_create: "wait 5 seconds for it to become available" before the first members (LinkedIn's documentation).
    new_audience_timeout: how long a new audience may answer 404; a minute or two was seen in production.
    token_propagation: how long a new access token may be refused; five seconds helped in all reports.
    token_timeout: how long a new access token may be refused before the connection counts as dead.
    attempts, patience: how often and how long one call is repeated while LinkedIn has trouble. Twelve attempts take
    at least 90 s, which is long enough to tell the limit of a day.
    backoff_initial, backoff_max: the first and the longest pause between attempts, doubling, with jitter.
    wait_after_429: LinkedIn asks for at least one second.
    daily_limit_after: 429 and nothing else for longer than this is the limit of a day; a minute's ends after a minute.
    connect_timeout, read_timeout: until a connection stands; between two bytes of an answer.
    answer_timeout: until an answer is complete, however it drips in, so that no request outlives a lease of a minute.
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
        """The ad account as LinkedIn names it."""
        return f"urn:li:sponsoredAccount:{self.account_id}"

    @property
    def credentials(self) -> tuple[str | None, ...]:
        """What LinkedIn tells senders apart by; whoever shares them shares limits and tokens."""
        app = self.oauth_url, self.client_id, self.client_secret
        return (self.api_url, *app, self.refresh_token, self.access_token)

    def key(self, name: str) -> str:
        """Where setting `name` stands in the configuration."""
        return f"destinations.{self.name}.{name}"


INTERACTIVE_SETTINGS: Final[Mapping[str, Any]] = {
    "attempts": 2,
    "retry_timeout": 5.0,
    "token_timeout": 10.0,
    "answer_timeout": 10.0,
}
"""Settings for a caller who waits for the answer: a call is answered or given up within seconds."""


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
        Field(ge=1, description="The pace of deliveries; left out, it keeps below LinkedIn's limits"),
    ] = None
    max_in_flight: Annotated[kind.Count, Field(ge=1, le=64, description="Requests under way at once")] = 8

    @classmethod
    def check_rules(cls, written: Mapping[str, Any]) -> Iterable[Violation]:
        """Either a refresh token with its app, or an access token."""
        renewed, short = (written.get(key) is not None for key in ("refresh_token", "access_token"))
        if renewed and short:
            yield (), "refresh_token and access_token exclude each other; leave one of them out"
        elif not renewed and not short:
            yield (), "credentials are missing: client_id, client_secret and refresh_token, or access_token"
        elif renewed:
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

    def settings(self, *, patient: bool = True) -> LinkedInSettings:
        """Return the settings of the client.

        Args:
            patient: Retry for minutes, as a run should. Otherwise a call ends within seconds.

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
        return settings if patient else replace(settings, **INTERACTIVE_SETTINGS)


CONFIG = LinkedInConfig
"""The class that the registry of destination types finds."""
