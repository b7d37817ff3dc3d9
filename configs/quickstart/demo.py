"""A demo on your own machine: mirror generated customers into an audience of the sandbox, twice.

`make demo` runs it. Afterwards you can inspect .demo/customers.duckdb; nothing else remains.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb

from warehouse_sync.sandbox import Reading, Sandbox

CONFIG = Path(__file__).with_name("quickstart.yaml")
DATABASE = Path(".demo", "customers.duckdb")
SYNC = "high_value_customers"

CUSTOMERS = """
create table customers as
select
    i as id,
    case
        when i % 40 = 7 then null                                         -- no address
        when i % 300 = 13 then 'n/a'                                      -- not an address
        when i % 500 = 11 then sha256('customer' || i || '@example.com')  -- already a hash
        when i % 9 = 0 then '  Customer' || i || '@Example.COM '          -- another spelling of the same address
        else 'customer' || i || '@example.com'
    end as email,
    'First' || i % 700 as first_name,
    'Last' || i % 1900 as last_name,
    ['de', 'FR', 'us', 'gb'][1 + i % 4] as country_code,
    case
        when i % 600 = 0 then '00000000-0000-0000-0000-000000000000'      -- opted out of advertising
        when i % 10 in (1, 2) then md5('household' || i // 10)::uuid::text  -- two people share a device
        when i % 3 = 0 then md5('device' || i)::uuid::text
    end as gaid,
    1001 + i % 5000 as lifetime_value
from range(1, 20001) as people(i);

-- Some customers registered twice and have a second row.
insert into customers
select id + 100000, upper(email), 'Twice', last_name, country_code, gaid, lifetime_value
from customers
where id % 50 = 2;
"""

A_DAY_LATER = """
-- Customers who leave the query; some share a device with a customer who stays.
update customers set lifetime_value = 10 where id % 25 = 6;
-- Changed addresses, and changed fields.
update customers set email = 'moved' || id || '@example.org' where id % 100 = 3;
update customers set first_name = 'Renamed' where id % 200 = 8;
-- One of two rows is deleted; the person stays.
delete from customers where id > 100000 and id % 100 = 2;
-- New customers, and people who share the address of a customer.
insert into customers
select 30000 + i, 'new' || i || '@example.net', 'New', 'Customer', 'se', null, 2000 from range(300) as people(i);
insert into customers
select 40000 + id, email, 'Partner', last_name, country_code, md5('partner' || id)::uuid::text, 3000
from customers
where id % 1000 = 4;
"""

EXPECTED = r"""
with query as (
    select
        lower(regexp_replace(email, '\s', '', 'g')) as email,
        lower(trim(gaid)) as gaid
    from customers
    where lifetime_value > 1000
), cleaned as (
    select
        case when regexp_full_match(email, '[^@]+@[^@]+\.[^@]+') then sha256(email) end as sha256_email,
        case when gaid <> '00000000-0000-0000-0000-000000000000' then gaid end as google_aid
    from query
    where not coalesce(regexp_full_match(email, '[0-9a-f]{64}'), false)
)
select distinct sha256_email, google_aid from cleaned where sha256_email is not null or google_aid is not null
"""
"""The members that the audience should have, computed independently of the worker's SQL."""


def main() -> None:
    """Run the demo; exit with 1 if the audience does not equal the query."""
    started = time.monotonic()
    prepare_customers()
    with Sandbox() as sandbox:
        os.environ |= {"SANDBOX_URL": sandbox.url, "QUICKSTART_DATABASE": str(DATABASE)}
        os.environ["WAREHOUSE_SYNC_CONFIG"] = os.path.relpath(CONFIG)
        print_title(f"The configuration: {os.path.relpath(CONFIG)}")
        print_now(CONFIG.read_text().partition("\n\n")[2].rstrip())
        print_now(f"\nA sandbox replaces LinkedIn at {sandbox.url}.")

        print_title("What would the first run do?")
        run_command("plan")
        print_title(
            "The first run creates the audience, waits the five seconds that LinkedIn asks for, and adds everyone"
        )
        run_command("run")

        print_title("A day later: customers left and joined, some addresses changed, some are shared")
        change_customers(A_DAY_LATER)
        run_command("plan")
        run_command("run")

        print_title("Does the audience equal the query?")
        equal = compare(sandbox)

        print_title("Nothing has changed: nothing is sent")
        before = len(sandbox.requests("users"))
        run_command("run")
        print_now(f"requests that carried members: {len(sandbox.requests('users')) - before}")
        print_now(f"violations of the API's rules, as counted by the sandbox: {len(sandbox.violations())}")
        equal = equal and len(sandbox.requests("users")) == before and not sandbox.violations()
    print_next_steps(time.monotonic() - started)
    if not equal:
        sys.exit(1)


def prepare_customers() -> None:
    """Create a database with 20,000 customers, the same ones each time."""
    DATABASE.parent.mkdir(exist_ok=True)
    for old in (DATABASE, DATABASE.with_name(DATABASE.name + ".wal")):
        old.unlink(missing_ok=True)
    change_customers(CUSTOMERS)


def change_customers(sql: str) -> None:
    """Change the customers as another process would, without the worker's knowledge."""
    with duckdb.connect(str(DATABASE)) as connection:
        connection.execute(sql)


def run_command(*words: str) -> None:
    """Run warehouse-sync as a user would."""
    print_now(f"$ warehouse-sync {' '.join(words)}")
    subprocess.run([sys.executable, "-m", "warehouse_sync", *words], check=True)  # noqa: S603 - our own program


def compare(sandbox: Sandbox) -> bool:
    """Print and return whether the audience equals the query under each reading of REMOVE."""
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        rows = connection.execute(EXPECTED).fetchall()
    kinds = ("SHA256_EMAIL", "GOOGLE_AID")
    members = {tuple(sorted((kind, value) for kind, value in zip(kinds, row, strict=True) if value)) for row in rows}
    identifiers = {(identifier,) for member in members for identifier in member}
    (audience,) = sandbox.segments()
    all_equal = True
    for reading in Reading:
        expected = identifiers if reading is Reading.IDENTIFIERS else members
        actual = set(sandbox.members(audience["id"], reading))
        equal = actual == expected
        all_equal = all_equal and equal
        verdict = (
            "equal" if equal else f"DIFFERENT: {len(actual - expected):,} too many, {len(expected - actual):,} missing"
        )
        print_now(f"{reading.value:12} audience {len(actual):7,}   query {len(expected):7,}   {verdict}")
    print_now("(LinkedIn does not document which of the three a REMOVE removes, so all must be equal.)")
    return all_equal


def print_next_steps(seconds: float) -> None:
    """Print what to try after the demo."""
    print_title(f"Done in {seconds:.0f} seconds. Where to look next")
    print_now(
        f"""\
The status and the log (without the audience, because the sandbox has stopped):
  export WAREHOUSE_SYNC_CONFIG={os.environ["WAREHOUSE_SYNC_CONFIG"]}
  .venv/bin/warehouse-sync status
  .venv/bin/warehouse-sync log {SYNC} --failed

The worker's own tables are in schema warehouse_sync of {DATABASE}; what was delivered, by run:
  .venv/bin/python -c "import duckdb; duckdb.connect('{DATABASE}').sql('''
    from warehouse_sync.sync_log select run_id, operation, outcome, count(*) group by all order by all''').show()"

By hand: a sandbox in one terminal, the rest in another. First drop the state, since its audience no longer exists:
  .venv/bin/warehouse-sync sandbox
  .venv/bin/python -c "import duckdb; duckdb.connect('{DATABASE}').sql('drop schema warehouse_sync cascade')"
  .venv/bin/warehouse-sync run"""
    )


def print_title(text: str) -> None:
    """Print a heading."""
    print_now(f"\n=== {text}\n")


def print_now(text: str) -> None:
    """Print at once, before the output of the next command."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
