"""Where histories take place: one warehouse, a sandbox for each history, and the worker between them.

A near bench carries requests to the sandbox within the process and keeps DuckDB in memory; a far one has real sockets,
a real file, and the migrations for each history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from harness.histories.in_memory_warehouse import silence, swift
from harness.histories.injection import Seams
from harness.histories.people import hashed
from harness.histories.request_checks import Witness
from harness.servers.in_process_http import in_process_sandbox
from harness.worlds.world import (
    Member,
    Row,
    World,
    create_audience,
    member_of,
    post_to_sandbox,
    sandbox,
    shorten_timeouts,
)

from warehouse_sync.config.loader import Config
from warehouse_sync.destinations.linkedin import tokens
from warehouse_sync.sandbox import Sandbox
from warehouse_sync.state.tables import state_tables

COLUMNS = ("id", "email", "device", "first_name", "country", "hashed")

NEAR = {
    "wait_after_create": 0.002,
    "new_audience_timeout": 0.05,
    "token_propagation": 0.004,
    "token_timeout": 0.03,
    "retry_timeout": 0.2,
    "backoff_initial": 0.0005,
    "backoff_max": 0.002,
    "wait_after_429": 0.0005,
}
"""Patience of a worker whose sandbox is near."""

FAR = {"token_timeout": 0.3, "retry_timeout": 1.0, "read_timeout": 0.3}
"""Patience of a worker that waits for real sockets."""

ANEW_AFTER = 100
"""Histories after which a shared warehouse begins with its migrations again: DuckDB keeps what was deleted."""


@dataclass
class HistoryWorld(World):
    """A world with groups of people, whose configuration and audience change in the course of a history.

    chosen: the id of the audience that the configuration names. foreign: whom each such audience held before us.
    """

    engine: sa.Engine | None = None
    configurations: dict[str, Config] = field(default_factory=dict)
    chosen: int | None = None
    foreign: dict[int, set[Member]] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        written = repr(self.raw_config)
        if written not in self.configurations:
            self.configurations[written] = super().config
        return self.configurations[written]

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        if self.engine is None:
            with super().connect() as connection:
                yield connection
        else:
            with self.engine.begin() as connection:
                yield connection

    def fill(self, rows: Iterable[Row]) -> None:
        """Table `people` holds just these rows, in one statement: what they hold needs no quoting."""

        def constant(value: object) -> str:
            return "null" if value is None else str(value) if isinstance(value, int) else f"'{value}'"

        texts = ", ".join(f"{name} {'bigint' if name == 'id' else 'text'}" for name in COLUMNS)
        full = [{**row, "hashed": hashed(row.get("email"))} for row in rows]
        values = ", ".join(f"({', '.join(constant(row.get(name)) for name in COLUMNS)})" for row in full)
        with self.connect() as connection:
            connection.exec_driver_sql(f"create table if not exists people ({texts})")
            connection.exec_driver_sql("delete from people")
            if values:
                connection.exec_driver_sql(f"insert into people values {values}")

    def mapped(self, rows: Sequence[Row]) -> list[Row]:
        """The rows as the mapping lets them be seen."""
        identifiers: Mapping[str, str] = self.raw_config["syncs"]["people"]["identifiers"]
        fields: Mapping[str, str] = self.raw_config["syncs"]["people"]["fields"]
        seen = {"id", *({"email"} if "sha256_email" in identifiers else ()), *fields.values()}
        seen |= {"device"} if "google_aid" in identifiers else set()
        return [{name: value for name, value in row.items() if name in seen} for row in rows]

    @property
    def audience_id(self) -> int:
        """The audience that the sync keeps. Fails when the worker has made a second one."""
        if self.chosen is not None:
            return self.chosen
        ours = [each for each in self.sandbox.segments() if str(each.get("sourceSegmentId")).startswith("warehouse-")]
        assert len(ours) == 1, f"{len(ours)} audiences of our own"
        return int(ours[0]["id"])

    def actual_members(self, reading: str) -> set[Member]:
        held = super().actual_members(reading)
        theirs = self.foreign.get(self.audience_id, set())
        assert theirs <= held, "somebody whom the audience held before us is gone"
        return held - theirs

    def members(self, rows: Sequence[Row]) -> set[Member]:
        """The members among these rows, as the mapping lets them be seen."""
        return {member for row in self.mapped(rows) if (member := member_of(row))}

    def authorise_again(self) -> None:
        """The operator has a refresh token that works."""
        book, now = self.sandbox._state.tokens, self.sandbox._state.now()
        held = str(self.destination_settings.get("refresh_token", self.sandbox.settings.refresh_token))
        token = book.find(held)
        if token is None or token.status(now) != "active":
            self.destination_settings["refresh_token"] = f"sandbox-refresh-{len(book._refresh)}"
            book._issue(
                book._refresh,
                self.destination_settings["refresh_token"],
                now,
                0.0,
                self.sandbox.settings.refresh_token_life,
            )

    def another_audience(self) -> int:
        """The id of an audience that somebody else has made and put one person into."""
        if not self.foreign:
            segment = create_audience(self.sandbox)
            stranger = hashed("stranger@example.com")
            elements = [{"action": "ADD", "userIds": [{"idType": "SHA256_EMAIL", "idValue": stranger}]}]
            post_to_sandbox(self.sandbox, f"{segment}/users", {"elements": elements}, "BATCH_CREATE")
            self.foreign[segment] = {frozenset([("SHA256_EMAIL", str(stranger))])}
        return next(iter(self.foreign))


@dataclass
class Bench:
    """One warehouse for many histories. groups: of people, in each history."""

    url: str
    folder: Path
    near: bool
    groups: int
    patch: pytest.MonkeyPatch
    seams: Seams
    witness: Witness
    engine: sa.Engine | None = None
    begun: int = 0
    configurations: dict[str, Config] = field(default_factory=dict)

    @contextmanager
    def world(self, **settings: Any) -> Iterator[HistoryWorld]:
        """A world without data, state and audience. settings: of its sandbox."""
        with ExitStack() as stack:
            settings = {"ready_after": 0.0, "users_per_minute": 10**9, **settings}
            if self.near:
                running: Sandbox = stack.enter_context(in_process_sandbox(self.patch, **settings))
            else:
                running = stack.enter_context(sandbox(**settings))
            world = HistoryWorld(
                self.url,
                running,
                self.folder,
                destination_settings={"requests_per_minute": 10**6},
                engine=self.engine,
                configurations=self.configurations if self.near else {},
            )
            if self.near and self.begun % ANEW_AFTER:
                self._empty(world)
            else:
                world.reset()
            self.begun += 1
            self.witness.begin_anew()
            yield world

    def _empty(self, world: World) -> None:
        """No state but the installation's id; run numbers begin anew, so that statements need no compiling."""
        made = world.query(
            "select table_name, table_type from information_schema.tables where table_schema = 'warehouse_sync' "
            "and (table_name like 'snapshot!_%' escape '!' or table_name like 'changes!_%' escape '!') "
            "order by table_name"  # Changes, which may be views of snapshots, come first.
        )
        with world.connect() as connection:
            for name, kind in map(tuple, made):
                connection.exec_driver_sql(f"drop {'view' if kind == 'VIEW' else 'table'} warehouse_sync.{name}")
            for table in state_tables("warehouse_sync").metadata.sorted_tables:
                if table.name != "installation":
                    connection.exec_driver_sql(f"delete from warehouse_sync.{table.name}")
            connection.exec_driver_sql("update warehouse_sync.installation set last_run = 0")


