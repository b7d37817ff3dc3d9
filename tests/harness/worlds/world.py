"""A world for tests: a warehouse with a table, a sandbox, and a configuration that connects them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
import yaml

from warehouse_sync.config.loader import Config, load_config
from warehouse_sync.destinations.linkedin import config as linkedin_settings
from warehouse_sync.reports import PlanReport, RunReport
from warehouse_sync.run.run import retry_sync, run_sync
from warehouse_sync.sandbox import Sandbox, SandboxSettings

Row = Mapping[str, Any]
Member = frozenset[tuple[str, str]]

SYNC = "people"
READINGS = ("identifiers", "elements")

USERS = {
    "audience": {"type": "user", "name": "People"},
    "identifiers": {"sha256_email": "email", "google_aid": "device"},
    "fields": {"first_name": "first_name", "country": "country"},
}
COMPANIES = {
    "audience": {"type": "company", "name": "Companies"},
    "identifiers": {"company_name": "name", "company_website_domain": "domain"},
    "fields": {"city": "city"},
}
COLUMNS = {
    "user": ("id", "email", "device", "first_name", "country"),
    "company": ("id", "name", "domain", "city"),
}
IDENTIFIER_NAMES = {
    "email": "SHA256_EMAIL",
    "device": "GOOGLE_AID",
    "name": "companyName",
    "domain": "companyWebsiteDomain",
}


SHORT_TIMEOUTS = {
    "wait_after_create": 0.0,
    "new_audience_timeout": 2.0,
    "token_propagation": 0.05,
    "token_timeout": 1.0,
    "attempts": 3,
    "retry_timeout": 2.0,
    "backoff_initial": 0.01,
    "backoff_max": 0.05,
    "wait_after_429": 0.01,
    "read_timeout": 2.0,
}
"""Settings of a LinkedIn destination with short timeouts and waits."""


def shorten_timeouts(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Make workers in this process use short timeouts and waits. `settings` override SHORT_TIMEOUTS."""
    original = linkedin_settings.LinkedInSettings

    def with_short_timeouts(**given: Any) -> linkedin_settings.LinkedInSettings:
        return replace(original(**given), **{**SHORT_TIMEOUTS, **settings})

    monkeypatch.setattr(linkedin_settings, "LinkedInSettings", with_short_timeouts)


@cache
def engine_of(url: str) -> sa.Engine:
    """Return an engine for tests, separate from that of the worker. It keeps no connection open."""
    if url.startswith("snowflake:"):
        from warehouse_sync.warehouses.snowflake.engine import make_engine

        return make_engine(sa.make_url(url), poolclass=sa.NullPool)
    return sa.create_engine(url, poolclass=sa.NullPool)


def person(number: int, **more: Any) -> dict[str, Any]:
    """Return a row of the table `people` with a valid e-mail address. `more` holds further columns."""
    return {"id": number, "email": f"person{number}@example.com", **more}


