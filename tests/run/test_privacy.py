"""Raw personal data stays in the warehouse's own tables: state, logs, messages and reports hold none, nor a secret."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from harness.worlds.world import SYNC, World, make_impatient, sandbox

from warehouse_sync import redaction
from warehouse_sync.admin.status import sync_log_lines, sync_status
from warehouse_sync.admin.validate import validate
from warehouse_sync.errors import AuthenticationFailed, ConfigurationError, QueryFailed, WarehouseSyncError
from warehouse_sync.operations import RunStatus
from warehouse_sync.sandbox import Fault

PERSON, DOMAIN = "secret.person", "private-domain.example"
CLIENT_SECRET, REFRESH_TOKEN = "app-phrase-4f1c9b77", "renewal-phrase-93ab02de"
USERS = {
    "identifiers": {"sha256_email": "email", "sha512_email": "email", "google_aid": "device"},
    "fields": {name: name for name in ("first_name", "last_name", "title", "company", "country")},
}
COMPANIES = {
    "audience": {"type": "company", "name": "Companies"},
    "identifiers": {
        "company_name": "name",
        "company_email_domain": "email_domain",
        "company_website_domain": "website",
        "company_page_url": "page",
        "organization_urn": "urn",
    },
    "fields": {"stock_symbol": "symbol", **{name: name for name in ("industries", "city", "state", "postal_code")}},
}

Text = tuple[str, str]
"""Where it stands, and what it says."""
Row = dict[str, str | None]


def address(number: int) -> str:
    return f"{PERSON}{number}@{DOMAIN}"


def digest(number: int) -> str:
    return hashlib.sha256(address(number).encode()).hexdigest()


def found(texts: Iterable[Text], *needles: str) -> dict[str, str]:
    """Places where any of the needles stands, whatever its case, with one of the texts there."""
    wanted = re.compile("|".join(map(re.escape, needles)), re.IGNORECASE)
    return {place: text for place, text in texts if wanted.search(text)}


def tables(world: World, schema: str) -> list[Text]:
    """Every value of every column of every table in the schema."""
    names = world.query(f"select table_name from information_schema.tables where table_schema = '{schema}'")
    return [
        (f"{table}.{column}", str(value))
        for (table,) in names
        for row in world.query(f'select * from {schema}."{table}"')
        for column, value in row._mapping.items()
        if value is not None
    ]


@contextmanager
def listening(said: list[Text]) -> Iterator[None]:
    """Everything that is logged inside, by whomever and at every level, as it is before any redaction."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            said.append((f"log of {record.name}", record.getMessage() + trace))

    def ear(_logger: Any, _method: str, event: Any) -> Any:
        said.append(("structured log", str(event)))
        raise structlog.DropEvent

    # These two have a level of their own.
    loggers = [logging.getLogger(name) for name in ("", "warehouse_sync", "sqlalchemy")]
    levels, configured = [logger.level for logger in loggers], structlog.get_config()
    handler = Ear(logging.DEBUG)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, ear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        structlog.configure(**configured)
        loggers[0].removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass
