"""The JSON Schema for editors agrees with the loader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from warehouse_sync.config.destination_types import known_field_names
from warehouse_sync.config.json_schema import build_config_schema
from warehouse_sync.config.loader import load_config
from warehouse_sync.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "configuration.schema.json"

GOOD = """
webhooks:
  chat: {url: "https://hooks.slack.com/services/T0/B0/x", syncs: [users]}
  pager: {url: "http://127.0.0.1:9/x?y=z", "on": [failed]}
warehouses:
  a: {url: duckdb:///a.duckdb, schema: s, lease: 90}
  b: {url: {file: secret}, lease: 1h30m}
destinations:
  long:
    type: linkedin
    account_id: "5"
    client_id: {file: secret}
    client_secret: {file: secret}
    refresh_token: x-y-z-1
  short:
    type: linkedin
    account_id: ${ACCOUNT:-5}
    access_token: ${TOKEN:-x-y-z-2}
    api_version: 202609
    requests_per_minute: ${PACE:-30}
    max_in_flight: 3
syncs:
  users:
    warehouse: a
    destination: long
    enabled: "${ON:-true}"
    model: {table: crm.customers, primary_key: [a, b]}
    audience: {type: user, id: 10804}
    mode: mirror
    hash_pii: false
    identifiers: {sha256_email: a, sha512_email: b, google_aid: c}
    fields: {first_name: a, last_name: b, title: c, company: d, country: e}
    guard: {max_removed_percent: "${SHARE:-12.5}", min_members: 0, ignore_below: 0}
    schedule: {every: "${PACE:-1h}", at: "2:30", timezone: "Europe/Berlin"}
    retry: {enabled: false, max_age: 2d}
    retention: {sync_log_days: 0, snapshots: 5}
  companies:
    warehouse: b
    destination: short
    model: {file: query.sql, primary_key: a}
    audience: {type: company, name: Companies, description: Of the index}
    identifiers:
      company_name: a
      company_email_domain: b
      company_website_domain: c
      company_page_url: d
      organization_urn: e
    schedule: {cron: "0 */2 * * MON-FRI"}
    fields: {stock_symbol: a, industries: b, city: c, state: d, country: e, postal_code: f}
"""

SYNC, ADS = ("syncs", "users"), ("destinations", "long")

BAD: list[tuple[tuple[str, ...], Any]] = [
    (("sinks",), {}),
    (("warehouses", "a", "memory_limit"), "much"),
    (("warehouses", "a", "memory_limit"), True),
    (("warehouses", "a", "schema_"), "s"),
    (("warehouses", "a", "name"), "a"),
    (("warehouses", "a", "url"), None),
    (("warehouses", "a", "url"), {"path": "x"}),
    (("warehouses", "a", "lease"), "soon"),
    (("warehouses", "a", "lease"), True),
    ((*ADS, "type"), "facebook"),
    ((*ADS, "account_id"), "urn:li:sponsoredAccount:5"),
    ((*ADS, "api_version"), "202612"),
    ((*ADS, "api_version"), "2026-09"),
    ((*ADS, "access_token"), "both"),
    ((*ADS, "client_secret"), None),
    ((*ADS, "client_secret"), 5),
    ((*ADS, "max_in_flight"), 65),
    ((*ADS, "requests_per_minute"), "fast"),
    ((*ADS, "requests_per_minute"), 0),
    ((*SYNC, "schedule"), {}),
    ((*SYNC, "schedule"), {"every": "2h"}),
    ((*SYNC, "schedule"), {"every": "1h", "cron": "0 * * * *"}),
    ((*SYNC, "schedule"), {"every": "1h", "at": "24:00"}),
    ((*SYNC, "schedule"), {"cron": "0 * * * *", "at": "02:00"}),
    ((*SYNC, "mode"), "upsert"),
    ((*SYNC, "enabled"), "perhaps"),
    ((*SYNC, "warehouse"), 3),
    ((*SYNC, "model", "sql"), "select 1"),
    ((*SYNC, "model", "table"), 3),
    ((*SYNC, "model", "primary_key"), []),
    ((*SYNC, "model", "primary_key"), ["a", "a"]),
    ((*SYNC, "audience", "type"), "person"),
    ((*SYNC, "audience", "name"), "both"),
    ((*SYNC, "audience", "description"), "of an id"),
    ((*SYNC, "identifiers"), {}),
    ((*SYNC, "identifiers", "email"), "a"),
    ((*SYNC, "identifiers", "company_name"), "a"),
    ((*SYNC, "fields", "city"), "a"),
    (("syncs", "companies", "fields", "first_name"), "a"),
    ((*SYNC, "guard", "max_removed_percent"), 101),
    ((*SYNC, "guard", "min_members"), -1),
    ((*SYNC, "guard", "ignore_below"), "few"),
    ((*SYNC, "retry", "max_age"), "long"),
    ((*SYNC, "retention", "snapshots"), 1),
    (("webhooks", "chat", "on"), ["success"]),
    (("webhooks", "chat", "on"), []),
    (("webhooks", "chat", "syncs"), []),
    (("webhooks", "chat", "channel"), "#ops"),
]


def is_valid(value: Any) -> bool:
    return bool(jsonschema.Draft7Validator(build_config_schema()).is_valid(value))


def parse_as_editors(text: str) -> Any:
    """Parse YAML as version 1.2, where `on` is text, and not as PyYAML's version 1.1, where it is `true`."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
    return yaml.load(text, Loader)


def loads(value: Any, folder: Path) -> bool:
    (folder / "secret").write_text("duckdb:///mounted.duckdb\n")
    (folder / "query.sql").write_text("select 1")
    (folder / "sync.yaml").write_text(yaml.safe_dump(value))
    try:
        load_config(folder / "sync.yaml", environ={})
    except ConfigurationError:
        return False
    return True


def replace_value(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    return {**value, path[0]: replace_value(value.get(path[0], {}), path[1:], new)}


def test_the_committed_schema_is_current() -> None:
    assert json.loads(COMMITTED.read_text()) == build_config_schema(), "write it again: make schema"


def test_the_module_prints_the_schema() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "warehouse_sync.config.json_schema"], cwd=ROOT, capture_output=True, check=True
    )
    assert printed.stdout == COMMITTED.read_bytes()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(build_config_schema())


