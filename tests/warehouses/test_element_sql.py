"""The JSON that warehouses make of operations, held against what plain Python makes of the same rows."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from harness.selection import rounds
from harness.worlds.linkedin import expected_element
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.destinations.linkedin.elements import build_body, element_template
from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS
from warehouse_sync.fields import Field, Normaliser
from warehouse_sync.operations import OperationKind
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.element_sql import element_text

# PostgreSQL cannot hold NUL, and no engine's UTF-8 holds surrogates.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
special_characters = st.sampled_from(
    "\"\\\x01\b\t\n\f\r\x1f\x7f\x85\u2028\u2029\u0301\ufeff\uffff\U0001f600\U0010ffff/<>&%:?'{}[],"
)
text = st.text(special_characters | characters, max_size=12)

BY_NORMALISER = {
    Normaliser.EMAIL: st.text("0123456789abcdef", min_size=64, max_size=64),
    Normaliser.DEVICE_ID: st.uuids().map(str),
    Normaliser.COUNTRY: st.text("ABCZ", min_size=2, max_size=2),
    Normaliser.PREFIXED_NUMBER: st.integers(0, 10**18).map("urn:li:organization:{}".format),
    Normaliser.TEXT_LIST: st.lists(text, max_size=3).map(lambda items: orjson.dumps(items).decode()),
    Normaliser.TEXT: text,
    Normaliser.DOMAIN: text,
}


def rows(fields: tuple[Field, ...]) -> st.SearchStrategy[list[dict[str, str | None]]]:
    values = st.tuples(*(st.none() | BY_NORMALISER[field.normaliser] for field in fields))
    row = values.map(lambda drawn: dict(zip((field.name for field in fields), drawn, strict=True)))
    return st.lists(row, min_size=1, max_size=5)


def table_of(given: list[dict[str, str | None]]) -> sa.Subquery:
    """Return the rows as a table of changes with only `seq` and the values."""
    selects = [
        sa.select(
            sa.cast(sa.literal(seq), sa.BigInteger).label("seq"),
            *(sa.cast(sa.literal(value, sa.Text), sa.Text).label(name) for name, value in row.items()),
        )
        for seq, row in enumerate(given, 1)
    ]
    return sa.union_all(*selects).subquery("changes")


@settings(max_examples=rounds(20, 60), deadline=None)
@given(data=st.data(), audience_type=st.sampled_from(["user", "company"]), kind=st.sampled_from(OperationKind))
def test_an_element_equals_the_one_that_python_builds(
    warehouse: Warehouse, data: st.DataObject, audience_type: str, kind: OperationKind
) -> None:
    """All combinations of fields, quotes, escapes, control and astral characters; user and company, ADD and REMOVE."""
    given = data.draw(rows(AUDIENCE_FIELDS[audience_type].all))
    changes: Any = table_of(given)
    json = element_text(warehouse.dialect, changes, element_template(audience_type, kind))
    with warehouse.connect("read elements") as connection:
        pieces = list(warehouse.stream_elements(connection, changes, json, 0, len(given), 3))
    assert [len(piece) for piece in pieces] == [3] * (len(given) // 3) + [len(given) % 3] * (len(given) % 3 > 0)
    expected = [expected_element(kind, row) for row in given]
    bodies = [orjson.loads(bytes(build_body(piece, range(len(piece))))) for piece in pieces]
    assert [one for sent in bodies for one in sent["elements"]] == expected
    assert [orjson.loads(piece[at]) for piece in pieces for at in range(len(piece))] == expected
