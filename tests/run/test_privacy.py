"""Raw personal data stays in the tables of the user: state, logs, messages and reports hold none, and no secret."""

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
from harness.worlds.world import SYNC, World, sandbox, shorten_timeouts

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
"""A place and the text that was found there."""
Row = dict[str, str | None]


def address(number: int) -> str:
    return f"{PERSON}{number}@{DOMAIN}"


def digest(number: int) -> str:
    return hashlib.sha256(address(number).encode()).hexdigest()


def find_places(texts: Iterable[Text], *needles: str) -> dict[str, str]:
    """Return the places whose text holds any of the needles in any case, each with such a text."""
    wanted = re.compile("|".join(map(re.escape, needles)), re.IGNORECASE)
    return {place: text for place, text in texts if wanted.search(text)}


def tables(world: World, schema: str) -> list[Text]:
    """Return every value of every column of every table in the schema, with its place."""
    names = world.query(f"select table_name from information_schema.tables where table_schema = '{schema}'")
    return [
        (f"{table}.{column}", str(value))
        for (table,) in names
        for row in world.query(f'select * from {schema}."{table}"')
        for column, value in row._mapping.items()
        if value is not None
    ]


@contextmanager
def collected_logs(texts: list[Text]) -> Iterator[None]:
    """Collect all that is logged in the block, by every logger and at every level, before redaction."""

    class CollectingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            texts.append((f"log of {record.name}", record.getMessage() + trace))

    def collect_event(_logger: Any, _method: str, event: Any) -> Any:
        texts.append(("structured log", str(event)))
        raise structlog.DropEvent

    # The last two loggers have their own levels.
    loggers = [logging.getLogger(name) for name in ("", "warehouse_sync", "sqlalchemy")]
    levels, configured = [logger.level for logger in loggers], structlog.get_config()
    handler = CollectingHandler(logging.DEBUG)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, collect_event],
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
class ObservedWorld:
    """A world that collects every log line, message and report of the worker.

    Attributes:
        world: The world.
        tokens: The access tokens that the sandbox has issued.
        texts: The collected texts.
    """

    world: World
    tokens: list[str]
    texts: list[Text] = field(default_factory=list)

    def fill(self, rows: Sequence[Row]) -> None:
        """Create table `people` with these rows; all columns are text."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = sa.Table("people", sa.MetaData(), *(sa.Column(name, sa.Text) for name in names))
        with self.world.connect() as connection:
            connection.exec_driver_sql("drop table if exists people")
            table.create(connection)
            connection.execute(sa.insert(table), [{name: row.get(name) for name in names} for row in rows])

    def observe(self, action: Callable[[], Any], *errors: type[WarehouseSyncError]) -> Any:
        """Return the result of `action`, or the error of one of `errors` that it must raise; collect texts of both."""
        with collected_logs(self.texts):
            try:
                result = action()
            except WarehouseSyncError as raised:
                self.texts.append(("message", f"{raised}\n{raised!r}\n{raised.args!r}"))
                result, report = raised, raised.report
            else:
                report = result
        assert type(result) in errors if errors else not isinstance(result, WarehouseSyncError), result
        for part in report if isinstance(report, list) else [report]:
            if part is not None:
                self.texts.append(("report", json.dumps(part if isinstance(part, dict) else asdict(part), default=str)))
        return result

    def read_all(self) -> None:
        """Run every command that reads the sync: plan, status, log and validate."""
        config = self.world.config
        self.observe(self.world.plan)
        self.observe(lambda: sync_status(config, SYNC))
        self.observe(lambda: sync_log_lines(config, SYNC, failed=False, limit=1000))
        self.observe(lambda: list(validate(config)))

    @property
    def secrets(self) -> tuple[str, ...]:
        assert self.tokens
        return (CLIENT_SECRET, REFRESH_TOKEN, *self.tokens)


@pytest.fixture
def observed(
    warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[ObservedWorld]:
    shorten_timeouts(monkeypatch)
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())
    tokens: list[str] = []

    def record_token(length: int) -> str:
        tokens.append(token_urlsafe(length))
        return tokens[-1]

    monkeypatch.setattr("warehouse_sync.sandbox.tokens.secrets", SimpleNamespace(token_urlsafe=record_token))
    with sandbox(client_secret=CLIENT_SECRET, refresh_token=REFRESH_TOKEN, echo_values=True) as running:
        account = {"client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN}
        yield ObservedWorld(World(warehouse_url, running, tmp_path, destination_settings=account), tokens)


def person(number: int, **more: str | None) -> Row:
    device = f"{number:08}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" if number % 3 == 0 else None
    name = {"first_name": "Annabella", "last_name": "Smithson", "title": "Head of Data", "company": "Acme Widgets"}
    return {"login": address(number).upper(), "number": str(number), "email": address(number), "device": device} | {
        **name,
        "country": "DE",
        **more,
    }


MALFORMED_PEOPLE = [
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


MALFORMED_COMPANIES: list[Row] = [
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


def run_scenario(
    observed: ObservedWorld,
    make: Callable[..., Row],
    malformed: list[Row],
    endpoint: str,
    value_of: Callable[[int], str],
) -> None:
    """Run a scenario in which the worker logs, stores and reports all it can: faults, failed queries, retries."""
    world, box = observed.world, observed.world.sandbox
    model = world.sync_settings["model"]

    observed.fill([make(number) for number in range(20)] + malformed)
    observed.observe(world.plan)
    assert observed.observe(world.run).status is RunStatus.SUCCEEDED
    observed.read_all()

    for number, kind in enumerate(("refuse_elements", "refuse_batch_named", "refuse_batch_silent"), 50):
        box.inject(Fault(kind, on=endpoint, action="ADD", values=frozenset({value_of(number)})))
    box.inject(Fault("refuse_elements", on=endpoint, action="REMOVE", values=frozenset({value_of(0)})))
    observed.fill([make(number) for number in (*range(5, 20), *range(50, 56))])
    refused = observed.observe(world.run)
    assert (refused.status, refused.dead, refused.rejected) == (RunStatus.INCOMPLETE, 1, 4)
    box.clear_faults()

    box.inject(Fault("503", on=endpoint, times=0))
    observed.fill([make(number) for number in (*range(8, 20), *range(50, 60))] + malformed)
    assert observed.observe(world.run).deferred > 0
    assert observed.observe(world.retry).status is RunStatus.INCOMPLETE
    observed.read_all()
    box.clear_faults()
    assert observed.observe(lambda: world.run(full=True)).status is RunStatus.SUCCEEDED

    for sql in FAILING_QUERIES:
        world.sync_settings["model"] = {**model, "sql": sql}
        observed.observe(world.run, QueryFailed, ConfigurationError)
    observed.observe(world.plan, ConfigurationError)
    world.sync_settings["model"] = model

    box.inject(Fault("65601", on=endpoint, times=0))
    observed.fill([make(number) for number in (*range(10, 20), *range(60, 64))])
    observed.observe(world.run, AuthenticationFailed)
    box.clear_faults()

    world.sync_settings["model"] = {**model, "primary_key": ["email", "name" if endpoint == "companies" else "login"]}
    observed.fill([make(number) for number in (*range(10, 20), *range(70, 74))] + malformed)
    assert observed.observe(world.run).status is RunStatus.SUCCEEDED
    box.revoke_refresh_token()
    observed.observe(world.run, ConfigurationError)


CONSTANT = "query.constant@query-domain.example"
FAILING_QUERIES = (
    "select * from people where cast(email as integer) > 0",
    f"select * from people where cast('{CONSTANT}' as integer) > 0",
    f'select * from people where "{CONSTANT}" > 0',
    f'select * from "{CONSTANT}"',
    f"select * frm people where email = '{CONSTANT}'",
)


def check(observed: ObservedWorld, capfd: pytest.CaptureFixture[str], hashed: list[str]) -> None:
    """Check that state, texts and destination hold no raw data and no secret, and that the search finds such data."""
    world = observed.world
    state = tables(world, "warehouse_sync")
    texts = [*observed.texts, ("output", "".join(capfd.readouterr()))]
    ours = [text for text in texts if not text[0].startswith("log of ")]
    libraries = [text for text in texts if text[0].startswith("log of ")]
    assert {"structured log", "message", "report", "log of sqlalchemy.engine.Engine"} <= {place for place, _ in texts}

    assert find_places(state, PERSON, DOMAIN, "@", *observed.secrets) == {}
    assert find_places(ours, PERSON, DOMAIN, CONSTANT, "@", *observed.secrets) == {}
    # The SQL of the worker has patterns with an at sign.
    assert find_places(libraries, PERSON, DOMAIN, *observed.secrets) == {}
    held = [("audience", str(list(world.sandbox.members(world.audience_id).items())))]
    assert find_places(held, PERSON, DOMAIN, "@") == {}

    logged = [text for text in state if text[0].endswith(("message", "reason"))]
    shown = [text for text in texts if text[0] in ("message", "structured log")]
    assert any("refused by LinkedIn" in text for _, text in logged)
    assert (
        find_places([*logged, *shown], "Annabella", "Smithson", "Acme Widgets", digest(50), digest(51), digest(52))
        == {}
    )

    for value in hashed:
        assert find_places(state, value), "the state must hold hashes"
    own = tables(world, "main" if world.url.startswith("duckdb") else "public")
    for needle in (PERSON, DOMAIN, "@"):
        assert find_places(own, needle), f"the search must find {needle} in the tables of the user"
    collected: list[Text] = []
    with collected_logs(collected):
        logging.getLogger("some.library").debug("a row: %s", address(1))
        structlog.get_logger().debug("an event", mail=address(1))
    assert set(find_places(collected, PERSON)) == {"log of some.library", "structured log"}


def test_no_raw_data_of_users_leaves_the_warehouse(observed: ObservedWorld, capfd: pytest.CaptureFixture[str]) -> None:
    """Through refusals, outages, expired tokens and failing queries, only hashes and plain fields leave the tables."""
    observed.world.sync_settings = {**USERS, "model": {"sql": "select * from people", "primary_key": "email"}}
    run_scenario(observed, person, MALFORMED_PEOPLE, "users", digest)
    check(observed, capfd, hashed=[digest(10), hashlib.sha512(address(10).encode()).hexdigest()])


def test_no_raw_data_of_companies_leaves_the_warehouse(
    observed: ObservedWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    """No address leaves the tables that names, pages, cities or industries of companies hold by mistake."""
    observed.world.kind = "company"
    observed.world.sync_settings = {**COMPANIES, "model": {"sql": "select * from people", "primary_key": "email"}}
    run_scenario(observed, company, MALFORMED_COMPANIES, "companies", lambda number: f"Acme Widgets {number}")
    check(observed, capfd, hashed=[digest(10)])


def test_plain_addresses_are_rejected_without_hash_pii(
    observed: ObservedWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    """hash_pii: false on a column of plain addresses rejects every row and stores no address."""
    observed.world.sync_settings = {
        **USERS,
        "identifiers": {"sha256_email": "email"},
        "model": {"sql": "select * from people", "primary_key": ["login", "number"]},
        "hash_pii": False,
    }
    observed.fill([person(number) for number in range(5)] + [person(38, email=digest(38))] + MALFORMED_PEOPLE[:3])
    report = observed.observe(observed.world.run)
    assert (report.members, report.rejected) == (1, 8)
    observed.read_all()
    state = tables(observed.world, "warehouse_sync")
    assert find_places(state, "not_hashed")
    assert find_places([*state, *observed.texts], PERSON, DOMAIN) == {}


def test_a_page_url_with_an_encoded_address_is_left_out(observed: ObservedWorld) -> None:
    """A URL that holds a percent-encoded e-mail address is left out."""
    observed.world.kind = "company"
    observed.world.sync_settings = {**COMPANIES, "model": {"sql": "select * from people", "primary_key": "email"}}
    observed.fill([company(1, page=f"https://www.linkedin.com/company/acme?mail={PERSON}1%40{DOMAIN}")])
    observed.observe(observed.world.run)
    assert find_places(tables(observed.world, "warehouse_sync"), PERSON, DOMAIN) == {}


def test_a_traceback_holds_no_value_of_a_row(observed: ObservedWorld) -> None:
    """A traceback, which schedulers print, does not hold the message of the driver, which quotes the row."""
    observed.world.sync_settings = {
        **USERS,
        "model": {"sql": "select * from people where cast(email as integer) > 0", "primary_key": "email"},
    }
    observed.fill([person(1)])
    error = observed.observe(observed.world.run, QueryFailed)
    assert find_places([("traceback", "".join(traceback.format_exception(error)))], PERSON, DOMAIN, "@") == {}
