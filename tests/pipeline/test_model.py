"""The text of a query before it is sent, and the table names of a sync."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.pipeline.model import one_statement
from warehouse_sync.state.runs import MAX_SLUG_LENGTH, table_slug
from warehouse_sync.state.store import SyncKey


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select ';' as a, \";\" as b",
        "select $$ ; $$ as a",
        "select 1 -- ; not an end",
        "select 1 /* ; */ + 1",
        "with a as (select 1) select * from a",
        "select 'it''s; fine'",
    ],
)
def test_one_statement_is_not_changed(sql: str) -> None:
    """Semicolons in texts, names and comments do not end a query."""
    assert one_statement(sql) == sql


@pytest.mark.parametrize("end", [";", " ; ", ";;", "; -- done", "\n;\n/* end */\n"])
def test_a_semicolon_at_the_end_is_removed(end: str) -> None:
    """A semicolon at the end is removed, also before white space and comments."""
    kept = one_statement("select 1" + end)
    assert ";" not in kept
    assert kept.startswith("select 1")


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1; drop table x; --", "; select 1; select 2"])
def test_two_statements_are_refused(sql: str) -> None:
    """A query with a second statement is an error."""
    with pytest.raises(ValueError, match="more than one"):
        one_statement(sql)


@pytest.mark.parametrize("sql", ["", " \n", ";", "-- nothing", "/* */ ;"])
def test_an_empty_query_is_refused(sql: str) -> None:
    """A query of comments and white space only is an error."""
    with pytest.raises(ValueError, match="empty"):
        one_statement(sql)


names = st.text(min_size=1, max_size=200)


@given(name=names)
def test_table_names_are_plain_and_short(name: str) -> None:
    """The table names of any sync need no quotes and fit into the 63 bytes of PostgreSQL."""
    slug = table_slug(SyncKey(name, "ads"))
    assert slug.isascii()
    assert slug.replace("_", "a").isalnum()
    assert slug == slug.lower()
    assert len(slug) <= MAX_SLUG_LENGTH


@given(one=names, other=names)
def test_two_syncs_have_different_names(one: str, other: str) -> None:
    """Different syncs never have the same slug, by which their tables are named."""
    assert (table_slug(SyncKey(one, "ads")) == table_slug(SyncKey(other, "ads"))) == (one == other)


def test_a_plain_name_is_kept() -> None:
    """A sync with a plain name has its own name as slug."""
    assert table_slug(SyncKey("high_value_customers", "ads")) == "high_value_customers"


@pytest.mark.parametrize("end", ["'--'", "';'", "'/*'", "':x'", "'%'", '";"', "'%(x)s' -- ; a", "1 /* ; :x % */"])
def test_marks_within_texts_are_kept(end: str) -> None:
    """Marks of comments, parameters and statement ends are kept within texts."""
    assert one_statement(f"select {end}") == f"select {end}"
