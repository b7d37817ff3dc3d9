"""The access token: fetched with the refresh token, and renewed before it expires or when LinkedIn refuses it.

A refresh is one POST of a form (RFC 6749, section 6), so it goes through http.py like every other request.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import structlog

from warehouse_sync.destinations.base import Permit
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.errors import (
    PermanentError,
    TransientError,
    refresh_token_error,
    token_refresh_error,
)
from warehouse_sync.destinations.linkedin.http import HTTPClient, NoResponse, Response
from warehouse_sync.destinations.linkedin.responses import StatusClass, classify_status, parse_retry_after
from warehouse_sync.destinations.linkedin.shared import SharedRegistry
from warehouse_sync.events import Action
from warehouse_sync.redaction import hide_secret, retire_secret

log = structlog.get_logger(__name__)

TOKEN_PATH = "/oauth/v2/accessToken"  # noqa: S105 - an address
RENEW_BEFORE = 300.0
"""Seconds before its expiry at which a token is renewed; a tenth of its lifetime if that is less."""
RENEW_RETRY_AFTER = 30.0
"""Seconds until the next attempt if that fails: all threads wait for an attempt, and the old token still works."""

TRANSIENT_OAUTH_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
"""Error codes of OAuth (RFC 6749, section 4.1.2.1) that say nothing about the credentials."""


class TokenState:
    """The tokens of one set of credentials, shared by all destinations that use them at the same time.

    LinkedIn does not document whether a refresh invalidates earlier access tokens. If it does, destinations that
    fetched their own would invalidate each other's.

    Attributes:
        lock: Must be held to use more than one attribute.
        refresh_token: Token with which access tokens are fetched.
        token: The current access token; None before the first fetch.
        accepted: The access token that LinkedIn accepted last.
        fetched_at: When the current token was fetched, on the monotonic clock; None for a configured one.
        renew_at: When the current token should be renewed, on the monotonic clock.
        expires_at: When the current token expires, on the monotonic clock.
        error: Why no token can be had any more.
        secrets: The fetched tokens that logs must not show.
        refresh_token_expires: Last day of the refresh token; None if LinkedIn did not report it.
    """

    def __init__(self, settings: LinkedInSettings) -> None:
        self.lock = threading.Lock()
        self.refresh_token = settings.refresh_token
        self.token = _validated_token(settings.access_token, settings.key("access_token"))
        self.accepted: str | None = None
        self.fetched_at: float | None = None
        self.renew_at = self.expires_at = float("inf")
        self.error: PermanentError | None = None
        self.secrets: list[str] = []
        self.refresh_token_expires: date | None = None

    def close(self) -> None:
        """Release the fetched tokens from redaction: they are no longer sent."""
        while self.secrets:
            retire_secret(self.secrets.pop())


token_states: SharedRegistry[TokenState] = SharedRegistry(TokenState.close)
"""The states of this process, by credentials."""


class TokenStore:
    """Access to the tokens. Thread-safe: if many threads need a new token, one fetches it and the others wait."""

    def __init__(self, client: HTTPClient, settings: LinkedInSettings) -> None:
        self._client = client
        self._settings = settings
        self._handle = token_states.acquire(settings.credentials, lambda: TokenState(settings))
        self._state = self._handle.value

    @property
    def refresh_token_expires(self) -> date | None:
        """Return the last day of the refresh token; None if LinkedIn did not report it."""
        return self._state.refresh_token_expires

    def get(self, permit: Permit) -> str:
        """Return an access token; fetch or renew it if necessary.

        Raises:
            TransientError: The token endpoint gave no usable answer.
            PermanentError: The credentials are not accepted.
        """
        with self._state.lock:
            self._raise_if_invalid()
            if self._state.token is None:
                self._fetch(permit)
            elif time.monotonic() >= self._state.renew_at:
                try:
                    self._fetch(permit)
                except TransientError as error:
                    if time.monotonic() >= self._state.expires_at:
                        raise
                    self._state.renew_at = min(self._state.expires_at, time.monotonic() + RENEW_RETRY_AFTER)
                    log.warning("linkedin_token_not_renewed_yet", reason=error.reason)
            assert self._state.token is not None
            return self._state.token

    def renew(self, refused: str, permit: Permit) -> bool:
        """Replace the token `refused`, to which LinkedIn has answered 401, unless it is too new to be replaced.

        LinkedIn refuses new tokens for a few seconds, with the same code as revoked ones. A token that it has never
        accepted is kept for longer: a further one would be just as new.

        Returns:
            Whether the current token is now another one.

        Raises:
            TransientError: The token endpoint gave no usable answer.
            PermanentError: The credentials are not accepted.
        """
        with self._state.lock:
            self._raise_if_invalid()
            if self._state.token != refused:
                return True
            settings = self._settings
            min_age = settings.token_propagation if self._state.accepted == refused else settings.token_timeout
            if self._state.fetched_at is not None and self._age() < min_age:
                return False
            self._fetch(permit)
            return True

    def mark_accepted(self, token: str) -> None:
        """Record that LinkedIn has accepted `token`."""
        self._state.accepted = token

    def seconds_refused(self, token: str, since: float, *, renewed: bool) -> float:
        """Return for how many seconds LinkedIn has refused a fetched token; 0 if it accepted the token before.

        Args:
            token: The refused token.
            since: When the first 401 of the call came, on the monotonic clock.
            renewed: Whether the call has renewed the token since then.
        """
        with self._state.lock:
            if token != self._state.token or self._state.fetched_at is None:
                return 0.0
            if token == self._state.accepted and not renewed:
                return 0.0
            return time.monotonic() - max(since, self._state.fetched_at)

    def propagation_remaining(self) -> float:
        """Return for how many seconds LinkedIn may still refuse the current token; 0 for a configured one."""
        with self._state.lock:
            if self._state.fetched_at is None:
                return 0.0
            return max(0.0, self._settings.token_propagation - self._age())

    @property
    def is_renewable(self) -> bool:
        """Return whether another token can be fetched."""
        return self._state.refresh_token is not None

    def invalidate(self, error: PermanentError) -> None:
        """Let every later call fail with `error`, without a request."""
        with self._state.lock:
            self._state.error = self._state.error or error

    def _age(self) -> float:
        assert self._state.fetched_at is not None
        return time.monotonic() - self._state.fetched_at

    def _raise_if_invalid(self) -> None:
        if self._state.error is not None:
            raise PermanentError(str(self._state.error), is_credentials=True)

    def _fetch(self, permit: Permit) -> None:
        settings = self._settings
        if self._state.refresh_token is None:
            raise PermanentError(
                f"There is no LinkedIn token: set {settings.key('refresh_token')} or {settings.key('access_token')}.",
                is_credentials=True,
            )
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._state.refresh_token,
            "client_id": settings.client_id or "",
            "client_secret": settings.client_secret or "",
        }
        try:
            response = self._client.request("POST", TOKEN_PATH, permit=permit, action=Action.TOKEN, form=form)
        except NoResponse as error:
            raise TransientError(
                f"oauth_{error.reason}", f"LinkedIn's token endpoint did not answer: {error}"
            ) from None
        status_class = classify_status(response.status)
        body: Any = response.json if isinstance(response.json, dict) else {}
        if status_class is StatusClass.TRANSIENT:
            raise TransientError(
                f"oauth_http_{response.status}",
                f"LinkedIn's token endpoint answered HTTP {response.status}",
                retry_after=parse_retry_after(response),
            )
        if status_class is not StatusClass.SUCCESS:
            self._raise_if_refused(response, body)
        token = body.get("access_token")
        if not isinstance(token, str) or not token:
            raise TransientError(
                "oauth_malformed_answer", "The answer of LinkedIn's token endpoint contains no access token"
            )
        self._store(token, body)

    def _raise_if_refused(self, response: Response, body: dict[str, Any]) -> NoReturn:
        """Raise for a refusal. Only an OAuth error code is permanent; other answers may come from a proxy."""
        settings, error = self._settings, body.get("error")
        if error == "invalid_grant":
            self._state.error = refresh_token_error(settings, response)
        elif isinstance(error, str) and error not in TRANSIENT_OAUTH_ERRORS:
            self._state.error = token_refresh_error(settings, response)
        self._raise_if_invalid()
        raise TransientError(
            f"oauth_http_{response.status}",
            f"LinkedIn's token endpoint gave an answer that is not OAuth's (HTTP {response.status}); if this lasts, "
            f"check {settings.key('oauth_url')}",
            retry_after=parse_retry_after(response),
        )

    def _store(self, token: str, body: dict[str, Any]) -> None:
        self._hide(token)
        self._state.token = _validated_token(token, "access_token in the answer of LinkedIn's token endpoint")
        self._state.fetched_at = time.monotonic()
        lifetime = _duration_or_none(body.get("expires_in"))
        self._state.renew_at = self._state.expires_at = float("inf")
        if lifetime is not None:
            self._state.expires_at = self._state.fetched_at + lifetime
            self._state.renew_at = self._state.expires_at - min(RENEW_BEFORE, lifetime / 10)
        # After an answer without a refresh token the old one stays valid.
        if isinstance(body.get("refresh_token"), str) and body["refresh_token"]:
            self._hide(body["refresh_token"])
            self._state.refresh_token = body["refresh_token"]
        refresh_lifetime = _duration_or_none(body.get("refresh_token_expires_in"))
        if refresh_lifetime is not None:
            self._state.refresh_token_expires = (datetime.now(UTC) + timedelta(seconds=refresh_lifetime)).date()
        log.info(
            "linkedin_token_renewed", expires_in=lifetime, refresh_token_expires=str(self._state.refresh_token_expires)
        )

    def _hide(self, token: str) -> None:
        hide_secret(token, temporary=True)
        self._state.secrets.append(token)

    def close(self) -> None:
        """Release the tokens; they are forgotten when no other destination uses them."""
        self._handle.release()


def _duration_or_none(value: Any) -> float | None:
    """Return `value` if it is a plausible duration in seconds, up to a century."""
    return float(value) if isinstance(value, int | float) and 0 < value < 3.2e9 else None


def _validated_token(token: str | None, place: str) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise PermanentError(
            f"The token at {place} contains characters that no token has, for example a line break.",
            is_credentials=True,
        )
    return token or None
