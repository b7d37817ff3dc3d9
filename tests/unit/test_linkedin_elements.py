"""Rows of a batch become exactly the elements that LinkedIn's contract names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.elements import body, elements
from warehouse_sync.destinations.linkedin.fields import COMPANY, USER
from warehouse_sync.operations import Batch, OperationKind

SHA256 = hashlib.sha256(b"ann@example.com").hexdigest()
SHA512 = hashlib.sha512(b"ann@example.com").hexdigest()
GAID = "38400000-8cf0-11bd-b23e-10b96e40000d"


def batch(kind: str, columns: tuple[str, ...], *rows: tuple[str | None, ...]) -> Batch:
    return Batch(OperationKind(kind), 1, columns, rows)


def test_an_add_of_a_user_names_all_identifiers_and_fields() -> None:
    rows = (SHA256, SHA512, GAID, "Ann", "Ashe", "Chief", "Acme", "GB")
    assert elements("user", batch("ADD", USER.names, rows)) == [
        {
            "action": "ADD",
            "userIds": [
                {"idType": "SHA256_EMAIL", "idValue": SHA256},
                {"idType": "SHA512_EMAIL", "idValue": SHA512},
                {"idType": "GOOGLE_AID", "idValue": GAID},
            ],
            "firstName": "Ann",
            "lastName": "Ashe",
            "title": "Chief",
            "company": "Acme",
            "country": "GB",
        }
    ]


def test_an_add_of_a_company_is_flat_and_its_industries_are_a_list() -> None:
    row = (
        "Acme", "mail.acme.com", "www.acme.com", "https://x.y/acme", "urn:li:organization:7",
        "ACME", '["Software","Steel"]', "Berlin", "BE", "DE", "10115",
    )  # fmt: skip
    assert elements("company", batch("ADD", COMPANY.names, row)) == [
        {
            "action": "ADD",
            "companyName": "Acme",
            "companyEmailDomain": "mail.acme.com",
            "companyWebsiteDomain": "www.acme.com",
            "companyPageUrl": "https://x.y/acme",
            "organizationUrn": "urn:li:organization:7",
            "stockSymbol": "ACME",
            "industries": ["Software", "Steel"],
            "city": "Berlin",
            "state": "BE",
            "country": "DE",
            "postalCode": "10115",
        }
    ]


def test_absent_values_are_left_out() -> None:
    assert elements("user", batch("ADD", ("sha256_email", "google_aid", "title"), (SHA256, None, None))) == [
        {"action": "ADD", "userIds": [{"idType": "SHA256_EMAIL", "idValue": SHA256}]}
    ]
    assert elements("company", batch("ADD", ("company_name", "industries"), ("Acme", "[]"))) == [
        {"action": "ADD", "companyName": "Acme"}
    ]


def test_an_unknown_column_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        elements("user", batch("ADD", ("company_name",), ("Acme",)))


@st.composite
def _rows(draw: st.DrawFn) -> tuple[str, tuple[str, ...], list[tuple[str | None, ...]]]:
    kind, names = draw(st.sampled_from([("user", USER.names), ("company", COMPANY.names)]))
    columns = tuple(draw(st.lists(st.sampled_from(names), unique=True, min_size=1)))
    value = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    items = st.none() | st.lists(st.text("ab,", min_size=1), max_size=3).map(lambda each: orjson.dumps(each).decode())
    row = st.tuples(*(items if column == "industries" else value for column in columns))
    return kind, columns, draw(st.lists(row, max_size=4))


def _identifiers(kind: str, element: dict[str, Any]) -> dict[str, Any]:
    keys = {"userIds"} if kind == "user" else {
        "companyName", "companyEmailDomain", "companyWebsiteDomain", "companyPageUrl", "organizationUrn",
    }  # fmt: skip
    return {key: value for key, value in element.items() if key in keys}


@given(_rows())
def test_a_remove_names_the_identifiers_of_its_add_and_nothing_else(
    drawn: tuple[str, tuple[str, ...], list[tuple[str | None, ...]]],
) -> None:
    kind, columns, rows = drawn
    adds = elements(kind, batch("ADD", columns, *rows))
    removes = elements(kind, batch("REMOVE", columns, *rows))
    assert len(adds) == len(removes) == len(rows)
    for add, remove in zip(adds, removes, strict=True):
        assert remove == {"action": "REMOVE", **_identifiers(kind, add)}


@given(st.lists(st.integers(0, 9), max_size=9))
def test_a_body_carries_the_chosen_elements_in_the_chosen_order(positions: Sequence[int]) -> None:
    everything = elements("company", batch("ADD", ("company_name",), *((str(number),) for number in range(10))))
    sent = orjson.loads(body(everything, positions))
    assert [element["companyName"] for element in sent["elements"]] == [str(position) for position in positions]
