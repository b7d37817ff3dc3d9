"""Bad input is refused with exit code 2: the message names the place and the remedy, and nothing was changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from harness.processes.command import call
from harness.servers.postgres import Server
from harness.worlds.world import SYNC, World, create_audience, sandbox

from warehouse_sync.config.loader import load_config
from warehouse_sync.errors import ConfigurationError, WarehouseUnavailable
from warehouse_sync.operations import RunStatus
from warehouse_sync.run.run import run_sync

ACCOUNT, VIEWED_ACCOUNT, UNKNOWN_ACCOUNT = 507404993, 507404994, 111
MAPPED_QUERY = "select id, email, device, first_name, country from people"


pytestmark = pytest.mark.usefixtures("short_timeouts")


@pytest.fixture
def world(world: World) -> World:
    return with_people(world)


@pytest.fixture
def duckdb_world(duckdb_world: World) -> World:
    return with_people(duckdb_world)


@pytest.fixture
def unopened_world(tmp_path: Path) -> Iterator[World]:
    """Yield a world whose warehouse file does not exist, and check that nothing opened it or called the sandbox."""
    with sandbox() as running:
        yield World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] in ([], ["config.yaml"])
        assert running.requests() == []


def with_people(world: World) -> World:
    world.fill([{"id": number, "email": f"person{number}@example.com"} for number in range(3)])
    return world


def footprint(world: World) -> dict[str, Any]:
    """Return all that a run could leave: schemas, tables, rows, files, audiences and requests that change something."""
    system = "('pg_catalog', 'pg_toast', 'information_schema')"
    return {
        "schemas": sorted(
            set(world.query(f"select schema_name from information_schema.schemata where schema_name not in {system}"))
        ),
        "tables": sorted(
            world.query(
                f"select table_schema, table_name from information_schema.tables where table_schema not in {system}"
            )
        ),
        "rows": sorted(map(str, world.query("select * from people"))),
        "files": {
            str(path): None if path.is_dir() else path.read_bytes()
            for path in sorted(world.folder.rglob("*"))
            if path.name != "config.yaml"
        },
        "audiences": [(each["id"], world.sandbox.members(each["id"])) for each in world.sandbox.segments()],
        "changing requests": [
            record
            for record in world.sandbox.requests()
            if record.method != "GET" and record.operation not in ("token", "introspect")
        ],
    }


@contextmanager
def check_unchanged(world: World) -> Iterator[None]:
    before = footprint(world)
    yield
    assert footprint(world) == before


def expect_refusal(world: World, do: Callable[[], Any], *patterns: str) -> ConfigurationError:
    """Return the ConfigurationError that `do` must raise; check that it matches the patterns and holds no secret."""
    with pytest.raises(ConfigurationError) as caught:
        do()
    message = str(caught.value)
    for pattern in patterns:
        assert re.search(pattern, message), f"{pattern} not in: {message}"
    assert has_no_secret(message, world)
    return caught.value


def has_no_secret(text: str, world: World) -> bool:
    account = world.raw_config["destinations"]["ads"]
    given = [account.get(key) for key in ("client_secret", "refresh_token", "access_token")]
    # `sandbox` is also an ordinary word in messages; every other secret must not appear.
    secrets = [
        secret for secret in (*given, sa.make_url(world.url).password) if secret not in (None, "sandbox", "postgres")
    ]
    return not any(secret in text for secret in secrets)


def expect_refusal_by_run_and_plan(world: World, broken: World, *patterns: str) -> None:
    """Check that run and plan refuse `broken` with these patterns, report that nothing was done, and change nothing."""
    with check_unchanged(world):
        error = expect_refusal(broken, broken.run, *patterns, "Nothing was (touched|sent)")
        assert error.report.status is RunStatus.FAILED
        assert error.report.reason == str(error)
        assert error.report.run_id is None
        expect_refusal(broken, broken.plan, *patterns)


# --- the configuration itself


def with_changes(written: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with values set at YAML paths."""
    written = deepcopy(written)
    for path, value in changes.items():
        *above, last = path.split(".")
        at = written
        for part in above:
            at = at[part]
        at[last] = value
    return written


