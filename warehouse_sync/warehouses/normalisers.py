"""Normalisers in SQL: what a value becomes, or why it is left out.

There are three functions per field, so that each uses the result of the one before instead of repeating its
expression: `clean` takes the column of the query, `problem` and `value` take the cleaned value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import AudienceFields, Field, LengthPolicy, Normaliser
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.unicode import WHITE_SPACE

CONTAINS_EMAIL = f"[^@{WHITE_SPACE}](@|%40)[^@{WHITE_SPACE}]+[.][^@{WHITE_SPACE}]"
"""Matches an e-mail address anywhere in a text, also percent-encoded in a URL."""

HEXADECIMAL = "^[0-9a-f]+$"
HASH_LENGTHS = {"sha256": 64, "sha512": 128}
DEVICE_ID = "________-____-____-____-____________"
DEVICE_ID_DIGITS = 32
_LABEL = r"[^\x01-\x20!-,./:-@\[-^`{-\x7f" + WHITE_SPACE + "]+"
HOST = rf"^(?:[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?|//)?((?:{_LABEL}[.])+{_LABEL})[.]?(?::[0-9]*)?(?:[/?#]|$)"

_JSON_CODE_POINT = "|".join(
    # Four hexadecimal digits, but neither 0000 nor d800 to dfff; or the two halves of a surrogate pair.
    (
        "[1-9a-cA-CeEfF][0-9a-fA-F]{3}",
        "0[1-9a-fA-F][0-9a-fA-F]{2}",
        "00[1-9a-fA-F][0-9a-fA-F]",
        "000[1-9a-fA-F]",
        "[dD][0-7][0-9a-fA-F]{2}",
        r"[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    )
)
_JSON_STRING = r'"(?:[^"\\\x01-\x1f]|\\["\\/bfnrt]|\\u(?:' + _JSON_CODE_POINT + '))*"'
_JSON_ITEM = f"(?:{_JSON_STRING}|null|true|false|-?(?:0|[1-9][0-9]{{0,17}}))"
_JSON_SPACE = "[ \t\n\r]*"
JSON_ARRAY = (
    rf"^{_JSON_SPACE}\[{_JSON_SPACE}(?:{_JSON_ITEM}{_JSON_SPACE}(?:,{_JSON_SPACE}{_JSON_ITEM}{_JSON_SPACE})*)?"
    rf"\]{_JSON_SPACE}$"
)
"""A flat JSON array that every engine can read: no NUL and no half of a surrogate pair, which PostgreSQL refuses."""

JSON_START = r"^[ \t\n\r]*[\[{]"
"""Matches what looks like JSON, or like an array of PostgreSQL, and not like comma-separated text."""

NOT_A_LIST = "not_a_list"

MAX_EMAIL_LENGTH = 320
"""Characters: 64 before the at sign, 255 after it."""

MAX_HOST_LENGTH = 253

MAX_TEXT_LENGTH = 1000
"""Characters of a text whose field has no limit: one row must not fill a request."""

REJECTING_PROBLEMS = ("already_hashed", "not_hashed")
"""Problems of one value that reject the whole row: the setting `hash_pii` and the data contradict each other."""

NO_IDENTIFIER = "no_identifier"

MAX_KEY_LENGTH = 200
"""Characters of a primary key in the log; of a longer one the log has the hash."""

TEST_VECTORS = (
    ("Testing@Testing.com", "584c4423c421df49955759498a71495aba49b8780eb9387dff333b6f0982c777"),
    ("\u00a0 random@ruddersta\u2003ck.com\t", "52ac4b9ef8f745e007c19fac81ddb0a3f50b20029f6699ca1406225fc217f392"),
    ("\u0130\u03a3@\u00c4.\u00c9", "35c00c58b96be79bb694e6e3c321fe4bb41126ee0c94a4a6b19a49c86ee9d532"),
    ("O'\\Neil@example.com", "6a4240eadf98c3aa3218bf3929c208b803b08c01728b0454f742cf485ef18ead"),
)
"""Addresses and their SHA-256: they check case, white space, dotted and final letters, quote and backslash."""


def clean(dialect: Dialect, field: Field, column: sa.ColumnElement[Any]) -> Text:
    """Return the column of the query as normalised text; NULL when the value is absent."""
    text = dialect.to_text(column)
    cleaned: Text
    match field.normaliser:
        case Normaliser.TEXT_LIST:
            return dialect.text_list(column, field)
        case Normaliser.EMAIL:
            # Nearly all addresses are visible ASCII, which one search finds out.
            cleaned = sa.case(
                (dialect.matches(text, "^[!-~]+$"), dialect.lower_ascii(text)),
                else_=dialect.lower(dialect.remove_white_space(text)),
            )
        case Normaliser.DOMAIN:
            cleaned = dialect.lower(dialect.trim(text))
        case Normaliser.DEVICE_ID:
            cleaned = dialect.lower_ascii(dialect.trim(text))
        case Normaliser.TEXT | Normaliser.PREFIXED_NUMBER | Normaliser.COUNTRY:
            cleaned = dialect.trim(text)
    return sa.func.nullif(cleaned, "")


def problem(
    dialect: Dialect, field: Field, cleaned: Text, *, hash_pii: bool, suspicious: sa.ColumnElement[bool]
) -> Text:
    """Return why a cleaned value is left out; NULL when it has no problem, or when it is absent.

    Args:
        dialect: The SQL of the warehouse.
        field: The field.
        cleaned: The result of `clean`.
        hash_pii: Whether the query yields plain addresses, to be hashed here.
        suspicious: The result of `may_contain_address` for the row: only such rows are searched for addresses.
    """
    length = sa.func.length(cleaned)
    match field.normaliser:
        case Normaliser.EMAIL if hash_pii:
            is_address = _is_address(cleaned)
            has_length = sa.or_(*(length == digits for digits in HASH_LENGTHS.values()))
            found = _first_problem(
                (has_length & dialect.matches(cleaned, HEXADECIMAL), "already_hashed"),
                (length > MAX_EMAIL_LENGTH, "too_long"),
                (~is_address, "not_an_address"),
            )
            # Nearly all are short addresses and need no closer check.
            return sa.case((~is_address | (dialect.byte_length(cleaned) > MAX_EMAIL_LENGTH), found))
        case Normaliser.EMAIL:
            assert field.hash is not None
            is_hash = (length == HASH_LENGTHS[field.hash]) & dialect.matches(cleaned, HEXADECIMAL)
            return _first_problem((~is_hash, "not_hashed"))
        case Normaliser.DEVICE_ID:
            # Patterns with counts such as [0-9a-f]{12} make PostgreSQL four times as slow.
            is_id = (
                dialect.matches(cleaned, "^[0-9a-f-]+$")
                & (sa.func.length(sa.func.replace(cleaned, "-", "")) == DEVICE_ID_DIGITS)
                & ((length == DEVICE_ID_DIGITS) | cleaned.like(DEVICE_ID))
            )
            return _first_problem(
                (~is_id, "not_a_device_id"),
                (dialect.matches(cleaned, "^[0-]+$"), "opted_out"),
            )
        case Normaliser.DOMAIN:
            host = dialect.extract(cleaned, HOST)
            return _first_problem(
                (
                    cleaned.is_not(None) & (host.is_(None) | dialect.matches(host, "[.][0-9]+$")),
                    "not_a_domain",
                ),
                (sa.func.length(host) > MAX_HOST_LENGTH, "too_long"),
            )
        case Normaliser.PREFIXED_NUMBER:
            return _first_problem((~dialect.matches(cleaned, _prefixed_number_pattern(field)), "not_an_id"))
        case Normaliser.COUNTRY:
            return _first_problem((~dialect.matches(cleaned, "^[A-Za-z]{2}$"), "not_a_country_code"))
        case Normaliser.TEXT:
            email = (suspicious & dialect.matches(cleaned, CONTAINS_EMAIL), "holds_an_address")
            if field.max_length is not None and field.length_policy is LengthPolicy.TRUNCATE:
                return _first_problem(email)
            return _first_problem(email, (length > (field.max_length or MAX_TEXT_LENGTH), "too_long"))
        case Normaliser.TEXT_LIST:
            return _first_problem((cleaned == NOT_A_LIST, NOT_A_LIST))


def value(dialect: Dialect, field: Field, cleaned: Text, *, hash_pii: bool) -> Text:
    """Return what is sent for a cleaned value that has no problem; NULL when it is absent."""
    match field.normaliser:
        case Normaliser.EMAIL if hash_pii:
            assert field.hash is not None
            return dialect.hash_text(cleaned, field.hash)
        case Normaliser.DOMAIN:
            return dialect.extract(cleaned, HOST)
        case Normaliser.PREFIXED_NUMBER:
            return sa.literal(field.prefix, sa.Text) + dialect.extract(cleaned, _prefixed_number_pattern(field))
        case Normaliser.COUNTRY:
            return dialect.upper_ascii(cleaned)
        case Normaliser.TEXT if field.max_length is not None and field.length_policy is LengthPolicy.TRUNCATE:
            # Few are that long, and counting characters reads each of them.
            is_long = (dialect.byte_length(cleaned) > field.max_length) & (sa.func.length(cleaned) > field.max_length)
            return sa.case((is_long, sa.func.left(cleaned, field.max_length)), else_=cleaned)
        case _:
            return cleaned


def may_contain_address(dialect: Dialect, texts: Sequence[Text]) -> sa.ColumnElement[bool]:
    """Return whether CONTAINS_EMAIL may match any of the texts, by a cheap search: hardly any row has a match."""
    combined = dialect.concat(*texts)
    return combined.contains("@") | combined.contains("%40", autoescape=True)


def _is_address(text: Text) -> sa.ColumnElement[bool]:
    """Return whether `text` is a local part, an at sign and two or more labels with dots between them.

    LIKE takes a tenth of the time of a regular expression.
    """
    return text.like("_%@_%._%") & sa.and_(*(~text.like(wrong) for wrong in ("%@%@%", "%@.%", "%@%..%", "%.")))


def _prefixed_number_pattern(field: Field) -> str:
    prefixes = "|".join(re.escape(prefix) for prefix in (field.prefix, *field.aliases))
    return f"^(?:{prefixes})?([0-9]{{1,19}})$"


def _first_problem(*problems: tuple[sa.ColumnElement[bool], str]) -> Text:
    """Return the first problem whose condition is true; for an absent value every condition is NULL."""
    return sa.case(*((condition, sa.literal(name, sa.Text)) for condition, name in problems))


def reject_reason(fields: AudienceFields, cleaned: Mapping[str, Text], problems: Mapping[str, Text]) -> Text:
    """Return why a row cannot be a member; NULL when it can.

    Args:
        fields: The fields of the audience.
        cleaned: The results of `clean`, by name of the mapped fields.
        problems: The results of `problem`, by name of the mapped fields.
    """
    mapped = [field for field in fields.identifiers if field.name in cleaned]
    cases = [
        (problems[field.name] == reason, sa.literal(reason, sa.Text))
        for reason in REJECTING_PROBLEMS
        for field in mapped
        if field.hash
    ]
    none_left = sa.and_(*(cleaned[field.name].is_(None) | problems[field.name].is_not(None) for field in mapped))
    return sa.case(*cases, (none_left, sa.literal(NO_IDENTIFIER, sa.Text)))


def describe_left_out(dialect: Dialect, problems: Mapping[str, Text]) -> Text:
    """Return `name:problem` and a space for each field whose value is left out; NULL when there is none."""
    description = dialect.concat(
        *(
            sa.case((found.is_not(None), sa.literal(f"{name}:", sa.Text) + found + " "))
            for name, found in problems.items()
        )
    )
    return sa.case((sa.or_(*(found.is_not(None) for found in problems.values())), description))
