"""The main job on a machine of your own: a generated customer base mirrored into a sandbox audience, twice.

`make demo` runs it. It leaves .demo/customers.duckdb behind to look into; everything else is gone when it ends.
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
        when i % 500 = 11 then sha256('customer' || i || '@example.com')  -- hashed by somebody already
        when i % 9 = 0 then '  Customer' || i || '@Example.COM '          -- the same person, carelessly typed
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

-- Some have a second row, as after a second registration.
insert into customers
select id + 100000, upper(email), 'Twice', last_name, country_code, gaid, lifetime_value
from customers
where id % 50 = 2;
"""

A_DAY_LATER = """
-- Leavers; some of them share a device with somebody who stays.
update customers set lifetime_value = 10 where id % 25 = 6;
-- Changed addresses, and changed fields.
update customers set email = 'moved' || id || '@example.org' where id % 100 = 3;
update customers set first_name = 'Renamed' where id % 200 = 8;
-- One of two rows goes, the person stays.
delete from customers where id > 100000 and id % 100 = 2;
-- Joiners, and people who share the address of a customer.
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
"""Whom the audience should hold, worked out here once more and independently of the worker's own SQL."""


def main() -> None:
    """Show everything once. Exits with 1 when the audience does not equal the query."""
    started = time.monotonic()
    prepare_customers()
    with Sandbox() as sandbox:
        os.environ |= {"SANDBOX_URL": sandbox.url, "QUICKSTART_DATABASE": str(DATABASE)}
        os.environ["WAREHOUSE_SYNC_CONFIG"] = os.path.relpath(CONFIG)
        title(f"The configuration: {os.path.relpath(CONFIG)}")
        say(CONFIG.read_text().partition("\n\n")[2].rstrip())
        say(f"\nA sandbox plays LinkedIn on {sandbox.url}.")

        title("What would the first run do?")
        command("plan")
        title("The first run creates the audience, waits the five seconds that LinkedIn asks for, and adds everyone")
        command("run")

        title("A day later: leavers, joiners, changed addresses, shared addresses")
        change_customers(A_DAY_LATER)
        command("plan")
        command("run")

        title("What the audience holds against what the query yields")
        equal = compare(sandbox)

        title("Nothing has changed: nothing is sent")
        before = len(sandbox.requests("users"))
        command("run")
        say(f"requests that carried members: {len(sandbox.requests('users')) - before}")
        say(f"things that a client must not do, as counted by the sandbox: {len(sandbox.violations())}")
        equal = equal and len(sandbox.requests("users")) == before and not sandbox.violations()
    where_next(time.monotonic() - started)
    if not equal:
        sys.exit(1)


def prepare_customers() -> None:
    """A fresh database with 20,000 customers, the same ones each time."""
    DATABASE.parent.mkdir(exist_ok=True)
    for old in (DATABASE, DATABASE.with_name(DATABASE.name + ".wal")):
        old.unlink(missing_ok=True)
    change_customers(CUSTOMERS)


def change_customers(sql: str) -> None:
    """Another process of the shop writes; nobody tells the worker what."""
    with duckdb.connect(str(DATABASE)) as connection:
        connection.execute(sql)


def command(*words: str) -> None:
    """Run warehouse-sync as a user would."""
    say(f"$ warehouse-sync {' '.join(words)}")
    subprocess.run([sys.executable, "-m", "warehouse_sync", *words], check=True)  # noqa: S603 - our own program


def compare(sandbox: Sandbox) -> bool:
    """Print and tell whether the audience equals the query, whatever LinkedIn takes out upon a REMOVE."""
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        rows = connection.execute(EXPECTED).fetchall()
    kinds = ("SHA256_EMAIL", "GOOGLE_AID")
    members = {tuple(sorted((kind, value) for kind, value in zip(kinds, row, strict=True) if value)) for row in rows}
    identifiers = {(identifier,) for member in members for identifier in member}
    (audience,) = sandbox.segments()
    everything = True
    for reading in Reading:
        wanted = identifiers if reading is Reading.IDENTIFIERS else members
        held = set(sandbox.members(audience["id"], reading))
        equal = held == wanted
        everything = everything and equal
        verdict = "equal" if equal else f"DIFFERENT: {len(held - wanted):,} too many, {len(wanted - held):,} missing"
        say(f"{reading.value:12} audience {len(held):7,}   query {len(wanted):7,}   {verdict}")
    say("(LinkedIn does not say whether a REMOVE takes out identifiers, elements or persons; all three must agree.)")
    return everything


def where_next(seconds: float) -> None:
    """What to try once this has ended."""
    title(f"Done in {seconds:.0f} seconds. Where to look next")
    say(
        f"""\
How it stands and what was done (the sandbox has ended, so its part is missing):
  export WAREHOUSE_SYNC_CONFIG={os.environ["WAREHOUSE_SYNC_CONFIG"]}
  .venv/bin/warehouse-sync status
  .venv/bin/warehouse-sync log {SYNC} --failed

The worker's own tables are in schema warehouse_sync of {DATABASE}; what was delivered, by run:
  .venv/bin/python -c "import duckdb; duckdb.connect('{DATABASE}').sql('''
    from warehouse_sync.sync_log select run_id, operation, outcome, count(*) group by all order by all''').show()"

By hand: a sandbox in one terminal, anything in another (the old database knows the audience that has gone):
  .venv/bin/warehouse-sync sandbox
  .venv/bin/python -c "import duckdb; duckdb.connect('{DATABASE}').sql('drop schema warehouse_sync cascade')"
  .venv/bin/warehouse-sync run"""
    )


def title(text: str) -> None:
    """A heading."""
    say(f"\n=== {text}\n")


def say(text: str) -> None:
    """Print at once, so that it stands before what commands print."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
