"""Redaction and logging."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync import logs, redaction
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.logs import configure_logs
from warehouse_sync.redaction import REDACTED, hide_secret, redact, redact_event, retire_secret

# x@y.z with nothing empty; before the @ there may be the mark of an earlier redaction
ADDRESS = re.compile(r"[^\s@](?<!\[redacted\])@[^\s@]+\.[^\s@]")


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


@given(before=st.text(), address=st.emails(), after=st.text())
def test_no_address_is_left_in_any_context(before: str, address: str, after: str) -> None:
    text = redact(f"{before}{address}{after}")
    assert address not in text
    assert not ADDRESS.search(text)


@given(text=st.text(alphabet="a.@[] \"'(:<é=,"))
def test_nothing_of_the_form_of_an_address_is_left(text: str) -> None:
    assert not ADDRESS.search(redact(text))


@given(text=st.text(alphabet="abcäö .,-()[]'\"/%"))
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Key (email)=(ada@example.com) already exists", "Key (email)=([redacted]) already exists"),
        ('{"email": "ada@example.com", "id": 4}', '{"email": "[redacted]", "id": 4}'),
        ("to <ada@example.com>, gone", "to <[redacted]>, gone"),
        ("GET /x?q=ada%40example.com", "GET [redacted]"),
        (
            "Authorization: Bearer AQXdSP_W41_UPs5ioT_t8HESyODB4FqbkJ8LrV_5mff4gPODzOYR",
            "Authorization: Bearer [redacted]",
        ),
        ("refused access_token=AQX-secret&grant=1", "refused access_token=[redacted]&grant=1"),
        ('{"refresh_token":"AQX-secret","x":1}', '{"refresh_token":"[redacted]","x":1}'),
        ("{'client_secret': 'WPL.1'}", "{'client_secret': '[redacted]'}"),
        ("client_secret: WPL_AP1.abcdefghijklmnop", "client_secret: [redacted]"),
        (
            "postgresql+psycopg://ada:p%40ss@db.example.com:5432/crm",
            "postgresql+psycopg://[redacted]@db.example.com:5432/crm",
        ),
    ],
)
def test_redaction_keeps_the_surrounding_text(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "destinations.ads.client_secret: missing; a refresh_token is of use only with client_secret",
        "destinations.ads.refresh_token: the environment variable LINKEDIN_REFRESH_TOKEN is not set",
        "the bearer token was refused",
        "run 7: 1,000 of 5,000 members, phase add",
        "https://api.linkedin.com/rest/dmpSegments/10804/users",
    ],
)
def test_messages_for_operators_are_not_changed(text: str) -> None:
    assert redact(text) == text


def test_a_secret_is_hidden_in_every_encoding() -> None:
    hide_secret('tok+en/"1234567890')
    text = redact('a tok+en/"1234567890, b tok%2Ben%2F%221234567890, c ' + json.dumps('tok+en/"1234567890'))
    assert text == f'a {REDACTED}, b {REDACTED}, c "{REDACTED}"'


def test_a_short_secret_is_hidden_as_a_whole_word_only() -> None:
    hide_secret("post")
    assert redact("password post of postgresql") == f"password {REDACTED} of postgresql"


def test_a_secret_below_four_characters_is_not_hidden() -> None:
    hide_secret("abc")
    assert redact("abc") == "abc"


@given(
    st.recursive(
        st.emails() | st.integers() | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.emails() | st.text(max_size=5), inner) | st.tuples(inner),
        max_leaves=8,
    )
)
def test_no_address_is_left_in_any_value_of_an_event(value: Any) -> None:
    event = redact_event(None, "info", {"event": "x", "value": value, "raw": b"ada@example.com"})
    assert not ADDRESS.search(json.dumps(event))


def test_values_under_the_name_of_a_credential_are_always_redacted() -> None:
    event = redact_event(None, "info", {"event": "x", "access_token": "abc", "form": {"client_secret": 5}, "rows": 3})
    assert event == {"event": "x", "access_token": REDACTED, "form": {"client_secret": REDACTED}, "rows": 3}


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


def test_only_a_limited_number_of_retired_secrets_stays_hidden() -> None:
    """The oldest retired tokens are dropped first; tokens in use and configured secrets stay hidden."""
    hide_secret("configured-secret")
    hide_secret("configured-secret", temporary=True)
    retire_secret("configured-secret")
    hide_secret("token-in-use-by-two", temporary=True)
    hide_secret("token-in-use-by-two", temporary=True)
    retire_secret("token-in-use-by-two")
    for number in range(10 * redaction.MAX_RETIRED):
        hide_secret(f"passing-token-{number:04}", temporary=True)
        retire_secret(f"passing-token-{number:04}")
    assert redact("configured-secret token-in-use-by-two") == f"{REDACTED} {REDACTED}"
    shown = [number for number in range(10 * redaction.MAX_RETIRED) if redact(f"passing-token-{number:04}") != REDACTED]
    assert shown == list(range(9 * redaction.MAX_RETIRED))


def test_a_token_that_is_fetched_repeatedly_stays_hidden() -> None:
    """A server that answers from a cache returns the same token each time."""
    for _ in range(3 * redaction.MAX_RETIRED):
        hide_secret("the-same-token", temporary=True)
        retire_secret("the-same-token")
    hide_secret("another-token", temporary=True)
    assert redact("the-same-token another-token") == f"{REDACTED} {REDACTED}"


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