@contextmanager
def bench(url: str, folder: Path, *, near: bool, groups: int) -> Iterator[Bench]:
    """A bench at the warehouse `url`."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        shorten_timeouts(patch, **(NEAR if near else FAR))
        engine = stack.enter_context(swift(patch, url)) if near else None
        if near:
            # Each run brings a new token; hiding them all from logs that nobody writes is what most time went into.
            patch.setattr(tokens, "hide_secret", lambda _, **__: None)
        else:
            stack.enter_context(silence())
        witness = Witness(stack.enter_context(_looking_on(url, engine)))
        seams = Seams(witness)
        seams.install(patch)
        stack.enter_context(seams.listening())
        yield Bench(url, folder, near, groups, patch, seams, witness, engine)


@contextmanager
def _looking_on(url: str, engine: sa.Engine | None) -> Iterator[Callable[[str], tuple[list[str], list[Any]]]]:
    """Queries by a connection of its own, past the seams; each sees what is committed by then."""

    def rows(cursor: Any, sql: str) -> tuple[list[str], list[Any]]:
        cursor.execute(sql)
        return [column[0] for column in cursor.description], cursor.fetchall()

    if url.startswith("duckdb"):
        # The driver's own connection, as the engine configures it, in which each statement is a transaction.
        own = engine or sa.create_engine(url, poolclass=sa.NullPool)
        connection = own.raw_connection()
        try:
            yield lambda sql: rows(connection.cursor(), sql)
        finally:
            connection.close()
    else:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as other:
            yield lambda sql: rows(other.cursor(), sql)
