"""The OAuth endpoints: a new access token for a refresh token, and introspection. Both take a POST with a form."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from warehouse_sync.sandbox.http_messages import Reply, Request
from warehouse_sync.sandbox.settings import SandboxSettings
from warehouse_sync.sandbox.tokens import TokenStore


def issue_token(request: Request, settings: SandboxSettings, tokens: TokenStore, now: float) -> Reply:
    """Answer `POST /oauth/v2/accessToken`."""
    form = _read_form(request)
    if isinstance(form, Reply):
        return form
    for name in ("grant_type", "client_id", "client_secret"):
        if not form.get(name):
            return _error(400, "invalid_request", f"A required parameter {name!r} is missing")
    if refused := _check_client(form, settings):
        return refused
    if form["grant_type"] != "refresh_token":
        return _error(400, "unsupported_grant_type", "The sandbox grants refresh_token only")
    if not form.get("refresh_token"):
        return _error(400, "invalid_request", "A required parameter 'refresh_token' is missing")
    granted = tokens.refresh(form["refresh_token"], now)
    if granted is None:
        return _error(400, "invalid_grant", "Token has been expired or revoked.")
    access, refresh = granted
    content: dict[str, Any] = {"access_token": access.value, "expires_in": int(access.expires - now)}
    if settings.refresh_repeats_refresh_token:
        content |= {"refresh_token": refresh.value, "refresh_token_expires_in": int(refresh.expires - now)}
    content["scope"] = ",".join(access.scopes)
    return Reply.json(200, content)


def introspect_token(request: Request, settings: SandboxSettings, tokens: TokenStore, now: float) -> Reply:
    """Answer `POST /oauth/v2/introspectToken`, for access and refresh tokens; times in seconds since the epoch."""
    form = _read_form(request)
    if isinstance(form, Reply):
        return form
    for name in ("token", "client_id", "client_secret"):
        if not form.get(name):
            return _error(400, "invalid_request", f"A required parameter {name!r} is missing")
    if refused := _check_client(form, settings):
        return refused
    token = tokens.find(form["token"])
    if token is None:
        return Reply.json(200, {"active": False})
    status = token.status(now)
    return Reply.json(
        200,
        {
            "active": status == "active",
            "client_id": settings.client_id,
            "authorized_at": int(token.issued),
            "created_at": int(token.issued),
            "status": status,
            "expires_at": int(token.expires),
            "scope": ",".join(token.scopes),
            "auth_type": "3L",
        },
    )


def _read_form(request: Request) -> dict[str, str] | Reply:
    if request.method != "POST":
        return _error(405, "invalid_request", "Only POST is allowed")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        return _error(400, "invalid_request", "The parameters must be sent as a form in the body")
    try:
        return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    except UnicodeDecodeError:
        return _error(400, "invalid_request", "The form is not UTF-8")


def _check_client(form: dict[str, str], settings: SandboxSettings) -> Reply | None:
    if form["client_id"] == settings.client_id and form["client_secret"] == settings.client_secret:
        return None
    return _error(401, "invalid_client", "Client authentication failed")


def _error(status: int, error: str, description: str) -> Reply:
    return Reply.json(status, {"error": error, "error_description": description})
