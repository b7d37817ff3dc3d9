"""HTTP requests to LinkedIn over one session with pooled connections. Only this module imports the library requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import requests
import structlog
from requests import adapters
from urllib3.exceptions import HTTPError

from warehouse_sync.destinations.base import NO_LISTENERS, UNCONDITIONAL, Permit
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.deadline import DEADLINE_POOLS, DeadlineTimer
from warehouse_sync.destinations.linkedin.elements import Body
from warehouse_sync.events import Action, Events, RequestAnswered

log = structlog.get_logger(__name__)


class NoResponse(Exception):
    """No complete answer came; LinkedIn may have received the request or not.

    Attributes:
        reason: `timeout` or `connection`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with any status.

    Attributes:
        status: HTTP status.
        headers: Headers by lower-case name.
        json: The decoded body; None if there is none or it is not JSON.
        text: The first 400 bytes of a body that is not JSON.
    """

    status: int
    headers: Mapping[str, str]
    json: Any | None = None
    text: str = ""

    @property
    def created_id(self) -> str | None:
        """Return the id of the created object. The header's name depends on the protocol version of the answer."""
        return self.headers.get("x-restli-id") or self.headers.get("x-linkedin-id")


class HTTPClient:
    """Sends single requests and publishes how each one ends. Thread-safe.

    It keeps at most `max_in_flight` open connections per host.
    """

    def __init__(
        self,
        settings: LinkedInSettings,
        events: Events = NO_LISTENERS,
    ) -> None:
        self._events = events
        self._api_url = settings.api_url.rstrip("/")
        self._oauth_url = settings.oauth_url.rstrip("/")
        self._timeouts = (settings.connect_timeout, settings.read_timeout)
        self._answer_timeout = settings.answer_timeout
        self._watchman = DeadlineTimer(settings.answer_timeout)
        self._api_headers = {
            "LinkedIn-Version": settings.api_version,
            "X-Restli-Protocol-Version": "2.0.0",
        }
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=settings.max_in_flight, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
        # Without this, requests would replace our Authorization header by credentials from ~/.netrc.
        self._session.auth = lambda prepared: prepared
        # We need no cookies, and the cookie jar is the only part of a session that threads would share.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def request(
        self,
        method: str,
        path: str,
        *,
        permit: Permit = UNCONDITIONAL,
        action: Action = Action.READ,
        token: str | None = None,
        query: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        form: Mapping[str, str] | None = None,
        restli_method: str | None = None,
    ) -> Response:
        """Send one request and return its answer. Redirects are not followed.

        Args:
            method: HTTP method.
            path: Path below the address of the API, or of the token endpoint if there is a `form`.
            permit: The right to send; asked when the first byte would leave, after everything else.
            action: Purpose of the request.
            token: Access token.
            query: Query parameters.
            body: JSON text.
            form: Fields of a form; the request goes to the token endpoint.
            restli_method: Value of the header X-RestLi-Method.

        Raises:
            NoResponse: No complete answer came within `answer_timeout`, or the permit was not valid. The message
                contains neither address nor header.
        """
        url = (self._api_url if form is None else self._oauth_url) + path
        if query:
            url = f"{url}?{urlencode(query, quote_via=quote, safe='')}"
        headers: dict[str, str] = {}
        if form is None:
            headers |= self._api_headers
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            if body is not None:
                headers["Content-Type"] = "application/json"
            if restli_method is not None:
                headers["X-RestLi-Method"] = restli_method
        started = time.monotonic()
        response: Response | None = None
        failure = NoResponse("timeout", f"no complete answer within {self._answer_timeout:g} s")
        deadline = self._watchman.start(permit.is_valid)
        try:
            with deadline:
                answer = self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body if form is None else form,
                    timeout=self._timeouts,
                    allow_redirects=False,
                )
            response = _response(answer)
        except requests.Timeout as error:
            failure = NoResponse("timeout", type(error).__name__)
        except (requests.RequestException, HTTPError, ValueError) as error:
            # For some malformed answers requests raises one of the latter two.
            if not deadline.is_expired:
                failure = NoResponse("connection", type(error).__name__)
        seconds = time.monotonic() - started
        if response is not None and not deadline.is_expired:
            self._events.publish(RequestAnswered(action, str(response.status), seconds))
            log.debug(
                "linkedin_response",
                method=method,
                path=path,
                status=response.status,
                seconds=round(seconds, 3),
                request_id=response.headers.get("x-li-request-id"),
                uuid=response.headers.get("x-li-uuid"),
            )
            return response
        self._events.publish(RequestAnswered(action, failure.reason, seconds))
        log.debug("linkedin_no_response", method=method, path=path, reason=str(failure))
        # Raised outside the handlers, so that the library's error, which may quote headers, is not chained to it.
        raise failure

    def close(self) -> None:
        """Close all connections."""
        self._session.close()
        self._watchman.close()


class HTTPAdapter(adapters.HTTPAdapter):
    """An adapter whose requests a deadline can abort, also through a proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = DEADLINE_POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = DEADLINE_POOLS
        return manager


def _response(answer: requests.Response) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    content = answer.content
    try:
        return Response(answer.status_code, headers, orjson.loads(content))
    except orjson.JSONDecodeError:
        return Response(answer.status_code, headers, None, content[:400].decode("utf-8", errors="replace"))
