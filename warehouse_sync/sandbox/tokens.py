"""Access and refresh tokens: issue, lifetime and revocation."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from warehouse_sync.sandbox.http_messages import Refusal
from warehouse_sync.sandbox.settings import SandboxSettings

MEMBER_URN = "urn:li:person:sandbox"
TOKEN_BYTES = 360
"""Gives access tokens of about 500 characters, the length that LinkedIn documents."""


@dataclass(slots=True)
class Token:
    """One access or refresh token; it is refused before `valid_from`. Times are in seconds since the epoch."""

    value: str
    issued: float
    valid_from: float
    expires: float
    scopes: tuple[str, ...]
    member: str = MEMBER_URN
    revoked: bool = False

    def status(self, now: float) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked:
            return "revoked"
        return "active" if now < self.expires else "expired"


class TokenStore:
    """All tokens that were issued. Not thread-safe."""

    def __init__(self, settings: SandboxSettings, now: float) -> None:
        self._settings = settings
        self._access: dict[str, Token] = {}
        self._refresh: dict[str, Token] = {}
        self._issue(self._access, settings.access_token, now, 0.0, settings.token_life)
        self._issue(self._refresh, settings.refresh_token, now, 0.0, settings.refresh_token_life)

    def _issue(self, book: dict[str, Token], value: str, now: float, propagation: float, life: float) -> Token:
        token = Token(value, now, now + propagation, now + life, self._settings.scopes)
        book[value] = token
        return token

    def authenticate(self, header: str | None, now: float) -> Token:
        """Return the active token of an Authorization header; raise Refusal(401) if there is none."""
        scheme, _, value = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not value.strip():
            raise Refusal(401, "Empty oauth2_access_token", "EMPTY_ACCESS_TOKEN", 401)
        token = self._access.get(value.strip())
        if token is None:
            raise Refusal(401, "Invalid access token", "INVALID_ACCESS_TOKEN", 65600)
        if token.revoked or now < token.valid_from:
            message = "The token used in the request has been revoked by the user"
            raise Refusal(401, message, "REVOKED_ACCESS_TOKEN", 65601)
        if now >= token.expires:
            raise Refusal(401, "The token used in the request has expired", "EXPIRED_ACCESS_TOKEN", 65602)
        return token

    def refresh(self, value: str, now: float) -> tuple[Token, Token] | None:
        """Return a new access token and its refresh token; None if that is unknown, revoked or expired."""
        refresh = self._refresh.get(value)
        if refresh is None or refresh.status(now) != "active":
            return None
        if self._settings.refresh_kills_old_tokens:
            self.revoke_access_tokens()
        life = min(self._settings.token_life, refresh.expires - now)
        value = secrets.token_urlsafe(TOKEN_BYTES)
        return self._issue(self._access, value, now, self._settings.token_propagation, life), refresh

    def find(self, value: str) -> Token | None:
        """Return the access or refresh token with this value; None if there is none."""
        return self._access.get(value) or self._refresh.get(value)

    def revoke_access_tokens(self) -> None:
        """Revoke every access token issued so far."""
        for token in self._access.values():
            token.revoked = True

    def revoke_refresh_tokens(self) -> None:
        """Revoke every refresh token."""
        for token in self._refresh.values():
            token.revoked = True
