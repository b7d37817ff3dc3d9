"""Values in Snowflake's SQL: how texts are matched, trimmed, hashed and counted there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.fields import Field
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.dialect import Text
from warehouse_sync.warehouses.normalisers import EMAIL_WITHIN, HOST, JSON_ARRAY, JSON_BEGINS, NOT_A_LIST
from warehouse_sync.warehouses.unicode import BLANK

PROBES = (
    (HOST, "https://user@www.example.com:443/x", True),
    (HOST, "[example].com", False),
    (HOST, "exa\x01mple.com", False),
    (JSON_ARRAY, r'["a\\b", "c\"d", "\u00e9"]', True),
    (JSON_ARRAY, r'["\ud800"]', False),
    (JSON_ARRAY, r'["a\b"c]', False),
    (JSON_BEGINS, " [a", True),
    ("^[0-9a-f]{4}$", "00ff", True),
    ("^[0-9a-f]{4}$", "x00ff", False),
)
"""Patterns, texts, and whether one is found in the other: engines differ in what they make of brackets and escapes."""

SHORT_RANGE = 100
"""Ranges up to this length are written out as single numbers, so that conditions stay few."""


class SnowflakeValues(Warehouse):
    """What Snowflake does differently with values; snowflake.py has the rest."""

    def check_server(self, connection: sa.Connection) -> None:
        looked_for = [self.matches(sa.literal(text, sa.Text), pattern) for pattern, text, _ in PROBES]
        host = self.extract(sa.literal("http://www.example.com/", sa.Text), HOST)
        *found, told = connection.execute(sa.select(*looked_for, host)).one()
        if list(map(bool, found)) != [expected for *_, expected in PROBES] or told != "www.example.com":
            raise ConfigurationError(
                f"warehouses.{self.name}.url: this server reads regular expressions in a way that would take wrong "
                "values for right ones (its test came out wrong). Nothing was touched; please report this."
            )

    def in_ranges(self, column: sa.ColumnElement[int], ranges: Sequence[tuple[int, int]]) -> sa.ColumnElement[bool]:
        # Long lists make slow statements, and more than 16,384 of them none: they go beside the statement.
        single = [number for first, last in ranges if last - first < SHORT_RANGE for number in range(first, last + 1)]
        conditions = [column.between(first, last) for first, last in ranges if last - first >= SHORT_RANGE]
        if single:
            listed = sa.text("SELECT value::NUMBER FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:listed)))")
            parameter = sa.bindparam("listed", json.dumps(single), sa.Text, unique=True)
            conditions.append(column.in_(listed.bindparams(parameter).columns(sa.column("value", sa.BigInteger))))
        return sa.or_(sa.false(), *conditions)

    def utc_now(self, plus: float | sa.ColumnElement[Any] = 0) -> sa.ColumnElement[Any]:
        now: sa.ColumnElement[Any] = sa.func.sysdate(type_=sa.DateTime())
        if isinstance(plus, int | float) and not plus:
            return now
        return sa.func.dateadd(sa.literal_column("millisecond"), self.seconds(plus), now, type_=sa.DateTime())

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Milliseconds, for DATEADD: there are no intervals to reckon with."""
        if isinstance(count, int | float):
            return sa.literal(round(count * 1000), sa.BigInteger)
        return sa.cast(count * 1000, sa.BigInteger)

    def as_text(self, column: sa.ColumnElement[Any]) -> Text:
        # Regular expressions refuse columns with a collation.
        text = sa.func.collate(sa.cast(column, sa.Text), _constant(""))
        return sa.func.replace(text, sa.func.chr(_constant(0)), _constant(""))

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        # REGEXP_LIKE matches the whole text only.
        return sa.func.regexp_instr(value, _constant(_posix(pattern))) > _constant(0)

    def extract(self, value: Text, pattern: str) -> Text:
        once = (_constant(1), _constant(1), _constant("e"))
        return sa.func.regexp_substr(value, _constant(_posix(pattern)), *once, _constant(_wanted_group(pattern)))

    def trim(self, value: Text) -> Text:
        return sa.func.regexp_replace(value, _constant(f"^[{BLANK}]+|[{BLANK}]+$"), _constant(""))

    def remove_white_space(self, value: Text) -> Text:
        return sa.func.regexp_replace(value, _constant(f"[{BLANK}]+"), _constant(""))

    def hash_text(self, value: Text, algorithm: str) -> Text:
        return sa.func.sha2(value, _constant(int(algorithm.removeprefix("sha"))), type_=sa.Text())

    def prepare_hashing(self, connection: sa.Connection, algorithms: Sequence[str]) -> None:
        if "sha512" not in algorithms:
            return
        expected = hashlib.sha512(b"warehouse-sync").hexdigest()
        try:
            found = connection.scalar(sa.select(self.hash_text(sa.literal("warehouse-sync", sa.Text), "sha512")))
        except sa.exc.DBAPIError:
            found = None
        if found != expected:
            raise ConfigurationError(
                f"warehouses.{self.name}: this server cannot take SHA-512 (SHA2(…, 512) came out wrong), and hashing "
                "elsewhere would take addresses out of it. Nothing was touched; leave out identifiers.sha512_email, or "
                "have the query yield the hashes and set hash_pii: false."
            )

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        text = self.as_text(column)
        items = sa.case(
            (sa.func.is_array(sa.func.to_variant(column)), sa.func.to_variant(column)),
            (self.matches(text, JSON_ARRAY), sa.func.try_parse_json(text)),
            (~self.matches(text, JSON_BEGINS), sa.func.to_variant(sa.func.split(text, _constant(",")))),
        )
        blank = f"^[{BLANK}]+|[{BLANK}]+$"
        plain = f"item -> REGEXP_REPLACE(REPLACE(CAST(item AS VARCHAR), CHR(0), ''), '{blank}', '')"
        wanted = (
            f"item -> CAST(item AS VARCHAR) <> '' AND NOT REGEXP_INSTR(CAST(item AS VARCHAR), '{EMAIL_WITHIN}') > 0"
        )
        trimmed = sa.func.transform(sa.func.to_array(items), sa.literal_column(plain))
        kept = sa.func.filter(trimmed, sa.literal_column(wanted))
        first = sa.func.array_slice(kept, _constant(0), _constant(field.max_items or 0))
        cut = sa.func.transform(first, sa.literal_column(f"item -> LEFT(CAST(item AS VARCHAR), {field.max_length})"))
        return sa.case(
            (sa.func.array_size(cut) > _constant(0), sa.func.to_json(cut)),
            (items.is_(None) & text.is_not(None), sa.literal(NOT_A_LIST, sa.Text)),
        )


def _constant(value: str | int) -> sa.ColumnElement[Any]:
    """Part of the statement's text: a parameter would keep the server from preparing patterns once."""
    return sa.literal(value, literal_execute=True)


def _posix(pattern: str) -> str:
    """The pattern as an extended regular expression of POSIX: groups that capture, characters instead of escapes."""
    characters = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), pattern)
    for escape, character in ((r"\t", "\t"), (r"\n", "\n"), (r"\r", "\r"), ("(?:", "(")):
        characters = characters.replace(escape, character)
    return characters


def _wanted_group(pattern: str) -> int:
    """The number that the first capturing group has once all groups capture."""
    bare = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "_", pattern)
    before = re.split(r"\((?!\?)", bare, maxsplit=1)[0]
    return before.count("(") + 1
