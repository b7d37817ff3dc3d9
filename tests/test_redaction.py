"""Redaction of e-mail addresses, tokens, credentials and secrets."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync import redaction
from warehouse_sync.redaction import REDACTED, hide_secret, redact, redact_event, retire_secret

# x@y.z with nothing empty; before the @ there may be the mark of an earlier redaction
ADDRESS = re.compile(r"[^\s@](?<!\[redacted\])@[^\s@]+\.[^\s@]")


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without hidden secrets."""
    monkeypatch.setattr(redaction, "_secrets", redaction.SecretRegistry())


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
        ("to <ada@example.com>, failed", "to <[redacted]>, failed"),
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