def people(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    """Return rows of the table `people`, one for each number."""
    return [person(number, **more) for number in numbers]


def create_duckdb(path: Path) -> str:
    """Create an empty DuckDB file and return its URL."""
    url = f"duckdb:///{path}"
    engine_of(url).connect().close()
    return url


@dataclass
class World:
    """One sync `people` of the table `people` to an audience of the sandbox."""

    url: str
    sandbox: Sandbox
    folder: Path
    kind: str = "user"
    sync_settings: dict[str, Any] = field(default_factory=dict)
    """Keys of the sync that differ from the standard ones."""
    destination_settings: dict[str, Any] = field(default_factory=dict)
    """Keys of the destination that differ from the standard ones."""
    warehouse_settings: dict[str, Any] = field(default_factory=dict)
    """Keys of the warehouse that differ from the standard ones."""
    destination_name: str = "ads"

    @property
    def raw_config(self) -> dict[str, Any]:
        """The content of the configuration file."""
        mapping = USERS if self.kind == "user" else COMPANIES
        sync: dict[str, Any] = {
            "warehouse": "analytics",
            "destination": self.destination_name,
            "model": {"sql": "select * from people", "primary_key": "id"},
            "guard": {"max_removed_percent": 100, "min_members": 0},
            **mapping,
            **self.sync_settings,
        }
        return {
            "warehouses": {"analytics": {"url": self.url, **self.warehouse_settings}},
            "destinations": {self.destination_name: {**destination_config(self.sandbox), **self.destination_settings}},
            "syncs": {SYNC: sync},
        }

    @property
    def config(self) -> Config:
        return load_config(self.save() / "config.yaml")

    def save(self) -> Path:
        """Write the configuration to `config.yaml` and return its folder."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.raw_config))
        return self.folder

    def save_with_access_token(self) -> Path:
        """Do what `save` does, with an access token: it is valid at once, a fetched one may be refused for seconds."""
        written = self.raw_config
        destination = written["destinations"][self.destination_name]
        for key in ("client_id", "client_secret", "refresh_token"):
            del destination[key]
        destination["access_token"] = self.sandbox.settings.access_token
        (self.folder / "config.yaml").write_text(yaml.safe_dump(written))
        return self.folder

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        engine = engine_of(self.url)
        with engine.begin() as connection:
            yield connection

    def reset(self) -> None:
        """Delete the data and the state."""
        with self.connect() as connection:
            connection.execute(sa.text("drop schema if exists warehouse_sync cascade"))
            connection.execute(sa.text("drop table if exists people"))

    def fill(self, rows: Iterable[Row]) -> None:
        """Replace the table `people` by these rows; missing values are NULL."""
        names = COLUMNS[self.kind]
        texts = ", ".join(f"{name} {'bigint' if name == 'id' else 'text'}" for name in names)
        marks = ", ".join(f":{name}" for name in names)
        values = [{name: row.get(name) for name in names} for row in rows]
        with self.connect() as connection:
            connection.execute(sa.text("drop table if exists people"))
            connection.execute(sa.text(f"create table people ({texts})"))
            if values:
                connection.execute(sa.text(f"insert into people values ({marks})"), values)

    def run(self, **options: Any) -> RunReport:
        return run_sync(self.config, SYNC, **options)

    def retry(self, **options: Any) -> RunReport:
        return retry_sync(self.config, SYNC, **options)

    def plan(self) -> PlanReport:
        from warehouse_sync.run.plan import plan_sync

        return plan_sync(self.config, SYNC)

    def query(self, sql: str) -> Sequence[sa.Row[Any]]:
        with self.connect() as connection:
            return connection.execute(sa.text(sql)).all()

    @property
    def audience_id(self) -> int:
        """The id of the only audience at the sandbox."""
        (only,) = self.sandbox.segments()
        return int(only["id"])

    def actual_members(self, reading: str) -> set[Member]:
        """Return the members of the audience under one reading of REMOVE; single identifiers are sets of one."""
        return {frozenset(member) for member in self.sandbox.members(self.audience_id, reading=reading)}

    def expected_members(self, rows: Iterable[Row], reading: str) -> set[Member]:
        """Return the members that the audience must have for these rows, computed without the product."""
        members = {member for row in rows if (member := member_of(row))}
        if reading == "identifiers":
            return {frozenset([identifier]) for member in members for identifier in member}
        return members

    def check(self, rows: Sequence[Row]) -> None:
        """Check that the audience equals the query under every reading and that no rule of LinkedIn was broken."""
        for reading in READINGS:
            assert self.actual_members(reading) == self.expected_members(rows, reading), reading
        assert self.actual_members("persons") == self.expected_members(rows, "elements"), "persons"
        assert self.sandbox.violations() == []


def destination_config(sandbox: Sandbox) -> dict[str, Any]:
    """Return the configuration of a destination that is the sandbox."""
    return {
        "type": "linkedin",
        "account_id": 507404993,
        "client_id": "sandbox",
        "client_secret": "sandbox",
        "refresh_token": "sandbox-refresh",
        "api_url": sandbox.url,
        "oauth_url": sandbox.url,
    }


def member_of(row: Row) -> Member:
    """Return the identifiers of a row with clean values: an address, a device, a name, a domain."""
    identifiers = set()
    for column, name in IDENTIFIER_NAMES.items():
        value = (row.get(column) or "").strip().lower() if column != "name" else (row.get(column) or "").strip()
        if column == "email" and "@" not in value:
            continue
        if value:
            hashed = hashlib.sha256(value.encode()).hexdigest() if column == "email" else value
            identifiers.add((name, hashed))
    return frozenset(identifiers)


@contextmanager
def sandbox(**settings: Any) -> Iterator[Sandbox]:
    """Yield a sandbox whose new audiences are ready at once instead of after five seconds."""
    with Sandbox(SandboxSettings(**{"ready_after": 0.0, "users_per_minute": 100_000, **settings})) as running:
        yield running


def create_audience(sandbox: Sandbox, kind: str = "USER", account: int = 507404993) -> int:
    """Create an empty audience outside of the product and return its id."""
    body = {
        "account": f"urn:li:sponsoredAccount:{account}",
        "name": "Somebody's",
        "type": kind,
        "sourcePlatform": "DIRECT_API",
        "destinations": [{"destination": "LINKEDIN"}],
    }
    return int(post_to_sandbox(sandbox, "", body, "CREATE").headers["x-restli-id"])


def post_to_sandbox(sandbox: Sandbox, path: str, body: Any, method: str) -> requests.Response:
    """Send a POST outside of the product and return the response; `path` is relative to the segments."""
    answer = requests.post(
        f"{sandbox.url}/rest/dmpSegments{path and '/'}{path}",
        json=body,
        headers={
            "Authorization": f"Bearer {sandbox.settings.access_token}",
            "LinkedIn-Version": "202609",
            "X-Restli-Protocol-Version": "2.0.0",
            "X-RestLi-Method": method,
        },
        timeout=(300, 300),
    )
    assert answer.status_code in (200, 201), answer.text
    return answer
