"""Check and parse the elements of a batch. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warehouse_sync.sandbox.members import NO_FIELDS, ElementKey, Fields, Identifier
from warehouse_sync.sandbox.settings import SandboxSettings

MISSING_FIELD = "field is required but not found and has no default value"
HEX_LENGTHS = {"SHA256_EMAIL": 64, "SHA512_EMAIL": 128}
LOWER_HEX, ANY_HEX = re.compile(r"[0-9a-f]*"), re.compile(r"[0-9a-fA-F]*")
ORGANIZATION_URN = re.compile(r"urn:li:organization:\d+")
BARE_DOMAIN = re.compile(r"[^\s/:@?#.]+(\.[^\s/:@?#.]+)*")

USER_FIELD_LENGTHS = {"firstName": 35, "lastName": 35, "title": 50, "company": 50}
COMPANY_FIELD_LENGTHS = {"stockSymbol": 5, "city": 50, "state": 50, "postalCode": 20}
COMPANY_IDENTIFIERS = ("companyName", "companyEmailDomain", "companyWebsiteDomain", "companyPageUrl", "organizationUrn")
MAX_PAGE_URL_LENGTH = 100
MAX_INDUSTRIES, MAX_INDUSTRY_LENGTH = 3, 50

NOT_FIELDS = frozenset({"action", "userIds"})
USER_KEYS = frozenset({"action", "userIds", "country", *USER_FIELD_LENGTHS})
COMPANY_KEYS = frozenset({"action", "industries", "country", *COMPANY_FIELD_LENGTHS, *COMPANY_IDENTIFIERS})


class ElementProblem(Exception):
    """An element is invalid.

    Attributes:
        path: The path of the invalid value in the element.
        message: What is wrong.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"ERROR :: {self.path} :: {self.message}"


@dataclass(slots=True)
class ParsedBatch:
    """A batch after its checks.

    Attributes:
        valid: Index, action, key and fields of each valid element.
        problems: The problems of the other elements, by index.
    """

    valid: list[tuple[int, str, ElementKey, Fields]] = field(default_factory=list)
    problems: dict[int, ElementProblem] = field(default_factory=dict)


Check = Callable[[dict[str, Any], SandboxSettings], tuple[ElementKey, Fields]]


def parse_batch(elements: list[Any], check: Check, settings: SandboxSettings) -> ParsedBatch:
    """Check every element with `check`. Never raises."""
    batch = ParsedBatch()
    for index, element in enumerate(elements):
        try:
            action = read_action(element)
            key, fields = check(element, settings)
        except ElementProblem as problem:
            batch.problems[index] = problem
        else:
            batch.valid.append((index, action, key, fields))
    return batch


def read_action(element: Any) -> str:
    """Return the action of an element, ADD or REMOVE; raise ElementProblem if it has none."""
    if not isinstance(element, dict):
        raise ElementProblem("/", "an element must be an object")
    action = element.get("action")
    if action is None:
        raise ElementProblem("/action", MISSING_FIELD)
    if action not in ("ADD", "REMOVE"):
        raise ElementProblem("/action", "is not a member of the enumeration [ADD, REMOVE]")
    return str(action)


def check_user(element: dict[str, Any], settings: SandboxSettings) -> tuple[ElementKey, Fields]:
    """Return key and fields of an element of `/users`; raise ElementProblem if it is invalid."""
    if not element.keys() <= USER_KEYS:
        _check_unknown(element, USER_KEYS, settings)
    identifiers = _user_identifiers(element.get("userIds"), settings)
    fields = NO_FIELDS
    if len(element) > 2 or not identifiers:
        fields = {name: value for name, value in element.items() if name not in NOT_FIELDS}
        for name, value in fields.items():
            if (limit := USER_FIELD_LENGTHS.get(name)) is not None:
                if not isinstance(value, str) or len(value) > limit:
                    _check_text(name, value, limit, settings)
            elif name == "country":
                _check_country(value, settings)
    if identifiers:
        return _element_key(identifiers), fields
    names = [name for name in (fields.get("firstName"), fields.get("lastName")) if name is not None and name.strip()]
    if len(names) != 2:
        raise ElementProblem("/userIds", "without a valid user ID, firstName and lastName must be provided")
    return (("NAME", " ".join(names)),), fields


