"""A LinkedIn destination with short timeouts, and its sandbox."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import orjson

from warehouse_sync.destinations.base import UNCONDITIONAL, Audience, AudienceSpec, Permit
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.operations import SEPARATOR, Batch, Elements, OperationKind
from warehouse_sync.sandbox import Sandbox, SandboxSettings

ACCOUNT, VIEWED_ACCOUNT, TEST_ACCOUNT = 507404993, 507404994, 507404995
Row = Mapping[str, str | None]

SPEC = AudienceSpec("user", "Customers", None, None, "installation:customers")


class Lab:
    """A factory of sandboxes and destinations; the end of the `with` block closes them all."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, *, now: Callable[[], float] = time.time, **settings: Any) -> Sandbox:
        """Return a running sandbox whose audiences are ready at once."""
        return self._stack.enter_context(Sandbox(SandboxSettings(**{"ready_after": 0.0, **settings}), now))

    def connect(self, sandbox: Sandbox, **settings: Any) -> LinkedIn:
        """Return a destination for the sandbox; its waits are a hundredth of the usual ones."""
        credentials = sandbox.settings
        defaults: dict[str, Any] = {
            "account_id": ACCOUNT,
            "name": "ads",
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
            "refresh_token": credentials.refresh_token,
            "api_url": sandbox.url,
            "oauth_url": sandbox.url,
            "requests_per_minute": 10_000,
            "max_in_flight": 4,
            "wait_after_create": 0.01,
            "new_audience_timeout": 0.2,
            "token_propagation": 0.02,
            "token_timeout": 0.5,
            "attempts": 4,
            "retry_timeout": 10.0,
            "backoff_initial": 0.01,
            "backoff_max": 0.04,
            "wait_after_429": 0.02,
            "read_timeout": 1.0,
        }
        linkedin = LinkedIn(LinkedInSettings(**{**defaults, **settings}))
        self._stack.callback(linkedin.close)
        return linkedin


class RevocablePermit:
    """A permit that a test revokes.

    Attributes:
        is_revoked: Whether a prepared request may no longer leave.
    """

    def __init__(self) -> None:
        self.is_revoked = False
        self._ended = threading.Event()

    def revoke(self) -> None:
        """End all waits; no further request may be started."""
        self._ended.set()

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def is_valid(self) -> bool:
        return not self.is_revoked


def hash_of(number: int) -> str:
    """Return the e-mail hash of one generated person."""
    return hashlib.sha256(f"{number}@example.com".encode()).hexdigest()


def adds(*numbers: int) -> Batch:
    """Return a batch that adds these people."""
    return batch(OperationKind.ADD, [{"sha256_email": hash_of(number)} for number in numbers])


ID_TYPES = {"sha256_email": "SHA256_EMAIL", "sha512_email": "SHA512_EMAIL", "google_aid": "GOOGLE_AID"}
IDENTIFIERS = {
    "company_name", "company_email_domain", "company_website_domain", "company_page_url", "organization_urn",
}  # fmt: skip


def batch(kind: OperationKind, rows: Sequence[Row], *, first_seq: int = 1) -> Batch:
    """Return a batch of these rows, written without code of the product."""
    texts = [orjson.dumps(expected_element(kind, row)) + SEPARATOR.encode() for row in rows]
    return Batch(kind, first_seq, Elements(b"".join(texts), len(texts)))


def expected_element(kind: OperationKind, row: Row) -> dict[str, Any]:
    """Return the expected element of a row of values by field; a list of texts is JSON."""
    values = {name: value for name, value in row.items() if value is not None}
    element: dict[str, Any] = {"action": str(kind)}
    ids = [{"idType": ID_TYPES[name], "idValue": values[name]} for name in ID_TYPES if name in values]
    if ids:
        element["userIds"] = ids
    for name, value in values.items():
        if name in IDENTIFIERS or (kind is OperationKind.ADD and name not in ID_TYPES):
            first, *others = name.split("_")
            value = orjson.loads(value) if name == "industries" else value
            if value != []:
                element[first + "".join(map(str.capitalize, others))] = value
    return element


def reasons(linkedin: LinkedIn, audience: Audience, batch: Batch, permit: Permit = UNCONDITIONAL) -> list[str]:
    """Return the reasons of the outcomes; `delivered` for those without one."""
    return [outcome.reason or outcome.status.value for outcome in linkedin.deliver(audience, batch, permit)]
