"""What is Snowflake's own: logging in, tags, spelling, locks, errors. A local server stands in for the service."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from harness.servers.snowflake import SnowflakeServer
from harness.servers.snowflake_server import REFUSED_USER
from harness.worlds.world import World, sandbox

from warehouse_sync.config.loader import load_config
from warehouse_sync.config.types import parse_table_name
from warehouse_sync.errors import ConfigurationError, QueryFailed, WarehouseUnavailable
from warehouse_sync.operations import RunStatus
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.migrate import current_version, is_current, migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.registry import make_warehouse
from warehouse_sync.warehouses.snowflake.warehouse import MIGRATION_LOCK_TABLE, Snowflake

pytestmark = [
    pytest.mark.usefixtures("short_timeouts"),
    pytest.mark.parametrize("warehouse_url", ["snowflake"], indirect=True),
]

PEOPLE = [{"id": 1, "email": "ann@example.com"}, {"id": 2, "email": "bob@example.com"}]


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey, passphrase: str = "") -> str:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()


def without_password(url: str) -> str:
    return url.replace(":secret-of-snowflake@", "@")


def logged_in(world: World, server: SnowflakeServer) -> dict[str, Any]:
    """What the client sent to log in, as the configuration says."""
    warehouse = make_warehouse(world.config.warehouses["analytics"])
    try:
        warehouse.open()
    finally:
        warehouse.close()
    found: dict[str, Any] = server.logins(world.url)[-1]
    return found


def test_a_password_is_sent_with_role_and_warehouse(world: World, snowflake: SnowflakeServer) -> None:
    """What the URL says reaches the service: user, password, account, database, schema, warehouse and role."""
    world.url += "&role=syncer"
    sent = logged_in(world, snowflake)
    assert (sent["LOGIN_NAME"], sent["PASSWORD"], sent["ACCOUNT_NAME"]) == ("worker", "secret-of-snowflake", "local")
    asked = {name: sent["query"].get(name) for name in ("warehouse", "roleName", "schemaName")}
    assert asked == {"warehouse": "wh", "roleName": "syncer", "schemaName": "public"}


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_a_key_signs_a_token(
    world: World, snowflake: SnowflakeServer, key: rsa.RSAPrivateKey, passphrase: str, tmp_path: Path
) -> None:
    """Instead of a password a token goes out that the key has signed, for this account and user."""
    (tmp_path / "key.p8").write_text(pem(key, passphrase))
    world.url = without_password(world.url)
    world.warehouse_settings["private_key"] = {"file": str(tmp_path / "key.p8")}
    if passphrase:
        world.warehouse_settings["private_key_passphrase"] = passphrase
    sent = logged_in(world, snowflake)
    assert (sent["AUTHENTICATOR"], sent.get("PASSWORD")) == ("SNOWFLAKE_JWT", None)
    head, claims, signature = sent["TOKEN"].split(".")
    read = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert read["sub"] == "LOCAL.WORKER"
    signed = base64.urlsafe_b64decode(signature + "==")
    key.public_key().verify(signed, f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())


def test_an_oauth_token_is_sent_as_it_is(world: World, snowflake: SnowflakeServer) -> None:
    """An access token goes out in place of a password."""
    world.url = without_password(world.url)
    world.warehouse_settings["oauth_token"] = "token-of-the-provider"
    sent = logged_in(world, snowflake)
    assert (sent["AUTHENTICATOR"], sent["TOKEN"]) == ("OAUTH", "token-of-the-provider")
    assert sent.get("PASSWORD") is None


def test_sessions_are_set_up_for_a_worker(world: World, snowflake: SnowflakeServer) -> None:
    """A session is not kept alive when idle, waits for locks no longer than a lease, and uses UTC."""
    sent = logged_in(world, snowflake)["SESSION_PARAMETERS"]
    assert str(sent["LOCK_TIMEOUT"]) == "60"
    assert sent["TIMEZONE"] == "UTC"
    assert str(sent.get("CLIENT_SESSION_KEEP_ALIVE", False)).lower() == "false"


def test_a_refused_login_ends_before_anything_is_touched(world: World) -> None:
    """A wrong password is for the operator to correct: exit 2, with the place in the configuration and no secret."""
    world.url = world.url.replace("worker:", f"{REFUSED_USER}:")
    with pytest.raises(ConfigurationError, match=r"warehouses\.analytics\.url: cannot connect.*Incorrect username"):
        world.run()


def test_an_unreachable_server_is_reported(world: World, snowflake: SnowflakeServer) -> None:
    """The message contains the address and not the password."""
    world.url = world.url.replace(str(snowflake.port), "1")
    with pytest.raises(WarehouseUnavailable, match="cannot connect to snowflake://local") as failure:
        world.run()
    assert "secret" not in str(failure.value)


def test_every_statement_of_a_run_carries_its_tag(world: World, snowflake: SnowflakeServer) -> None:
    """In the query history each statement of a run names the sync, and once the run has a number, also the run."""
    world.fill(PEOPLE)
    before = len(snowflake.statements(world.url))
    world.run()
    tags = [statement["tag"] for statement in snowflake.statements(world.url)[before:]]
    assert set(tags) == {"warehouse_sync:people", "warehouse_sync:people:1"}
    assert tags == sorted(tags)
    assert tags.count("warehouse_sync:people:1") > 20


def test_a_tag_is_quoted(warehouse: Snowflake, warehouse_url: str, snowflake: SnowflakeServer) -> None:
    """The tag is one text for any name of a sync."""
    with warehouse.connect("begin") as connection:
        connection.execute(sa.select(1))
    warehouse.tag_session("it's \\ quoted")
    with warehouse.connect("go on") as connection:
        connection.execute(sa.select(1))
    assert (
        snowflake.statements(warehouse_url)[-2]["sql"]
        == r"ALTER SESSION SET QUERY_TAG = 'warehouse_sync:it\'s \\ quoted'"
    )


@pytest.mark.parametrize("table", ["people", "public.people", "PUBLIC.People", '"PUBLIC"."PEOPLE"'])
def test_a_table_is_found_as_snowflake_spells_it(world: World, table: str) -> None:
    """Without quotes a name is upper case there; columns are found in any case."""
    world.fill(PEOPLE)
    world.sync_settings["model"] = {"table": table, "primary_key": "Id"}
    assert world.plan().members == 2


def test_a_quoted_name_is_used_unchanged(world: World) -> None:
    """In quotes the case counts: there is no table of that name."""
    world.fill(PEOPLE)
    world.sync_settings["model"] = {"table": '"Other"."people"', "primary_key": "id"}
    with pytest.raises(ConfigurationError, match=r"syncs\.people\.model"):
        world.plan()


def test_the_users_tables_are_searched_in_the_schema_of_the_url(world: World) -> None:
    """Creating the schema of the worker's own tables leaves the session where it was."""
    world.fill(PEOPLE)
    assert world.run().status is RunStatus.SUCCEEDED
    assert world.query("select count(*) from public.people")[0][0] == 2