@pytest.mark.parametrize(
    ("path", "value", "advice"),
    [
        pytest.param("syncs.people.identifer", {"a": "b"}, "unknown key; did you mean identifiers", id="unknown key"),
        pytest.param("warehouse", {}, "unknown key; a configuration has", id="unknown section"),
        pytest.param("syncs.people.guard.min", 1, "unknown key", id="unknown key within"),
        pytest.param(
            "destinations.ads.refresh_token", "${NOT_SET}", "environment variable NOT_SET is not set", id="variable"
        ),
        pytest.param(
            "syncs.people.warehouse", "analytcs", "no warehouse 'analytcs'; did you mean analytics", id="warehouse"
        ),
        pytest.param(
            "syncs.people.destination", "facebook", "no destination 'facebook'; known here: ads", id="destination"
        ),
        pytest.param("syncs.people.fields.city", "city", "belongs to company audiences", id="field of the other type"),
        pytest.param(
            "syncs.people.identifiers.company_name",
            "name",
            "belongs to company audiences",
            id="identifier of the other",
        ),
        pytest.param("syncs.people.identifiers", {}, "at least 1|is empty|must not be empty|one", id="no identifier"),
        pytest.param("syncs.people.enabled", "perhaps", "true or false is expected", id="wrong type"),
        pytest.param("syncs.people.model.primary_key", {"id": 1}, "expected", id="wrong type of key"),
        pytest.param("destinations.ads.account_id", "mine", "number", id="account is no number"),
        pytest.param("destinations.ads.api_version", "2026-09", "YYYYMM", id="version is no version"),
        pytest.param("destinations.ads.client_secret", {"file": "nowhere"}, "nowhere", id="secret file missing"),
        pytest.param("destinations.ads.api_url", "http://api.linkedin.com", "https", id="plain http"),
        pytest.param("syncs.people.model", {"file": "no.sql", "primary_key": "id"}, "no.sql", id="query file missing"),
        pytest.param("syncs.people.model.sql", " ", "empty|blank", id="empty query"),
        pytest.param("syncs.people.mode", "upsert", "write mirror or leave this key out", id="another mode"),
        pytest.param("syncs.people.schedule", {"every": "2h"}, "'1h', '3h'", id="no interval"),
        pytest.param("syncs.people.schedule", {"cron": "@daily"}, "five fields", id="no cron expression"),
        pytest.param("warehouses.analytics.url", "mysql://host/db", "duckdb.*//host/database", id="another warehouse"),
    ],
)
def test_a_wrong_key_or_value_is_reported_at_its_place(
    unopened_world: World, path: str, value: Any, advice: str
) -> None:
    """The error names file, line, YAML path and remedy, before anything is opened or requested."""
    world = unopened_world
    file = world.folder / "config.yaml"
    text = yaml.safe_dump(with_changes(world.raw_config, {path: value}), sort_keys=False)
    file.write_text(text)
    error = expect_refusal(world, lambda: load_config(file), advice)
    (problem,) = error.problems
    assert problem.path is not None
    assert path == problem.path or problem.path.startswith(f"{path}.")
    key = problem.path.rpartition(".")[2]
    assert problem.line in [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(key)]
    assert str(problem).startswith(f"{file}:{problem.line}: {problem.path}: ")


def test_all_problems_are_reported_at_once(unopened_world: World) -> None:
    """One message lists every problem, so that one edit can correct the whole configuration."""
    wrong = {"syncs.people.enabled": "perhaps", "syncs.people.warehouse": "nope", "destinations.ads.api_version": "x"}
    file = unopened_world.folder / "config.yaml"
    file.write_text(yaml.safe_dump(with_changes(unopened_world.raw_config, wrong)))
    error = expect_refusal(unopened_world, lambda: load_config(file))
    assert {problem.path for problem in error.problems} == set(wrong)


