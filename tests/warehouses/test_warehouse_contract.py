"""What every warehouse must do, whatever its dialect. A new one passes this suite before it is offered."""

from __future__ import annotations

import contextlib
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warehouse_sync.destinations.registry import audience_fields
from warehouse_sync.errors import ConfigurationError, QueryFailed, StateDamaged, WarehouseUnavailable
from warehouse_sync.fields import ElementTemplate
from warehouse_sync.operations import OperationKind
from warehouse_sync.pipeline.delivery import batches
from warehouse_sync.pipeline.snapshot import check_hashing
from warehouse_sync.state.tables import state_tables
from warehouse_sync.warehouses import normalisers
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.unicode import WHITE_SPACE, case_mapping

NUMBERS = sa.table("numbers", sa.column("n", sa.Integer), sa.column("unusual name", sa.Text), schema="warehouse_sync")


def make_numbers(warehouse: Warehouse, count: int, *, temporary: bool = False) -> None:
    model = warehouse.model(f"select n from generate_series(1, {count}) as g(n)")
    unusual = sa.literal("it's \\ 100% :x", sa.Text).label("unusual name")
    number: sa.ColumnElement[int] = sa.column("n")
    select = sa.select(number, unusual).select_from(model)
    with warehouse.write("make numbers") as connection:
        warehouse.create_schema(connection)
        warehouse.create_table_as(connection, NUMBERS, select, temporary=temporary)
        warehouse.analyse(connection, NUMBERS, "n", ordered_by="n")


def scalar(warehouse: Warehouse, expression: Any) -> Any:
    with warehouse.connect("read one value") as connection:
        return connection.scalar(sa.select(expression))


def test_a_table_is_created_from_a_select(warehouse: Warehouse) -> None:
    """CREATE TABLE AS keeps constants with quotes, backslashes, colons and per cent signs unchanged."""
    make_numbers(warehouse, 10)
    with warehouse.connect("read numbers") as connection:
        rows = connection.execute(sa.select(NUMBERS).where(NUMBERS.c.n <= 2).order_by(NUMBERS.c.n)).all()
    assert [tuple(row) for row in rows] == [(1, "it's \\ 100% :x"), (2, "it's \\ 100% :x")]


def test_dropping_a_missing_table_is_no_error(warehouse: Warehouse) -> None:
    """Dropping is safe to repeat: a cleanup may have been interrupted anywhere."""
    make_numbers(warehouse, 1)
    for _ in range(2):
        with warehouse.write("drop") as connection:
            warehouse.drop_table(connection, "numbers")
            assert not warehouse.has_table(connection, "numbers")


@given(parts=st.lists(st.integers(0, 3_000), min_size=1, max_size=4))
@example(parts=[130_000, 250_000, 1, 0])
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("warehouse_url", ["duckdb"], indirect=True)
def test_rows_are_numbered_in_the_order_of_their_insertion(warehouse: Warehouse, parts: list[int]) -> None:
    """The numbers run from 1 without gaps once the transaction is committed; a drop removes everything."""
    assert warehouse.capabilities.numbered_tables
    shown = sa.table("shown", sa.column("seq"), sa.column("part"), schema=warehouse.schema)
    selects = [
        sa.select(sa.literal(place).label("part")).select_from(warehouse.model(f"from generate_series(1, {count})"))
        for place, count in enumerate(parts)
    ]
    in_order = sa.select(shown.c.seq, shown.c.part).order_by(shown.c.seq)
    expected = list(enumerate((place for place, count in enumerate(parts) for _ in range(count)), 1))
    with warehouse.write("number rows") as connection:
        warehouse.create_schema(connection)
        warehouse.create_numbered_table(connection, shown, selects[0])
        for select in selects[1:]:
            warehouse.append_numbered_rows(connection, shown, select)
        assert [row.part for row in connection.execute(in_order)] == [part for _, part in expected]
    with warehouse.write("drop what is numbered") as connection:
        assert [tuple(row) for row in connection.execute(in_order)] == expected
        warehouse.drop_table(connection, "shown")
        assert sa.inspect(connection).get_table_names(warehouse.schema) == []
        assert sa.inspect(connection).get_view_names(warehouse.schema) == []


@pytest.mark.parametrize("warehouse_url", ["duckdb"], indirect=True)
def test_a_view_of_a_dropped_table_does_not_exist(warehouse: Warehouse) -> None:
    """Nothing could be read from it, though the engine still lists it."""
    make_numbers(warehouse, 1)
    with warehouse.write("make a view and lose what it shows") as connection:
        warehouse.create_view_as(connection, sa.table("shown", schema=warehouse.schema), sa.select(NUMBERS))
        assert warehouse.has_table(connection, "shown")
        warehouse.drop_table(connection, "numbers")
        assert "shown" in sa.inspect(connection).get_view_names(warehouse.schema)
        assert not warehouse.has_table(connection, "shown")


