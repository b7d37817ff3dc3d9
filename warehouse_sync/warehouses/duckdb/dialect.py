"""DuckDB's SQL expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from warehouse_sync.fields import Field
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.normalisers import CONTAINS_EMAIL, JSON_ARRAY, JSON_START, NOT_A_LIST
from warehouse_sync.warehouses.unicode import TRIMMED_CHARACTERS


class DuckDBDialect(Dialect):
    """The expressions that DuckDB writes differently."""

    def utc_now(self, plus: float | sa.ColumnElement[Any] = 0) -> sa.ColumnElement[Any]:
        # AT TIME ZONE needs the ICU extension, which not every build has.
        now = sa.func.make_timestamp(sa.func.epoch_us(sa.func.get_current_timestamp()))
        return now + self.seconds(plus)

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.to_seconds(sa.cast(count, sa.Double))

    def matches(self, value: Text, pattern: str) -> sa.ColumnElement[bool]:
        # DuckDB's operator ~ matches the whole text only.
        return sa.func.regexp_matches(value, pattern)

    def extract(self, value: Text, pattern: str) -> Text:
        return sa.func.nullif(sa.func.regexp_extract(value, pattern, 1), "")

    def to_text(self, column: sa.ColumnElement[Any]) -> Text:
        return _without_nul(super().to_text(column))

    def trim(self, value: Text) -> Text:
        # A search is several times as fast as trim(), and few values need it.
        blank_at_an_end = self.matches(value, f"^[{TRIMMED_CHARACTERS}]|[{TRIMMED_CHARACTERS}]$")
        return sa.case((blank_at_an_end, super().trim(value)), else_=value)

    def remove_white_space(self, value: Text) -> Text:
        # A search first, as in the base class; here replacing is several times as fast as translate().
        replaced = sa.func.regexp_replace(value, f"[{TRIMMED_CHARACTERS}]+", "", "g")
        return sa.case((self.matches(value, f"[{TRIMMED_CHARACTERS}]"), replaced), else_=value)

    def encode_value(self, name: str, value: Text) -> Text:
        # Each || copies the text before it; concat() allocates once.
        length = sa.cast(sa.func.length(value), sa.Text)
        named = self.concat(sa.literal(f"{name}=", sa.Text), length, sa.literal(":", sa.Text), value, sa.literal(";"))
        return sa.case((value.is_not(None), named))

    def byte_length(self, value: Text) -> sa.ColumnElement[int]:
        return sa.func.strlen(value)

    def lower(self, value: Text) -> Text:
        # It works code point by code point without a locale: equal to unicode.py for all of Unicode.
        return sa.func.lower(value)

    def hash_text(self, value: Text, algorithm: str) -> Text:
        return sa.Function(algorithm, value, type_=sa.Text())

    def change_digest(self, own: Mapping[str, Text], others: Mapping[str, Text]) -> sa.ColumnElement[Any]:
        # MD5 costs a third of SHA-256, and nothing here is secret: hashes, and values that are sent as text.
        encoded = self.concat(self.encode_values(own), sa.literal("|", sa.Text), self.encode_values(others))
        return sa.cast(sa.func.md5(encoded), sa.Uuid)

    def list_to_text(self, column: sa.ColumnElement[Any]) -> Text:
        return sa.cast(sa.func.to_json(column), sa.Text)

    def row_hash(self, salt: str, texts: Sequence[Text]) -> sa.ColumnElement[Any]:
        return sa.func.hash(sa.literal(salt, sa.Text), *texts)

    def pack_columns(self, values: Mapping[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
        # The fields of a NULL struct are stored all the same; a NULL list has no items.
        named = (sa.column(name).op(":=")(value) for name, value in values.items())
        return sa.func.list_value(sa.func.struct_pack(*named))

    def unpack_column(self, value: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
        return sa.func.struct_extract(sa.func.list_extract(value, 1), sa.literal_column(f"'{name}'"))

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        texts = sa.ARRAY(sa.Text)
        json = sa.func.to_json(column)
        text = _without_nul(sa.func.json_extract_string(json, "$"))
        items = sa.case(
            (sa.func.json_type(json) == "ARRAY", sa.cast(json, texts)),
            (self.matches(text, JSON_ARRAY), sa.cast(sa.cast(text, sa.JSON), texts)),
            (~self.matches(text, JSON_START), sa.func.string_split(text, ",")),
        )
        # Items of a JSON column may contain NUL, written as an escape.
        plain = (
            rf"lambda item: regexp_replace(item, '^[{TRIMMED_CHARACTERS}]+|[{TRIMMED_CHARACTERS}]+$|\x00+', '', 'g')"
        )
        trimmed = sa.func.list_transform(items, sa.literal_column(plain))
        wanted = f"lambda item: item <> '' AND NOT regexp_matches(item, '{CONTAINS_EMAIL}')"
        kept = sa.func.list_filter(trimmed, sa.literal_column(wanted))
        cut = sa.func.list_transform(
            sa.func.list_slice(kept, 1, field.max_items),
            sa.literal_column(f"lambda item: left(item, {field.max_length})"),
        )
        return sa.case(
            (sa.func.len(cut) > 0, sa.cast(sa.func.to_json(cut), sa.Text)),
            (items.is_(None) & text.is_not(None), sa.literal(NOT_A_LIST, sa.Text)),
        )


def _without_nul(value: sa.ColumnElement[Any]) -> Text:
    """Remove NUL characters: no other engine has them in texts, and a destination may not accept them."""
    nul = sa.func.chr(0)
    return sa.case((sa.func.contains(value, nul), sa.func.replace(value, nul, "")), else_=value)
