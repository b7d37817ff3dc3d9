"""A configuration that is read again when its files change."""

from __future__ import annotations

import os
from pathlib import Path

from warehouse_sync.config.files import record_files
from warehouse_sync.config.loader import Config, load_config

_FileState = tuple[int, ...] | tuple[str, ...] | None


class ConfigWatch:
    """The configuration at `path`, and every file that it was made of: YAML, queries, secrets.

    Files are told apart by what their names lead to, so a symbolic link that is turned elsewhere (the `..data` of a
    mounted ConfigMap) is a change.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file_states: dict[Path, _FileState] = {}

    def load(self) -> Config:
        """The configuration as it stands now. Raises ConfigurationError with everything that is wrong."""
        seen: dict[Path, _FileState] = {}
        try:
            # Before each file is read: what is written meanwhile is a change.
            with record_files(lambda path: seen.setdefault(path, _read_state(path))):
                return load_config(self.path)
        finally:
            self._file_states = seen

    def has_changed(self) -> bool:
        """Whether a file has changed, come or gone since `load()`, whatever came of that. Cheap; reads no file."""
        return any(_read_state(path) != seen for path, seen in self._file_states.items())


def _read_state(path: Path) -> _FileState:
    try:
        found = path.stat()
        if path.is_dir():
            return tuple(sorted(entry.name for entry in os.scandir(path) if entry.name.endswith((".yaml", ".yml"))))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
