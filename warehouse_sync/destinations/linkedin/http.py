"""HTTP to LinkedIn: one pooled session, one method. The only importer of requests."""

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
    """The request may or may not have arrived. `reason` is `timeout` or `connection`, `detail` names the fault."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whatever its status.

    headers: by lower-case name. json: the body, or None when there is none or it is not JSON. text: how the body
    begins when it is not JSON.
    """

    status: int
    headers: Mapping[str, str]
    json: Any | None = None
    text: str = ""

    @property
    def created_id(self) -> str | None:
        """The id of what was created; the header's name depends on the protocol version that LinkedIn answers in."""
        return self.headers.get("x-restli-id") or self.headers.get("x-linkedin-id")


class HTTPClient:
    """Thread-safe; holds at most `max_in_flight` connections per host, alive between requests.

    Each request is published when it ends.
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
        # Without an auth of its own, requests would replace our Authorization header by what ~/.netrc says.
        self._session.auth = lambda prepared: prepared
        # No cookie is wanted, and the jar is the one part of a session that threads would share.
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
        """One request, one answer, complete within `answer_timeout`; redirects are not followed.

        With `form` it goes to the OAuth address, else to the API with the headers that each call there needs.
        `permit` is asked when everything else is done and the first byte would leave; if it is not valid, none does.
        Raises NoAnswer, whose text holds neither address nor header.
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
        except (requests.RequestException, HTTPError, ValueError) as error:  # Odd answers slip out as the latter two.
            if not deadline.is_expired:
                failure = NoResponse("connection", type(error).__name__)
        seconds = time.monotonic() - started
        if response is not None and not deadline.is_expired:
            self._events.publish(RequestAnswered(action, str(response.status), seconds))
            log.debug(
                "linkedin_answered",
                method=method,
                path=path,
                status=response.status,
                seconds=round(seconds, 3),
                request_id=response.headers.get("x-li-request-id"),
                uuid=response.headers.get("x-li-uuid"),
            )
            return response
        self._events.publish(RequestAnswered(action, failure.reason, seconds))
        log.debug("linkedin_silent", method=method, path=path, reason=str(failure))
        # Raised out here so that the library's error, which may quote headers, is not chained to it.
        raise failure

    def close(self) -> None:
        """Close all connections."""
        self._session.close()
        self._watchman.close()


class HTTPAdapter(adapters.HTTPAdapter):
    """Connections that a deadline can cut, also through a proxy."""

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
