"""Posting JSON to the addresses under `webhooks:`; the HTTP of alerts.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import copy_context

import requests
import stamina
from urllib3.exceptions import HTTPError

TOTAL_TIMEOUT = 20.0
"""Seconds after which whoever has not answered counts as not told, however slowly it still sends."""

ATTEMPTS = 3
ATTEMPT_TIMEOUT = 6.0
MAX_RETRY_AFTER = 10.0
"""Seconds of a `Retry-After` that are heeded."""


class PostFailed(Exception):
    """The address has not taken what was posted; `str()` says why and holds nothing of the address."""

    def __init__(self, reason: str, *, is_transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.retry_after = retry_after


def post_all(posts: Mapping[str, tuple[str, bytes]]) -> dict[str, str | None]:
    """Post the body to the address of each name, all at once. Why it was not taken, by name; None: it was.

    Trouble that may pass is borne with. Returns within `WITHIN` seconds.
    """
    results: dict[str, str | None] = {}
    until = time.monotonic() + TOTAL_TIMEOUT

    def one(name: str, url: str, body: bytes) -> None:
        try:
            _post(url, body, until)
            results[name] = None
        except PostFailed as refusal:
            results[name] = str(refusal)

    # Daemons: a process that is done does not wait for an answer that drips in.
    threads = [
        threading.Thread(target=copy_context().run, args=(one, name, url, body), name=f"webhook {name}", daemon=True)
        for name, (url, body) in posts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return {name: results.get(name, f"no complete answer within {TOTAL_TIMEOUT:g} s") for name in posts}


def _post(url: str, body: bytes, until: float) -> None:
    def again(error: Exception) -> bool | float:
        if not isinstance(error, PostFailed) or not error.is_transient:
            return False
        return True if error.retry_after is None else error.retry_after

    timeout = max(0.1, until - time.monotonic() - ATTEMPT_TIMEOUT / 2)
    for attempt in stamina.retry_context(on=again, attempts=ATTEMPTS, timeout=timeout, wait_initial=0.5, wait_max=3.0):
        with attempt:
            _try(url, body, min(ATTEMPT_TIMEOUT, max(0.5, until - time.monotonic())))


def _try(url: str, body: bytes, seconds: float) -> None:
    failure: PostFailed
    try:
        with requests.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": "warehouse-sync"},
            # Without an auth of its own, requests would send what ~/.netrc says.
            auth=lambda prepared: prepared,
            timeout=(seconds / 2, seconds / 2),
            allow_redirects=False,
            stream=True,
        ) as answer:
            status, wish = answer.status_code, answer.headers.get("retry-after", "")
        if 200 <= status < 300:
            return
        seconds_wished = min(float(wish), MAX_RETRY_AFTER) if wish.isascii() and wish.isdigit() else None
        passing = status in (408, 429) or status >= 500
        failure = PostFailed(f"HTTP {status}", is_transient=passing, retry_after=seconds_wished)
    except (requests.RequestException, HTTPError, ValueError) as error:
        failure = PostFailed(
            type(error).__name__, is_transient=isinstance(error, requests.ConnectionError | requests.Timeout)
        )
    # Raised out here so that the library's error, which quotes the address, is not chained to it.
    raise failure
