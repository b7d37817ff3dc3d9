"""Notice when the files of a configuration change."""

from __future__ import annotations

import os
from pathlib import Path

from warehouse_sync.config.files import record_files
from warehouse_sync.config.loader import Config, load_config

_FileState = tuple[int, ...] | tuple[str, ...] | None


class ConfigWatch:
    """The configuration at a path, and the state of every file that it consists of: YAML, queries, secrets.

    Symbolic links are followed: a link that leads to another file (the `..data` of a mounted ConfigMap) is a change.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file_states: dict[Path, _FileState] = {}

    def load(self) -> Config:
        """Load the current configuration.

        Raises:
            ConfigurationError: It is invalid; the exception holds all problems.
        """
        states: dict[Path, _FileState] = {}
        try:
            # The state is read before the file, so that a write in between counts as a change.
            with record_files(lambda path: states.setdefault(path, _read_state(path))):
                return load_config(self.path)
        finally:
            self._file_states = states

    def has_changed(self) -> bool:
        """Return whether a file was changed, created or deleted since `load()`, also if that failed.

        This is cheap: it reads no file.
        """
        return any(_read_state(path) != state for path, state in self._file_states.items())


def _read_state(path: Path) -> _FileState:
    """Return what differs when a file changes; for a folder the names of its YAML files, None for no file."""
    try:
        status = path.stat()
        if path.is_dir():
            return tuple(sorted(entry.name for entry in os.scandir(path) if entry.name.endswith((".yaml", ".yml"))))
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
