"""A configuration that is read again when its files change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from warehouse_sync.config import Config, load_config
from warehouse_sync.config_source import noting_files

_Print = Mapping[Path, tuple[int, ...] | tuple[str, ...] | None]


class ConfigWatch:
    """The configuration at `path`, and every file that it was made of: YAML, queries, secrets.

    Files are told apart by what their names lead to, so a symbolic link that is turned elsewhere (the `..data` of a
    mounted ConfigMap) is a change.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._files: set[Path] = {self.path}
        self._seen: _Print = {}

    def load(self) -> Config:
        """The configuration as it stands now. Raises ConfigurationError with everything that is wrong."""
        with noting_files() as files:
            try:
                before = _prints(self._files)
                return load_config(self.path)
            finally:
                self._files = files | {self.path}
                # What was written while it was read is read again.
                self._seen = {**_prints(self._files), **{path: before[path] for path in before if path in self._files}}

    def changed(self) -> bool:
        """Whether a file has changed, come or gone since `load()`, whatever came of that. Cheap; reads no file."""
        return _prints(self._files) != self._seen


def _prints(paths: set[Path]) -> _Print:
    return {path: _print(path) for path in paths}


def _print(path: Path) -> tuple[int, ...] | tuple[str, ...] | None:
    try:
        found = path.stat()
        if path.is_dir():
            return tuple(sorted(entry.name for entry in os.scandir(path) if entry.name.endswith((".yaml", ".yml"))))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