def test_a_name_that_is_defined_twice_is_refused(unopened_world: World) -> None:
    """The error names the second place and the first, within one file and across files of a folder."""
    world, folder = unopened_world, unopened_world.folder / "configs"
    folder.mkdir()
    text = yaml.safe_dump(world.raw_config, sort_keys=False)
    twice = folder / "a.yaml"
    twice.write_text(text + f"  {SYNC}: {{}}\n")
    expect_refusal(
        world, lambda: load_config(twice), rf"^{twice}:\d+: syncs\.{SYNC}: defined twice, first at {twice}:\d+"
    )
    twice.write_text(text)
    again = folder / "b.yml"
    again.write_text(f"syncs:\n  {SYNC}: {{}}\n")
    expect_refusal(world, lambda: load_config(folder), rf"^{again}:2: syncs\.{SYNC}: .*{twice}:\d+")


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        pytest.param(None, "no such file|does not exist|there is no", id="no file"),
        pytest.param(b"syncs:\n  a: {b: 1\nc: 2\n", r":3: .*", id="not YAML"),
        pytest.param(b"syncs:\n\ta: 1\n", r":2: .*", id="a tab"),
        pytest.param(b"syncs: \xff\xfe", "UTF-8", id="not text"),
        pytest.param(b"just words", "mapping", id="not a mapping"),
        pytest.param(b"a: &a [*a, *a]", "unknown key|itself|alias", id="an alias of itself"),
        pytest.param(b"syncs: !!python/object/apply:os.getcwd []", "tag", id="a Python tag"),
    ],
)
def test_a_file_that_is_not_a_configuration(tmp_path: Path, content: bytes | None, advice: str) -> None:
    """The error names the unreadable or invalid file and says what is wrong with it."""
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=advice) as caught:
        load_config(file)
    assert str(file) in str(caught.value)
    assert list(tmp_path.iterdir()) == ([] if content is None else [file])


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    """An empty folder is an error, not an empty configuration."""
    with pytest.raises(ConfigurationError, match=re.escape(str(tmp_path))):
        load_config(tmp_path)


def test_an_unknown_sync_is_refused(unopened_world: World) -> None:
    """The error names the unknown sync and suggests a known one."""
    expect_refusal(unopened_world, lambda: run_sync(unopened_world.config, "peple"), "'peple'; did you mean people")


# --- the warehouse


def find_closed_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        pytest.param({"password": "wrong-password"}, "password authentication failed", id="wrong password"),
        pytest.param({"username": "stranger"}, "stranger", id="unknown user"),
        pytest.param({"database": "nowhere"}, 'database "nowhere" does not exist', id="unknown database"),
    ],
)
def test_a_postgres_that_refuses_the_login(postgres: Server, tmp_path: Path, part: dict[str, Any], advice: str) -> None:
    """The error has the address without user and password, the reason of the server and what to check."""
    with postgres.database() as url, sandbox() as running:
        world = with_people(World(url, running, tmp_path))
        wrong = sa.make_url(url).set(**part)
        broken = replace(world, url=wrong.render_as_string(hide_password=False))
        place = rf"warehouses\.analytics\.url: cannot connect to postgresql\+psycopg://.*{wrong.host}:{wrong.port}/"
        expect_refusal_by_run_and_plan(world, broken, place, advice, "check the address, the user, the password")
        assert running.requests() == []


@pytest.mark.parametrize(
    ("part", "advice"),
    [({}, "[Rr]efused"), ({"host": "nowhere.invalid"}, "resolve|translate")],
    ids=["closed port", "unknown host"],
)
def test_a_postgres_that_does_not_answer(tmp_path: Path, part: dict[str, Any], advice: str) -> None:
    """An unreachable server may return: the run fails with exit code 1, so that a scheduler tries again."""
    url = sa.make_url("postgresql+psycopg://ann@127.0.0.1/db").set(**{"port": find_closed_port(), **part})
    with sandbox() as running:
        world = World(url.render_as_string(hide_password=False), running, tmp_path)
        for verb in ("run", "plan"):
            answer = call(world.save(), verb)
            assert answer.code == 1
            assert re.search(
                rf"warehouses\.analytics\.url: cannot connect .*({advice})", answer.out + answer.err, re.DOTALL
            )
            assert "Nothing was touched; check the address" in " ".join((answer.out + answer.err).split())
        assert running.requests() == []


def test_a_message_shows_no_user_of_the_warehouse(tmp_path: Path) -> None:
    """The address in a message has no user name, because on some servers it is an e-mail address."""
    url = f"postgresql+psycopg://ann.smith%40corp.example:pass-phrase@127.0.0.1:{find_closed_port()}/db"
    with sandbox() as running, pytest.raises(WarehouseUnavailable) as caught:
        World(url, running, tmp_path).run()
    assert "ann.smith" not in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "not a database", "a folder"])
def test_a_path_that_is_no_duckdb_file_is_refused(duckdb_world: World, kind: str) -> None:
    """A wrong path is an error and creates no empty file."""
    world, path = duckdb_world, duckdb_world.folder / "other.duckdb"
    if kind == "not a database":
        path.write_text("person@example.com is no database\n" * 200)
    if kind == "a folder":
        path.mkdir()
    broken = replace(world, url=f"duckdb:///{path}")
    expect_refusal_by_run_and_plan(world, broken, rf"warehouses\.analytics\.url: .*{path}")
    assert world.sandbox.requests() == []


