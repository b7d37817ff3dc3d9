"""SQL expressions over values, as most engines write them; each engine's own module has what it writes differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field
from warehouse_sync.warehouses.unicode import TRIMMED_CHARACTERS, case_mapping

Text = sa.ColumnElement[str]


class Dialect:
    """What the statements of a run are put together from. None of it executes anything."""

    def json_text(self, value: Text) -> Text:
        """The text as a JSON string, in quotes and escaped; NULL stays NULL."""
        return sa.cast(sa.func.to_json(value), sa.Text)

    def concat(self, *parts: Text, comma: bool = False) -> Text:
        """The parts that are not NULL behind each other, with commas between if wished; empty when all are NULL."""
        return sa.func.concat_ws(",", *parts) if comma else sa.func.concat(*parts)

    def encode_value(self, name: str, value: Text) -> Text:
        """The value with its name and length before it and a semicolon behind it; empty when it is NULL.

        Such texts, one behind the other, are the same only if all names and values are.
        """
        length = sa.cast(sa.func.length(value), sa.Text)
        return sa.func.coalesce(sa.literal(f"{name}=", sa.Text) + length + ":" + value + ";", "")

    def in_ranges(self, column: sa.ColumnElement[int], ranges: Sequence[tuple[int, int]]) -> sa.ColumnElement[bool]:
        """Whether the number lies in one of the ranges, from the first to the last of each."""
        single = [first for first, last in ranges if first == last]
        conditions = [column.between(first, last) for first, last in ranges if first != last]
        if single:
            conditions.append(column.in_(single))
        return sa.or_(sa.false(), *conditions)

    def utc_now(self, plus: float | sa.ColumnElement[Any] = 0) -> sa.ColumnElement[Any]:
        """The warehouse's own time as UTC without a zone, `plus` seconds later: workers' clocks may differ."""
        return sa.func.timezone("UTC", sa.func.clock_timestamp()) + self.seconds(plus)

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """An interval."""
        return sa.cast(count, sa.Float) * sa.text("interval '1 second'")

    def to_text(self, column: sa.ColumnElement[Any]) -> Text:
        """Any SQL type as text, without NUL and compared code point by code point."""
        return sa.cast(column, sa.Text)

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        """Whether the regular expression is found in the text; the patterns are anchored where they need to be."""
        return value.regexp_match(pattern)

    def extract(self, value: Text, pattern: str) -> Text:
        """The first group of the regular expression, NULL when it does not match."""
        return sa.func.substring(value, pattern)

    def trim(self, value: Text) -> Text:
        """Without white space and invisible characters at both ends."""
        return sa.func.trim(value, TRIMMED_CHARACTERS)

    def remove_white_space(self, value: Text) -> Text:
        """Without any white space and invisible characters."""
        # Looking is several times as fast as translating, and few values have any.
        return sa.case(
            (self.matches(value, f"[{TRIMMED_CHARACTERS}]"), sa.func.translate(value, TRIMMED_CHARACTERS, "")),
            else_=value,
        )

    def byte_length(self, value: Text) -> sa.ColumnElement[int]:
        """The number of bytes in UTF-8, which is told without looking at each character."""
        return sa.func.octet_length(value)

    def is_ascii(self, value: Text) -> sa.ColumnElement[bool]:
        """Whether every character takes one byte."""
        return self.byte_length(value) == sa.func.length(value)

    def lower_ascii(self, value: Text) -> Text:
        """A to Z become a to z; what happens to other letters is the engine's."""
        return sa.func.lower(value)

    def upper_ascii(self, value: Text) -> Text:
        """A to z become A to Z; what happens to other letters is the engine's."""
        return sa.func.upper(value)

    def lower(self, value: Text) -> Text:
        """Lower-cased one code point to one, whatever the server's locale."""
        upper, lower = case_mapping()
        return sa.case((self.is_ascii(value), self.lower_ascii(value)), else_=sa.func.translate(value, upper, lower))

    def hash_text(self, value: Text, algorithm: str) -> Text:
        """The digest of the UTF-8 bytes in lower-case hexadecimal; `algorithm` is sha256 or sha512."""
        raise NotImplementedError

    def digest(self, value: Text) -> sa.ColumnElement[Any]:
        """The first 128 bits of SHA-256 as a UUID: a key that is narrow and of fixed width."""
        return sa.cast(sa.func.left(self.hash_text(value, "sha256"), 32), sa.Uuid)

    def encode_values(self, pairs: Mapping[str, Text]) -> Text:
        """Named values as one text, different for different values: name, length and value of each that is there."""
        return self.concat(sa.literal("", sa.Text), *(self.encode_value(name, value) for name, value in pairs.items()))

    def change_digest(self, own: Mapping[str, Text], others: Mapping[str, Text]) -> sa.ColumnElement[Any]:
        """128 bits as a UUID that tell a change of any value: of the member's own identifiers, or of other fields.

        Nothing is found by it in an older release's tables.
        """
        return self.digest(self.concat(self.encode_values(own), sa.literal("|", sa.Text), self.encode_values(others)))

    def list_to_text(self, column: sa.ColumnElement[Any]) -> Text:
        """Any SQL type as text, different for different values, of arrays too."""
        return self.to_text(column)

    def row_hash(self, salt: str, texts: Sequence[Text]) -> sa.ColumnElement[Any]:
        """64 bits that tell whether a row of the query has changed; NULL where making members anew costs no more.

        The salt is an installation's own, so that the hashes mean nothing elsewhere.
        """
        return sa.cast(sa.null(), sa.BigInteger)

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        """The first items of an array, a JSON array or comma-separated text, as a JSON array; NULL when there are none.

        Items are trimmed, empty ones and those that hold an e-mail address left out, and cut to the field's length.
        What begins like a JSON array and is none that every engine reads becomes values.NOT_A_LIST.
        """
        raise NotImplementedError

    def pack_columns(self, values: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
        """All of them as one value, which takes no room where it is NULL; for engines that find rows by their place."""
        raise NotImplementedError

    def unpack_column(self, value: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        """The one of this name of those that were packed."""
        raise NotImplementedError

    def evaluated_once(self, select: sa.Select[Any], name: str) -> sa.Subquery:
        """A subquery whose expressions are evaluated once per row, however often its columns are named above it."""
        return select.subquery(name)

    def row_number(self) -> sa.ColumnElement[int]:
        """A number for each row of a statement, from 1 and without gaps, in any order."""
        return sa.func.row_number().over()
