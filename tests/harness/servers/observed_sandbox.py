"""A sandbox that also remembers what was in the batches, and when they came."""

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

PATIENCE = 30.0
ACCOUNT = 507404993

Element = tuple[frozenset[tuple[str, str]], str | None, str | None]
"""A user as LinkedIn sees one: identifiers, first name, country."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request with members as it came in. at: seconds since the epoch."""

    at: float
    adds: frozenset[Element]
    removes: frozenset[Element]


class WatchedSandbox(Sandbox):
    """deliveries: all requests to /users in the order of their arrival. tokens: every bearer token that came."""

    def __init__(self, settings: SandboxSettings) -> None:
        super().__init__(settings)
        self.deliveries: list[Delivery] = []
        self.tokens: set[str] = set()

    def _answer(self, request: Request) -> Answer:
        self.tokens.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        if request.path.endswith("/users"):
            self.deliveries.append(_delivery(request))
        return super()._answer(request)

    def settle(self) -> None:
        """No request is under way any more: all workers are dead, and what they had sent is applied or refused.

        A dead worker's lease outlives its requests by far; whoever does not wait for the lease waits here.
        """
        requests.get(f"{self.url}/_sandbox/state", headers={"Connection": "close"}, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(thread.name == "sandbox-connection" for thread in threading.enumerate()):
            if time.monotonic() > deadline:
                raise TimeoutError("a request to the sandbox does not end")
            time.sleep(0.002)

    def expire_audiences(self) -> None:
        """LinkedIn drops the members of every audience."""
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
def watched_sandbox(**settings: Any) -> Iterator[WatchedSandbox]:
    """A running one, without the patience that a new audience wants unless it is asked for."""
    with WatchedSandbox(SandboxSettings(**{"ready_after": 0.0, "users_per_minute": 100_000, **settings})) as running:
        assert isinstance(running, WatchedSandbox)
        yield running
