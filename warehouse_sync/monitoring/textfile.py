"""Write the metrics of a command to a file for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import structlog

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import Event, RunReported
from warehouse_sync.monitoring.metrics import Metrics

log = structlog.get_logger(__name__)

MODE = 0o644
"""Readable for all: the node exporter runs as another user."""


class MetricsFile:
    """Writes metrics to a file after each run, atomically: a reader sees the old file or the new one.

    Counters continue from the values in the file, so they count over all commands that write it.
    """

    def __init__(self, metrics: Metrics, path: Path) -> None:
        """Load the file into `metrics`.

        Raises:
            ConfigurationError: The file cannot be written, or does not contain metrics of this program.
        """
        self._metrics = metrics
        self._path = path
        try:
            self._write_draft(b"").unlink()
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            content = path.read_text("utf-8") if path.exists() else ""
        except UnicodeDecodeError:
            content = "not text"
        except OSError as error:
            raise ConfigurationError(
                f"--metrics-file: cannot write {path}: {error.strerror}. Nothing was touched; name a file in a folder "
                "that exists and that this user may write to"
            ) from None
        try:
            metrics.load_text(content)
        except ValueError:
            raise ConfigurationError(
                f"--metrics-file: {path} does not contain metrics of this program. Nothing was touched; name "
                "another file, or remove that one"
            ) from None

    def handle(self, _sync: str, event: Event) -> None:
        """Write the file when a run is reported; a listener of events."""
        if isinstance(event, RunReported):
            self._write()

    def _write(self) -> None:
        try:
            draft = self._write_draft(self._metrics.text())
            try:
                draft.replace(self._path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
        except OSError as error:
            log.error("metrics file not written", path=str(self._path), reason=error.strerror)

    def _write_draft(self, content: bytes) -> Path:
        """Write a new file next to the real one. The collector ignores it: its name does not end in .prom."""
        handle, name = tempfile.mkstemp(dir=self._path.absolute().parent, prefix=f".{self._path.name[:100]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), MODE)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)
