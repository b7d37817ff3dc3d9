"""A command imports only what it uses: neither a help text nor an offline check waits for drivers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness.processes.command import environment

DRIVERS = (
    *("sqlalchemy", "duckdb", "duckdb_sqlalchemy", "psycopg", "snowflake", "cryptography", "alembic"),
    *("pyarrow", "numpy", "pandas", "sqlparse"),
    *("requests", "urllib3", "pyrate_limiter", "stamina", "orjson"),
    *("apscheduler", "prometheus_client"),
)
"""Libraries for warehouses, destinations and monitoring, with their dependencies."""

FOR_VERBS = ("rich", "structlog", "pydantic", "yaml", "cronsim")
"""Libraries that a verb needs to read its configuration and to print."""

PROGRAM = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from warehouse_sync.cli.main import main
main()
"""

LIBRARY = """
import sys
import warehouse_sync
warehouse_sync.load_config(sys.argv[1])
print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configuration of one sync from a DuckDB file, which does not exist."""
    sync = {
        "warehouse": "shop",
        "destination": "ads",
        "model": {"sql": "select id, email from people", "primary_key": "id"},
        "audience": {"type": "user", "name": "People"},
        "identifiers": {"sha256_email": "email"},
        "schedule": {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    }
    written = {
        "warehouses": {"shop": {"url": f"duckdb:///{tmp_path}/shop.duckdb"}},
        "destinations": {"ads": {"type": "linkedin", "account_id": 1, "access_token": "not-a-token-at-all"}},
        "syncs": {"people": sync},
        "webhooks": {"us": {"url": "https://hooks.example.com/services/us"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    return tmp_path


def imported(folder: Path, program: str, *words: str) -> tuple[str, set[str]]:
    """Return what the program prints, and the modules that it has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout, set(done.stderr.split())


def test_help_imports_nothing(folder: Path) -> None:
    for words in (["--help"], ["--version"]):
        said, modules = imported(folder, PROGRAM, *words)
        assert "warehouse-sync" in said
        assert sorted(modules & {*DRIVERS, *FOR_VERBS}) == []


def test_help_about_a_verb_imports_no_driver(folder: Path) -> None:
    for verb in ("run", "serve", "validate", "sandbox"):
        said, modules = imported(folder, PROGRAM, verb, "--help")
        assert verb in said
        assert sorted(modules & set(DRIVERS)) == []


def test_an_offline_check_imports_no_driver(folder: Path) -> None:
    said, modules = imported(folder, PROGRAM, "validate", "--offline")
    assert said.startswith("ok")
    assert "warehouse_sync.config.loader" in modules
    assert sorted(modules & set(DRIVERS)) == []


def test_the_library_reads_a_configuration_without_drivers(folder: Path) -> None:
    _, modules = imported(folder, LIBRARY, str(folder / "config.yaml"))
    assert "warehouse_sync.config.loader" in modules
    assert sorted(modules & {*DRIVERS, "rich", "structlog", "typer"}) == []
