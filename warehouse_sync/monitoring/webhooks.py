"""Post JSON to webhooks; the HTTP of alerts.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import copy_context

import requests
import stamina
from urllib3.exceptions import HTTPError

TOTAL_TIMEOUT = 20.0
"""Seconds after which a webhook without a complete answer counts as failed, even while it still sends."""

ATTEMPTS = 3
ATTEMPT_TIMEOUT = 6.0
MAX_RETRY_AFTER = 10.0
"""Upper limit, in seconds, of a `Retry-After` that is respected."""


class PostFailed(Exception):
    """A webhook did not accept a post. The text says why, without the address, which is a secret.

    Attributes:
        is_transient: Whether another attempt may succeed.
        retry_after: Seconds to wait before it, if the webhook said so.
    """

    def __init__(self, reason: str, *, is_transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.retry_after = retry_after


def post_all(posts: Mapping[str, tuple[str, bytes]]) -> dict[str, str | None]:
    """Post to all webhooks in parallel, with retries, within TOTAL_TIMEOUT seconds.

    Args:
        posts: Address and body by the webhook's name.

    Returns:
        The reason of the failure by name; None if the post was accepted.
    """
    results: dict[str, str | None] = {}
    deadline = time.monotonic() + TOTAL_TIMEOUT

    def post_one(name: str, url: str, body: bytes) -> None:
        try:
            _post(url, body, deadline)
            results[name] = None
        except PostFailed as failure:
            results[name] = str(failure)

    # Daemons: the process must not wait at its end for a slow answer.
    threads = [
        threading.Thread(
            target=copy_context().run, args=(post_one, name, url, body), name=f"webhook {name}", daemon=True
        )
        for name, (url, body) in posts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {name: results.get(name, f"no complete answer within {TOTAL_TIMEOUT:g} s") for name in posts}


def _post(url: str, body: bytes, deadline: float) -> None:
    def retry_delay(error: Exception) -> bool | float:
        if not isinstance(error, PostFailed) or not error.is_transient:
            return False
        return True if error.retry_after is None else error.retry_after

    timeout = max(0.1, deadline - time.monotonic() - ATTEMPT_TIMEOUT / 2)
    for attempt in stamina.retry_context(
        on=retry_delay, attempts=ATTEMPTS, timeout=timeout, wait_initial=0.5, wait_max=3.0
    ):
        with attempt:
            _post_once(url, body, min(ATTEMPT_TIMEOUT, max(0.5, deadline - time.monotonic())))


def _post_once(url: str, body: bytes, timeout: float) -> None:
    failure: PostFailed
    try:
        with requests.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": "warehouse-sync"},
            # Without an auth of its own, requests would send credentials from ~/.netrc.
            auth=lambda prepared: prepared,
            timeout=(timeout / 2, timeout / 2),
            allow_redirects=False,
            stream=True,
        ) as answer:
            status, header = answer.status_code, answer.headers.get("retry-after", "")
        if 200 <= status < 300:
            return
        retry_after = min(float(header), MAX_RETRY_AFTER) if header.isascii() and header.isdigit() else None
        is_transient = status in (408, 429) or status >= 500
        failure = PostFailed(f"HTTP {status}", is_transient=is_transient, retry_after=retry_after)
    except (requests.RequestException, HTTPError, ValueError) as error:
        is_transient = isinstance(error, requests.ConnectionError | requests.Timeout)
        failure = PostFailed(type(error).__name__, is_transient=is_transient)
    # Raised here so that the library's error, which contains the address, is not chained to it.
    raise failure
