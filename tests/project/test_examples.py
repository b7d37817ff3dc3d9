"""The examples in configs/ work: each loads, and its syncs run where its warehouse is available.

test_demo.py runs configs/quickstart. Snowflake is the local server of harness/servers/snowflake.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from harness.servers.postgres import Server
from harness.servers.shared import locked
from harness.servers.snowflake import SnowflakeServer
from harness.worlds.keys import private_key
from harness.worlds.world import engine_of, sandbox, shorten_timeouts
from typer.testing import CliRunner

from warehouse_sync.cli.main import app
from warehouse_sync.config.loader import load_config
from warehouse_sync.operations import RunStatus
from warehouse_sync.run.run import run_sync
from warehouse_sync.sandbox import Sandbox

CONFIGS = Path(__file__).parents[2] / "configs"
EXAMPLES = [
    "quickstart/quickstart.yaml",
    "postgres-users.yaml",
    "postgres-companies.yaml",
    "snowflake.yaml",
    "several",
    "kubernetes/configuration/sync.yaml",
]
PLACEHOLDERS = {
    "CRM_DATABASE_URL": "postgresql+psycopg://sync:a-password@db:5432/crm",
    "MARKET_DATABASE_URL": "postgresql+psycopg://sync:a-password@db:5432/market",
    "SNOWFLAKE_URL": "snowflake://SYNC_WORKER@organisation-account/ANALYTICS?warehouse=SYNC_WH&role=SYNC_WORKER",
    "SNOWFLAKE_PRIVATE_KEY": private_key(),
    "SHOP_DATABASE": "shop.duckdb",
    "LINKEDIN_ACCOUNT_ID": "507404993",
    "EUROPE_ACCOUNT_ID": "507404993",
    "AMERICA_ACCOUNT_ID": "507404996",
    "LINKEDIN_CLIENT_ID": "sandbox",
    "LINKEDIN_CLIENT_SECRET": "sandbox",
    "LINKEDIN_REFRESH_TOKEN": "sandbox-refresh",
}

Rows = Sequence[Mapping[str, Any]]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid(example: str) -> None:
    """An example is valid with only the environment variables that its comments name."""
    path = CONFIGS / example
    text = "".join(file.read_text() for file in ([path] if path.is_file() else sorted(path.glob("*.yaml"))))
    comment = " ".join(line for line in text.splitlines() if line.startswith("#"))
    given = {name: value for name, value in PLACEHOLDERS.items() if name in comment or "kubernetes" in example}
    environ = {**dict.fromkeys(PLACEHOLDERS), **given}
    result = CliRunner().invoke(app, ["--config", str(path), "validate", "--offline"], env=environ)
    assert result.exit_code == 0, result.output


def test_all_examples_are_tested() -> None:
    """Every file in configs/ is in EXAMPLES, so that a new one gets a test."""
    here = {str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*.yaml")}
    assert here == {example for example in EXAMPLES if "/" not in example and example.endswith(".yaml")}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {"quickstart", "several", "kubernetes"}


def hashed(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()


def people(count: int) -> list[dict[str, Any]]:
    """Return rows of which one in four has no consent and one in five has an old order."""
    return [
        {
            "customer_id": number,
            "email": f"person{number}@example.com",
            "first_name": f"First{number}",
            "last_name": "Last",
            "job_title": "Buyer",
            "employer": "Example",
            "country": ("DE", "US", "FR", "CA", "JP")[number % 5],
            "consent": number % 4 != 0,
            "days_ago": 400 if number % 5 == 0 else 10,
        }
        for number in range(1, count + 1)
    ]


CRM_CUSTOMERS = """
create table crm.customers as
select customer_id, email, first_name as given_name, last_name as family_name, job_title, employer, country,
       consent as newsletter, mod(customer_id, 7) = 0 as opted_out
