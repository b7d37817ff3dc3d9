"""The metrics of a command, written to a file for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import structlog

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import Event, RunReported
from warehouse_sync.monitoring.metrics import Metrics

log = structlog.get_logger(__name__)

MODE = 0o644
"""The node exporter runs as a user of its own."""


class MetricsFile:
    """Writes `metrics` to `path` behind each run, in one step: a reader sees the old file or the new one.

    Counters go on from what the file holds, so it is one file's history however many commands have written it.
    Raises ConfigurationError when the file cannot be written.
    """

    def __init__(self, metrics: Metrics, path: Path) -> None:
        self._metrics = metrics
        self._path = path
        try:
            self._draft(b"").unlink()
            if path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            before = path.read_text("utf-8") if path.exists() else ""
        except UnicodeDecodeError:
            before = "not text"
        except OSError as error:
            raise ConfigurationError(
                f"--metrics-file: cannot write {path}: {error.strerror}. Nothing was touched; name a file in a folder "
                "that exists and that this user may write to"
            ) from None
        try:
            metrics.load_text(before)
        except ValueError:
            raise ConfigurationError(
                f"--metrics-file: {path} holds something else than metrics of this program. Nothing was touched; name "
                "another file, or remove that one"
            ) from None

    def handle(self, _sync: str, event: Event) -> None:
        """Write the file when a run is reported; a listener of events."""
        if isinstance(event, RunReported):
            self._write()

    def _write(self) -> None:
        try:
            draft = self._draft(self._metrics.text())
            try:
                draft.replace(self._path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
        except OSError as error:
            log.error("metrics file not written", path=str(self._path), reason=error.strerror)

    def _draft(self, content: bytes) -> Path:
        """A new file beside the real one that holds `content`; the collector reads only names that end in .prom."""
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