def check_company(element: dict[str, Any], settings: SandboxSettings) -> tuple[ElementKey, Fields]:
    """Return key and fields of an element of `/companies`; raise ElementProblem if it is invalid."""
    if not element.keys() <= COMPANY_KEYS:
        _check_unknown(element, COMPANY_KEYS, settings)
    identifiers: list[Identifier] = []
    fields: dict[str, Any] = {}
    for name, value in element.items():
        if name == "action":
            continue
        if name in COMPANY_IDENTIFIERS:
            _check_company_identifier(name, value, settings)
            identifiers.append((name, value))
            continue
        limit = COMPANY_FIELD_LENGTHS.get(name)
        if limit is not None:
            _check_text(name, value, limit, settings)
        elif name == "country":
            _check_country(value, settings)
        elif name == "industries":
            if not isinstance(value, list) or len(value) > MAX_INDUSTRIES:
                raise ElementProblem("/industries", f"must be an array of at most {MAX_INDUSTRIES} items")
            for industry in value:
                _check_text(name, industry, MAX_INDUSTRY_LENGTH, settings)
        fields[name] = value
    if not identifiers:
        raise ElementProblem("/", f"at least one of {', '.join(COMPANY_IDENTIFIERS)} must be provided")
    return _element_key(identifiers), fields


def identifier_values(element: Any) -> set[str]:
    """Return the identifier values of an element, valid or not; ignore what cannot be read."""
    if not isinstance(element, dict):
        return set()
    user_ids = element.get("userIds")
    values = [pair.get("idValue") for pair in user_ids if isinstance(pair, dict)] if isinstance(user_ids, list) else []
    values += [element.get(name) for name in COMPANY_IDENTIFIERS]
    return {value for value in values if isinstance(value, str)}


def _element_key(identifiers: list[Identifier]) -> ElementKey:
    return tuple(identifiers) if len(identifiers) == 1 else tuple(sorted(set(identifiers)))


def _user_identifiers(user_ids: Any, settings: SandboxSettings) -> list[Identifier]:
    if user_ids is None:
        return []
    if not isinstance(user_ids, list):
        raise ElementProblem("/userIds", "must be an array")
    identifiers: list[Identifier] = []
    for position, pair in enumerate(user_ids):
        if not isinstance(pair, dict) or len(pair) != 2 or "idType" not in pair or "idValue" not in pair:
            raise ElementProblem(f"/userIds/{position}", "must have idType and idValue and nothing else")
        id_type, value = pair["idType"], pair["idValue"]
        if not isinstance(id_type, str) or id_type not in settings.id_types:
            message = "is not a member of the enumeration" + _echo(id_type, settings)
            raise ElementProblem(f"/userIds/{position}/idType", message)
        if not isinstance(value, str) or not value or value.isspace():
            raise ElementProblem(f"/userIds/{position}/idValue", "must be a text that is not blank")
        length = HEX_LENGTHS.get(id_type)
        if length is not None and not (
            len(value) == length
            and (LOWER_HEX.fullmatch(value) or (settings.uppercase_hex and ANY_HEX.fullmatch(value)))
        ):
            message = f"must be a HEX encoded string with length = {length}"
            raise ElementProblem(f"/userIds/{position}/idValue", message + _echo(value, settings))
        identifiers.append((id_type, value))
    return identifiers


def _check_company_identifier(name: str, value: Any, settings: SandboxSettings) -> None:
    _check_text(name, value, MAX_PAGE_URL_LENGTH if name == "companyPageUrl" else None, settings)
    if not value.strip():
        raise ElementProblem(f"/{name}", "must not be blank")
    if name == "organizationUrn" and not ORGANIZATION_URN.fullmatch(value):
        raise ElementProblem("/organizationUrn", "Invalid organization urn" + _echo(value, settings))
    if name.endswith("Domain") and settings.bare_domains and not BARE_DOMAIN.fullmatch(value):
        raise ElementProblem(f"/{name}", "must be a bare domain" + _echo(value, settings))


def _check_text(name: str, value: Any, limit: int | None, settings: SandboxSettings) -> None:
    if not isinstance(value, str):
        raise ElementProblem(f"/{name}", "must be a text")
    if limit is not None and len(value) > limit:
        raise ElementProblem(f"/{name}", f"is longer than {limit} characters" + _echo(value, settings))


def _check_country(value: Any, settings: SandboxSettings) -> None:
    if not (isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha()):
        raise ElementProblem("/country", "must be an ISO 3166 alpha-2 code" + _echo(value, settings))


def _check_unknown(element: dict[str, Any], known: frozenset[str], settings: SandboxSettings) -> None:
    if settings.unknown_fields == "refuse":
        raise ElementProblem(f"/{min(element.keys() - known)}", "unrecognized field found but not allowed")


def _echo(value: Any, settings: SandboxSettings) -> str:
    return f": {value!r}" if settings.echo_values else ""
