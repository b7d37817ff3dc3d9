"""A sandbox that also records the content of batches, and when they arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from warehouse_sync.sandbox import Sandbox, SandboxSettings
from warehouse_sync.sandbox.http_messages import Refusal, Request
from warehouse_sync.sandbox.router import Answer

TIMEOUT = 300.0
ACCOUNT = 507404993

Element = tuple[frozenset[tuple[str, str]], str | None, str | None]
"""A user as LinkedIn stores it: identifiers, first name, country."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received request with members.

    Attributes:
        at: When it arrived, in seconds since the epoch.
        adds: The elements to add.
        removes: The elements to remove.
    """

    at: float
    adds: frozenset[Element]
    removes: frozenset[Element]


class ObservedSandbox(Sandbox):
    """A sandbox that records what it receives.

    Attributes:
        deliveries: All requests to /users in the order of their arrival.
        tokens: Every bearer token that was received.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        super().__init__(settings)
        self.deliveries: list[Delivery] = []
        self.tokens: set[str] = set()

    def _answer(self, request: Request) -> Answer:
        self.tokens.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        if request.path.endswith("/users"):
            self.deliveries.append(_delivery(request))
        return super()._answer(request)

    def wait_until_idle(self) -> None:
        """Wait until every request of dead workers is applied or refused.

        A dead worker's lease outlives its requests by far. A test that does not wait for the lease waits here.
        """
        requests.get(f"{self.url}/_sandbox/state", headers={"Connection": "close"}, timeout=TIMEOUT)
        deadline = time.monotonic() + TIMEOUT
        while any(thread.name == "sandbox-connection" for thread in threading.enumerate()):
            if time.monotonic() > deadline:
                raise TimeoutError("a request to the sandbox does not end")
            time.sleep(0.002)

    def expire_audiences(self) -> None:
        """Delete the members of every audience, as LinkedIn does after 90 days without use."""
        for segment in self.segments():
            self.force_status(segment["id"], "EXPIRED")


def _delivery(request: Request) -> Delivery:
    try:
        elements = request.json().get("elements", [])
    except Refusal:
        elements = []
    found: dict[str, set[Element]] = {"ADD": set(), "REMOVE": set()}
    for element in elements:
        found[element["action"]].add(_element(element))
    return Delivery(time.time(), frozenset(found["ADD"]), frozenset(found["REMOVE"]))


def _element(element: Mapping[str, Any]) -> Element:
    identifiers = frozenset((each["idType"], each["idValue"]) for each in element.get("userIds", ()))
    return identifiers, element.get("firstName"), element.get("country")


@contextmanager
def observed_sandbox(**settings: Any) -> Iterator[ObservedSandbox]:
    """Yield a running sandbox, whose new audiences accept members at once unless the settings differ."""
    with ObservedSandbox(SandboxSettings(**{"ready_after": 0.0, "users_per_minute": 100_000, **settings})) as running:
        assert isinstance(running, ObservedSandbox)
        yield running
