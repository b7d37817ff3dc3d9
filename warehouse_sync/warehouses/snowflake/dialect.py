"""Snowflake's SQL expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.normalisers import CONTAINS_EMAIL, JSON_ARRAY, JSON_START, NOT_A_LIST
from warehouse_sync.warehouses.unicode import TRIMMED_CHARACTERS

MAX_LISTED_RANGE = 100
"""Ranges up to this length are listed as single numbers, so that there are few conditions."""


class SnowflakeDialect(Dialect):
    """The expressions that Snowflake writes differently."""

    def in_ranges(self, column: sa.ColumnElement[int], ranges: Sequence[tuple[int, int]]) -> sa.ColumnElement[bool]:
        # Long lists make slow statements, and more than 16,384 items are refused: the list is one JSON parameter.
        single = [
            number for first, last in ranges if last - first < MAX_LISTED_RANGE for number in range(first, last + 1)
        ]
        conditions = [column.between(first, last) for first, last in ranges if last - first >= MAX_LISTED_RANGE]
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
        """Return milliseconds, for DATEADD: Snowflake has no interval values."""
        if isinstance(count, int | float):
            return sa.literal(round(count * 1000), sa.BigInteger)
        return sa.cast(count * 1000, sa.BigInteger)

    def to_text(self, column: sa.ColumnElement[Any]) -> Text:
        # Regular expressions refuse columns with a collation.
        text = sa.func.collate(sa.cast(column, sa.Text), _constant(""))
        return sa.func.replace(text, sa.func.chr(_constant(0)), _constant(""))

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        # REGEXP_LIKE matches the whole text only.
        return sa.func.regexp_instr(value, _constant(_posix(pattern))) > _constant(0)

    def extract(self, value: Text, pattern: str) -> Text:
        once = (_constant(1), _constant(1), _constant("e"))
        return sa.func.regexp_substr(value, _constant(_posix(pattern)), *once, _constant(_first_group_number(pattern)))

    def trim(self, value: Text) -> Text:
        return sa.func.regexp_replace(
            value, _constant(f"^[{TRIMMED_CHARACTERS}]+|[{TRIMMED_CHARACTERS}]+$"), _constant("")
        )

    def remove_white_space(self, value: Text) -> Text:
        return sa.func.regexp_replace(value, _constant(f"[{TRIMMED_CHARACTERS}]+"), _constant(""))

    def hash_text(self, value: Text, algorithm: str) -> Text:
        return sa.func.sha2(value, _constant(int(algorithm.removeprefix("sha"))), type_=sa.Text())

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        text = self.to_text(column)
        items = sa.case(
            (sa.func.is_array(sa.func.to_variant(column)), sa.func.to_variant(column)),
            (self.matches(text, JSON_ARRAY), sa.func.try_parse_json(text)),
            (~self.matches(text, JSON_START), sa.func.to_variant(sa.func.split(text, _constant(",")))),
        )
        blank = f"^[{TRIMMED_CHARACTERS}]+|[{TRIMMED_CHARACTERS}]+$"
        plain = f"item -> REGEXP_REPLACE(REPLACE(CAST(item AS VARCHAR), CHR(0), ''), '{blank}', '')"
        wanted = (
            f"item -> CAST(item AS VARCHAR) <> '' AND NOT REGEXP_INSTR(CAST(item AS VARCHAR), '{CONTAINS_EMAIL}') > 0"
        )
        trimmed = sa.func.transform(sa.func.to_array(items), sa.literal_column(plain))
        kept = sa.func.filter(trimmed, sa.literal_column(wanted))
        first = sa.func.array_slice(kept, _constant(0), _constant(field.max_items or 0))
        cut = sa.func.transform(first, sa.literal_column(f"item -> LEFT(CAST(item AS VARCHAR), {field.max_length})"))
        return sa.case(
            (sa.func.array_size(cut) > _constant(0), sa.func.to_json(cut)),
            (items.is_(None) & text.is_not(None), sa.literal(NOT_A_LIST, sa.Text)),
        )

    def json_text(self, value: Text) -> Text:
        return sa.func.to_json(sa.func.to_variant(value))

    def concat(self, *parts: Text, comma: bool = False) -> Text:
        # CONCAT and CONCAT_WS return NULL if any argument is NULL.
        given = [sa.literal(",", sa.Text, literal_execute=True) + part for part in parts] if comma else parts
        present = [sa.func.coalesce(part, sa.literal("", sa.Text, literal_execute=True)) for part in given]
        whole: Text = sa.func.concat(*present)
        return sa.func.substr(whole, sa.literal(2, literal_execute=True)) if comma else whole

    def row_number(self) -> sa.ColumnElement[int]:
        # Snowflake requires an ORDER BY.
        return sa.func.row_number().over(order_by=sa.null())


def _constant(value: str | int) -> sa.ColumnElement[Any]:
    """Return a constant in the statement's text: with a parameter the server could not compile a pattern once."""
    return sa.literal(value, literal_execute=True)


def _posix(pattern: str) -> str:
    """Return the pattern as a POSIX extended regular expression: all groups capture, and escapes are characters."""
    characters = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), pattern)
    for escape, character in ((r"\t", "\t"), (r"\n", "\n"), (r"\r", "\r"), ("(?:", "(")):
        characters = characters.replace(escape, character)
    return characters


def _first_group_number(pattern: str) -> int:
    """Return the number of the first capturing group once all groups capture."""
    bare = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "_", pattern)
    before = re.split(r"\((?!\?)", bare, maxsplit=1)[0]
    return before.count("(") + 1
