"""PostgreSQL's SQL expressions."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from warehouse_sync.fields import Field
from warehouse_sync.warehouses.dialect import Dialect, Text
from warehouse_sync.warehouses.normalisers import CONTAINS_EMAIL, JSON_ARRAY, JSON_START, NOT_A_LIST
from warehouse_sync.warehouses.unicode import case_mapping


class PostgreSQLDialect(Dialect):
    """The expressions that PostgreSQL writes differently."""

    def concat(self, *parts: Text, comma: bool = False) -> Text:
        if comma:
            return super().concat(*parts, comma=True)
        # concat() first copies each of its arguments.
        known = [part if isinstance(part, sa.BindParameter) else sa.func.coalesce(part, "") for part in parts]
        return functools.reduce(operator.add, known)

    def seconds(self, count: float | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.cast(count, sa.Double))

    def to_text(self, column: sa.ColumnElement[Any]) -> Text:
        # Regular expressions refuse some collations, and two columns may have collations that conflict.
        return sa.collate(super().to_text(column), "C")

    def lower_ascii(self, value: Text) -> Text:
        # In a Turkish locale lower('I') is a dotless i.
        return sa.func.lower(sa.collate(value, "C"))

    def upper_ascii(self, value: Text) -> Text:
        return sa.func.upper(sa.collate(value, "C"))

    def trim(self, value: Text) -> Text:
        # Checking both ends is three times as fast as trim(), and few values need it. None of the code points 33 to
        # 131 is trimmed. abs() makes it one comparison per end; with two, ascii() would be evaluated twice.
        ends = sa.func.ascii(value), sa.func.ascii(sa.func.right(value, 1))
        visible = (sa.func.abs(end - sa.literal(82, sa.Integer)) < sa.literal(50, sa.Integer) for end in ends)
        return sa.case((sa.and_(*visible), value), else_=super().trim(value))

    def lower(self, value: Text) -> Text:
        # translate() compares each character with each letter of its list, which takes a quarter of a millisecond for
        # an address; a regular expression finds out in a microsecond that there is nothing to do.
        upper, lower = (letters[26:] for letters in case_mapping())
        folded = self.lower_ascii(value)
        return sa.case((self.matches(folded, f"[{upper}]"), sa.func.translate(folded, upper, lower)), else_=folded)

    def hash_text(self, value: Text, algorithm: str) -> Text:
        # A cast to bytea would read backslashes as escapes.
        octets = sa.func.convert_to(value, "UTF8")
        return sa.func.encode(sa.Function(algorithm, octets), "hex")

    def digest(self, value: Text) -> sa.ColumnElement[Any]:
        octets = sa.func.substr(sa.func.sha256(sa.func.convert_to(value, "UTF8")), 1, 16)
        return sa.cast(sa.func.encode(octets, "hex"), sa.Uuid)

    def change_digest(self, own: Mapping[str, Text], others: Mapping[str, Text]) -> sa.ColumnElement[Any]:
        # Two independent 64-bit hashes of each value take an eighth of the time of SHA-256.
        pairs = {**own, **others}
        halves = (
            _combine(_hash(text, f"fingerprint {half} {name}", 0) for name, text in pairs.items())
            for half in ("high", "low")
        )
        high, low = map(sa.func.int8send, halves)
        return sa.cast(sa.func.encode(high.op("||")(low), "hex"), sa.Uuid)

    def list_to_text(self, column: sa.ColumnElement[Any]) -> Text:
        return sa.cast(sa.func.to_json(column), sa.Text)

    def row_hash(self, salt: str, texts: Sequence[Text]) -> sa.ColumnElement[Any]:
        return _combine(
            _hash(text, f"{salt} {place}", _seed(f"{salt} {place} null")) for place, text in enumerate(texts)
        )

    def text_list(self, column: sa.ColumnElement[Any], field: Field) -> Text:
        # A column of type json may contain escapes and numbers that the server stores but cannot read (NUL, half a
        # surrogate pair, 1e400000). to_jsonb would raise an error, so a value with an escape is checked first.
        json = sa.func.to_json(column)
        octets = sa.cast(json, sa.Text)
        escaped = sa.func.strpos(octets, "\\u") > 0
        text = sa.case((~escaped | self.matches("[" + octets + "]", JSON_ARRAY), json.op("#>>")(sa.text("'{}'"))))
        items = sa.case(
            (
                sa.func.json_typeof(json) == "array",
                sa.case((~escaped | self.matches(octets, JSON_ARRAY), json)),
            ),
            (self.matches(text, JSON_ARRAY), sa.cast(text, postgresql.JSON)),
            (~self.matches(text, JSON_START), sa.func.to_json(sa.func.string_to_array(text, ","))),
        )
        each = sa.func.json_array_elements_text(items).table_valued("item", with_ordinality="place", name="items")
        each = each.render_derived()
        item = self.trim(sa.collate(each.c.item, "C"))
        first = (
            sa.select(sa.func.left(item, field.max_length).label("item"), each.c.place)
            .where(item != "", ~self.matches(item, CONTAINS_EMAIL))
            .order_by(each.c.place)
            .limit(field.max_items)
            .subquery("first_items")
        )
        ordered = postgresql.aggregate_order_by(first.c.item, first.c.place)
        found = sa.select(sa.cast(sa.func.json_agg(ordered), sa.Text)).select_from(first).scalar_subquery()
        unreadable = items.is_(None) & (sa.func.json_typeof(json) != "null")
        return sa.case((unreadable, sa.literal(NOT_A_LIST, sa.Text)), else_=found)

    def evaluated_once(self, select: sa.Select[Any], name: str) -> sa.Subquery:
        # The planner merges plain subqueries into the outer query and repeats each expression wherever it is used:
        # hashing a snapshot took thirty times as long. OFFSET prevents that. An OFFSET with a number would disable
        # parallel workers; OFFSET NULL does not.
        return select.offset(sa.null()).subquery(name)

    def row_number(self) -> sa.ColumnElement[int]:
        # Without an ORDER BY the default frame is all rows, which the server would keep until the last one.
        return sa.func.row_number().over(rows=(None, 0))


def _hash(text: Text, seed: str, null_hash: int) -> sa.ColumnElement[int]:
    """Return a 64-bit hash of the text, different for each seed; `null_hash` where the text is NULL."""
    hashed = sa.func.hashtextextended(text, sa.literal(_seed(seed), sa.BigInteger))
    return sa.func.coalesce(hashed, sa.literal(null_hash, sa.BigInteger))


def _combine(hashes: Iterable[sa.ColumnElement[int]]) -> sa.ColumnElement[int]:
    """Return the bitwise XOR of the hashes."""
    return functools.reduce(lambda combined, hashed: combined.op("#")(hashed), hashes)


def _seed(purpose: str) -> int:
    """Return a 64-bit number that is different for each purpose."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big", signed=True)
