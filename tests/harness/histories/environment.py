"""The environment of histories: one warehouse, a sandbox for each history, and the worker between them.

An environment in the process passes requests to the sandbox without sockets and keeps DuckDB in memory. Otherwise it
uses real sockets and a real file, and runs the migrations for each history.
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
from harness.histories.in_memory_warehouse import share_engine, silence_logs
from harness.histories.injection import FaultInjector
from harness.histories.people import hash_email
from harness.histories.request_checks import RequestChecker
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

IN_PROCESS_TIMEOUTS = {
    "wait_after_create": 0.002,
    "new_audience_timeout": 0.05,
    "token_propagation": 0.004,
    "token_timeout": 0.03,
    "retry_timeout": 0.2,
    "backoff_initial": 0.0005,
    "backoff_max": 0.002,
    "wait_after_429": 0.0005,
}
"""Delays and timeouts of a worker whose sandbox is in the same process, in seconds."""

SOCKET_TIMEOUTS = {"token_timeout": 0.3, "retry_timeout": 1.0, "read_timeout": 0.3}
"""Timeouts of a worker that uses real sockets, in seconds."""

MIGRATE_EVERY = 100
"""The number of histories after which a shared warehouse is created again: DuckDB keeps deleted rows."""


@dataclass
class HistoryWorld(World):
    """A world with groups of people, whose configuration and audience change during a history.

    Attributes:
        engine: The engine that all workers share, if the environment is in the process.
        configurations: Parsed configurations by the text of the raw configuration.
        configured_audience: The id of the audience that the configuration names, if any.
        foreign_members: The members that the foreign audience had before the first run, by its id.
    """

    engine: sa.Engine | None = None
    configurations: dict[str, Config] = field(default_factory=dict)
    configured_audience: int | None = None
    foreign_members: dict[int, set[Member]] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        text = repr(self.raw_config)
        if text not in self.configurations:
            self.configurations[text] = super().config
        return self.configurations[text]

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        if self.engine is None:
            with super().connect() as connection:
                yield connection
        else:
            with self.engine.begin() as connection:
                yield connection

    def fill(self, rows: Iterable[Row]) -> None:
        """Replace the rows of table `people` in one statement; their values need no quoting."""

        def literal(value: object) -> str:
            return "null" if value is None else str(value) if isinstance(value, int) else f"'{value}'"

        definitions = ", ".join(f"{name} {'bigint' if name == 'id' else 'text'}" for name in COLUMNS)
        complete = [{**row, "hashed": hash_email(row.get("email"))} for row in rows]
        values = ", ".join(f"({', '.join(literal(row.get(name)) for name in COLUMNS)})" for row in complete)
        with self.connect() as connection:
            connection.exec_driver_sql(f"create table if not exists people ({definitions})")
            connection.exec_driver_sql("delete from people")
            if values:
                connection.exec_driver_sql(f"insert into people values {values}")

    def apply_mapping(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows with only the columns of the mapping."""
        identifiers: Mapping[str, str] = self.raw_config["syncs"]["people"]["identifiers"]
        fields: Mapping[str, str] = self.raw_config["syncs"]["people"]["fields"]
        columns = {"id", *({"email"} if "sha256_email" in identifiers else ()), *fields.values()}
        columns |= {"device"} if "google_aid" in identifiers else set()
        return [{name: value for name, value in row.items() if name in columns} for row in rows]

    @property
    def audience_id(self) -> int:
        """The audience of the sync. Fails if the worker has created a second one."""
        if self.configured_audience is not None:
            return self.configured_audience
        created = [
            segment
            for segment in self.sandbox.segments()
            if str(segment.get("sourceSegmentId")).startswith("warehouse-")
        ]
        assert len(created) == 1, f"the worker has created {len(created)} audiences"
        return int(created[0]["id"])

    def actual_members(self, reading: str) -> set[Member]:
        members = super().actual_members(reading)
        foreign = self.foreign_members.get(self.audience_id, set())
        assert foreign <= members, "a member that the audience had before the first run is missing"
        return members - foreign

    def members(self, rows: Sequence[Row]) -> set[Member]:
        """Return the members of these rows under the current mapping."""
        return {member for row in self.apply_mapping(rows) if (member := member_of(row))}

    def renew_authorisation(self) -> None:
        """Replace the refresh token if it is not active."""
        book, now = self.sandbox._state.tokens, self.sandbox._state.now()
        current = str(self.destination_settings.get("refresh_token", self.sandbox.settings.refresh_token))
        token = book.find(current)
        if token is None or token.status(now) != "active":
            self.destination_settings["refresh_token"] = f"sandbox-refresh-{len(book._refresh)}"
            book._issue(
                book._refresh,
                self.destination_settings["refresh_token"],
                now,
                0.0,
                self.sandbox.settings.refresh_token_life,
            )

    def foreign_audience(self) -> int:
        """Return the id of an audience that the worker did not create, with one member."""
        if not self.foreign_members:
            audience_id = create_audience(self.sandbox)
            email_hash = hash_email("stranger@example.com")
            elements = [{"action": "ADD", "userIds": [{"idType": "SHA256_EMAIL", "idValue": email_hash}]}]
            post_to_sandbox(self.sandbox, f"{audience_id}/users", {"elements": elements}, "BATCH_CREATE")
            self.foreign_members[audience_id] = {frozenset([("SHA256_EMAIL", str(email_hash))])}
        return next(iter(self.foreign_members))


