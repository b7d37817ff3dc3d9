"""What a LinkedIn destination must be told, and how patient it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LinkedInSettings:
    """One LinkedIn destination. All durations are in seconds; `repr()` holds no secret.

    name: key under `destinations:` in the configuration, for error messages.
    requests_per_minute: for each member endpoint; None leaves the pace to LinkedIn's published limits.

    wait_after_create: "wait 5 seconds for it to become available" before the first members (LinkedIn's documentation).
    fresh_404_patience: how long a new audience may answer 404; a minute or two was seen in production.
    token_propagation: how long a new access token may be refused; five seconds helped in all reports.
    token_patience: how long a new access token may be refused before the connection counts as dead.
    attempts, patience: how often and how long one call is repeated while LinkedIn has trouble. Twelve attempts take
    at least 90 s, which is long enough to tell the limit of a day.
    backoff_initial, backoff_max: the first and the longest pause between attempts, doubling, with jitter.
    wait_after_429: LinkedIn asks for at least one second.
    minute_throttle: 429 and nothing else for longer than this is the limit of a day: a minute's is over after a minute.
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
    fresh_404_patience: float = 120.0
    token_propagation: float = 5.0
    token_patience: float = 180.0
    attempts: int = 12
    patience: float = 300.0
    backoff_initial: float = 0.5
    backoff_max: float = 30.0
    wait_after_429: float = 1.0
    minute_throttle: float = 75.0
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
