"""Log lines: format, level and stream."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator

import pytest
import structlog

from warehouse_sync import logs, redaction
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.logs import configure_logs
from warehouse_sync.redaction import REDACTED


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore handlers, levels, structlog's settings and the hidden secrets."""
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())
    monkeypatch.setattr(logs, "_json", False)
    root, ours = logging.getLogger(), logging.getLogger("warehouse_sync")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_have_event_values_and_exception_without_addresses() -> None:
    stream = io.StringIO()
    configure_logs("debug", json=True, stream=stream)
    try:
        raise ValueError("row of ada@example.com")
    except ValueError as error:
        structlog.get_logger("warehouse_sync.run.run").exception(
            "failed for ada@example.com", sync="s", error=error, rows=3
        )
    line = json.loads(stream.getvalue())
    assert (line["event"], line["sync"], line["rows"], line["level"]) == (f"failed for {REDACTED}", "s", 3, "error")
    assert line["error"] == f"row of {REDACTED}"
    assert "ValueError" in line["exception"]
    assert "ada@" not in stream.getvalue()


def test_lines_of_the_standard_library_are_redacted_too() -> None:
    stream = io.StringIO()
    configure_logs("info", json=True, stream=stream)
    logging.getLogger("warehouse_sync.x").info("took %s", "ada@example.com")
    logging.getLogger("elsewhere").warning("Bearer abcdefgh12345678")
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == [f"took {REDACTED}", f"Bearer {REDACTED}"]


def test_other_libraries_are_silent_below_warning_even_at_debug() -> None:
    stream = io.StringIO()
    configure_logs("debug", json=True, stream=stream)
    logging.getLogger("sqlalchemy.engine").info("row (1, 'Ada')")
    structlog.get_logger("warehouse_sync.x").debug("seen")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["seen"]


def test_a_level_hides_what_is_below_it() -> None:
    stream = io.StringIO()
    configure_logs("error", stream=stream)
    structlog.get_logger("warehouse_sync.x").warning("no")
    logging.getLogger("elsewhere").warning("no")
    assert stream.getvalue() == ""


def test_off_a_terminal_a_line_is_logfmt() -> None:
    stream = io.StringIO()
    configure_logs("info", stream=stream)
    structlog.get_logger("warehouse_sync.x").info("a run begins", sync="high value", run_id=7)
    assert re.fullmatch(
        r'timestamp=\S+Z level=info event="a run begins" sync="high value" run_id=7\n', stream.getvalue()
    )


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_on_a_terminal_colours_respect_no_color(monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool) -> None:
    monkeypatch.setitem(os.environ, "NO_COLOR", no_color)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    stream = Terminal()
    configure_logs("info", stream=stream)
    structlog.get_logger("warehouse_sync.x").info("a run begins", sync="s")
    assert "a run begins" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_configuring_again_replaces_the_stream() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logs("info", stream=first)
    configure_logs("info", stream=second)
    structlog.get_logger("warehouse_sync.x").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_line_that_cannot_be_rendered_is_dropped_without_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own raise
    stream = io.StringIO()
    configure_logs("info", stream=stream)
    logging.getLogger("warehouse_sync.x").info("%d", "ada@example.com")
    assert "could not be written" in stream.getvalue()
    assert "ada@" not in stream.getvalue()


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="debug, info, warning, error, critical"):
        configure_logs("loud")


def test_json_lines_of_other_libraries_and_of_python_itself_are_objects_too() -> None:
    """Records with arguments and tracebacks, warnings, and a stream without Unicode."""
    raw = io.BytesIO()
    logging.captureWarnings(False)  # pytest resets this after each test, which logging does not notice.
    configure_logs(json=True, stream=io.TextIOWrapper(raw, "ascii", errors="backslashreplace", write_through=True))
    try:
        logging.getLogger("urllib3.connectionpool").warning("pool of %s is full: %d", "café", 3)
        try:
            raise ValueError("anna@example.com")
        except ValueError:
            logging.getLogger("apscheduler").exception("job failed")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        structlog.get_logger("warehouse_sync.x").info("event\nin two lines", at=REDACTED)
    finally:
        logging.captureWarnings(False)
    lines = [json.loads(line) for line in raw.getvalue().decode().splitlines()]
    names = ["urllib3.connectionpool", "apscheduler", "py.warnings", "warehouse_sync.x"]
    assert [line["level"] for line in lines] == ["warning", "error", "warning", "info"]
    assert [line["logger"] for line in lines] == names
    assert lines[0]["event"] == "pool of café is full: 3"
    assert "Traceback" in lines[1]["exception"]
    assert "anna" not in str(lines)
    assert all("timestamp" in line for line in lines)
