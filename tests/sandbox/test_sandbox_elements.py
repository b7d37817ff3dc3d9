"""Which elements the sandbox takes, and what it says about the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from warehouse_sync.sandbox.elements import check_company, check_user, parse_batch
from warehouse_sync.sandbox.settings import SandboxSettings

SETTINGS = SandboxSettings()
SHA256, SHA512 = "a1" * 32, "a1" * 64


def user(*pairs: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    user_ids = [{"idType": id_type, "idValue": value} for id_type, value in pairs]
    return {"action": "ADD", **({"userIds": user_ids} if pairs else {}), **fields}


def company(**fields: Any) -> dict[str, Any]:
    return {"action": "ADD", **fields}


def problem(element: Any, kind: str = "users", settings: SandboxSettings = SETTINGS) -> str | None:
    check = check_user if kind == "users" else check_company
    problems = parse_batch([element], check, settings).problems
    return str(problems[0]) if problems else None


@pytest.mark.parametrize(
    "element",
    [
        user(("SHA256_EMAIL", SHA256)),
        user(("SHA256_EMAIL", SHA256.upper())),
        user(("SHA512_EMAIL", SHA512)),
        user(("GOOGLE_AID", "38400000-8cf0-11bd-b23e-10b96e40000d")),
        user(("SHA256_EMAIL", SHA256), ("SHA512_EMAIL", SHA512), ("GOOGLE_AID", "x")),
        user(firstName="Ada", lastName="Lovelace"),
        user(
            ("GOOGLE_AID", "x"), firstName="é" * 35, lastName="b" * 35, title="t" * 50, company="c" * 50, country="GB"
        ),
    ],
)
def test_good_user_elements_pass(element: dict[str, Any]) -> None:
    assert problem(element) is None


@pytest.mark.parametrize(
    ("element", "path"),
    [
        ({"userIds": [{"idType": "GOOGLE_AID", "idValue": "x"}]}, "/action"),
        ({**user(("GOOGLE_AID", "x")), "action": "add"}, "/action"),
        ({**user(("GOOGLE_AID", "x")), "action": ["ADD"]}, "/action"),
        ("ADD", "/"),
        (user(), "/userIds"),
        (user(firstName="Ada"), "/userIds"),
        (user(firstName="Ada", lastName=" "), "/userIds"),
        ({"action": "ADD", "userIds": []}, "/userIds"),
        ({"action": "ADD", "userIds": "x"}, "/userIds"),
        ({"action": "ADD", "userIds": [{"idType": "GOOGLE_AID"}]}, "/userIds/0"),
        (user(("SHA256_EMAIL", SHA256[:-1])), "/userIds/0/idValue"),
        (user(("SHA256_EMAIL", SHA256 + "0")), "/userIds/0/idValue"),
        (user(("SHA256_EMAIL", "g" * 64)), "/userIds/0/idValue"),
        (user(("SHA256_EMAIL", SHA256 + "\n")), "/userIds/0/idValue"),
        (user(("SHA512_EMAIL", SHA256)), "/userIds/0/idValue"),
        (user(("GOOGLE_AID", " ")), "/userIds/0/idValue"),
        (user(("GOOGLE_AID", 5)), "/userIds/0/idValue"),
        (user(("GOOGLE_AID", "x"), ("APPLE_IDFA", "x")), "/userIds/1/idType"),
        (user(("GOOGLE_AID", "x"), firstName="a" * 36), "/firstName"),
        (user(("GOOGLE_AID", "x"), lastName="a" * 36), "/lastName"),
        (user(("GOOGLE_AID", "x"), title="a" * 51), "/title"),
        (user(("GOOGLE_AID", "x"), company="a" * 51), "/company"),
        (user(("GOOGLE_AID", "x"), country="GBR"), "/country"),
        (user(("GOOGLE_AID", "x"), title=None), "/title"),
        (user(("GOOGLE_AID", "x"), phone="1"), "/phone"),
    ],
)
def test_bad_user_elements_are_refused_with_the_path(element: Any, path: str) -> None:
    assert (problem(element) or "").startswith(f"ERROR :: {path} :: ")


@pytest.mark.parametrize(
    "element",
    [
        company(companyName="Microsoft"),
        company(companyEmailDomain="microsoft.com"),
        company(companyWebsiteDomain="www.microsoft.com"),
        company(companyPageUrl="https://www.linkedin.com/company/microsoft"),
        company(organizationUrn="urn:li:organization:1035"),
        company(
            companyName="M",
            stockSymbol="GOOGL",
            industries=["a" * 50] * 3,
            city="c" * 50,
            state="s" * 50,
            country="us",
            postalCode="1" * 20,
        ),
    ],
)
def test_good_company_elements_pass(element: dict[str, Any]) -> None:
    assert problem(element, "companies") is None


@pytest.mark.parametrize(
    ("element", "path"),
    [
        (company(), "/"),
        (company(city="Berlin", stockSymbol="MSFT"), "/"),
        (company(companyName=" "), "/companyName"),
        (company(organizationUrn="urn:li:organizationUrn:1"), "/organizationUrn"),
        (company(organizationUrn="urn:li:organization:x"), "/organizationUrn"),
        (company(companyPageUrl="h" * 101), "/companyPageUrl"),
        (company(companyEmailDomain="https://microsoft.com"), "/companyEmailDomain"),
        (company(companyWebsiteDomain="microsoft.com/en"), "/companyWebsiteDomain"),
        (company(companyWebsiteDomain="microsoft.com."), "/companyWebsiteDomain"),
        (company(companyName="M", stockSymbol="GOOGLE"), "/stockSymbol"),
        (company(companyName="M", industries=["a"] * 4), "/industries"),
        (company(companyName="M", industries=["a" * 51]), "/industries"),
        (company(companyName="M", industries="a"), "/industries"),
        (company(companyName="M", city="c" * 51), "/city"),
        (company(companyName="M", state="c" * 51), "/state"),
        (company(companyName="M", country="D"), "/country"),
        (company(companyName="M", postalCode="1" * 21), "/postalCode"),
        (company(companyName="M", userIds=[]), "/userIds"),
    ],
)
def test_bad_company_elements_are_refused_with_the_path(element: Any, path: str) -> None:
    assert (problem(element, "companies") or "").startswith(f"ERROR :: {path} :: ")


def test_settings_decide_what_the_contract_leaves_open() -> None:
    upper = user(("SHA256_EMAIL", SHA256.upper()))
    assert problem(upper, settings=replace(SETTINGS, uppercase_hex=False)) is not None
    apple = user(("APPLE_IDFA", "x"))
    assert problem(apple, settings=replace(SETTINGS, id_types=SETTINGS.id_types | {"APPLE_IDFA"})) is None
    address = company(companyEmailDomain="https://microsoft.com")
    assert problem(address, "companies", replace(SETTINGS, bare_domains=False)) is None
    unknown = user(("GOOGLE_AID", "x"), phone="1")
    assert problem(unknown, settings=replace(SETTINGS, unknown_fields="accept")) is None


def test_messages_contain_the_value_only_with_echo_values() -> None:
    bad = user(("SHA256_EMAIL", "ada@example.org"))
    assert "ada@example.org" not in (problem(bad) or "ada@example.org")
    assert "ada@example.org" in (problem(bad, settings=replace(SETTINGS, echo_values=True)) or "")


def test_the_key_of_an_element_does_not_depend_on_the_order_of_identifiers() -> None:
    pairs = [("SHA256_EMAIL", SHA256), ("GOOGLE_AID", "x")]
    batch = parse_batch([user(*pairs), user(*reversed(pairs)), user(*pairs, *pairs)], check_user, SETTINGS)
    assert {key for _, _, key, _ in batch.valid} == {(("GOOGLE_AID", "x"), ("SHA256_EMAIL", SHA256))}


def test_an_element_without_identifiers_is_identified_by_its_names() -> None:
    batch = parse_batch([user(firstName="Ada", lastName="Lovelace", title="Countess")], check_user, SETTINGS)
    [(_, _, key, fields)] = batch.valid
    assert key == (("NAME", "Ada Lovelace"),)
    assert fields["title"] == "Countess"