def test_scattered_numbers_are_one_parameter(warehouse: Snowflake) -> None:
    """Twenty thousand scattered numbers and a long range are one short condition."""
    number = sa.column("n", sa.BigInteger)
    ranges = [(n, n) for n in range(1, 40_001, 2)] + [(50_000, 59_999), (70_001, 70_003)]
    condition = warehouse.dialect.in_ranges(number, ranges)
    numbers = warehouse.model("select n from generate_series(1, 80000) as g(n)")
    select = sa.select(sa.func.count()).select_from(numbers)
    with warehouse.connect("count") as connection:
        assert connection.scalar(select.where(condition)) == 20_000 + 10_000 + 3
        assert connection.scalar(select.where(~condition)) == 80_000 - 30_003
        assert connection.scalar(select.where(warehouse.dialect.in_ranges(number, []))) == 0
        assert len(str(select.where(condition).compile(dialect=connection.dialect))) < 500


def test_a_server_without_sha_512_is_refused(warehouse: Snowflake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are hashed in the warehouse or not at all."""
    monkeypatch.setattr(warehouse.dialect, "hash_text", lambda value, _: sa.func.no_such_function(value))
    with warehouse.connect("hash") as connection, pytest.raises(ConfigurationError, match=r"identifiers\.sha512_email"):
        warehouse.prepare_hashing(connection, ["sha512"])


def test_a_server_that_reads_patterns_differently_is_refused(
    warehouse: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patterns that distinguish an address from a hash must work the same there."""
    monkeypatch.setattr(warehouse.dialect, "matches", lambda value, _: value == "ann@example.com")
    with pytest.raises(ConfigurationError, match="regular expressions"):
        warehouse.open()


MODELS = ["people", "crm.people", 'other."My s".x', "crm.people"]


def test_the_grants_are_those_of_the_documentation(warehouse_url: str) -> None:
    """`grants` prints Snowflake's statements, each grant once, in both variants."""
    url = "snowflake://u@acc/crm/app?warehouse=sync_wh&role=syncer"
    warehouse = Snowflake("analytics", url, "warehouse_sync", 60.0, oauth_token="token")
    tables = [parse_table_name(name) for name in MODELS]
    assert warehouse.role == "syncer"
    granted = warehouse.grant_statements("syncer", tables, may_create_schema=False)
    assert granted == [
        "GRANT USAGE ON WAREHOUSE SYNC_WH TO ROLE SYNCER",
        "GRANT USAGE ON DATABASE CRM TO ROLE SYNCER",
        'GRANT USAGE ON DATABASE "OTHER" TO ROLE SYNCER',
        "CREATE SCHEMA IF NOT EXISTS CRM.WAREHOUSE_SYNC",
        "GRANT USAGE, CREATE TABLE ON SCHEMA CRM.WAREHOUSE_SYNC TO ROLE SYNCER",
        "GRANT USAGE ON SCHEMA CRM.APP TO ROLE SYNCER",
        'GRANT USAGE ON SCHEMA CRM."CRM" TO ROLE SYNCER',
        'GRANT USAGE ON SCHEMA "OTHER"."My s" TO ROLE SYNCER',
        'GRANT SELECT ON TABLE CRM.APP."PEOPLE" TO ROLE SYNCER',
        'GRANT SELECT ON TABLE CRM."CRM"."PEOPLE" TO ROLE SYNCER',
        'GRANT SELECT ON TABLE "OTHER"."My s"."X" TO ROLE SYNCER',
    ]
    itself = warehouse.grant_statements("syncer", tables, may_create_schema=True)
    assert set(itself) - set(granted) == {"GRANT CREATE SCHEMA ON DATABASE CRM TO ROLE SYNCER"}


# --- migrations and keys: DDL commits at once, and keys are not enforced


def another(warehouse: Snowflake) -> Snowflake:
    return Snowflake("analytics", warehouse.url.render_as_string(hide_password=False), warehouse.schema, 60.0)


def test_two_workers_may_migrate_at_once(warehouse: Snowflake) -> None:
    """The second one waits and finds everything done, and there is one installation."""
    states = [State(warehouse), State(another(warehouse))]
    failures: list[BaseException] = []

    def one(state: State) -> None:
        try:
            migrate(state)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread of the test
            failures.append(error)

    threads = [threading.Thread(target=one, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert is_current(states[0])
    with warehouse.connect("read") as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(states[0].tables.installation)) == 1
        assert not warehouse.has_table(connection, MIGRATION_LOCK_TABLE)
    states[1].warehouse.close()


def test_another_worker_may_finish_migrating_at_any_moment(warehouse: Snowflake) -> None:
    """A lock that is given back between the two statements that ask for it is taken at the next attempt."""
    lock = sa.table(MIGRATION_LOCK_TABLE, schema=warehouse.schema)
    with warehouse.connect("lock the migrations") as connection:
        warehouse.create_schema(connection)
        warehouse.create_table_as(connection, lock, sa.select(warehouse.dialect.utc_now().label("since")))
    given_back: list[str] = []

    def give_back(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE") and MIGRATION_LOCK_TABLE in statement and not given_back:
            given_back.append(statement)
            with warehouse.connect("give the lock back") as connection:
                warehouse.drop_table(connection, MIGRATION_LOCK_TABLE)

    sa.event.listen(warehouse.engine, "before_cursor_execute", give_back)
    try:
        migrate(State(warehouse))
    finally:
        sa.event.remove(warehouse.engine, "before_cursor_execute", give_back)
    assert given_back
    assert is_current(State(warehouse))


def test_an_interrupted_migration_is_repeated(warehouse: Snowflake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that a dead worker made are there, its version is not: the next one goes on without stumbling."""
    state = State(warehouse)
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
    migrate(state)
    monkeypatch.undo()
    with warehouse.write("pretend") as connection:
        connection.execute(sa.text("alter table warehouse_sync.syncs add column generation integer default 1"))
        connection.execute(sa.text("alter table warehouse_sync.syncs add column last_tick datetime"))
    assert migrate(state)
    assert current_version(state) is not None
    assert is_current(state)


def test_the_lock_of_a_dead_worker_is_taken_over(warehouse: Snowflake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died while it migrated blocks others for ten minutes only."""
    monkeypatch.setattr("warehouse_sync.warehouses.snowflake.warehouse.MIGRATION_LOCK_TIMEOUT", 0.0)
    with warehouse.write("pretend") as connection:
        warehouse.create_schema(connection)
        table = sa.table(MIGRATION_LOCK_TABLE, sa.column("since", sa.DateTime), schema=warehouse.schema)
        warehouse.create_table_as(connection, table, sa.select(warehouse.dialect.utc_now(-500).label("since")))
    with pytest.raises(WarehouseUnavailable, match="another worker has been migrating"):
        migrate(State(warehouse))
    with warehouse.write("pretend") as connection:
        connection.execute(sa.update(table).values(since=warehouse.dialect.utc_now(-700)))
    assert migrate(State(warehouse))


def test_a_sync_has_one_row_when_workers_create_it_at_once(warehouse: Snowflake) -> None:
    """Workers that create the row of a sync at the same time wait for each other, because the key is not enforced."""
    state = State(warehouse)
    migrate(state)
    key = SyncKey("people", "ads")
    sent: list[str] = []
    sa.event.listen(warehouse.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    lease = Lease.take(state, key)
    assert lease is not None
    writes = [text.split()[0] + " " + text.split()[1] for text in sent if text.startswith(("UPDATE", "INSERT"))]
    assert writes[:2] == ["UPDATE warehouse_sync.installation", "INSERT INTO"]
    with warehouse.connect("read") as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(state.tables.syncs)) == 1


# --- errors


class Refused(Exception):
    """An error of the connector's shape."""

    def __init__(self, message: str, errno: int, sqlstate: str | None) -> None:
        super().__init__(message)
        self.errno, self.sqlstate = errno, sqlstate


@pytest.mark.parametrize(
    ("errno", "sqlstate", "message", "kind", "expected"),
    [
        (2003, "42S02", "002003 (42S02): Object 'CRM.PEOPLE' does not exist", QueryFailed, "Object 'CRM.PEOPLE' does"),
        (3001, "42501", "Insufficient privileges to operate on schema 'X'", QueryFailed, "Insufficient privileges"),
        (90105, "22000", "This session does not have a current database", QueryFailed, "name one in the URL"),
        (606, "57P03", "No active warehouse selected in the current session", QueryFailed, "No active warehouse"),
        (100038, "22018", "Numeric value 'ann@example.com' is not recognized", QueryFailed, "SQLSTATE 22018 (the mess"),
        (390112, "08001", "Session expired", WarehouseUnavailable, "the connection to snowflake://local"),
        (390114, None, "Authentication token has expired", WarehouseUnavailable, "the connection to"),
        (4, None, "HTTP request failed after retries", WarehouseUnavailable, "was lost, could not test"),
        (625, "57014", "Statement aborted: lock timeout exceeded", WarehouseUnavailable, "SYSTEM$ABORT_TRANSACTION"),
    ],
)
def test_errors_are_classified_by_what_happens_next(
    warehouse: Snowflake, errno: int, sqlstate: str | None, message: str, kind: type[Exception], expected: str
) -> None:
    """Names and rights are shown, values of rows are not, and a session that is over is tried again later."""
    raised = sa.exc.OperationalError("select 1", None, Refused(message, errno, sqlstate))
    error = warehouse.translate_error(raised, "test")
    assert type(error) is kind
    assert expected in str(error)
    assert "ann@" not in str(error)


def test_all_problems_of_a_login_are_reported_at_once(world: World, key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    """Contradictory login settings are refused with their paths, before anything is opened."""
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"private_key": pem(key)}, "private_key", "one way to log in is enough"),
        ({"oauth_token": "token"}, "oauth_token", "one way to log in is enough"),
        ({"private_key_passphrase": "sesame"}, "private_key_passphrase", "no private_key"),
    ]
    bare = without_password(world.url)
    alone: list[tuple[dict[str, Any], str, str]] = [
        ({"url": bare}, "url", "no way to log in"),
        ({"url": bare, "private_key": "nonsense"}, "private_key", "PEM"),
        ({"url": bare, "private_key": pem(key, "sesame")}, "private_key", "give its private_key_passphrase"),
        (
            {"url": bare, "private_key": pem(key, "sesame"), "private_key_passphrase": "shut away"},
            "private_key_passphrase",
            "does not decrypt",
        ),
        ({"url": "duckdb:///x.duckdb", "private_key": pem(key)}, "private_key", "belongs to snowflake"),
        ({"url": "snowflake://me:pass@acc/db?token=x"}, "url", "under oauth_token"),
        ({"url": "snowflake://me:pass@acc/db?protocol=http"}, "url", "this machine only"),
        ({"url": "snowflake://me:pass@acc"}, "url", "a database"),
        ({"schema": "my schema"}, "schema", "letters, digits and _"),
    ]
    for home, path, message in [*cases, *alone]:
        world.warehouse_settings = dict(home)
        with pytest.raises(ConfigurationError) as failure:
            _ = world.config
        assert any(
            problem.path == f"warehouses.analytics.{path}" and message in problem.message
            for problem in failure.value.problems
        ), (home, str(failure.value))
        assert "BEGIN" not in str(failure.value).replace("-----BEGIN PRIVATE KEY-----", "")


@pytest.fixture
def companies(warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    with sandbox() as running:
        yield World(warehouse_url, running, tmp_path, "company")


def test_variant_and_array_columns_are_lists(companies: World) -> None:
    """Lists come as ARRAY, VARIANT, JSON text or text with commas, and are sent alike."""
    companies.fill([{"id": n, "name": f"Company {n}", "domain": f"c{n}.example.com"} for n in (1, 2, 3, 4)])
    lists = "case id when 1 then to_variant(['Oil, Gas', ' Banks ']) when 2 then parse_json('[\"Oil\"]') end"
    companies.sync_settings["model"] = {"sql": f"select *, {lists} as sectors from people", "primary_key": "id"}
    companies.sync_settings["fields"] = {"industries": "sectors"}
    assert companies.run().status is RunStatus.SUCCEEDED
    rows = companies.query("select industries from warehouse_sync.snapshot_people_1 order by primary_key")
    found = [None if text is None else json.loads(text) for text in (row[0] for row in rows)]
    assert found == [
        ["Oil, Gas", "Banks"],
        ["Oil"],
        None,
        None,
    ]


def test_a_missing_driver_is_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, and the driver is not imported before it is needed."""
    import sys

    config = load_config(world.folder / "config.yaml") if (world.folder / "config.yaml").exists() else world.config
    monkeypatch.setitem(sys.modules, "warehouse_sync.warehouses.snowflake.warehouse", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'warehouse-sync\[snowflake\]'"):
        make_warehouse(config.warehouses["analytics"])