# --- the query


@pytest.mark.parametrize(
    ("sql", "place", "advice"),
    [
        pytest.param("select * frm people", "model", "syntax error", id="syntax error"),
        pytest.param("select * from peple", "model", "peple.* does not exist", id="no such table"),
        pytest.param(
            "select id, device, first_name, country from people",
            r"identifiers\.sha256_email",
            r"no column email \(it has id, device, first_name, country\)",
            id="no mapped column",
        ),
        pytest.param(
            "select email, device, first_name, country from people", r"model\.primary_key", "no column id", id="no key"
        ),
        pytest.param(
            f"{MAPPED_QUERY}; drop table people",
            "model",
            "more than one statement; a model is one SELECT",
            id="two statements",
        ),
        pytest.param("select 1) as model; drop table people; --", "model", "more than one statement", id="injection"),
        pytest.param("delete from people", "model", "syntax error", id="no SELECT"),
        pytest.param("-- nothing", "model", "it is empty; a model is one SELECT", id="only a comment"),
        pytest.param("select * from people where email = $1", "model", "model", id="a parameter"),
    ],
)
def test_an_invalid_query_is_refused(world: World, sql: str, place: str, advice: str) -> None:
    """An invalid query is refused before anything else; the error names the key and quotes the warehouse."""
    broken = replace(world, sync_settings={"model": {"sql": sql, "primary_key": "id"}})
    expect_refusal_by_run_and_plan(world, broken, rf"syncs\.people\.{place}: ", advice)
    assert world.sandbox.requests() == []


def test_a_mapped_column_that_occurs_twice_is_refused(world: World) -> None:
    """A mapped column that the query yields twice is ambiguous."""
    sql = "select *, 'DE' as country from people"
    broken = replace(world, sync_settings={"model": {"sql": sql, "primary_key": "id"}})
    expect_refusal_by_run_and_plan(
        world, broken, r"syncs\.people\.fields\.country: the query has 2 columns named country"
    )


def test_all_missing_columns_are_reported_at_once(world: World) -> None:
    """One message has a line for each missing column."""
    broken = replace(world, sync_settings={"model": {"sql": "select id, device from people", "primary_key": "id"}})
    with check_unchanged(world):
        error = expect_refusal(
            broken, broken.run, r"identifiers\.sha256_email: .*", r"fields\.first_name: .*", r"fields\.country: .*"
        )
    assert len(str(error).splitlines()) == 4


# --- the destination


def test_an_unknown_audience_id_is_refused(world: World) -> None:
    """An unknown audience.id is refused before the first write to the warehouse."""
    broken = replace(world, sync_settings={"audience": {"type": "user", "id": 4711}})
    expect_refusal_by_run_and_plan(world, broken, "Audience 4711 does not exist on LinkedIn", r"Remove audience\.id")


def test_an_unknown_audience_id_is_reported_at_its_place(duckdb_world: World) -> None:
    """The error names the sync whose key is wrong."""
    broken = replace(duckdb_world, sync_settings={"audience": {"type": "user", "id": 4711}})
    expect_refusal(broken, broken.run, r"syncs\.people\.audience")


def test_an_audience_of_another_type_is_refused(world: World) -> None:
    """A company audience is refused for a user sync; the error names both types."""
    number = create_audience(world.sandbox, "COMPANY")
    broken = replace(world, sync_settings={"audience": {"type": "user", "id": number}})
    expect_refusal_by_run_and_plan(
        world, broken, f"Audience {number} .* type company", "is user", r"Correct audience\.type"
    )


def test_an_audience_of_another_account_is_refused(tmp_path: Path) -> None:
    """An audience that belongs to another ad account is refused."""
    with sandbox(account_ids=frozenset({ACCOUNT, 222})) as running:
        world = with_people(World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path))
        number = create_audience(running, "USER", account=222)
        broken = replace(world, sync_settings={"audience": {"type": "user", "id": number}})
        place = r"destinations\.ads\.account_id"
        expect_refusal_by_run_and_plan(world, broken, f"Audience {number} belongs to another ad account", place)


def test_an_account_without_permission_is_refused(warehouse_url: str, tmp_path: Path) -> None:
    """The error for a 403 names the account, the scope and the roles that suffice."""
    with sandbox(unknown_account_find="403") as running:
        world = with_people(World(warehouse_url, running, tmp_path))
        broken = replace(world, destination_settings={"account_id": UNKNOWN_ACCOUNT})
        patterns = (str(UNKNOWN_ACCOUNT), r"Check destinations\.ads\.account_id", "rw_dmp_segments", "CAMPAIGN_MANAGER")
        expect_refusal_by_run_and_plan(world, broken, *patterns)


