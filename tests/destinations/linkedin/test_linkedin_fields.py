"""The declared fields are those of the public interface, and each has a name in the API."""

from __future__ import annotations

import subprocess
import sys

import pytest

from warehouse_sync.destinations.linkedin.fields import (
    AUDIENCE_FIELDS,
    COMPANY,
    MEMBER_PATHS,
    SEGMENT_TYPES,
    USER,
    USER_ID_TYPES,
    WIRE_NAMES,
)
from warehouse_sync.destinations.registry import audience_fields
from warehouse_sync.fields import LengthPolicy, Normaliser


def test_the_names_are_those_of_the_public_interface_in_order() -> None:
    assert USER.names == (
        "sha256_email", "sha512_email", "google_aid",
        "first_name", "last_name", "title", "company", "country",
    )  # fmt: skip
    assert COMPANY.names == (
        "company_name", "company_email_domain", "company_website_domain", "company_page_url", "organization_urn",
        "stock_symbol", "industries", "city", "state", "country", "postal_code",
    )  # fmt: skip


def test_every_field_has_exactly_one_name_in_the_api() -> None:
    for fields in AUDIENCE_FIELDS.values():
        for name in fields.names:
            assert (name in USER_ID_TYPES) != (name in WIRE_NAMES), name
    assert set(USER_ID_TYPES) | set(WIRE_NAMES) == {*USER.names, *COMPANY.names}
    assert len(set(WIRE_NAMES.values())) == len(WIRE_NAMES)
    assert set(AUDIENCE_FIELDS) == set(SEGMENT_TYPES) == set(MEMBER_PATHS)


def test_limits_are_those_of_the_contract() -> None:
    limits = {field.name: field.max_length for field in (*USER.all, *COMPANY.all) if field.max_length}
    assert limits == {
        "first_name": 35, "last_name": 35, "title": 50, "company": 50,
        "company_page_url": 100, "stock_symbol": 5, "industries": 50, "city": 50, "state": 50, "postal_code": 20,
    }  # fmt: skip
    left_out = {field.name for field in COMPANY.all if field.length_policy is LengthPolicy.OMIT}
    assert left_out == {"company_page_url", "stock_symbol"}
    assert {field.name: field.max_items for field in COMPANY.all if field.max_items} == {"industries": 3}
    assert [field.hash for field in USER.all if field.normaliser is Normaliser.EMAIL] == ["sha256", "sha512"]


def test_fields_are_found_by_type_of_destination_and_audience() -> None:
    assert audience_fields("linkedin", "user") is USER
    assert audience_fields("linkedin", "company") is COMPANY
    with pytest.raises(ValueError, match="audience type 'person'"):
        audience_fields("linkedin", "person")
    with pytest.raises(ValueError, match="destination type 'carrier_pigeon'"):
        audience_fields("carrier_pigeon", "user")


def test_reading_fields_does_not_load_the_http_library() -> None:
    code = (
        "import sys, warehouse_sync.destinations.registry as d; d.audience_fields('linkedin', 'user'); "
        "assert 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
