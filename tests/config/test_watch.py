"""A configuration is read again if, and only if, a file that it consists of has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from warehouse_sync.config.watch import ConfigWatch
from warehouse_sync.errors import ConfigurationError

TEXT = """
warehouses: {dwh: {url: {file: url.txt}}}
destinations: {ads: {type: linkedin, account_id: 5, access_token: {file: ../secrets/token}}}
syncs:
  people:
    warehouse: dwh
    destination: ads
    model: {file: people.sql, primary_key: id}
    audience: {type: user, name: People}
    identifiers: {sha256_email: email}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder as Kubernetes mounts it: each name leads through `..data` to the files of one version."""
    for version in ("one", "two"):
        version_folder = tmp_path / "configs" / f"..{version}"
        version_folder.mkdir(parents=True)
        (version_folder / "sync.yaml").write_text(TEXT)
        (version_folder / "people.sql").write_text("select 1")
        (version_folder / "url.txt").write_text("duckdb:///some.duckdb")
    configs = tmp_path / "configs"
    (configs / "..data").symlink_to("..one")
    for name in ("sync.yaml", "people.sql", "url.txt"):
        (configs / name).symlink_to(f"..data/{name}")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("long-enough-token")
    return configs


def test_an_unchanged_configuration_has_not_changed(folder: Path) -> None:
    watch = ConfigWatch(folder)
    first = watch.load()
    assert not watch.has_changed()
    (folder / "notes.txt").write_text("no configuration")
    assert not watch.has_changed()
    assert watch.load() == first


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("name", ["sync.yaml", "people.sql", "url.txt", "../secrets/token"])
def test_a_file_that_was_written_or_deleted(folder: Path, name: str) -> None:
    watch = ConfigWatch(folder)
    first = watch.load()
    rewrite(folder / name, (folder / name).read_text() + "\n")
    assert watch.has_changed()
    assert watch.load() == first or name == "people.sql"
    assert not watch.has_changed()
    (folder / name).unlink()
    assert watch.has_changed()


def test_a_new_file_in_the_folder(folder: Path) -> None:
    watch = ConfigWatch(folder)
    watch.load()
    (folder / "more.yml").write_text("syncs: {}")
    assert watch.has_changed()
    watch.load()
    assert not watch.has_changed()


def test_a_config_map_that_is_swapped(folder: Path) -> None:
    watch = ConfigWatch(folder)
    for version in (1, 2):  # Of the same size and age.
        for name in ("people.sql", "sync.yaml", "url.txt"):
            file = folder / ("..one", "..two")[version - 1] / name
            rewrite(file, f"select {version}" if name == "people.sql" else file.read_text())
    watch.load()
    (folder / "..new").symlink_to("..two")
    (folder / "..new").rename(folder / "..data")
    assert watch.has_changed()
    assert watch.load().syncs["people"].model.text == "select 2"


def test_a_bad_file_is_read_once(folder: Path) -> None:
    """It is reported once. Every correction is a change, the creation of a missing file too."""
    watch = ConfigWatch(folder)
    watch.load()
    (folder / "people.sql").unlink()
    assert watch.has_changed()
    with pytest.raises(ConfigurationError):
        watch.load()
    assert not watch.has_changed()
    (folder / "people.sql").write_text("select 3")
    assert watch.has_changed()
    assert watch.load().syncs["people"].model.text == "select 3"