from people
"""

SHOP_CUSTOMERS = """
create table customers as
select *, consent as marketing_consent, current_date - days_ago::int as last_order_on
from people
"""


@dataclass
class Case:
    """One sync of an example.

    Attributes:
        example: The path of the example in configs/.
        sync: The name of the sync.
        tables: SQL statements that create the tables of the sync, from table `people`.
        expected: A function from the rows of `people` to the identifiers that the audience must hold.
        warehouse: The kind of warehouse.
    """

    example: str
    sync: str
    tables: Sequence[str]
    expected: Any
    warehouse: str = "postgres"


def readers(rows: Rows) -> set[str]:
    return {hashed(row["email"]) for row in rows if row["consent"] and row["customer_id"] % 7}


def customers(rows: Rows) -> set[str]:
    return {hashed(row["email"]) for row in rows if row["customer_id"] % 7}


def buyers(*countries: str) -> Any:
    def expected(rows: Rows) -> set[str]:
        return {
            hashed(row["email"])
            for row in rows
            if row["consent"] and row["country"] in countries and row["days_ago"] < 180
        }

    return expected


CASES = [
    Case("postgres-users.yaml", "newsletter_readers", ["create schema crm", CRM_CUSTOMERS], readers),
    Case(
        "postgres-companies.yaml",
        "index_constituents",
        [
            """
            create table constituents as
            select 'S' || customer_id as symbol,
                   'Company ' || customer_id / 2 || case mod(customer_id, 2) when 0 then ' (Class A)' else '' end
                       as security,
                   'Industrials' as gics_sector, 'Saint Paul, Minnesota' as headquarters_location
            from people
            """
        ],
        lambda rows: {f"Company {row['customer_id'] // 2}" for row in rows},
    ),
    Case("kubernetes/configuration/sync.yaml", "newsletter_readers", ["create schema crm", CRM_CUSTOMERS], readers),
    Case("kubernetes/configuration/sync.yaml", "customers_by_night", ["create schema crm", CRM_CUSTOMERS], customers),
    Case(
        "snowflake.yaml",
        "trial_users",
        [
            "create schema marts",
            """
            create table marts.users as
            select customer_id as user_id, email, first_name, last_name, country as country_code,
                   case when consent then 'trial' else 'paid' end as plan,
                   dateadd(day, 20 - days_ago, current_date) as trial_ends_at
            from public.people
            """,
        ],
        lambda rows: {hashed(row["email"]) for row in rows if row["consent"] and row["customer_id"] % 5},
        warehouse="snowflake",
    ),
    Case(
        "several",
        "buyers_europe",
        [SHOP_CUSTOMERS],
        buyers("DE", "FR"),
        warehouse="duckdb",
    ),
    Case(
        "several",
        "buyers_america",
        [SHOP_CUSTOMERS],
        buyers("US", "CA"),
        warehouse="duckdb",
    ),
    Case(
        "several",
        "opted_in_leads",
        [
            "create schema crm",
            """
            create table crm.leads_opted_in as
            select 'web' as source, customer_id as lead_id,
                   encode(sha256(convert_to(email, 'UTF8')), 'hex') as email_sha256
            from people
            """,
        ],
        lambda rows: {hashed(row["email"]) for row in rows},
    ),
    Case(
        "several",
        "open_opportunities",
        [
            "create schema crm",
            """
            create table crm.accounts as
            select customer_id as account_id, 'Company ' || customer_id as account_name,
                   'company' || customer_id || '.example' as website, 'Industrials' as industry, country
            from people
            """,
            """
            create table crm.opportunities as
            select customer_id as account_id, case when consent then null else current_date end as closed_on from people
            """,
        ],
        lambda rows: {
            name
            for row in rows
            if row["consent"]
            for name in (f"Company {row['customer_id']}", f"company{row['customer_id']}.example")
        },
    ),
]


@pytest.fixture
def database(tmp_path: Path, session_folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of an empty database of the kind that the case needs."""
    kind = request.node.callspec.params["case"].warehouse
    if kind == "duckdb":
        yield f"duckdb:///{tmp_path}/shop.duckdb"
    elif kind == "snowflake":
        local: SnowflakeServer = request.getfixturevalue("snowflake")
        # The example names its database, and the test processes share one server.
        with locked(session_folder / "analytics"), local.database("analytics") as url:
            yield url
    else:
        postgres: Server = request.getfixturevalue("postgres")
        with postgres.database() as url:
            yield url


def fill(url: str, rows: Rows, tables: Sequence[str]) -> None:
    """Create table `people` and the tables of the case; drop earlier ones, but not the state of the worker."""
    columns: list[sa.Column[Any]] = [
        sa.Column(name, {int: sa.BigInteger, bool: sa.Boolean, str: sa.Text}[type(value)])
        for name, value in rows[0].items()
    ]
    table = sa.Table("people", sa.MetaData(), *columns)
    with engine_of(url).begin() as connection:
        for schema in ("crm", "marts"):
            connection.execute(sa.text(f"drop schema if exists {schema} cascade"))
        for name in ("customers", "constituents"):
            connection.execute(sa.text(f"drop table if exists {name}"))
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(
            sa.insert(table).values(list(rows))
        )  # In one statement: executemany is slow on two of the three warehouses.
        for statement in tables:
            connection.exec_driver_sql(statement)


def held(running: Sandbox) -> set[str]:
    (segment,) = running.segments()
    return {value for ((_, value),) in running.members(int(segment["id"]), reading="identifiers")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.example}-{case.sync}")
def test_an_example_mirrors_its_tables(
    case: Case, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of two runs, with and without some rows, the audience holds what the SQL of the example selects."""
    shorten_timeouts(monkeypatch)
    accounts = frozenset({int(PLACEHOLDERS["EUROPE_ACCOUNT_ID"]), int(PLACEHOLDERS["AMERICA_ACCOUNT_ID"])})
    with sandbox(account_ids=accounts) as running:
        environ = {
            **PLACEHOLDERS,
            **({"CRM_DATABASE_URL": database} if case.warehouse == "postgres" else {}),
            "SHOP_DATABASE": f"{tmp_path}/shop.duckdb",
            **({"MARKET_DATABASE_URL": database} if case.warehouse == "postgres" else {}),
            "SNOWFLAKE_URL": re.sub(r":[^:@/]+@", "@", database),  # A key replaces the password.
            "LINKEDIN_API_URL": running.url,
            "LINKEDIN_OAUTH_URL": running.url,
        }
        config = load_config(CONFIGS / case.example, environ=environ)
        for count in (600, 560) if case.warehouse == "postgres" else (150, 120):
            rows = people(count)
            fill(database, rows, case.tables)
            report = run_sync(config, case.sync)
            assert (report.status, report.rejected) == (RunStatus.SUCCEEDED, 0), report.reason
            assert held(running) == case.expected(rows)
        assert report.delivered.remove > 0
        assert running.violations() == []
