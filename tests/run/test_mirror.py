"""The product in one sentence: after each day the audience equals the query, however REMOVE is to be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from harness.selection import rounds
from harness.worlds.world import World, sandbox
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.operations import OperationCounts, RunStatus

Rows = list[dict[str, Any]]


pytestmark = pytest.mark.usefixtures("impatient")


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
    """The rows as the plain reference reads them: without what the mapping leaves out."""
    zeros = "00000000-0000-0000-0000-000000000000"
    return [
        {
            key: None if value in (zeros, "not a domain") or (key == "email" and value == "nobody") else value
            for key, value in row.items()
        }
        for row in rows
    ]


on_snowflake: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
"""Examples so far, by the kind of audience."""


@settings(max_examples=rounds(4, 8))
@given(data=st.data())
def test_every_day_ends_equal(kind: str, warehouse_url: str, tmp_path: Path, data: st.DataObject) -> None:
    """Any days, with shared, swapped and missing identifiers and keys, end with the audience equal to the query."""
    row = user_rows if kind == "user" else company_rows
    days = data.draw(st.lists(st.lists(row, max_size=8), min_size=2, max_size=4))
    if warehouse_url.startswith("snowflake") and next(on_snowflake[kind]) > rounds(2, 3):
        return  # Two seconds a run: few examples are for the dialect, the many for the logic.
    with sandbox() as running:
        world = World(warehouse_url, running, tmp_path, kind)
        world.begin_anew()
        for rows in days:
            world.fill(rows)
            report = world.run()
            assert report.status is RunStatus.SUCCEEDED
            assert report.rows == len(rows)
            world.check(clean(rows))


def person(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "email": f"person{number}@example.com", **more}


def days(world: World, *each: Rows) -> list[OperationCounts]:
    """Run every day; what each one planned."""
    planned = []
    for rows in each:
        world.fill(rows)
        planned.append(world.run().planned)
        world.check(rows)
    return planned


def test_a_person_with_two_rows_stays_while_one_row_is_left(world: World) -> None:
    """A member is a tuple of identifiers, not a row: losing one of two rows removes nobody."""
    twice = [person(1), {**person(1), "id": 2}]
    assert days(world, twice, twice[1:]) == [OperationCounts(add=1), OperationCounts()]


def test_a_changed_address_removes_the_old_one(world: World) -> None:
    """An update of an address is a REMOVE of the old member and an ADD of the new one."""
    assert days(world, [person(1)], [{"id": 1, "email": "new@example.com"}])[1] == OperationCounts(add=1, remove=1)


def test_swapped_addresses_change_nothing(world: World) -> None:
    """Two people who swap addresses are the same two members."""
    swapped = [{**person(1), "id": 2}, {**person(2), "id": 1}]
    assert days(world, [person(1), person(2)], swapped)[1] == OperationCounts()


def test_who_shares_a_device_with_a_leaver_is_added_again(world: World) -> None:
    """REMOVE may take out everybody behind an identifier, so whoever shares one is added again behind it."""
    both = [person(1, device=DEVICES[0]), person(2, device=DEVICES[0])]
    assert days(world, both, both[1:])[1] == OperationCounts(add=1, remove=1)


def test_new_fields_are_an_add_without_a_remove(world: World) -> None:
    """A changed first name is sent, and nobody is removed for it."""
    planned = days(world, [person(1, first_name="Ann")], [person(1, first_name="Bo")])
    assert planned[1] == OperationCounts(add=1)
    (fields,) = world.sandbox.members(world.segment, reading="elements").values()
    assert fields["firstName"] == "Bo"


def test_everybody_leaves_and_comes_back(world: World) -> None:
    """An empty query empties the audience (the guard is off here), and it fills again."""
    some = [person(number) for number in range(5)]
    assert days(world, some, [], some)[1:] == [OperationCounts(remove=5), OperationCounts(add=5)]


def test_where_no_row_is_as_it_was_each_member_is_judged_all_the_same(world: World) -> None:
    """All replaced, all with new fields, one of them alone left among new ones with another field, or another key."""
    first = [person(number, device=DEVICES[number % 2]) for number in range(4)]
    others = [person(number, device=DEVICES[number % 2]) for number in range(4, 8)]
    renamed = [{**row, "first_name": "Bo"} for row in others]
    one_renamed = [{**renamed[0], "first_name": "Cy"}, *first[1:]]
    one_under_another_key = [{**one_renamed[0], "id": 99}, *others[1:]]
    assert days(world, first, others, renamed, one_renamed, one_under_another_key)[1:] == [
        OperationCounts(add=4, remove=4),
        OperationCounts(add=4),
        OperationCounts(add=4, remove=3),
        OperationCounts(add=4, remove=3),
    ]


def test_missing_and_duplicate_keys_do_not_matter(world: World) -> None:
    """The primary key serves the log only: without one, or with the same for all, the mirror is right."""
    rows = [{**person(number), "id": None} for number in range(3)]
    same = [{**person(number), "id": 7} for number in range(2, 6)]
    days(world, rows, same, rows)


def test_an_unchanged_query_sends_no_member_request(world: World) -> None:
    """Nothing changed: nothing is sent to /users."""
    days(world, [person(1)])
    before = len(world.sandbox.requests("users"))
    report = world.run()
    assert report.planned == OperationCounts()
    assert len(world.sandbox.requests("users")) == before == 1


def test_a_full_run_adds_all_and_removes_the_stale(world: World) -> None:
    """--full sends every member and removes who left, in one run; the audience is never empty in between."""
    days(world, [person(number) for number in range(4)])
    world.fill([person(number) for number in range(1, 5)])
    report = world.run(full=True)
    assert report.planned == OperationCounts(add=4, remove=1)
    world.check([person(number) for number in range(1, 5)])


def test_what_was_in_the_audience_before_us_stays(world: World) -> None:
    """Members that an existing audience held before are not ours: they are never removed."""
    days(world, [person(1)])
    world.changes = {"audience": {"type": "user", "id": world.segment}}
    with world.connect() as connection:
        connection.exec_driver_sql("drop schema warehouse_sync cascade")
    world.fill([person(2)])
    report = world.run()
    assert report.planned == OperationCounts(add=1)
    assert world.holds("elements") == world.expected([person(1), person(2)], "elements")


def test_rejected_rows_are_told_once_and_without_their_value(world: World) -> None:
    """A row that cannot be a member is counted in each run and logged in the first, by its key."""
    rows = [person(1), {"id": 2}, {"id": 3, "email": "a" * 64}, {"id": 4, "email": "oops"}]
    world.fill(rows)
    reports = [world.run(), world.run()]
    assert [(report.rows, report.members, report.rejected) for report in reports] == [(4, 1, 3)] * 2
    lines = world.query("select primary_key, reason from warehouse_sync.sync_log where outcome = 'rejected'")
    assert sorted(map(tuple, lines)) == [("2", "no_identifier"), ("3", "already_hashed"), ("4", "no_identifier")]


def test_data_that_is_hashed_already(world: World) -> None:
    """hash_pii: false sends hashes as they are, in lower case, and rejects what is none with advice and no value."""
    digest = "584C4423C421DF49955759498A71495ABA49B8780EB9387DFF333B6F0982C777"
    world.changes = {"hash_pii": False}
    world.fill([{"id": 1, "email": digest}, {"id": 2, "email": "plain@example.com"}])
    report = world.run()
    assert (report.members, report.rejected) == (1, 1)
    assert world.holds("elements") == {frozenset({("SHA256_EMAIL", digest.lower())})}
    ((message,),) = world.query("select message from warehouse_sync.sync_log where reason = 'not_hashed'")
    assert "turn hash_pii on" in message
    assert "plain@" not in message


def test_a_new_mapping_converges(world: World) -> None:
    """Another identifier in the mapping: old members go, new ones come, in one plain diff."""
    rows = [person(number, device=DEVICES[number]) for number in range(3)]
    days(world, rows)
    world.changes = {"identifiers": {"sha256_email": "email"}}
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


def test_the_query_is_opaque(world: World) -> None:
    """Comments, semicolons at the end, colons and per cent signs in the query mean nothing to us."""
    for number, sql in enumerate(QUERIES, 1):
        world.changes = {"model": {"sql": sql, "primary_key": "id"}}
        (planned,) = days(world, [person(number)])
        assert planned == OperationCounts(add=1, remove=int(number > 1))