class Life:
    """A world, and everything that the worker says while it is made to do things."""

    world: World
    tokens: list[str]
    said: list[Text] = field(default_factory=list)

    def fill(self, rows: Sequence[Row]) -> None:
        """Table `people` holds these rows, all columns text."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = sa.Table("people", sa.MetaData(), *(sa.Column(name, sa.Text) for name in names))
        with self.world.connect() as connection:
            connection.exec_driver_sql("drop table if exists people")
            table.create(connection)
            connection.execute(sa.insert(table), [{name: row.get(name) for name in names} for row in rows])

    def do(self, action: Callable[[], Any], *errors: type[WarehouseSyncError]) -> Any:
        """What `action` returns, or which of the errors it must raise; either is kept with what was logged."""
        with listening(self.said):
            try:
                result = action()
            except WarehouseSyncError as raised:
                self.said.append(("message", f"{raised}\n{raised!r}\n{raised.args!r}"))
                result, report = raised, raised.report
            else:
                report = result
        assert type(result) in errors if errors else not isinstance(result, WarehouseSyncError), result
        for part in report if isinstance(report, list) else [report]:
            if part is not None:
                self.said.append(("report", json.dumps(part if isinstance(part, dict) else asdict(part), default=str)))
        return result

    def look(self) -> None:
        """All that can be asked about a sync is asked."""
        config = self.world.config
        self.do(self.world.plan)
        self.do(lambda: sync_status(config, SYNC))
        self.do(lambda: sync_log_lines(config, SYNC, failed=False, limit=1000))
        self.do(lambda: list(validate(config)))

    @property
    def secrets(self) -> tuple[str, ...]:
        assert self.tokens
        return (CLIENT_SECRET, REFRESH_TOKEN, *self.tokens)


@pytest.fixture
def life(
    warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Life]:
    make_impatient(monkeypatch)
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())
    tokens: list[str] = []

    def minted(length: int) -> str:
        tokens.append(token_urlsafe(length))
        return tokens[-1]

    monkeypatch.setattr("warehouse_sync.sandbox.tokens.secrets", SimpleNamespace(token_urlsafe=minted))
    with sandbox(client_secret=CLIENT_SECRET, refresh_token=REFRESH_TOKEN, echo_values=True) as running:
        account = {"client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN}
        yield Life(World(warehouse_url, running, tmp_path, account=account), tokens)


def person(number: int, **more: str | None) -> Row:
    device = f"{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" if number % 3 == 0 else None
    name = {"first_name": "Annabella", "last_name": "Smithson", "title": "Head of Data", "company": "Acme Widgets"}
    return {"login": address(number).upper(), "number": str(number), "email": address(number), "device": device} | {
        **name,
        "country": "DE",
        **more,
    }


AWKWARD_PEOPLE = [
    person(30, email=f"{PERSON}30@"),
    person(33, email=f"@{DOMAIN}"),
    person(36, email=f"{PERSON}36 at {DOMAIN}"),
    person(31, email=f"{address(31)}, {address(32)}"),
    person(34, email=f" \u00a0{address(34).upper()}\t"),
    person(35, email=f"Secret Person <{address(35)}>"),
    person(37, email=None, device=address(37)),
    person(38, email=digest(38)),
    person(39, email=None, device=None),
    person(40, first_name=address(40), last_name=f"Smithson ({address(41)})"),
    person(42, title=f"mailto:{address(42)}", company="x" * 49 + address(43)),
    person(44, country=address(44)),
]


def company(number: int, **more: str | None) -> Row:
    row: Row = {
        "email": address(number),
        "name": f"Acme Widgets {number}",
        "email_domain": f"mail{number}.example",
        "website": f"https://www.acme{number}.example/about",
        "page": f"https://www.linkedin.com/company/acme{number}",
        "urn": f"urn:li:company:{number}",
        "symbol": "ACME",
        "industries": "Energy, Retail",
        "city": "Berlin",
        "state": "Berlin",
        "postal_code": "10115",
    }
    return row | more


AWKWARD_COMPANIES: list[Row] = [
    company(30, name=address(30)),
    company(31, name=f"Acme Widgets <{address(31)}>"),
    company(32, email_domain=address(32)),
    company(33, website=f"https://{PERSON}33:pw@acme33.example/?mail={address(33)}"),
    company(34, website=f"mailto:{address(34)}"),
    company(35, page=f"https://www.linkedin.com/company/acme35?mail={address(35)}"),
    company(36, urn=f"urn:li:company:{address(36)}"),
    company(37, symbol="a@b.c"),
    company(38, industries=f"Energy, {address(38)}, Retail"),
    company(39, industries=json.dumps(["Energy", address(39), f"Retail {address(39)}"])),
    company(40, city=f"Berlin {address(40)}", state=address(41), postal_code=address(42)),
    dict.fromkeys(company(43), address(43)),
]


def live_through(
    life: Life, make: Callable[..., Row], awkward: list[Row], endpoint: str, value_of: Callable[[int], str]
) -> None:
    """Days on which everything happens that makes the worker speak, remember or complain."""
    world, box = life.world, life.world.sandbox
    model = world.changes["model"]

    life.fill([make(number) for number in range(20)] + awkward)
    life.do(world.plan)
    assert life.do(world.run).status is RunStatus.SUCCEEDED
    life.look()

    for number, kind in enumerate(("refuse_elements", "refuse_batch_named", "refuse_batch_silent"), 50):
        box.inject(Fault(kind, on=endpoint, action="ADD", values=frozenset({value_of(number)})))
    box.inject(Fault("refuse_elements", on=endpoint, action="REMOVE", values=frozenset({value_of(0)})))
    life.fill([make(number) for number in (*range(5, 20), *range(50, 56))])
    refused = life.do(world.run)
    assert (refused.status, refused.dead, refused.rejected) == (RunStatus.INCOMPLETE, 1, 4)
    box.clear_faults()

    box.inject(Fault("503", on=endpoint, times=0))
    life.fill([make(number) for number in (*range(8, 20), *range(50, 60))] + awkward)
    assert life.do(world.run).deferred > 0
    assert life.do(world.retry).status is RunStatus.INCOMPLETE
    life.look()
    box.clear_faults()
    assert life.do(lambda: world.run(full=True)).status is RunStatus.SUCCEEDED

    for sql in FAILING_QUERIES:
        world.changes["model"] = {**model, "sql": sql}
        life.do(world.run, QueryFailed, ConfigurationError)
    life.do(world.plan, ConfigurationError)
    world.changes["model"] = model

    box.inject(Fault("65601", on=endpoint, times=0))
    life.fill([make(number) for number in (*range(10, 20), *range(60, 64))])
    life.do(world.run, AuthenticationFailed)
    box.clear_faults()

    world.changes["model"] = {**model, "primary_key": ["email", "name" if endpoint == "companies" else "login"]}
    life.fill([make(number) for number in (*range(10, 20), *range(70, 74))] + awkward)
    assert life.do(world.run).status is RunStatus.SUCCEEDED
    box.revoke_refresh_token()
    life.do(world.run, ConfigurationError)


CONSTANT = "query.constant@query-domain.example"
FAILING_QUERIES = (
    "select * from people where cast(email as integer) > 0",
    f"select * from people where cast('{CONSTANT}' as integer) > 0",
    f'select * from people where "{CONSTANT}" > 0',
    f'select * from "{CONSTANT}"',
    f"select * frm people where email = '{CONSTANT}'",
)


def check(life: Life, capfd: pytest.CaptureFixture[str], hashed: list[str]) -> None:
    """Nothing raw and no secret is in the state, in what was said, or at the destination; and the search can find."""
    world = life.world
    state = tables(world, "warehouse_sync")
    said = [*life.said, ("output", "".join(capfd.readouterr()))]
    ours = [text for text in said if not text[0].startswith("log of ")]
    libraries = [text for text in said if text[0].startswith("log of ")]
    assert {"structured log", "message", "report", "log of sqlalchemy.engine.Engine"} <= {place for place, _ in said}

    assert found(state, PERSON, DOMAIN, "@", *life.secrets) == {}
    assert found(ours, PERSON, DOMAIN, CONSTANT, "@", *life.secrets) == {}
    # The text of our SQL holds patterns with an at sign.
    assert found(libraries, PERSON, DOMAIN, *life.secrets) == {}
    held = [("audience", str(list(world.sandbox.members(world.segment).items())))]
    assert found(held, PERSON, DOMAIN, "@") == {}

    told = [text for text in state if text[0].endswith(("message", "reason"))]
    spoken = [text for text in said if text[0] in ("message", "structured log")]
    assert any("refused by LinkedIn" in text for _, text in told)
    assert found([*told, *spoken], "Annabella", "Smithson", "Acme Widgets", digest(50), digest(51), digest(52)) == {}

    for value in hashed:
        assert found(state, value), "the state holds hashes"
    own = tables(world, "main" if world.url.startswith("duckdb") else "public")
    for needle in (PERSON, DOMAIN, "@"):
        assert found(own, needle), f"the search must find {needle} where it is"
    heard: list[Text] = []
    with listening(heard):
        logging.getLogger("some.library").debug("a row: %s", address(1))
        structlog.get_logger().debug("an event", mail=address(1))
    assert set(found(heard, PERSON)) == {"log of some.library", "structured log"}


def test_nothing_raw_leaves_the_warehouse_of_users(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    """Days of joiners, leavers, refusals, outages, dead tokens and failing queries: only hashes and plain fields."""
    life.world.changes = {**USERS, "model": {"sql": "select * from people", "primary_key": "email"}}
    live_through(life, person, AWKWARD_PEOPLE, "users", digest)
    check(life, capfd, hashed=[digest(10), hashlib.sha512(address(10).encode()).hexdigest()])


def test_nothing_raw_leaves_the_warehouse_of_companies(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    """The same for companies, whose names, pages, towns and industries may hold an address by mistake."""
    life.world.kind = "company"
    life.world.changes = {**COMPANIES, "model": {"sql": "select * from people", "primary_key": "email"}}
    live_through(life, company, AWKWARD_COMPANIES, "companies", lambda number: f"Acme Widgets {number}")
    check(life, capfd, hashed=[digest(10)])


def test_addresses_that_should_have_been_hashes(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    """hash_pii: false on a column of plain addresses rejects every row and keeps none of them."""
    life.world.changes = {
        **USERS,
        "identifiers": {"sha256_email": "email"},
        "model": {"sql": "select * from people", "primary_key": ["login", "number"]},
        "hash_pii": False,
    }
    life.fill([person(number) for number in range(5)] + [person(38, email=digest(38))] + AWKWARD_PEOPLE[:3])
    report = life.do(life.world.run)
    assert (report.members, report.rejected) == (1, 8)
    life.look()
    state = tables(life.world, "warehouse_sync")
    assert found(state, "not_hashed")
    assert found([*state, *life.said], PERSON, DOMAIN) == {}


def test_a_page_address_that_holds_an_address_in_disguise(life: Life) -> None:
    """A percent-encoded e-mail address in a web address is one all the same: the value is left out."""
    life.world.kind = "company"
    life.world.changes = {**COMPANIES, "model": {"sql": "select * from people", "primary_key": "email"}}
    life.fill([company(1, page=f"https://www.linkedin.com/company/acme?mail={PERSON}1%40{DOMAIN}")])
    life.do(life.world.run)
    assert found(tables(life.world, "warehouse_sync"), PERSON, DOMAIN) == {}


def test_a_traceback_holds_no_value_of_a_row(life: Life) -> None:
    """Schedulers print an exception with its causes; the driver's message, which quotes the row, is not among them."""
    life.world.changes = {
        **USERS,
        "model": {"sql": "select * from people where cast(email as integer) > 0", "primary_key": "email"},
    }
    life.fill([person(1)])
    error = life.do(life.world.run, QueryFailed)
    assert found([("traceback", "".join(traceback.format_exception(error)))], PERSON, DOMAIN, "@") == {}