def test_the_examples_are_valid_and_name_the_schema_in_their_first_line() -> None:
    examples = sorted((ROOT / "configs").rglob("*.yaml"))
    ours = [file for file in examples if "$schema=" in file.read_text()]
    assert {file.name for file in ours} >= {"quickstart.yaml", "postgres-users.yaml", "postgres-companies.yaml"}
    for file in ours:
        first, text = file.read_text().split("\n", 1)
        assert is_valid(yaml.safe_load(text)), file
        assert (file.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve() == COMMITTED


def test_all_that_users_may_write_is_valid_and_loads(tmp_path: Path) -> None:
    value = yaml.safe_load(GOOD)
    assert is_valid(value)
    assert loads(value, tmp_path)


@pytest.mark.parametrize(("path", "new"), BAD)
def test_what_the_loader_refuses_the_editor_marks(tmp_path: Path, path: tuple[str, ...], new: Any) -> None:
    value = replace_value(yaml.safe_load(GOOD), path, new)
    assert not is_valid(value)
    assert not loads(value, tmp_path)


def test_every_key_has_a_description() -> None:
    parts = {name: part for name, part in build_config_schema()["$defs"].items() if "properties" in part}
    assert len(parts) == 10
    without = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part["properties"].items()
        if not value.get("description")
    ]
    assert without == []


def test_the_reference_describes_every_key() -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text()
    keys = {key for part in build_config_schema()["$defs"].values() for key in part.get("properties", ())}
    columns = {
        name
        for section in (known_field_names("identifiers"), known_field_names("fields"))
        for names in section.values()
        for name in names
    }
    assert {key for key in keys | columns if f"`{key}`" not in reference} == set()


def test_the_example_of_the_reference_is_valid_and_has_all_compatible_keys() -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text()
    example = parse_as_editors(reference.split("```yaml\n")[1].split("```")[0])
    assert is_valid(example)
    parts = build_config_schema()["$defs"]
    of_snowflake = {"private_key", "private_key_passphrase", "oauth_token"}
    assert set(example["warehouses"]["analytics"]) == set(parts["WarehouseConfig"]["properties"]) - of_snowflake
    assert set(example["destinations"]["ads"]) == set(parts["LinkedInConfig"]["properties"]) - {"access_token"}
    assert set(example["webhooks"]["chat"]) == set(parts["WebhookConfig"]["properties"])
    assert {"cron"} == set(parts["ScheduleConfig"]["properties"]) - set(
        example["syncs"]["high_value_customers"]["schedule"]
    )
    assert set(example["syncs"]["high_value_customers"]) == set(parts["SyncConfig"]["properties"])
