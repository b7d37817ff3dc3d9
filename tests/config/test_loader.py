"""What a valid configuration becomes."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from harness.worlds.keys import private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import warehouse_sync
from warehouse_sync.config.destination_types import known_field_names
from warehouse_sync.config.loader import Config, load_config
from warehouse_sync.config.models import ModelConfig
from warehouse_sync.destinations.linkedin.config import LinkedInConfig
from warehouse_sync.destinations.registry import audience_fields
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.redaction import redact

CONFIGS = Path(__file__).parents[2] / "configs"

ENVIRON = {
    "SANDBOX_URL": "http://127.0.0.1:8080",
    "CRM_DATABASE_URL": "postgresql+psycopg://sync:pw-of-sync@db:5432/crm",
    "MARKET_DATABASE_URL": "postgresql+psycopg://sync:pw-of-sync@db:5432/market",
    "SNOWFLAKE_URL": "snowflake://SYNC@organisation-account/ANALYTICS?warehouse=SYNC_WH",
    "SNOWFLAKE_PRIVATE_KEY": private_key(),
    "LINKEDIN_ACCOUNT_ID": "507404993",
    "LINKEDIN_CLIENT_ID": "78abcdefgh",
    "LINKEDIN_CLIENT_SECRET": "WPL_AP1.of-the-app",
    "LINKEDIN_REFRESH_TOKEN": "AQV-refresh-of-the-member",
}

FULL = """
warehouses:
  analytics: {url: duckdb:///analytics.duckdb, schema: warehouse_sync, lease: 60s}
destinations:
  ads:
    type: linkedin
    account_id: 507404993
    client_id: ${LINKEDIN_CLIENT_ID}
    client_secret: ${LINKEDIN_CLIENT_SECRET}
    refresh_token: ${LINKEDIN_REFRESH_TOKEN}
    api_version: "202609"
    source_platform: DIRECT_API
    api_url: https://api.linkedin.com
    oauth_url: https://www.linkedin.com
    requests_per_minute: 600
    max_in_flight: 8
syncs:
  high_value_customers:
    warehouse: analytics
    destination: ads
    enabled: true
    model:
      sql: select id, email, first_name from customers where lifetime_value > 1000
      primary_key: id
    audience: {type: user, name: High-value customers, description: "Customers above 1,000"}
    mode: mirror
    hash_pii: true
    identifiers: {sha256_email: email, google_aid: gaid}
    fields: {first_name: first_name, country: country_code}
    guard: {max_removed_percent: 30, min_members: 1, ignore_below: 100}
    retry: {enabled: true, max_age: 13h}
    retention: {sync_log_days: 30, snapshots: 2}
"""

SHORT = """
warehouses: {analytics: {url: duckdb:///analytics.duckdb}}
destinations: {ads: {type: linkedin, account_id: 507404993, access_token: AQX-short-life}}
syncs:
  vips:
    warehouse: analytics
    destination: ads
    model: {sql: select 1 as email, primary_key: id}
    audience: {type: user, name: VIPs}
    identifiers: {sha256_email: email}
"""


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    (tmp_path / "sync.yaml").write_text(text)
    return load_config(tmp_path / "sync.yaml", environ=ENVIRON | environ)


def test_every_documented_key_is_loaded(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    sync = config.sync("high_value_customers")
    warehouse, destination = config.warehouse_of(sync), cast(LinkedInConfig, config.destination_of(sync))
    assert (warehouse.name, warehouse.schema_, warehouse.lease) == ("analytics", "warehouse_sync", 60.0)
    assert warehouse.url.get_secret_value() == "duckdb:///analytics.duckdb"
    assert (destination.name, destination.account_id, destination.client_id) == ("ads", 507404993, "78abcdefgh")
    assert destination.client_secret is not None
    assert destination.client_secret.get_secret_value() == "WPL_AP1.of-the-app"
    assert (destination.requests_per_minute, destination.max_in_flight) == (600, 8)
    assert sync.model.primary_key == ("id",)
    assert sync.model.text == "select id, email, first_name from customers where lifetime_value > 1000"
    assert (sync.audience.type, sync.audience.name, sync.audience.id) == ("user", "High-value customers", None)
    assert (sync.identifiers, sync.fields) == (
        {"sha256_email": "email", "google_aid": "gaid"},
        {"first_name": "first_name", "country": "country_code"},
    )
    assert sync.retry.max_age == 13 * 3600


def test_missing_keys_have_the_documented_defaults(tmp_path: Path) -> None:
    full, short = load(tmp_path, FULL), load(tmp_path, SHORT)
    sync = short.sync("vips")
    documented = full.sync("high_value_customers")
    for key in ("enabled", "mode", "hash_pii", "guard", "retry", "retention"):
        assert getattr(sync, key) == getattr(documented, key)
    assert sync.fields == {}
    ads = cast(LinkedInConfig, short.destinations["ads"])
    for key in ("api_version", "source_platform", "api_url", "oauth_url", "max_in_flight"):
        assert getattr(ads, key) == getattr(cast(LinkedInConfig, full.destinations["ads"]), key)
    assert ads.requests_per_minute is None
    assert short.warehouses["analytics"].lease == full.warehouses["analytics"].lease


@pytest.mark.parametrize("file", ["quickstart/quickstart.yaml", "postgres-users.yaml", "postgres-companies.yaml"])
def test_the_examples_load(file: str) -> None:
    config = load_config(CONFIGS / file, environ=ENVIRON)
    assert len(config.syncs) == 1


def test_the_examples_load_together_as_the_default_folder() -> None:
    assert set(load_config(CONFIGS, environ=ENVIRON).syncs) == {
        "newsletter_readers",
        "index_constituents",
        "trial_users",
    }


def test_the_quickstart_talks_to_the_sandbox() -> None:
    ads = cast(
        LinkedInConfig, load_config(CONFIGS / "quickstart" / "quickstart.yaml", environ=ENVIRON).destinations["ads"]
    )
    assert (ads.api_url, ads.oauth_url) == (ENVIRON["SANDBOX_URL"],) * 2


@pytest.mark.parametrize("audience_type", ["user", "company"])
def test_identifiers_and_fields_are_those_of_the_destination(audience_type: str) -> None:
    known = audience_fields("linkedin", audience_type)
    assert known_field_names("identifiers")[audience_type] == tuple(field.name for field in known.identifiers)
    assert known_field_names("fields")[audience_type] == tuple(field.name for field in known.fields)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5", 5),
        ("7.5", 7.5),
        ("'90'", 90),
        ("60s", 60),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5H", 5400),
        ("1d", 86400),
    ],
)
def test_durations(tmp_path: Path, written: str, seconds: float) -> None:
    text = f"warehouses: {{a: {{url: duckdb:///a.duckdb, lease: {written}}}}}"
    assert load(tmp_path, text).warehouses["a"].lease == seconds


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("duckdb:////var/lib/a.duckdb", "duckdb:////var/lib/a.duckdb"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://u@h/db"),
        ("postgresql://u@h/db?sslmode=require", "postgresql+psycopg://u@h/db?sslmode=require"),
        ("postgres:///db", "postgresql+psycopg:///db"),
    ],
)
def test_addresses_of_warehouses(tmp_path: Path, written: str, url: str) -> None:
    config = load(tmp_path, f"warehouses: {{a: {{url: '{written}'}}}}")
    assert config.warehouses["a"].url.get_secret_value() == url


@pytest.mark.parametrize("url", ["http://localhost:9/", "http://127.8.8.8", "http://[::1]:80", "https://proxy.corp/li"])
def test_addresses_of_destinations_lose_their_last_slash(tmp_path: Path, url: str) -> None:
    text = f"destinations: {{a: {{type: linkedin, account_id: 1, access_token: AQX-x, api_url: '{url}'}}}}"
    assert cast(LinkedInConfig, load(tmp_path, text).destinations["a"]).api_url == url.rstrip("/")


@pytest.mark.parametrize("written", ["507404993", "'507404993'", "'${LINKEDIN_ACCOUNT_ID}'"])
def test_numbers_of_accounts_and_audiences_may_be_quoted(tmp_path: Path, written: str) -> None:
    text = SHORT.replace("507404993", written).replace("name: VIPs", f"id: {written}")
    config = load(tmp_path, text)
    assert cast(LinkedInConfig, config.destinations["ads"]).account_id == 507404993
    assert config.sync("vips").audience.id == "507404993"


def test_a_version_may_be_a_number(tmp_path: Path) -> None:
    config = load(tmp_path, SHORT.replace("account_id:", "api_version: 202607, account_id:"))
    assert cast(LinkedInConfig, config.destinations["ads"]).api_version == "202607"


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ("customers", ("customers",)),
        ("crm.Customers", ("crm", "customers")),
        ("db.crm.customers", ("db", "crm", "customers")),
        ('"My Schema"."x"', ("My Schema", "x")),
        ('crm."a.b""c"', ("crm", 'a.b"c')),
        ("größe.maß", ("größe", "maß")),
    ],
)
def test_parts_of_a_table_name(table: str, parts: tuple[str, ...]) -> None:
    model = ModelConfig(table=table, primary_key=("id",))
    assert (model.table_parts, model.text) == (parts, None)


@pytest.mark.parametrize(
    "table", ["", ".", "a.", ".a", "a..b", 'a"b', '"a', "a b", "a;b", "1a", "a-b", "a.b.c.d", '""']
)
def test_invalid_table_names(table: str) -> None:
    with pytest.raises(ValidationError, match="a table is expected here"):
        ModelConfig(table=table, primary_key=("id",))


def test_a_query_file_lies_beside_its_yaml_file_and_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vips.sql").write_text("select 2\n")
    model = load(tmp_path, SHORT.replace("sql: select 1 as email", "file: models/vips.sql")).sync("vips").model
    shutil.rmtree(tmp_path / "models")
    assert (model.file, model.text, model.sql) == (tmp_path / "models" / "vips.sql", "select 2\n", None)


def test_mounted_secrets_are_read_without_their_newline(tmp_path: Path) -> None:
    for name, content in {
        "id": "app\n",
        "secret": "s3cret-of-app\r\n",
        "token": "AQV-mounted",
        "url": "duckdb:///x\n",
    }.items():
        (tmp_path / name).write_text(content)
    config = load(
        tmp_path,
        f"warehouses: {{a: {{url: {{file: {tmp_path / 'url'}}}}}}}\n"
        "destinations: {a: {type: linkedin, account_id: 1, client_id: {file: id}, client_secret: {file: secret}, "
        "refresh_token: {file: token}}}",
    )
    ads = cast(LinkedInConfig, config.destinations["a"])
    assert ads.client_id == "app"
    assert ads.client_secret is not None
    assert ads.refresh_token is not None
    assert (ads.client_secret.get_secret_value(), ads.refresh_token.get_secret_value()) == (
        "s3cret-of-app",
        "AQV-mounted",
    )
    assert config.warehouses["a"].url.get_secret_value() == "duckdb:///x"


def test_loaded_secrets_appear_neither_in_repr_nor_in_redacted_text(tmp_path: Path) -> None:
    text = SHORT.replace("duckdb:///analytics.duckdb", "'postgresql://ada:p%2Fq-r-s-t-u-v@h/db'")
    config = load(tmp_path, text.replace("AQX-short-life", "AQX-never-shown"))
    shown = repr(config) + redact("AQX-never-shown, p%2Fq-r-s-t-u-v, p/q-r-s-t-u-v")
    assert "AQX-never-shown" not in shown
    assert "q-r-s-t-u-v" not in shown


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${TEXT}", "of the environment"),
        ("a ${TEXT} b", "a of the environment b"),
        ("${UNSET:-instead}", "instead"),
        ("${UNSET:-}x", "x"),
        ("${EMPTY:-instead}", "instead"),
        ("a${EMPTY}b", "ab"),
        ("$${TEXT}", "${TEXT}"),
        ("$$ dollar $$ $1 $TEXT", "$$ dollar $$ $1 $TEXT"),
        ("${NESTED}", "${TEXT}"),
    ],
)
def test_variables(tmp_path: Path, written: str, value: str) -> None:
    text = SHORT.replace("name: VIPs", f"name: x, description: '{written}'")
    config = load(tmp_path, text, TEXT="of the environment", EMPTY="", NESTED="${TEXT}")
    assert config.sync("vips").audience.description == value


def test_variables_are_read_from_the_process_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("warehouses: {a: {url: '${DWH_URL_OF_TEST}'}}")
    monkeypatch.setenv("DWH_URL_OF_TEST", "duckdb:///of-test.duckdb")
    assert load_config(tmp_path).warehouses["a"].url.get_secret_value() == "duckdb:///of-test.duckdb"


def test_variables_may_stand_for_numbers_and_switches(tmp_path: Path) -> None:
    config = load(tmp_path, SHORT + "    enabled: ${ON:-false}\n    guard: {min_members: '${LEAST:-7}'}\n")
    assert (config.sync("vips").enabled, config.sync("vips").guard.min_members) == (False, 7)


def test_a_folder_is_merged_by_section_in_the_order_of_names(tmp_path: Path) -> None:
    parsed = yaml.safe_load(SHORT)
    for number, (section, entries) in enumerate(parsed.items()):
        (tmp_path / f"{number}.{'yml' if number else 'yaml'}").write_text(yaml.safe_dump({section: entries}))
    (tmp_path / "readme.txt").write_text("not: [yaml")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.yaml").write_text("not: [yaml")
    (tmp_path / "9.yaml").write_text("warehouses: {more: {url: duckdb:///more.duckdb}}\nsyncs:\n")
    config = load_config(tmp_path, environ={})
    assert list(config.warehouses) == ["analytics", "more"]
    assert list(config.syncs) == ["vips"]


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = """
warehouses:
  a: &a {url: duckdb:///a.duckdb, lease: 1m}
  b: {<<: *a, url: duckdb:///b.duckdb}
  c: {<<: [{lease: 2m}, *a]}
"""
    warehouses = load(tmp_path, text).warehouses
    assert {name: (kept.url.get_secret_value(), kept.lease) for name, kept in warehouses.items()} == {
        "a": ("duckdb:///a.duckdb", 60),
        "b": ("duckdb:///b.duckdb", 60),
        "c": ("duckdb:///a.duckdb", 120),
    }


def test_names_may_be_any_text(tmp_path: Path) -> None:
    config = load(tmp_path, SHORT.replace("  vips:", "  'Größte Kunden, 2026/Q4':"))
    assert config.sync("Größte Kunden, 2026/Q4").name == "Größte Kunden, 2026/Q4"


def test_yaml_words_for_numbers_and_switches_are_names_too(tmp_path: Path) -> None:
    assert list(load(tmp_path, "warehouses: {2026: {url: duckdb:///a}, no: {url: duckdb:///b}}").warehouses) == [
        "2026",
        "no",
    ]


def test_an_unknown_sync_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no sync 'vip'; did you mean vips\?; known here: vips"):
        load(tmp_path, SHORT).sync("vip")


def test_two_destinations_may_have_audiences_with_the_same_id(tmp_path: Path) -> None:
    text = SHORT.replace("name: VIPs", "id: 5")
    text = text.replace("destinations: {", "destinations: {b: {type: linkedin, account_id: 2, access_token: AQX-b}, ")
    second = text[text.index("  vips:") :].replace("vips", "others").replace("destination: ads", "destination: b")
    assert len(load(tmp_path, text + second).syncs) == 2


def test_objects_cannot_be_changed(tmp_path: Path) -> None:
    sync = load(tmp_path, SHORT).sync("vips")
    with pytest.raises(ValidationError, match="frozen"):
        sync.enabled = False


def compute_fingerprint(tmp_path: Path, old: str = "", new: str = "") -> str:
    return load(tmp_path, SHORT.replace(old, new) if old else SHORT).sync("vips").fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("select 1 as email", "select 2 as email"),
        ("sql: select 1 as email", "table: t"),
        ("primary_key: id", "primary_key: [id, x]"),
        ("name: VIPs", "name: Others"),
        ("sha256_email: email", "sha512_email: email"),
        ("sha256_email: email", "sha256_email: mail"),
        ("    identifiers:", "    hash_pii: false\n    identifiers:"),
        ("    identifiers:", "    fields: {country: c}\n    identifiers:"),
    ],
)
def test_the_fingerprint_changes_with_what_determines_the_members(tmp_path: Path, old: str, new: str) -> None:
    assert compute_fingerprint(tmp_path, old, new) != compute_fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AQX-short-life", "AQX-renewed"),
        ("vips", "vips"),
        ("    identifiers:", "    enabled: false\n    guard: {min_members: 5}\n    identifiers:"),
    ],
)
def test_the_fingerprint_stays_with_everything_else(tmp_path: Path, old: str, new: str) -> None:
    assert len(compute_fingerprint(tmp_path)) == 64
    assert compute_fingerprint(tmp_path, old, new) == compute_fingerprint(tmp_path)


def test_the_fingerprint_covers_the_content_of_a_query_file(tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_text("select 1 as email")
    assert compute_fingerprint(tmp_path, "sql: select 1 as email", "file: x.sql") == compute_fingerprint(tmp_path)


def test_the_package_exports_what_it_promises() -> None:
    assert all(hasattr(warehouse_sync, name) for name in warehouse_sync.__all__)


# YAML syntax and pieces of configurations, combined at random.
WORDS = r"""
    a b: - { } [ ] : , &x *x <<: !!int !!map !t ' " | > ? # % --- ${A} ${ $${ ~ 1 yes 2026-01-01 "\U00110000" = é
    warehouses: syncs: destinations: url: duckdb:///x model: file: type: user linkedin identifiers: primary_key:
    audience: name: id:
"""
TOKENS = st.sampled_from([*WORDS.split(), "\n", "\n  ", " ", "\t", "\x00"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def mutate(value: Any, draw: st.DrawFn) -> Any:
    """Return `value` with one value inside it replaced by a random one."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutate(value[key], draw)}
    return draw(VALUES)


@st.composite
def almost_valid_yaml(draw: st.DrawFn) -> str:
    value = yaml.safe_load(FULL)
    for _ in range(draw(st.integers(1, 3))):
        value = mutate(value, draw)
    return str(yaml.safe_dump(value, allow_unicode=True))


def assert_loads_or_configuration_error(folder: Path, content: bytes) -> None:
    (folder / "any.yaml").write_bytes(content)
    with suppress(ConfigurationError):
        load_config(folder / "any.yaml", environ=ENVIRON)


ANY_FILE = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@ANY_FILE
@given(text=st.lists(TOKENS, max_size=25).map("".join) | st.lists(TOKENS, max_size=25).map(" ".join) | st.text())
def test_any_text_loads_or_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    assert_loads_or_configuration_error(tmp_path, text.encode("utf-8", "surrogatepass"))


@ANY_FILE
@given(content=st.binary())
def test_any_bytes_load_or_are_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    assert_loads_or_configuration_error(tmp_path, content)


@ANY_FILE
@given(text=almost_valid_yaml())
def test_any_change_to_a_configuration_loads_or_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    assert_loads_or_configuration_error(tmp_path, text.encode("utf-8", "surrogatepass"))
