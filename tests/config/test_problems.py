"""All problems of a configuration are reported at once, in plain words, each with its place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from warehouse_sync.config.loader import load_config
from warehouse_sync.errors import ConfigurationError, Problem

# Lines 1 to 3; the snippets below begin at line 1 and are followed by these.
WAREHOUSE = "warehouses:\n  dwh:\n    url: duckdb:///dwh.duckdb\n"
DESTINATION = "destinations:\n  ads: {type: linkedin, account_id: 507404993, access_token: AQX-token}\n"
SYNC = """\
syncs:
  vips:
    warehouse: dwh
    destination: ads
    model: {sql: select 1, primary_key: id}
    audience: {type: user, name: VIPs}
    identifiers: {sha256_email: email}
"""


def problems(text: str | bytes, folder: Path, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    file = folder / "sync.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_config(file, environ=environ or {})
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    return caught.value.problems


def sync(**changes: str) -> str:
    """Return a sync with single lines replaced, or added at the end; line 1 is `syncs:`."""
    lines = dict(line.strip().split(": ", 1) for line in SYNC.splitlines()[2:]) | changes
    return "syncs:\n  vips:\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


def warehouse(**keys: str) -> str:
    return "warehouses:\n  dwh:\n" + "".join(f"    {key}: {value}\n" for key, value in keys.items())


def destination(**keys: str) -> str:
    lines = {"type": "linkedin", "account_id": "5", "access_token": "AQX-token"} | keys
    return "destinations:\n  ads:\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


def webhook(**keys: str) -> str:
    lines = {"url": "https://example.com/x"} | keys
    return "webhooks:\n  chat:\n" + "".join(f"    {key}: {value}\n" for key, value in lines.items())


MODEL, AUDIENCE, SCHEDULE = "syncs.vips.model", "syncs.vips.audience", "syncs.vips.schedule"
DUCKDB = "duckdb:///x.duckdb"

SINGLE = [
    # the shape
    (WAREHOUSE + "sinks: {}\n", "sinks", 4, "a configuration has warehouses, destinations, syncs and webhooks"),
    ("syncs: [a]\n", "syncs", 1, "a mapping of names to their settings is expected"),
    ("syncs:\n  vips: 3\n", "syncs.vips", 2, "a mapping (lines of key: value) is expected here, found a number"),
    ("syncs:\n  ? [a, b]\n  : {}\n", "syncs", 2, "a key must be plain text"),
    (WAREHOUSE + "  dwh: {url: duckdb:///y.duckdb}\n", "warehouses.dwh", 4, "defined twice, first at"),
    (warehouse(url=DUCKDB) + "    url: duckdb:///y.duckdb\n", "warehouses.dwh.url", 4, "defined twice, first at"),
    (WAREHOUSE + "  ? ''\n  : {url: duckdb:///y.duckdb}\n", 'warehouses.""', 4, "must not be empty"),
    (WAREHOUSE + f"  {'n' * 201}: {{url: duckdb:///y}}\n", "warehouses." + "n" * 201, 4, "at most 200 characters"),
    (WAREHOUSE + '  "a\\tb": {url: duckdb:///y}\n', r'warehouses."a\tb"', 4, "control characters"),
    # variables
    (warehouse(url="${DWH_URL}"), "warehouses.dwh.url", 3, "the environment variable DWH_URL is not set"),
    (warehouse(url="duckdb:///${1}"), "warehouses.dwh.url", 3, "write `$${` for a plain `${`"),
    (sync(enabled="${OFF}"), "syncs.vips.enabled", 8, "the environment variable OFF is not set"),
    # warehouses
    (warehouse(schema="x"), "warehouses.dwh.url", 2, "missing"),
    (warehouse(url="snowflake://me@acc/db"), "warehouses.dwh.url", 3, "no way to log in"),
    (warehouse(url="snowflake://me:secret@acc"), "warehouses.dwh.url", 3, "a database, and a schema if need be"),
    (warehouse(url="snowflake://me@acc/db?password=secret"), "warehouses.dwh.url", 3, "between user and @"),
    (warehouse(url=DUCKDB, oauth_token="abc"), "warehouses.dwh.oauth_token", 4, "belongs to snowflake:// addresses"),
    (warehouse(url="mysql://h/db"), "warehouses.dwh.url", 3, "duckdb:///file.duckdb, postgresql+psycopg://"),
    (warehouse(url="postgresql+asyncpg://h/db"), "warehouses.dwh.url", 3, "postgresql+psycopg://"),
    (warehouse(url="analytics.duckdb"), "warehouses.dwh.url", 3, "a SQLAlchemy address is expected"),
    (warehouse(url="'duckdb:///:memory:'"), "warehouses.dwh.url", 3, "in memory would lose"),
    (warehouse(url="duckdb://"), "warehouses.dwh.url", 3, "in memory would lose"),
    (warehouse(url="duckdb://x.duckdb"), "warehouses.dwh.url", 3, "three slashes"),
    (warehouse(url="{file: /no/such/secret}"), "warehouses.dwh.url", 3, "/no/such/secret does not exist"),
    (warehouse(url="{path: /x}"), "warehouses.dwh.url", 3, "{file: /path/of/a/mounted/secret}"),
    (warehouse(url=DUCKDB, schema="''"), "warehouses.dwh.schema", 4, "must not be empty"),
    (warehouse(url=DUCKDB, schema='"a\\0b"'), "warehouses.dwh.schema", 4, "NUL"),
    (warehouse(url=DUCKDB, schema="s" * 64), "warehouses.dwh.schema", 4, "at most 63"),
    (warehouse(url=DUCKDB, schema_="x"), "warehouses.dwh.schema_", 4, "unknown key; did you mean schema?"),
    (warehouse(url=DUCKDB, name="x"), "warehouses.dwh.name", 4, "unknown key; known here: url, schema, lease"),
    (warehouse(url=DUCKDB, lease="4s"), "warehouses.dwh.lease", 4, "must be at least 5"),
    (warehouse(url=DUCKDB, lease="soon"), "warehouses.dwh.lease", 4, "a duration is expected here, such as 60s"),
    (warehouse(url=DUCKDB, lease="yes"), "warehouses.dwh.lease", 4, "a duration is expected here"),
    (warehouse(url=DUCKDB, lease=".inf"), "warehouses.dwh.lease", 4, "a finite number is expected here"),
    (warehouse(url=DUCKDB, lease="[1]"), "warehouses.dwh.lease", 4, "a number is expected here, found a list"),
    (warehouse(url=DUCKDB, memory_limit="much"), "warehouses.dwh.memory_limit", 4, "a size is expected here"),
    (warehouse(url=DUCKDB, memory_limit="true"), "warehouses.dwh.memory_limit", 4, "a size is expected here"),
    (warehouse(url=DUCKDB, memory_limit="64MB"), "warehouses.dwh.memory_limit", 4, "must be at least 128MB"),
    (
        warehouse(url="postgresql://u:p@h/d", memory_limit="1GB"),
        "warehouses.dwh.memory_limit",
        4,
        "is for DuckDB only",
    ),
    # destinations
    ("destinations:\n  ads: {account_id: 5, access_token: AQX-token}\n", "destinations.ads.type", 2, "missing"),
    (destination(type="facebook"), "destinations.ads.type", 3, "must be 'linkedin'"),
    (destination(account_id="urn:li:sponsoredAccount:5"), "destinations.ads.account_id", 4, "digits only"),
    (destination(account_id="-5"), "destinations.ads.account_id", 4, "must be more than 0"),
    (destination(account_id="true"), "destinations.ads.account_id", 4, "found true or false"),
    (destination(account_id="1.5"), "destinations.ads.account_id", 4, "a whole number is expected here"),
    (destination(access_token="''"), "destinations.ads.access_token", 5, "must not be empty"),
    (destination(access_token='"a\\nb"'), "destinations.ads.access_token", 5, "one line"),
    (
        destination(access_token="12345"),
        "destinations.ads.access_token",
        5,
        "text is expected here, found a number; put",
    ),
    (destination(access_token="null"), "destinations.ads", 2, "credentials are missing"),
    (destination(refresh_token="AQY"), "destinations.ads", 2, "refresh_token and access_token exclude each other"),
    (destination(api_version="2026-09"), "destinations.ads.api_version", 6, "YYYYMM"),
    (destination(api_version="202613"), "destinations.ads.api_version", 6, "YYYYMM"),
    (destination(api_version="202612"), "destinations.ads.api_version", 6, "LinkedIn has no December version"),
    (destination(source_platform="direct"), "destinations.ads.source_platform", 6, "capital letters"),
    (destination(api_url="api.linkedin.com"), "destinations.ads.api_url", 6, "such as https://api.linkedin.com"),
    (destination(api_url="http://api.linkedin.com"), "destinations.ads.api_url", 6, "for this machine only"),
    (destination(oauth_url="http://127.0.0.1.evil.com"), "destinations.ads.oauth_url", 6, "for this machine only"),
    (destination(oauth_url="https://u:p@h"), "destinations.ads.oauth_url", 6, "must not contain a user"),
    (destination(oauth_url="'https://[h'"), "destinations.ads.oauth_url", 6, "an address is expected here"),
    (destination(requests_per_minute="0"), "destinations.ads.requests_per_minute", 6, "must be at least 1"),
    (destination(max_in_flight="65"), "destinations.ads.max_in_flight", 6, "must be at most 64"),
    (
        destination(max_in_flight="many"),
        "destinations.ads.max_in_flight",
        6,
        "a whole number is expected here, found text",
    ),
    (destination(refresh_tokn="x"), "destinations.ads.refresh_tokn", 6, "did you mean refresh_token?"),
    # syncs
    (
        sync(warehouse="dhw"),
        "syncs.vips.warehouse",
        3,
        "there is no warehouse 'dhw'; did you mean dwh?; known here: dwh",
    ),
    (sync(destination="meta"), "syncs.vips.destination", 4, "there is no destination 'meta'; known here: ads"),
    (sync(enabled="perhaps"), "syncs.vips.enabled", 8, "true or false is expected here"),
    (sync(schedule="{every: 2h}"), "syncs.vips.schedule.every", 8, "must be '5m', '10m',"),
    (sync(schedule="1h"), SCHEDULE, 8, "a mapping (lines of key: value) is expected here, found text"),
    (sync(schedule="{}"), SCHEDULE, 8, "exactly one of every and cron is needed, found none"),
    (sync(schedule='{every: 1h, cron: "0 * * * *"}'), SCHEDULE, 8, "exactly one of every and cron is needed, found bo"),
    (sync(schedule="{every: 1h, at: 12:30}"), "syncs.vips.schedule.at", 8, 'put it in quotes: "12:30"'),
    (sync(schedule='{every: 1h, at: "24:00"}'), "syncs.vips.schedule.at", 8, 'a time is expected here, "00:00" to'),
    (
        sync(schedule='{cron: "0 * * * *", at: "2:00"}'),
        "syncs.vips.schedule.at",
        8,
        "a cron expression contains the time",
    ),
    (sync(schedule='{cron: "0 0 * * * *"}'), "syncs.vips.schedule.cron", 8, "has five fields"),
    (sync(schedule='{cron: "0 25 * * *"}'), "syncs.vips.schedule.cron", 8, "this is not a cron expression: bad hour"),
    (sync(schedule='{cron: "0 0 31 2 *"}'), "syncs.vips.schedule.cron", 8, "bad day-of-month"),
    (sync(schedule="{every: 1h, timezone: Europe/Bärlin}"), "syncs.vips.schedule.timezone", 8, "there is no time zone"),
    (sync(schedule="{every: 1h, zone: UTC}"), "syncs.vips.schedule.zone", 8, "did you mean timezone?"),
    (sync(mode="upsert"), "syncs.vips.mode", 8, "mode upsert is not offered"),
    (sync(mode="mirrored"), "syncs.vips.mode", 8, "must be 'mirror'"),
    (sync(model="select 1"), MODEL, 5, "a mapping (lines of key: value) is expected here, found text"),
    (sync(model="{primary_key: id}"), MODEL, 5, "exactly one of sql, file and table is needed, found none"),
    (sync(model="{sql: select 1, table: t, primary_key: id}"), MODEL, 5, "is needed, found sql and table"),
    (sync(model="{sql: ' ', primary_key: id}"), MODEL + ".sql", 5, "the query is empty"),
    (sync(model="{file: no.sql, primary_key: id}"), MODEL + ".file", 5, "the query's file no.sql does not exist"),
    (sync(model="{table: my table, primary_key: id}"), MODEL + ".table", 5, 'other names in quotes: "My Schema"."x"'),
    (sync(model="{table: a.b.c.d, primary_key: id}"), MODEL + ".table", 5, "a table is expected here"),
    (sync(model="{sql: select 1}"), MODEL + ".primary_key", 5, "missing"),
    (sync(model="{sql: select 1, primary_key: []}"), MODEL + ".primary_key", 5, "needs at least 1 entry"),
    (sync(model="{sql: select 1, primary_key: [a, a]}"), MODEL + ".primary_key", 5, "a is named twice"),
    (sync(model="{sql: select 1, primary_key: [a, 3]}"), MODEL + ".primary_key[1]", 5, "text is expected here"),
    (sync(model="{sql: select 1, primary_key: 3}"), MODEL + ".primary_key", 5, "the name of a column, or a list"),
    (sync(audience="{type: person, name: x}"), AUDIENCE + ".type", 6, "must be 'user' or 'company'"),
    (sync(audience="{type: user}"), AUDIENCE, 6, "exactly one of name and id is needed, found none"),
    (sync(audience="{type: user, name: x, id: 1}"), AUDIENCE, 6, "found both"),
    (sync(audience="{type: user, name: ''}"), AUDIENCE + ".name", 6, "must not be empty"),
    (sync(audience="{type: user, id: urn}"), AUDIENCE + ".id", 6, "digits only"),
    (sync(audience="{type: user, id: 1, description: x}"), AUDIENCE + ".description", 6, "leave this key out"),
    (sync(identifiers="{}"), "syncs.vips.identifiers", 7, "needs at least 1 entry"),
    (sync(identifiers="{sha256_email: ''}"), "syncs.vips.identifiers.sha256_email", 7, "must not be empty"),
    (sync(identifiers="{sha256_email: no}"), "syncs.vips.identifiers.sha256_email", 7, "put it in quotes"),
    (sync(identifiers="{sha256_email: 2026-01-01}"), "syncs.vips.identifiers.sha256_email", 7, "found a date"),
    (sync(identifiers="{email: email}"), "syncs.vips.identifiers.email", 7, "did you mean sha256_email?"),
    (sync(identifiers="{title: t}"), "syncs.vips.identifiers.title", 7, "title belongs under fields"),
    (sync(identifiers="{company_name: c}"), "syncs.vips.identifiers.company_name", 7, "belongs to company audiences"),
    (sync(fields="{city: c}"), "syncs.vips.fields.city", 8, "city belongs to company audiences; this audience is of"),
    (sync(fields="{firstname: f}"), "syncs.vips.fields.firstname", 8, "did you mean first_name?"),
    (
        sync(audience="{type: company, name: x}", identifiers="{company_name: c}", fields="{first_name: f}"),
        "syncs.vips.fields.first_name",
        8,
        "first_name belongs to user audiences; this audience is of type company",
    ),
    (sync(guard="{max_removed_percent: 101}"), "syncs.vips.guard.max_removed_percent", 8, "must be at most 100"),
    (sync(guard="{min_members: -1}"), "syncs.vips.guard.min_members", 8, "must be at least 0"),
    (sync(guard="{ignore_below: true}"), "syncs.vips.guard.ignore_below", 8, "found true or false"),
    (sync(guard="{max_removed: 3}"), "syncs.vips.guard.max_removed", 8, "did you mean max_removed_percent?"),
    (sync(guard=""), "syncs.vips.guard", 8, "found nothing"),
    (sync(retry="{max_age: 0}"), "syncs.vips.retry.max_age", 8, "must be more than 0"),
    (sync(retention="{snapshots: 1}"), "syncs.vips.retention.snapshots", 8, "must be at least 2"),
    (sync(retention="{sync_log_days: -1}"), "syncs.vips.retention.sync_log_days", 8, "must be at least 0"),
    # webhooks
    (webhook(url="''"), "webhooks.chat.url", 3, "must not be empty"),
    (webhook(url="hooks.slack.com/x"), "webhooks.chat.url", 3, "an address is expected here"),
    (webhook(url="http://hooks.slack.com/x"), "webhooks.chat.url", 3, "http:// is allowed for this machine only"),
    (webhook(url="https://u:p@example.com/x"), "webhooks.chat.url", 3, "must not contain a user or a password"),
    (webhook(url="https://example.com/x#y"), "webhooks.chat.url", 3, "an address is expected here"),
    (webhook(url="'https://example.com/x?a b'"), "webhooks.chat.url", 3, "an address is expected here"),
    (webhook(on="[failing]"), "webhooks.chat.on[0]", 4, "must be 'failed', 'blocked', 'dead' or 'recovered'"),
    (webhook(on="failed"), "webhooks.chat.on", 4, "a list"),
    (webhook(on="[dead, dead]"), "webhooks.chat.on", 4, "named twice"),
    (webhook(on="[]"), "webhooks.chat.on", 4, "at least 1"),
    (webhook(syncs="[vip]"), "webhooks.chat.syncs[0]", 4, "there is no sync 'vip'; did you mean vips?"),
    (webhook(to="x"), "webhooks.chat.to", 4, "unknown key"),
]


@pytest.mark.parametrize(("text", "path", "line", "message"), SINGLE)
def test_one_mistake_is_one_problem_at_its_place(tmp_path: Path, text: str, path: str, line: int, message: str) -> None:
    rest = [
        part
        for section, part in (("warehouses:", WAREHOUSE), ("destinations:", DESTINATION), ("syncs:", SYNC))
        if not text.startswith(section)
    ]
    found = problems(text + "".join(rest), tmp_path)
    assert [(problem.path, problem.line) for problem in found] == [(path, line)]
    assert message in found[0].message


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the file is empty"),
        ("# only a remark\n", None, "the file is empty"),
        ("a: 1\nb: [1, 2\n", 3, "not YAML: while parsing a flow sequence"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "expected a single document"),
        ("a: \x01\n", 1, "there is a control character here"),
        ('a: "\\U00110000"\n', None, "not YAML"),
        (b"a: \xff\xfe\n", None, "is not text in UTF-8"),
        ("- a\n- b\n", 1, "the top level must be a mapping"),
        ("just text\n", 1, "the top level must be a mapping"),
        ("a: {b: ${NAME}}\n", 1, 'between { } or [ ] put a variable in quotes: "${NAME}"'),
        ("a: *undefined\n", 1, "undefined alias"),
        ("a: " + "[" * 5000 + "\n", None, "nested too deeply"),
    ],
)
def test_an_unreadable_file_is_one_problem(tmp_path: Path, text: str | bytes, line: int | None, message: str) -> None:
    (found,) = problems(text, tmp_path)
    assert (found.path, found.line) == (None, line)
    assert message in found.message


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("warehouses: &a\n  dwh: *a\n", "warehouses.dwh", "an alias is part of the value that it refers to"),
        ("warehouses: &a\n  <<: *a\n", "warehouses", "<< must name a mapping outside of this one"),
        ("warehouses:\n  <<: 3\n", "warehouses", "<< must name a mapping"),
        (
            "warehouses:\n  dwh: !!python/object:os.system {}\n",
            "warehouses.dwh",
            "python/object:os.system is not allowed",
        ),
        ("warehouses:\n  dwh: {url: !!binary aGVsbG8=}\n", "warehouses.dwh.url", "binary is not allowed"),
        ("warehouses:\n  dwh: {url: !!int ''}\n", "warehouses.dwh.url", "this is not a int; text belongs in quotes"),
        ('warehouses:\n  dwh: {url: "\\uD800"}\n', "warehouses.dwh.url", "not valid Unicode"),
    ],
)
def test_refused_yaml_is_reported_with_its_path(tmp_path: Path, text: str, path: str, message: str) -> None:
    (found,) = problems(text, tmp_path)
    assert found.path == path
    assert message in found.message


@pytest.mark.parametrize("kind", ["[{0}]", "{{<<: [{0}]}}"])
def test_too_many_aliases_of_aliases_are_refused(tmp_path: Path, kind: str) -> None:
    text = "l0: &l0 {a: b}\n"
    for level in range(1, 12):
        text += f"l{level}: &l{level} " + kind.format(", ".join([f"*l{level - 1}"] * 9)) + "\n"
    (found,) = problems(text, tmp_path)
    assert "values, counting what aliases repeat" in found.message


def test_everything_is_reported_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = textwrap.dedent("""\
        warehouses:
          dwh: {url: "mysql://h", lease: 1s}
        destinations:
          ads: {type: linkedin, account_id: x, api_version: 202612}
        syncs:
          vips:
            warehouse: dwhh
            destination: ads
            model: {sql: select 1, table: t, primary_key: [id, id]}
            audience: {type: company, name: x, id: 1}
            identifiers: {email: email}
            fields: {first_name: no}
            schedule: {every: 1d}
            guard: {max_removed_percent: '${PERCENT}'}
          other: {}
        """)
    found = problems(text, tmp_path)
    assert [(problem.line, problem.path) for problem in found] == [
        (2, "warehouses.dwh.url"),
        (2, "warehouses.dwh.lease"),
        (4, "destinations.ads.account_id"),
        (4, "destinations.ads.api_version"),
        (4, "destinations.ads"),
        (7, "syncs.vips.warehouse"),
        (9, "syncs.vips.model.primary_key"),
        (9, "syncs.vips.model"),
        (10, "syncs.vips.audience"),
        (11, "syncs.vips.identifiers.email"),
        (12, "syncs.vips.fields.first_name"),
        (12, "syncs.vips.fields.first_name"),
        (13, "syncs.vips.schedule.every"),
        (14, "syncs.vips.guard.max_removed_percent"),
        (15, "syncs.other.warehouse"),
        (15, "syncs.other.destination"),
        (15, "syncs.other.model"),
        (15, "syncs.other.audience"),
        (15, "syncs.other.identifiers"),
    ]


def test_a_refresh_token_needs_its_app(tmp_path: Path) -> None:
    text = "destinations:\n  ads: {type: linkedin, account_id: 5, refresh_token: AQY-token}\n"
    found = problems(text, tmp_path)
    assert [problem.path for problem in found] == ["destinations.ads.client_id", "destinations.ads.client_secret"]


def test_two_syncs_cannot_feed_one_existing_audience(tmp_path: Path) -> None:
    second = SYNC.replace("syncs:\n", "").replace("vips:", "others:").replace("name: VIPs", "id: '0104'")
    text = WAREHOUSE + DESTINATION + SYNC.replace("name: VIPs", "id: 104") + second
    (found,) = problems(text, tmp_path)
    assert (found.path, found.line) == ("syncs.others.audience.id", 17)
    assert f"sync 'vips' feeds this audience already ({tmp_path / 'sync.yaml'}:11)" in found.message


def test_an_invalid_warehouse_is_not_called_unknown(tmp_path: Path) -> None:
    (found,) = problems(WAREHOUSE.replace("duckdb:", "oracle:") + DESTINATION + SYNC, tmp_path)
    assert found.path == "warehouses.dwh.url"


def test_messages_contain_no_values_addresses_or_secrets(tmp_path: Path) -> None:
    text = (
        "warehouses:\n  ada@example.com: {url: 'mysql://ada:hunter2222@h/d', lease: hunter2222}\n"
        "destinations:\n  ads: {type: linkedin, account_id: hunter2222, access_token: {path: hunter2222}}\n"
    )
    shown = "\n".join(map(str, problems(text, tmp_path)))
    assert "hunter2222" not in shown
    assert "ada@" not in shown


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_secret_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    (found,) = problems(destination(access_token="{file: token}"), tmp_path)
    assert found == Problem(
        "the secret's file is empty", str(tmp_path / "sync.yaml"), 5, "destinations.ads.access_token"
    )


def test_a_secret_file_that_is_a_folder_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (folder,) = problems(destination(access_token=f"{{file: {tmp_path}}}"), tmp_path)
    assert "is a folder, not a file" in folder.message
    (content,) = problems(destination(access_token="{file: bytes}"), tmp_path)
    assert "is not text in UTF-8" in content.message


def test_an_empty_query_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text("\n")
    (found,) = problems(WAREHOUSE + DESTINATION + sync(model="{file: x.sql, primary_key: id}"), tmp_path)
    assert (found.path, found.message) == ("syncs.vips.model.file", "the query's file x.sql is empty")


def test_a_missing_path_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path / "no.yaml", environ={})
    assert caught.value.problems == (Problem("the file does not exist", str(tmp_path / "no.yaml")),)


def test_a_folder_without_yaml_is_one_problem(tmp_path: Path) -> None:
    (tmp_path / ".hidden.yaml").write_text("x: 1")
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, environ={})
    assert caught.value.problems == (Problem("the folder contains no *.yaml or *.yml file", str(tmp_path)),)


def test_a_name_defined_in_two_files_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WAREHOUSE)
    (tmp_path / "b.yml").write_text("# second\n" + WAREHOUSE)
    with pytest.raises(ConfigurationError) as caught:
        load_config(str(tmp_path), environ={})
    first, second = tmp_path / "a.yaml", tmp_path / "b.yml"
    assert caught.value.problems == (Problem(f"defined twice, first at {first}:2", str(second), 3, "warehouses.dwh"),)
