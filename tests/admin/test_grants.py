"""What `grants` prints is sufficient for everything that a worker does, and nothing of it is unnecessary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from harness.processes.command import call
from harness.servers.postgres import Server
from harness.worlds.world import SYNC, World, sandbox

from warehouse_sync.admin.setup import list_grants
from warehouse_sync.errors import ConfigurationError, QueryFailed
from warehouse_sync.operations import RunStatus
from warehouse_sync.run.purge import purge_sync

ROLE = f"sync worker {os.environ.get('PYTEST_XDIST_WORKER', '')}".strip()
"""A role of this test process: roles belong to the server, which all test processes share."""

OTHER_ROLE = f"other than {ROLE}"
PASSWORD = "worker-password"


@pytest.fixture
def admin(postgres: Server, tmp_path: Path) -> Iterator[World]:
    """A world of an administrator, in a database whose PUBLIC has no rights; role ROLE may log in only."""
    with postgres.database() as url, sandbox() as running:
        world = World(url, running, tmp_path, sync_settings={"model": {"table": "crm.people", "primary_key": "id"}})
        with world.connect() as connection:
            for statement in (
                f"create role \"{ROLE}\" login password '{PASSWORD}'",
                f"revoke all on database {sa.make_url(url).database} from public",
                "revoke all on schema public from public",
                "create schema crm",
                "create table crm.people (id bigint, email text, device text, first_name text, country text)",
                "insert into crm.people values (1, 'a@example.com'), (2, 'b@example.com')",
            ):
                connection.execute(sa.text(statement))
        try:
            yield world
        finally:
            with world.connect() as connection:
                connection.execute(sa.text(f'drop owned by "{ROLE}" cascade'))
                connection.execute(sa.text(f'drop role "{ROLE}"'))


def as_worker(world: World) -> World:
    url = sa.make_url(world.url).set(username=ROLE, password=PASSWORD)
    return replace(world, url=url.render_as_string(hide_password=False))


@contextmanager
def granted(world: World, statements: list[str]) -> Iterator[World]:
    """Yield the worker's world with exactly these rights; revoke them afterwards."""
    with world.connect() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    try:
        yield as_worker(world)
    finally:
        with world.connect() as connection:
            connection.execute(sa.text(f'drop owned by "{ROLE}" cascade'))
            connection.execute(sa.text("drop schema if exists warehouse_sync cascade"))


def everything(world: World) -> None:
    """Do all that a worker does: plan, runs with adds and removes, retry pass, full run, new audience, purge."""
    assert world.plan().status is RunStatus.SUCCEEDED
    assert world.run().status is RunStatus.SUCCEEDED
    assert world.plan().status is RunStatus.SUCCEEDED
    world.sandbox.inject("503:users:times=0")
    with admin_world(world).connect() as connection:
        connection.execute(sa.text("update crm.people set email = email || '.org' where id = 1"))
    assert world.run().status is RunStatus.INCOMPLETE
    world.sandbox.clear_faults()
    assert world.retry().status is RunStatus.SUCCEEDED
    assert world.run(full=True).status is RunStatus.SUCCEEDED
    assert world.run(recreate=True).status is RunStatus.SUCCEEDED
    assert [report.status for report in purge_sync(world.config, SYNC)] == [RunStatus.SUCCEEDED]


def admin_world(world: World) -> World:
    url = sa.make_url(world.url).set(username="postgres", password="postgres")
    return replace(world, url=url.render_as_string(hide_password=False))


@pytest.mark.parametrize("may_create_schema", [False, True], ids=["schema exists", "creates its schema"])
def test_the_printed_grants_are_enough(admin: World, short_timeouts: None, may_create_schema: bool) -> None:
    """A role with exactly the printed rights can do all that a worker does."""
    found = list_grants(as_worker(admin).config, "analytics", may_create_schema=may_create_schema)
    with granted(admin, found.statements) as world:
        everything(world)


@pytest.mark.parametrize("may_create_schema", [False, True], ids=["schema exists", "creates its schema"])
def test_none_of_the_printed_grants_is_too_much(admin: World, short_timeouts: None, may_create_schema: bool) -> None:
    """Without any single right of those that are printed, something that a worker does fails."""
    found = list_grants(as_worker(admin).config, "analytics", may_create_schema=may_create_schema)
    rights = [single for statement in found.statements for single in singles(statement)]
    needed = [right for right in rights if right.startswith("GRANT")]
    assert len(needed) >= 5
    for left_out in needed:
        with granted(admin, [right for right in rights if right != left_out]) as world:
            assert not can_plan_and_run(world), left_out


def can_plan_and_run(world: World) -> bool:
    """Whether the role can plan and run."""
    try:
        return [world.plan().status, world.run().status] == [RunStatus.SUCCEEDED] * 2
    except (ConfigurationError, QueryFailed):
        return False


def singles(statement: str) -> list[str]:
    """Return the statement, or one for each right that it grants."""
    if not statement.startswith("GRANT"):
        return [statement]
    names, _, rest = statement.removeprefix("GRANT ").partition(" ON ")
    return [f"GRANT {name} ON {rest}" for name in names.split(", ")]


def test_the_verb_prints_sql_to_copy(admin: World) -> None:
    """The text is valid SQL, with its comments; --json has the single statements."""
    folder = as_worker(admin).save()
    answer = call(folder, "grants", "--role", OTHER_ROLE)
    assert answer.code == 0, answer.err
    with admin.connect() as connection:
        connection.execute(sa.text(f'create role "{OTHER_ROLE}"'))
        connection.exec_driver_sql(answer.out)
        connection.execute(sa.text(f'drop owned by "{OTHER_ROLE}" cascade'))
        connection.execute(sa.text(f'drop role "{OTHER_ROLE}"'))
    (found,) = call(folder, "grants", "--json").json
    assert (found["role"], found["queries"], found["error"]) == (ROLE, [], None)
    assert f'GRANT SELECT ON TABLE "crm"."people" TO "{ROLE}"' in found["statements"]


def test_an_unknown_warehouse_is_named(admin: World) -> None:
    """An unknown name ends with 2, and the message lists the known ones."""
    answer = call(as_worker(admin).save(), "grants", "analytic")
    assert (answer.code, "analytics" in answer.out) == (2, True)
