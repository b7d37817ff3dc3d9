"""The other verbs: status, log, validate, migrate, sandbox, and what the program says about itself."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import cast

import pytest
import requests
import yaml
from harness.processes.command import call, environment, interrupt
from harness.worlds.world import SYNC, World, person
from typer.testing import CliRunner

from warehouse_sync.cli.main import app
from warehouse_sync.config.loader import load_config
from warehouse_sync.destinations.linkedin.config import LinkedInConfig

STATUS_KEYS = {
    *(
        "sync",
        "enabled",
        "running",
        "last_run",
        "next_run",
        "members",
        "pending",
        "dead",
        "dead_removes",
        "left",
        "audience",
    ),
    *("audience_error", "refresh_token_expires", "refresh_token_warning", "error"),
}


@pytest.fixture
def world(duckdb_world: World) -> World:
    """One person in the table, and the configuration on disk."""
    duckdb_world.fill([person(1)])
    duckdb_world.save()
    return duckdb_world


def test_status_and_log_of_a_sync_that_has_never_run(world: World) -> None:
    status = call(world.folder, "status", "--json")
    assert status.code == 0
    (shown,) = status.json
    assert shown.keys() == STATUS_KEYS
    assert (shown["sync"], shown["last_run"], shown["audience"]) == (SYNC, None, None)
    assert "none yet" in call(world.folder, "status", SYNC).out
    assert call(world.folder, "log", SYNC, "--json").json == []


def test_validate_runs_every_check_and_ends_with_2_if_one_fails(world: World) -> None:
    good = call(world.folder, "validate")
    assert good.code == 0
    assert [line.split()[0] for line in good.out.splitlines()] == ["ok"] * 4

    world.sync_settings = {
        "model": {"sql": "select id from people", "primary_key": "id"},
        "audience": {"type": "user", "id": 4711},
    }
    assert world.config
    bad = call(world.folder, "validate", "--json")
    assert bad.code == 2
    assert bad.json["valid"] is False
    assert {check["subject"]: check["ok"] for check in bad.json["checks"]} == {
        "configuration": True,
        "warehouses.analytics": True,
        "destinations.ads": True,
        "syncs.people.model": False,
        "syncs.people.audience": False,
    }
    asked = len(world.sandbox.requests())
    assert call(world.folder, "validate", "--offline").code == 0
    assert len(world.sandbox.requests()) == asked


def test_validate_lists_everything_that_is_wrong_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("warehouses: {w: {url: 'oracle://x'}}\nsnycs: {}\n")
    answer = call(tmp_path, "validate", "--offline", "--json")
    assert answer.code == 2
    assert len(answer.json["checks"]) == 2
    assert not any(check["ok"] for check in answer.json["checks"])


def test_migrate_creates_the_file_and_the_tables_once(tmp_path: Path) -> None:
    written = {"warehouses": {"new": {"url": f"duckdb:///{tmp_path}/sub/new.duckdb"}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    first = call(tmp_path, "migrate", "--json")
    assert first.code == 0
    version = first.json[0]["version"]
    assert first.json == [{"warehouse": "new", "created": True, "migrated": True, "version": version, "error": None}]
    again = call(tmp_path, "migrate")
    assert again.code == 0
    assert f"already at version {version}" in again.out


def test_the_sandbox_answers_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            state = requests.get(f"{url}/_sandbox/state", timeout=300).json()
        except requests.ConnectionError:
            return False
        return [fault["kind"] for fault in state["faults"]] == ["503"]

    words = ("sandbox", "--port", str(port), "--fault", "503:users:times=3", "--ready-after", "0")
    ended = interrupt(tmp_path, *words, when=answers, signal_number=signal.SIGTERM)
    assert ended.code == 0
    assert f"{url}/_sandbox/state" in ended.out
    file = tmp_path / "config.yaml"
    file.write_text(ended.out.partition("\n\n")[2].partition("\n\n")[0])
    assert cast(LinkedInConfig, load_config(file).destinations["sandbox"]).api_url == url


def test_a_taken_port_and_an_unknown_fault_are_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = call(tmp_path, "sandbox", "--port", str(taken.getsockname()[1]))
    assert answer.code == 2
    assert "choose another --port" in answer.err
    result = CliRunner().invoke(app, ["sandbox", "--fault", "earthquake"])
    assert result.exit_code == 2
    assert "earthquake" in result.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_version_is_printed() -> None:
    version = CliRunner().invoke(app, ["--version"])
    assert version.exit_code == 0
    assert version.stdout.startswith("warehouse-sync 0.")


@pytest.mark.parametrize("words", [["run", "--nope"], ["walk"], ["log"], ["--log-level", "loud", "status"]])
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_internal_error_is_one_line_and_a_traceback_only_at_debug(
    world: World, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError("ann@example.com")

    monkeypatch.setattr("warehouse_sync.admin.status.sync_status", stumble)
    monkeypatch.setenv("WAREHOUSE_SYNC_CONFIG", environment(world.folder)["WAREHOUSE_SYNC_CONFIG"])
    result = CliRunner().invoke(app, ["--log-level", level, "status"])
    assert result.exit_code == 1
    assert "internal error at test_verbs.py:" in result.stderr
    assert "(KeyError)" in result.stderr
    assert "ann@example.com" not in result.stderr
    assert ("Traceback" in result.stderr) == (level == "debug")