def test_a_viewer_of_the_account_is_refused(world: World) -> None:
    """A VIEWER is refused when the audience is created: no member is sent, and only the row of the run stays."""
    broken = replace(world, destination_settings={"account_id": VIEWED_ACCOUNT})
    error = expect_refusal(
        broken, broken.run, r"Check destinations\.ads\.account_id", "VIEWER is not enough", "Nothing was sent"
    )
    assert error.report.status is RunStatus.FAILED
    assert world.sandbox.segments() == []
    assert world.sandbox.requests("users") == []
    assert [tuple(row) for row in world.query("select status, reason from warehouse_sync.runs")] == [
        ("failed", str(error))
    ]
    (sync,) = world.query("select promoted_run, audience_id from warehouse_sync.syncs")
    assert tuple(sync) == (None, None)
    assert world.query("select * from warehouse_sync.sync_log") == []
    tables = world.query("select table_name from information_schema.tables where table_schema = 'warehouse_sync'")
    assert [name for (name,) in tables if name.startswith(("snapshot_", "changes_"))] == []
    world.sandbox.set_writable(VIEWED_ACCOUNT, True)
    assert broken.run().status is RunStatus.SUCCEEDED


def test_a_retired_api_version_is_refused(duckdb_world: World) -> None:
    """The error for a 426 names the key to change, because waiting does not help."""
    broken = replace(duckdb_world, destination_settings={"api_version": "202511"})
    expect_refusal_by_run_and_plan(
        duckdb_world, broken, "does not serve API version 202511", r"Set destinations\.ads\.api_version to"
    )


def test_an_expired_refresh_token_is_refused(duckdb_world: World) -> None:
    """The error says that the refresh token expired or was revoked, and names the key for a new one."""
    duckdb_world.sandbox.revoke_refresh_token()
    expect_refusal_by_run_and_plan(
        duckdb_world, duckdb_world, "Refresh Token Expired", r"Authorise .* again", r"destinations\.ads\.refresh_token"
    )


def test_a_wrong_client_secret_is_refused(duckdb_world: World) -> None:
    """The error for refused app credentials names their keys."""
    broken = replace(duckdb_world, destination_settings={"client_secret": "wrong-client-secret"})
    keys = r"Check destinations\.ads\.client_id, destinations\.ads\.client_secret"
    expect_refusal_by_run_and_plan(duckdb_world, broken, "Oauth Refresh Failed", "invalid_client", keys)


def test_an_expired_access_token_is_refused(duckdb_world: World) -> None:
    """Without a refresh token an expired access token cannot be renewed; the error names the key for a new one."""
    token = "dead-access-token-of-someone"
    broken = replace(
        duckdb_world,
        destination_settings={"access_token": token, **dict.fromkeys(("refresh_token", "client_id", "client_secret"))},
    )
    expect_refusal_by_run_and_plan(
        duckdb_world, broken, "does not accept the access token", r"destinations\.ads\.access_token"
    )


# --- the command line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"syncs.people.gard": {}}, "syncs.people.gard: unknown key", id="unknown key"),
        pytest.param(
            {"warehouses.analytics.url": "duckdb:///nowhere.duckdb"}, "there is no file nowhere.duckdb", id="file"
        ),
        pytest.param(
            {"syncs.people.model.sql": "select id, device from people"}, "the query has no column email", id="column"
        ),
        pytest.param(
            {"syncs.people.audience": {"type": "user", "id": 4711}}, "Audience 4711 does not exist", id="audience"
        ),
        pytest.param({"destinations.ads.refresh_token": "dead-refresh-token"}, "Refresh Token Expired", id="token"),
    ],
)
def test_the_command_exits_with_2(duckdb_world: World, changes: dict[str, Any], expected: str) -> None:
    """`run` prints the problem on standard error, without a traceback or a secret, and exits with 2."""
    world = duckdb_world
    file = world.folder / "config.yaml"
    file.write_text(yaml.safe_dump(with_changes(world.raw_config, changes)))
    with check_unchanged(world):
        done = subprocess.run(
            [sys.executable, "-m", "warehouse_sync", "--config", str(file), "run"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=world.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    assert done.returncode == 2, done.stderr
    assert expected in " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert "dead-refresh-token" not in done.stdout + done.stderr
