"""The promise of the product: after each run the audience equals the query, under every reading of REMOVE."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from harness.selection import rounds
from harness.worlds.world import World, person, sandbox
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.operations import OperationCounts, RunStatus

Rows = list[dict[str, Any]]


pytestmark = pytest.mark.usefixtures("short_timeouts")


@pytest.fixture(params=["user", "company"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


DEVICES = [f"0000000{n}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in range(1, 5)]

user_rows = st.fixed_dictionaries(
    {
        "id": st.one_of(st.none(), st.integers(1, 6)),
        "email": st.sampled_from([None, "", " ", "nobody", *(f"{letter}@example.com" for letter in "abcdef")]),
        "device": st.sampled_from([None, None, "00000000-0000-0000-0000-000000000000", *DEVICES]),
        "first_name": st.sampled_from([None, "Ann", "Bo"]),
    }
)
company_rows = st.fixed_dictionaries(
    {
        "id": st.one_of(st.none(), st.integers(1, 6)),
        "name": st.sampled_from([None, " ", "Acme", "Globex", "Initech", "Umbrella"]),
        "domain": st.sampled_from([None, "not a domain", "acme.com", "globex.com", "initech.com"]),
        "city": st.sampled_from([None, "Berlin", "Lyon"]),
    }
)


def clean(rows: Rows) -> Rows:
    """Return the rows for the reference implementation: without the values that the mapping leaves out."""
    zeros = "00000000-0000-0000-0000-000000000000"
    return [
        {
            key: None if value in (zeros, "not a domain") or (key == "email" and value == "nobody") else value
            for key, value in row.items()
        }
        for row in rows
    ]


snowflake_examples: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
"""The number of examples so far, by the type of audience."""


@settings(max_examples=rounds(4, 8))
@given(data=st.data())
def test_every_run_ends_equal(kind: str, warehouse_url: str, tmp_path: Path, data: st.DataObject) -> None:
    """The audience equals the query after every run, with shared, swapped and missing identifiers and keys."""
    row = user_rows if kind == "user" else company_rows
    days = data.draw(st.lists(st.lists(row, max_size=8), min_size=2, max_size=4))
    if warehouse_url.startswith("snowflake") and next(snowflake_examples[kind]) > rounds(2, 3):
        return  # A run takes two seconds: a few examples suffice for the dialect, the logic is tested elsewhere.
    with sandbox() as running:
        world = World(warehouse_url, running, tmp_path, kind)
        world.reset()
        for rows in days:
            world.fill(rows)
            report = world.run()
            assert report.status is RunStatus.SUCCEEDED
            assert report.rows == len(rows)
            world.check(clean(rows))


def run_days(world: World, *each: Rows) -> list[OperationCounts]:
    """Fill the table and run, for each day; return what each run planned."""
    planned = []
    for rows in each:
        world.fill(rows)
        planned.append(world.run().planned)
        world.check(rows)
    return planned


def test_a_member_with_two_rows_stays_while_one_row_remains(world: World) -> None:
    """A member is a tuple of identifiers, not a row: the loss of one of its two rows removes no member."""
    both = [person(1), {**person(1), "id": 2}]
    assert run_days(world, both, both[1:]) == [OperationCounts(add=1), OperationCounts()]


def test_a_changed_address_removes_the_old_one(world: World) -> None:
    """A changed address is a REMOVE of the old member and an ADD of the new one."""
    assert run_days(world, [person(1)], [{"id": 1, "email": "new@example.com"}])[1] == OperationCounts(add=1, remove=1)


def test_swapped_addresses_change_nothing(world: World) -> None:
    """Two rows that swap their addresses are the same two members."""
    swapped = [{**person(1), "id": 2}, {**person(2), "id": 1}]
    assert run_days(world, [person(1), person(2)], swapped)[1] == OperationCounts()


def test_a_member_that_shares_a_device_with_a_removed_one_is_added_again(world: World) -> None:
    """REMOVE may remove all members with an identifier, so every member that shares it is added again afterwards."""
    both = [person(1, device=DEVICES[0]), person(2, device=DEVICES[0])]
    assert run_days(world, both, both[1:])[1] == OperationCounts(add=1, remove=1)


def test_new_fields_are_an_add_without_a_remove(world: World) -> None:
    """A changed first name is sent as an ADD, and removes no member."""
    planned = run_days(world, [person(1, first_name="Ann")], [person(1, first_name="Bo")])
    assert planned[1] == OperationCounts(add=1)
    (fields,) = world.sandbox.members(world.audience_id, reading="elements").values()
    assert fields["firstName"] == "Bo"


def test_an_empty_query_empties_the_audience(world: World) -> None:
    """Without the guard, an empty query empties the audience, and the next query fills it again."""
    some = [person(number) for number in range(5)]
    assert run_days(world, some, [], some)[1:] == [OperationCounts(remove=5), OperationCounts(add=5)]


def test_members_are_compared_one_by_one_where_no_row_is_unchanged(world: World) -> None:
    """All members replaced, all with new fields, and one that stays among new ones with another field or key."""
    first = [person(number, device=DEVICES[number % 2]) for number in range(4)]
    others = [person(number, device=DEVICES[number % 2]) for number in range(4, 8)]
    renamed = [{**row, "first_name": "Bo"} for row in others]
    one_renamed = [{**renamed[0], "first_name": "Cy"}, *first[1:]]
    one_under_another_key = [{**one_renamed[0], "id": 99}, *others[1:]]
    assert run_days(world, first, others, renamed, one_renamed, one_under_another_key)[1:] == [
        OperationCounts(add=4, remove=4),
        OperationCounts(add=4),
        OperationCounts(add=4, remove=3),
        OperationCounts(add=4, remove=3),
    ]


def test_missing_and_duplicate_primary_keys_do_not_matter(world: World) -> None:
    """The audience is right without primary keys and with equal ones, because only the log uses them."""
    rows = [{**person(number), "id": None} for number in range(3)]
    same = [{**person(number), "id": 7} for number in range(2, 6)]
    run_days(world, rows, same, rows)


def test_an_unchanged_query_sends_no_member_request(world: World) -> None:
    """A run of an unchanged query sends nothing to /users."""
    run_days(world, [person(1)])
    before = len(world.sandbox.requests("users"))
    report = world.run()
    assert report.planned == OperationCounts()
    assert len(world.sandbox.requests("users")) == before == 1


def test_a_full_run_adds_all_members_and_removes_the_stale_ones(world: World) -> None:
    """--full sends every member and removes those that left the query, in one run."""
    run_days(world, [person(number) for number in range(4)])
    world.fill([person(number) for number in range(1, 5)])
    report = world.run(full=True)
    assert report.planned == OperationCounts(add=4, remove=1)
    world.check([person(number) for number in range(1, 5)])


def test_earlier_members_of_an_existing_audience_stay(world: World) -> None:
    """Members that an existing audience held before the first run are never removed."""
    run_days(world, [person(1)])
    world.sync_settings = {"audience": {"type": "user", "id": world.audience_id}}
    with world.connect() as connection:
        connection.exec_driver_sql("drop schema warehouse_sync cascade")
    world.fill([person(2)])
    report = world.run()
    assert report.planned == OperationCounts(add=1)
    assert world.actual_members("elements") == world.expected_members([person(1), person(2)], "elements")


def test_rejected_rows_are_logged_once_and_without_their_value(world: World) -> None:
    """A row that cannot be a member is counted in each run, and logged by its key in the first only."""
    rows = [person(1), {"id": 2}, {"id": 3, "email": "a" * 64}, {"id": 4, "email": "oops"}]
    world.fill(rows)
    reports = [world.run(), world.run()]
    assert [(report.rows, report.members, report.rejected) for report in reports] == [(4, 1, 3)] * 2
    lines = world.query("select primary_key, reason from warehouse_sync.sync_log where outcome = 'rejected'")
    assert sorted(map(tuple, lines)) == [("2", "no_identifier"), ("3", "already_hashed"), ("4", "no_identifier")]


def test_hashes_are_sent_as_they_are_without_hash_pii(world: World) -> None:
    """hash_pii: false sends hashes in lower case; it rejects other texts, with advice and without the value."""
    digest = "584C4423C421DF49955759498A71495ABA49B8780EB9387DFF333B6F0982C777"
    world.sync_settings = {"hash_pii": False}
    world.fill([{"id": 1, "email": digest}, {"id": 2, "email": "plain@example.com"}])
    report = world.run()
    assert (report.members, report.rejected) == (1, 1)
    assert world.actual_members("elements") == {frozenset({("SHA256_EMAIL", digest.lower())})}
    ((message,),) = world.query("select message from warehouse_sync.sync_log where reason = 'not_hashed'")
    assert "turn hash_pii on" in message
    assert "plain@" not in message


def test_a_new_mapping_converges(world: World) -> None:
    """A changed mapping of identifiers removes the old members and adds the new ones in one run."""
    rows = [person(number, device=DEVICES[number]) for number in range(3)]
    run_days(world, rows)
    world.sync_settings = {"identifiers": {"sha256_email": "email"}}
    report = world.run()
    assert report.status is RunStatus.SUCCEEDED
    world.check([{**row, "device": None} for row in rows])


QUERIES = (
    "select * from people where email like '%:%' or id >= 1",
    "select * from people -- all of them",
    "select * from people;",
    "select * from people ; -- done",
    "/* a */ select * from people /* b */\n;\n;",
    "select *, ':name' as \"a:b\", '%s %(x)s 100%' as c, 7 % 2 as d, 1::int as e from people",
    "with p as (select * from people) select * from p order by id",
)


def test_the_text_of_the_query_is_not_interpreted(world: World) -> None:
    """Comments, semicolons at the end, colons and percent signs in the query reach the warehouse unchanged."""
    for number, sql in enumerate(QUERIES, 1):
        world.sync_settings = {"model": {"sql": sql, "primary_key": "id"}}
        (planned,) = run_days(world, [person(number)])
        assert planned == OperationCounts(add=1, remove=int(number > 1))
