"""The declared elements are those of LinkedIn's contract."""

from __future__ import annotations

import orjson
import pytest
from harness.worlds.linkedin import batch, hash_of

from warehouse_sync.destinations.linkedin.elements import build_body, element_template, personal_values
from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS
from warehouse_sync.operations import OperationKind

COMPANY_IDENTIFIERS = [
    "companyName", "companyEmailDomain", "companyWebsiteDomain", "companyPageUrl", "organizationUrn",
]  # fmt: skip


@pytest.mark.parametrize("kind", OperationKind)
def test_a_user_has_identifiers_of_three_types(kind: OperationKind) -> None:
    declared = element_template("user", kind)
    assert declared.constants == {"action": kind.value}
    assert {
        name: [(item.constants, item.name, item.field.name) for item in items] for name, items in declared.lists.items()
    } == {
        "userIds": [
            ({"idType": "SHA256_EMAIL"}, "idValue", "sha256_email"),
            ({"idType": "SHA512_EMAIL"}, "idValue", "sha512_email"),
            ({"idType": "GOOGLE_AID"}, "idValue", "google_aid"),
        ]
    }


def test_an_add_of_a_user_carries_all_fields_and_a_remove_none() -> None:
    assert list(element_template("user", OperationKind.ADD).values) == [
        "firstName",
        "lastName",
        "title",
        "company",
        "country",
    ]
    assert element_template("user", OperationKind.REMOVE).values == {}


def test_a_company_is_flat_and_a_remove_has_its_identifiers_only() -> None:
    add, remove = (element_template("company", kind) for kind in OperationKind)
    assert add.lists == remove.lists == {}
    fields = ["stockSymbol", "industries", "city", "state", "country", "postalCode"]
    assert list(add.values) == COMPANY_IDENTIFIERS + fields
    assert list(remove.values) == COMPANY_IDENTIFIERS
    assert remove.constants == {"action": "REMOVE"}


@pytest.mark.parametrize("audience_type", AUDIENCE_FIELDS)
@pytest.mark.parametrize("kind", OperationKind)
def test_each_field_is_in_an_element_at_most_once(audience_type: str, kind: OperationKind) -> None:
    declared = element_template(audience_type, kind)
    named = [item.field for items in declared.lists.values() for item in items] + list(declared.values.values())
    wanted = AUDIENCE_FIELDS[audience_type]
    assert named == list(wanted.all if kind is OperationKind.ADD else wanted.identifiers)


def test_an_unknown_audience_type_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        element_template("person", OperationKind.ADD)


def test_a_body_is_an_object_of_elements() -> None:
    names = batch(OperationKind.ADD, [{"company_name": name} for name in "abc"]).elements
    for positions in (range(3), range(1, 3), [2, 0], []):
        sent = orjson.loads(bytes(build_body(names, positions)))
        assert sent == {"elements": [{"action": "ADD", "companyName": "abc"[at]} for at in positions]}


def test_the_personal_values_of_an_element_are_complete() -> None:
    """Each is removed from messages; the names of keys and types are not."""
    user = {"sha256_email": hash_of(1), "google_aid": "gaid", "first_name": "ADD", "country": "GB"}
    company = {"company_name": "Acme", "industries": '["Steel","Oil \\"n gas"]'}
    for row, expected in ((user, [hash_of(1), "gaid", "ADD", "GB"]), (company, ["Acme", "Steel", 'Oil "n gas'])):
        assert personal_values(batch(OperationKind.ADD, [row]).elements[0]) == expected
