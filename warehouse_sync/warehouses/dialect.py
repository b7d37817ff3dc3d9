"""SQL expressions over values, as most engines write them; each engine overrides what it writes differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field
from warehouse_sync.warehouses.unicode import TRIMMED_CHARACTERS, case_mapping

Text = sa.ColumnElement[str]


class Dialect:
    """The SQL expressions that the statements of a run consist of. Stateless; none of its methods executes anything."""

    def json_text(self, value: Text) -> Text:
        """Return the text as a JSON string, quoted and escaped; NULL stays NULL."""
        return sa.cast(sa.func.to_json(value), sa.Text)

    def concat(self, *parts: Text, comma: bool = False) -> Text:
        """Concatenate the parts that are not NULL, with commas between them if `comma`; empty when all are NULL."""
        return sa.func.concat_ws(",", *parts) if comma else sa.func.concat(*parts)

    def encode_value(self, name: str, value: Text) -> Text:
        """Return `name=length:value;`; empty when the value is NULL.

        Concatenations of such texts are equal only if all names and values are.
        """
        length = sa.cast(sa.func.length(value), sa.Text)
        return sa.func.coalesce(sa.literal(f"{name}=", sa.Text) + length + ":" + value + ";", "")

    def in_ranges(self, column: sa.ColumnElement[int], ranges: Sequence[tuple[int, int]]) -> sa.ColumnElement[bool]:
        """Return whether the number lies in one of the ranges; both bounds belong to a range."""
        single = [first for first, last in ranges if first == last]
        conditions = [column.between(first, last) for first, last in ranges if first != last]
        if single:
            conditions.append(column.in_(single))
        return sa.or_(sa.false(), *conditions)

    def utc_now(self, plus: float | sa.ColumnElement[Any] = 0) -> sa.ColumnElement[Any]:
        """Return the warehouse's time in UTC without a zone, plus `plus` seconds. Clocks of workers may differ."""
        return sa.func.timezone("UTC", sa.func.clock_timestamp()) + self.seconds(plus)

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return an interval of `count` seconds."""
        return sa.cast(count, sa.Float) * sa.text("interval '1 second'")

    def to_text(self, column: sa.ColumnElement[Any]) -> Text:
        """Return a value of any SQL type as text, without NUL characters and compared by code points."""
        return sa.cast(column, sa.Text)

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        """Return whether the regular expression matches anywhere in the text; patterns are anchored where needed."""
        return value.regexp_match(pattern)

    def extract(self, value: Text, pattern: str) -> Text:
        """Return the first group of the regular expression; NULL when it does not match."""
        return sa.func.substring(value, pattern)

    def trim(self, value: Text) -> Text:
        """Remove white space and invisible characters at both ends."""
        return sa.func.trim(value, TRIMMED_CHARACTERS)

    def remove_white_space(self, value: Text) -> Text:
        """Remove all white space and invisible characters."""
        # A search is several times as fast as translate(), and few values contain any.
        return sa.case(
            (self.matches(value, f"[{TRIMMED_CHARACTERS}]"), sa.func.translate(value, TRIMMED_CHARACTERS, "")),
            else_=value,
        )

    def byte_length(self, value: Text) -> sa.ColumnElement[int]:
        """Return the number of bytes in UTF-8, which the engine knows without counting characters."""
        return sa.func.octet_length(value)

    def is_ascii(self, value: Text) -> sa.ColumnElement[bool]:
        """Return whether every character takes one byte."""
        return self.byte_length(value) == sa.func.length(value)

    def lower_ascii(self, value: Text) -> Text:
        """Lower-case A to Z; the result for other letters depends on the engine."""
        return sa.func.lower(value)

    def upper_ascii(self, value: Text) -> Text:
        """Upper-case a to z; the result for other letters depends on the engine."""
        return sa.func.upper(value)

    def lower(self, value: Text) -> Text:
        """Lower-case code point by code point, independently of the server's locale."""
        upper, lower = case_mapping()
        return sa.case((self.is_ascii(value), self.lower_ascii(value)), else_=sa.func.translate(value, upper, lower))

    def hash_text(self, value: Text, algorithm: str) -> Text:
        """Return the digest of the UTF-8 bytes in lower-case hexadecimal; `algorithm` is sha256 or sha512."""
        raise NotImplementedError

    def digest(self, value: Text) -> sa.ColumnElement[Any]:
        """Return the first 128 bits of SHA-256 as a UUID: a narrow key of fixed width."""
        return sa.cast(sa.func.left(self.hash_text(value, "sha256"), 32), sa.Uuid)

    def encode_values(self, pairs: Mapping[str, Text]) -> Text:
        """Return the values that are not NULL as one text, which differs for different names or values."""
        return self.concat(sa.literal("", sa.Text), *(self.encode_value(name, value) for name, value in pairs.items()))

    def change_digest(self, own: Mapping[str, Text], others: Mapping[str, Text]) -> sa.ColumnElement[Any]:
        """Return 128 bits as a UUID that differ when any value does.

        Releases may change the algorithm: it is not compared with values in tables of earlier releases.

        Args:
            own: The identifiers of the member, by field.
            others: Its other fields.
        """
        return self.digest(self.concat(self.encode_values(own), sa.literal("|", sa.Text), self.encode_values(others)))

    def list_to_text(self, column: sa.ColumnElement[Any]) -> Text:
        """Return a value of any SQL type as text, which differs for different values, of arrays too."""
        return self.to_text(column)

    def row_hash(self, salt: str, texts: Sequence[Text]) -> sa.ColumnElement[Any]:
        """Return 64 bits that differ when a row of the query has changed; NULL without `Capabilities.row_hashes`.

        Args:
            salt: Differs per installation, so that the hashes mean nothing elsewhere.
            texts: All values of the row.
        """
        return sa.cast(sa.null(), sa.BigInteger)

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        """Return the first items of an array, a JSON array or a comma-separated text as a JSON array; NULL for none.

        Items are trimmed and cut to the length that the field allows. Empty items and items that contain an e-mail
        address are left out. A text that starts like a JSON array but is none that every engine can read becomes
        `normalisers.NOT_A_LIST`.
        """
        raise NotImplementedError

    def pack_columns(self, values: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
        """Pack the columns into one value, which takes no space where it is NULL. Needs `Capabilities.row_ids`."""
        raise NotImplementedError

    def unpack_column(self, value: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        """Return one of the columns that `pack_columns` packed."""
        raise NotImplementedError

    def evaluated_once(self, select: sa.Select[Any], name: str) -> sa.Subquery:
        """Return a subquery whose expressions are evaluated once per row, however often its columns are used."""
        return select.subquery(name)

    def row_number(self) -> sa.ColumnElement[int]:
        """Return a number for each row of a statement, from 1 without gaps, in any order."""
        return sa.func.row_number().over()