@dataclass
class Environment:
    """One warehouse for many histories.

    Attributes:
        url: The URL of the warehouse.
        folder: The folder for configurations and files.
        in_process: Whether the sandbox is called without sockets and DuckDB is in memory.
        groups: The number of groups of people in each history.
        patch: Replacements that are undone when the environment is closed.
        injector: Injects faults of the workers.
        request_checker: Checks each request.
        engine: The engine that all workers share, if in the process.
        worlds_opened: The number of worlds so far.
        configurations: Parsed configurations, shared by the worlds.
    """

    url: str
    folder: Path
    in_process: bool
    groups: int
    patch: pytest.MonkeyPatch
    injector: FaultInjector
    request_checker: RequestChecker
    engine: sa.Engine | None = None
    worlds_opened: int = 0
    configurations: dict[str, Config] = field(default_factory=dict)

    @contextmanager
    def open_world(self, **settings: Any) -> Iterator[HistoryWorld]:
        """Yield a world without data, state and audience; `settings` are those of its sandbox."""
        with ExitStack() as stack:
            settings = {"ready_after": 0.0, "users_per_minute": 10**9, **settings}
            if self.in_process:
                running: Sandbox = stack.enter_context(in_process_sandbox(self.patch, **settings))
            else:
                running = stack.enter_context(sandbox(**settings))
            world = HistoryWorld(
                self.url,
                running,
                self.folder,
                destination_settings={"requests_per_minute": 10**6},
                engine=self.engine,
                configurations=self.configurations if self.in_process else {},
            )
            if self.in_process and self.worlds_opened % MIGRATE_EVERY:
                self._delete_state(world)
            else:
                world.reset()
            self.worlds_opened += 1
            self.request_checker.reset()
            yield world

    def _delete_state(self, world: World) -> None:
        """Delete the state except the id of the installation. Run numbers start at 1, to reuse compiled statements."""
        tables = world.query(
            "select table_name, table_type from information_schema.tables where table_schema = 'warehouse_sync' "
            "and (table_name like 'snapshot!_%' escape '!' or table_name like 'changes!_%' escape '!') "
            "order by table_name"  # Tables of changes, which may be views of snapshots, come first.
        )
        with world.connect() as connection:
            for name, kind in map(tuple, tables):
                connection.exec_driver_sql(f"drop {'view' if kind == 'VIEW' else 'table'} warehouse_sync.{name}")
            for table in state_tables("warehouse_sync").metadata.sorted_tables:
                if table.name != "installation":
                    connection.exec_driver_sql(f"delete from warehouse_sync.{table.name}")
            connection.exec_driver_sql("update warehouse_sync.installation set last_run = 0")


@contextmanager
def open_environment(url: str, folder: Path, *, in_process: bool, groups: int) -> Iterator[Environment]:
    """Yield an environment with the warehouse `url`."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        shorten_timeouts(patch, **(IN_PROCESS_TIMEOUTS if in_process else SOCKET_TIMEOUTS))
        engine = stack.enter_context(share_engine(patch, url)) if in_process else None
        if in_process:
            # Each run has a new token. Hiding all of them in logs that are not written took most of the time.
            patch.setattr(tokens, "hide_secret", lambda _, **__: None)
        else:
            stack.enter_context(silence_logs())
        checker = RequestChecker(stack.enter_context(_open_observer(url, engine)))
        injector = FaultInjector(checker)
        injector.install(patch)
        stack.enter_context(injector.listen())
        yield Environment(url, folder, in_process, groups, patch, injector, checker, engine)


@contextmanager
def _open_observer(url: str, engine: sa.Engine | None) -> Iterator[Callable[[str], tuple[list[str], list[Any]]]]:
    """Yield a function that queries through a separate connection; each query sees all committed data."""

    def rows(cursor: Any, sql: str) -> tuple[list[str], list[Any]]:
        cursor.execute(sql)
        return [column[0] for column in cursor.description], cursor.fetchall()

    if url.startswith("duckdb"):
        # The driver's own connection, as the engine configures it, in which each statement is a transaction.
        observed = engine or sa.create_engine(url, poolclass=sa.NullPool)
        connection = observed.raw_connection()
        try:
            yield lambda sql: rows(connection.cursor(), sql)
        finally:
            connection.close()
    else:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as other:
            yield lambda sql: rows(other.cursor(), sql)
