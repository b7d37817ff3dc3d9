"""The access token: fetched from the refresh token, renewed before it expires and when LinkedIn refuses it.

The refresh is one form POST (RFC 6749, section 6), so it goes through client.py like every other request.
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
"""Seconds before its end at which a token is renewed; a tenth of its life if that is less."""
RENEW_RETRY_AFTER = 30.0
"""Seconds until the next try when that fails: all threads wait meanwhile, and the old token still works."""

TRANSIENT_OAUTH_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
"""Errors of OAuth (RFC 6749, section 4.1.2.1) that do not speak of the credentials."""


class TokenState:
    """What LinkedIn has granted to one set of credentials. `lock` is held by whoever looks at more than one part of it.

    It is shared by all who use the credentials at the same time: whether a refresh ends the life of the access tokens
    before it is not documented, and if it does, syncs that run side by side would take each other's tokens away.
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
        """Nobody sends its tokens any more."""
        while self.secrets:
            retire_secret(self.secrets.pop())


token_states: SharedRegistry[TokenState] = SharedRegistry(TokenState.close)
"""Those of this process, by credentials."""


class TokenStore:
    """Thread-safe: of many threads that need a new token one fetches it, the others wait for that."""

    def __init__(self, client: HTTPClient, settings: LinkedInSettings) -> None:
        self._client = client
        self._settings = settings
        self._handle = token_states.acquire(settings.credentials, lambda: TokenState(settings))
        self._state = self._handle.value

    @property
    def refresh_token_expires(self) -> date | None:
        """When the refresh token ends, as far as LinkedIn has told."""
        return self._state.refresh_token_expires

    def get(self, permit: Permit) -> str:
        """A token that is worth sending. Raises Refused or GaveUp when there is none."""
        with self._state.lock:
            self._raise_if_invalid()
            if self._state.token is None:
                self._fetch(permit)
            elif time.monotonic() >= self._state.renew_at:
                try:
                    self._fetch(permit)
                except TransientError as trouble:
                    if time.monotonic() >= self._state.expires_at:
                        raise
                    self._state.renew_at = min(self._state.expires_at, time.monotonic() + RENEW_RETRY_AFTER)
                    log.warning("linkedin_token_not_renewed_yet", reason=trouble.reason)
            assert self._state.token is not None
            return self._state.token

    def renew(self, refused: str, permit: Permit) -> bool:
        """LinkedIn has answered 401 to the token `refused`: see to another one.

        True when the current token is now another. False when the current one is too young to be given up: LinkedIn
        refuses new tokens for a few seconds, with the very code of a revoked one; one that was never taken gets longer,
        since a further one would start from the beginning. Raises Refused or GaveUp.
        """
        with self._state.lock:
            self._raise_if_invalid()
            if self._state.token != refused:
                return True
            settings = self._settings
            bear_with = settings.token_propagation if self._state.accepted == refused else settings.token_timeout
            if self._state.fetched_at is not None and self._age() < bear_with:
                return False
            self._fetch(permit)
            return True

    def mark_accepted(self, token: str) -> None:
        """LinkedIn has answered to `token`."""
        self._state.accepted = token

    def seconds_refused(self, token: str, since: float, *, renewed: bool) -> float:
        """Seconds for which LinkedIn has refused `token` although it is a renewed one; 0 for one that once was good.

        since: the first 401, on the monotonic clock. renewed: the token was renewed after that.
        """
        with self._state.lock:
            if token != self._state.token or self._state.fetched_at is None:
                return 0.0
            if token == self._state.accepted and not renewed:
                return 0.0
            return time.monotonic() - max(since, self._state.fetched_at)

    def propagation_remaining(self) -> float:
        """How long a refusal of the current token says nothing; 0 for one that was given to us."""
        with self._state.lock:
            if self._state.fetched_at is None:
                return 0.0
            return max(0.0, self._settings.token_propagation - self._age())

    @property
    def is_renewable(self) -> bool:
        """Whether another token can be had at all."""
        return self._state.refresh_token is not None

    def invalidate(self, dead: PermanentError) -> None:
        """Let every later call fail with `dead`, without asking LinkedIn again."""
        with self._state.lock:
            self._state.error = self._state.error or dead

    def _age(self) -> float:
        assert self._state.fetched_at is not None
        return time.monotonic() - self._state.fetched_at

    def _raise_if_invalid(self) -> None:
        if self._state.error is not None:
            raise PermanentError(str(self._state.error), credentials=True)

    def _fetch(self, permit: Permit) -> None:
        settings = self._settings
        if self._state.refresh_token is None:
            raise PermanentError(
                f"There is no LinkedIn token: set {settings.key('refresh_token')} or {settings.key('access_token')}.",
                credentials=True,
            )
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._state.refresh_token,
            "client_id": settings.client_id or "",
            "client_secret": settings.client_secret or "",
        }
        try:
            response = self._client.request("POST", TOKEN_PATH, permit=permit, action=Action.TOKEN, form=form)
        except NoResponse as silence:
            raise TransientError(
                f"oauth_{silence.reason}", f"LinkedIn's token endpoint did not answer: {silence}"
            ) from None
        following = classify_status(response.status)
        body: Any = response.json if isinstance(response.json, dict) else {}
        if following is StatusClass.TRANSIENT:
            raise TransientError(
                f"oauth_http_{response.status}",
                f"LinkedIn's token endpoint answered HTTP {response.status}",
                retry_after=parse_retry_after(response),
            )
        if following is not StatusClass.SUCCESS:
            self._raise_if_refused(response, body)
        token = body.get("access_token")
        if not isinstance(token, str) or not token:
            raise TransientError(
                "oauth_malformed_answer", "The answer of LinkedIn's token endpoint holds no access token"
            )
        self._store(token, body)

    def _raise_if_refused(self, response: Response, body: dict[str, Any]) -> NoReturn:
        """Only an answer in the words of OAuth is final; a page of some server in between is trouble that passes."""
        settings, error = self._settings, body.get("error")
        if error == "invalid_grant":
            self._state.error = refresh_token_error(settings, response)
        elif isinstance(error, str) and error not in TRANSIENT_OAUTH_ERRORS:
            self._state.error = token_refresh_error(settings, response)
        self._raise_if_invalid()
        raise TransientError(
            f"oauth_http_{response.status}",
            f"LinkedIn's token endpoint gave an answer that is not of OAuth (HTTP {response.status}); if this lasts, "
            f"check {settings.key('oauth_url')}",
            retry_after=parse_retry_after(response),
        )

    def _store(self, token: str, body: dict[str, Any]) -> None:
        self._hide(token)
        self._state.token = _validated_token(token, "access_token in the answer of LinkedIn's token endpoint")
        self._state.fetched_at = time.monotonic()
        life = _duration_or_none(body.get("expires_in"))
        self._state.renew_at = self._state.expires_at = float("inf")
        if life is not None:
            self._state.expires_at = self._state.fetched_at + life
            self._state.renew_at = self._state.expires_at - min(RENEW_BEFORE, life / 10)
        # A reply without a refresh token leaves the old one in force.
        if isinstance(body.get("refresh_token"), str) and body["refresh_token"]:
            self._hide(body["refresh_token"])
            self._state.refresh_token = body["refresh_token"]
        left = _duration_or_none(body.get("refresh_token_expires_in"))
        if left is not None:
            self._state.refresh_token_expires = (datetime.now(UTC) + timedelta(seconds=left)).date()
        log.info(
            "linkedin_token_renewed", expires_in=life, refresh_token_expires=str(self._state.refresh_token_expires)
        )

    def _hide(self, token: str) -> None:
        hide_secret(token, temporary=True)
        self._state.secrets.append(token)

    def close(self) -> None:
        """The tokens that were fetched are forgotten, once nobody uses them any more."""
        self._handle.release()


def _duration_or_none(value: Any) -> float | None:
    """A plausible duration (up to a century) or None."""
    return float(value) if isinstance(value, int | float) and 0 < value < 3.2e9 else None


def _validated_token(token: str | None, place: str) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise PermanentError(
            f"The token at {place} holds characters that no token has (a line break, perhaps).", credentials=True
        )
    return token or None
