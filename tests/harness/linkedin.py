"""A LinkedIn destination and its sandbox, as impatient as tests want them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from warehouse_sync.destinations.base import Audience, AudienceSpec
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.destinations.linkedin.settings import LinkedInSettings
from warehouse_sync.operations import Batch, OperationKind
from warehouse_sync.sandbox import Sandbox, SandboxSettings

ACCOUNT, VIEWED_ACCOUNT, TEST_ACCOUNT = 507404993, 507404994, 507404995
SPEC = AudienceSpec("user", "Customers", None, None, "installation:customers")


class Lab:
    """Starts sandboxes and connects to them; the end of the `with` block closes all."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, *, now: Callable[[], float] = time.time, **settings: Any) -> Sandbox:
        """A running sandbox whose audiences are ready at once."""
        return self._stack.enter_context(Sandbox(SandboxSettings(**{"ready_after": 0.0, **settings}), now))

    def connect(self, sandbox: Sandbox, **settings: Any) -> LinkedIn:
        """A destination that is the sandbox; its waits are a hundredth of the usual ones."""
        theirs = sandbox.settings
        own: dict[str, Any] = {
            "account_id": ACCOUNT,
            "name": "ads",
            "client_id": theirs.client_id,
            "client_secret": theirs.client_secret,
            "refresh_token": theirs.refresh_token,
            "api_url": sandbox.url,
            "oauth_url": sandbox.url,
            "requests_per_minute": 10_000,
            "max_in_flight": 4,
            "wait_after_create": 0.01,
            "fresh_404_patience": 0.2,
            "token_propagation": 0.02,
            "token_patience": 0.5,
            "attempts": 4,
            "patience": 10.0,
            "backoff_initial": 0.01,
            "backoff_max": 0.04,
            "wait_after_429": 0.02,
            "read_timeout": 1.0,
        }
        linkedin = LinkedIn(LinkedInSettings(**{**own, **settings}))
        self._stack.callback(linkedin.close)
        return linkedin


def hash_of(number: int) -> str:
    """The identifier of one made-up person."""
    return hashlib.sha256(f"{number}@example.com".encode()).hexdigest()


def adds(*numbers: int) -> Batch:
    """A batch that adds these people."""
    return Batch(OperationKind.ADD, 1, ("sha256_email",), [(hash_of(number),) for number in numbers])


def reasons(linkedin: LinkedIn, audience: Audience, batch: Batch) -> list[str]:
    """The reasons of the outcomes; `delivered` for those that have none."""
    return [outcome.reason or outcome.status.value for outcome in linkedin.deliver(audience, batch)]