@pytest.mark.parametrize("warehouse_url", ["postgres"], indirect=True)
def test_a_broken_connection_is_discarded(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """Though the driver holds it for whole and busy: one clear error, nothing in the log, and the next one works."""

    def breaks(cursor: Any, *_: object) -> None:
        cursor.connection.pgconn.send_query(b"select pg_sleep(60)")
        raise psycopg.OperationalError("connection socket closed")

    make_numbers(warehouse, 1)
    sa.event.listen(warehouse.engine, "do_execute", breaks)
    with pytest.raises(WarehouseUnavailable, match="was lost, could not count"), warehouse.write("count") as connection:
        connection.scalar(sa.select(sa.func.count()).select_from(NUMBERS))
    sa.event.remove(warehouse.engine, "do_execute", breaks)
    assert caplog.records == []
    assert scalar(warehouse, sa.select(sa.func.count()).select_from(NUMBERS).scalar_subquery()) == 1


def test_a_failed_transaction_is_rolled_back(warehouse: Warehouse) -> None:
    """A transaction that ends in an error changes nothing."""
    make_numbers(warehouse, 3)

    def fail() -> None:
        with warehouse.write("fail") as connection:
            connection.execute(sa.delete(NUMBERS))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert scalar(warehouse, sa.func.count(NUMBERS.c.n)) == 3


def test_a_conditional_update_returns_the_number_of_rows(warehouse: Warehouse) -> None:
    """The lease depends on this: an UPDATE returns how many rows it has changed."""
    make_numbers(warehouse, 3)
    with warehouse.write("update") as connection:
        changed = connection.execute(sa.update(NUMBERS).where(NUMBERS.c.n > 1).values({"unusual name": "x"}))
        assert changed.rowcount == 2
        none = connection.execute(sa.update(NUMBERS).where(NUMBERS.c.n > 9).values({"unusual name": "x"}))
        assert none.rowcount == 0


def test_writers_in_one_process_take_turns(warehouse: Warehouse) -> None:
    """The thread that renews the lease and the one that records outcomes never conflict."""
    make_numbers(warehouse, 1)

    def raise_by_ten() -> None:
        for _ in range(10):
            with warehouse.write("count") as connection:
                connection.execute(sa.update(NUMBERS).values(n=NUMBERS.c.n + 1))

    with ThreadPoolExecutor(4) as threads:
        for writer in [threads.submit(raise_by_ten) for _ in range(4)]:
            writer.result()
    assert scalar(warehouse, NUMBERS.c.n) == 41


def test_the_clock_is_utc_without_a_zone_and_moves(warehouse: Warehouse) -> None:
    """Times are the warehouse's, in UTC; adding seconds adds seconds."""
    now = scalar(warehouse, warehouse.dialect.utc_now())
    later = scalar(warehouse, warehouse.dialect.utc_now(90.5))
    assert isinstance(now, datetime)
    assert now.tzinfo is None
    assert abs(now - datetime.now(UTC).replace(tzinfo=None)) < timedelta(seconds=30)
    assert timedelta(seconds=90) < later - now < timedelta(seconds=100)


@settings(max_examples=30)
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_hashes_are_of_utf8(warehouse: Warehouse, text: str) -> None:
    """SHA-256 and SHA-512 of any text are those of its UTF-8 bytes, in lower-case hexadecimal."""
    value = sa.literal(text, sa.Text)
    with warehouse.connect("hash") as connection:
        warehouse.prepare_hashing(connection, ["sha256", "sha512"])
        found = connection.execute(
            sa.select(*(warehouse.dialect.hash_text(value, algorithm) for algorithm in ("sha256", "sha512")))
        ).one()
        digest = connection.scalar(sa.select(warehouse.dialect.digest(value)))
    expected = [hashlib.new(algorithm, text.encode()).hexdigest() for algorithm in ("sha256", "sha512")]
    assert list(found) == expected
    assert str(digest).replace("-", "") == expected[0][:32]


def test_every_letter_is_lower_cased_as_in_unicode_py(warehouse: Warehouse) -> None:
    """For each of the 1,433 cased letters and each white space, the warehouse does what unicode.py says."""
    upper, lower = case_mapping()
    assert scalar(warehouse, warehouse.dialect.lower(sa.literal(upper, sa.Text))) == lower
    assert scalar(warehouse, warehouse.dialect.lower(sa.literal(lower, sa.Text))) == lower.translate(
        dict(zip(map(ord, upper), lower, strict=True))
    )
    assert scalar(warehouse, warehouse.dialect.remove_white_space(sa.literal(f"a{WHITE_SPACE}b", sa.Text))) == "ab"
    assert scalar(warehouse, warehouse.dialect.trim(sa.literal(f"{WHITE_SPACE}a b{WHITE_SPACE}", sa.Text))) == "a b"


def test_the_test_vector_passes(warehouse: Warehouse) -> None:
    """A correct server passes the check that runs on every connection."""
    with warehouse.connect("check hashing") as connection:
        check_hashing(warehouse, connection)


def test_a_server_that_hashes_wrongly_is_refused(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one hash of the test vectors is wrong, nothing is hashed there."""
    monkeypatch.setattr(
        warehouse.dialect,
        "lower",
        warehouse.dialect.lower_ascii if "postgres" in warehouse.url.drivername else lambda value: value,
    )
    with warehouse.connect("check hashing") as connection, pytest.raises(ConfigurationError, match="match no member"):
        check_hashing(warehouse, connection)


def test_the_test_vector_is_right() -> None:
    """Its hashes equal those of a plain computation."""
    upper, lower = case_mapping()
    letters = dict(zip(upper, lower, strict=True))
    for text, expected in normalisers.TEST_VECTORS:
        plain = "".join(letters.get(c, c) for c in text if c not in WHITE_SPACE)
        assert hashlib.sha256(plain.encode()).hexdigest() == expected


@pytest.mark.parametrize(
    "name", ["plain", "Mixed Case", 'with "quotes"', "select", "per%cent", "co:lon", "naïve", "a.b"]
)
def test_columns_of_the_query_are_found_without_reading_rows(warehouse: Warehouse, name: str) -> None:
    """Names of columns come back as the query spells them, and no row is computed for it."""
    quoted = warehouse.quote(name)
    sql = f"select 1 as {quoted}, 1 / n as b from generate_series(0, 0) as g(n) -- c"
    bare = "B" if "snowflake" in warehouse.url.drivername else "b"
    assert warehouse.model_columns(sql) == [(name, name), (bare, bare)]


def test_the_error_of_a_broken_query_has_the_servers_message(warehouse: Warehouse) -> None:
    """The message names what is wrong with the query."""
    with pytest.raises(QueryFailed, match=r"(?i)nowhere"):
        warehouse.model_columns("select * from nowhere")
    with pytest.raises(QueryFailed, match=r"syntax error|Expecting"):
        warehouse.model_columns("selct 1")


def test_messages_contain_no_values_of_rows(warehouse: Warehouse) -> None:
    """An error about a value is reported without the value."""
    with pytest.raises(QueryFailed) as failure, warehouse.connect("convert") as connection:
        connection.execute(sa.text("select cast(v as integer) from (values ('ann@example.com')) as t(v)"))
    assert "ann" not in str(failure.value)
    assert "could not convert" in str(failure.value)


def test_the_address_in_messages_has_no_password(warehouse: Warehouse) -> None:
    """Messages show of the URL where the server is, not who we are."""
    assert "postgres:postgres" not in warehouse.address
    assert "@" not in warehouse.address
    assert (warehouse.url.database or "?") in warehouse.address


USER = audience_fields("linkedin", "user")
PLAIN = ElementTemplate({"action": "ADD"}, {}, {"country": USER.fields[-1]})


def make_changes(warehouse: Warehouse, count: int, seq: sa.ColumnElement[Any] | None = None) -> sa.TableClause:
    changes = state_tables(warehouse.schema).changes("changes_people_1", USER.names)
    seq = sa.column("n") if seq is None else seq
    values = {"seq": seq, "operation": sa.literal("ADD", sa.Text), "country": sa.cast(seq, sa.Text)}
    columns = [values.get(column.name, sa.cast(sa.null(), column.type)).label(column.name) for column in changes.c]
    numbers = warehouse.model(f"select n from generate_series(1, {count}) as g(n)")
    with warehouse.write("make changes") as connection:
        warehouse.create_schema(connection)
        warehouse.create_table_as(connection, changes, sa.select(*columns).select_from(numbers))
        warehouse.analyse(connection, changes, "seq", ordered_by="seq")
    return changes


@pytest.mark.parametrize("lease", [60.0, 0.2])
def test_batches_are_complete_even_when_sent_slowly(warehouse: Warehouse, lease: float) -> None:
    """Pauses longer than the lease, after which a server may end transactions, interrupt nothing."""
    changes = make_changes(warehouse, 25)
    slow = type(warehouse)("slow", warehouse.url.render_as_string(hide_password=False), warehouse.schema, lease)
    found = []
    with (
        contextlib.closing(slow),
        contextlib.closing(batches(slow, changes, PLAIN, OperationKind.ADD, 3, 25, 6)) as work,
    ):
        for batch in work:
            found.append((batch.first_seq, len(batch)))
            if lease < 1:
                time.sleep(0.3)
    assert found == [(4, 6), (10, 6), (16, 6), (22, 4)]


def test_reading_can_end_after_a_long_pause(warehouse: Warehouse) -> None:
    """A delivery that the destination delays for longer than the lease ends without an error of the warehouse."""
    changes = make_changes(warehouse, 25)
    slow = type(warehouse)("slow", warehouse.url.render_as_string(hide_password=False), warehouse.schema, 0.2)
    with (
        contextlib.closing(slow),
        contextlib.closing(batches(slow, changes, PLAIN, OperationKind.ADD, 0, 25, 6)) as work,
    ):
        assert len(next(work)) == 6
        time.sleep(0.4)


def test_others_write_while_changes_are_read(warehouse: Warehouse) -> None:
    """Outcomes are recorded between two batches, and the reading continues."""
    changes = make_changes(warehouse, 2_000)
    sent = 0
    for batch in batches(warehouse, changes, PLAIN, OperationKind.ADD, 0, 2_000, 300):
        make_numbers(warehouse, 1)
        with warehouse.write("write meanwhile") as other:
            other.execute(sa.delete(NUMBERS))
            warehouse.drop_table(other, "numbers")
        sent += len(batch)
    assert sent == 2_000


def test_operations_are_read_by_seq_whatever_their_order_in_the_table(warehouse: Warehouse) -> None:
    """A table that was written in another order, or in several parts, is still sent by `seq`."""
    changes = make_changes(warehouse, 500, seq=501 - sa.column("n"))
    found = [
        (batch.first_seq + at, orjson.loads(batch.elements[at])["country"])
        for batch in batches(warehouse, changes, PLAIN, OperationKind.ADD, 10, 490, 50)
        for at in range(len(batch))
    ]
    assert found == [(seq, str(seq)) for seq in range(11, 491)]


@pytest.mark.parametrize("lost", [[1], [9], [25], [21, 22, 23, 24, 25], list(range(1, 26))])
def test_missing_changes_are_not_skipped(warehouse: Warehouse, lost: list[int]) -> None:
    """If rows of the changes were deleted, the run fails, and what is sent has its own numbers."""
    changes = make_changes(warehouse, 25)
    with warehouse.write("lose rows") as connection:
        connection.execute(sa.delete(changes).where(changes.c.seq.in_(lost)))
    sent: list[int] = []
    with pytest.raises(StateDamaged, match="has lost operations"):
        send_all(warehouse, changes, sent)
    assert sent == list(range(1, len(sent) + 1))
    assert len(sent) < min(lost)


def test_duplicate_changes_are_not_sent_twice(warehouse: Warehouse) -> None:
    """No operation is sent in addition or in place of another."""
    changes = make_changes(warehouse, 25)
    sent: list[int] = []
    with warehouse.write("copy a row") as connection:
        again = sa.select(changes).where(changes.c.seq == 15)
        connection.execute(sa.insert(changes).from_select([column.name for column in changes.c], again))
    with contextlib.suppress(StateDamaged):
        send_all(warehouse, changes, sent)
    assert sent == list(range(1, len(sent) + 1))
    assert len(sent) <= 25
    with warehouse.write("lose another") as connection:
        connection.execute(sa.delete(changes).where(changes.c.seq == 16))
    sent.clear()
    with pytest.raises(StateDamaged, match="has lost operations"):
        send_all(warehouse, changes, sent)
    assert sent == list(range(1, len(sent) + 1))
    assert len(sent) < 16


def send_all(warehouse: Warehouse, changes: sa.TableClause, sent: list[int]) -> None:
    """`sent` are the numbers of the operations, each of which is checked to be what goes by its number."""
    for batch in batches(warehouse, changes, PLAIN, OperationKind.ADD, 0, 25, 6):
        for at in range(len(batch)):
            assert orjson.loads(batch.elements[at])["country"] == str(batch.first_seq + at)
        sent += range(batch.first_seq, batch.last_seq + 1)
