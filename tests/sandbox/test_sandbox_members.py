"""The three readings of REMOVE against naive models, for all histories of ADD and REMOVE."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.sandbox.members import ElementKey, Reading, SegmentMembers

IDENTIFIERS = [("SHA256_EMAIL", letter) for letter in "abc"] + [("GOOGLE_AID", letter) for letter in "xy"]
KEYS = st.sets(st.sampled_from(IDENTIFIERS), min_size=1, max_size=3).map(lambda chosen: tuple(sorted(chosen)))
FIELDS = st.fixed_dictionaries({}, optional={"title": st.sampled_from(["one", "two"])})
STEPS = st.lists(st.tuples(st.sampled_from(["ADD", "REMOVE"]), KEYS, FIELDS), max_size=30)

Step = tuple[str, ElementKey, dict[str, Any]]


def apply_steps(steps: list[Step]) -> SegmentMembers:
    members = SegmentMembers()
    for action, key, fields in steps:
        if action == "ADD":
            members.add([(key, fields)])
        else:
            members.remove([key])
    return members


@given(STEPS)
def test_identifiers_reading_removes_exactly_the_named_identifiers(steps: list[Step]) -> None:
    model: dict[tuple[str, str], dict[str, Any]] = {}
    for action, key, fields in steps:
        for identifier in key:
            if action == "ADD":
                model[identifier] = fields
            else:
                model.pop(identifier, None)
    held = apply_steps(steps).under(Reading.IDENTIFIERS)
    assert held == {(identifier,): fields for identifier, fields in model.items()}


@given(STEPS)
def test_elements_reading_removes_exactly_the_element_with_these_identifiers(steps: list[Step]) -> None:
    model: dict[ElementKey, dict[str, Any]] = {}
    for action, key, fields in steps:
        if action == "ADD":
            model[key] = fields
        else:
            model.pop(key, None)
    assert apply_steps(steps).under(Reading.ELEMENTS) == model


@given(STEPS)
def test_persons_reading_removes_every_element_that_shares_an_identifier(steps: list[Step]) -> None:
    model: dict[ElementKey, dict[str, Any]] = {}
    for action, key, fields in steps:
        if action == "ADD":
            model[key] = fields
        else:
            model = {held: kept for held, kept in model.items() if set(held).isdisjoint(key)}
    assert apply_steps(steps).under(Reading.PERSONS) == model


def test_the_readings_differ_where_two_members_share_an_identifier() -> None:
    email, device, other = IDENTIFIERS[0], IDENTIFIERS[3], IDENTIFIERS[4]
    members = SegmentMembers()
    members.add([((device, email), {}), ((other, email), {})])
    members.remove([(device, email)])
    assert set(members.under(Reading.IDENTIFIERS)) == {(other,)}
    assert set(members.under(Reading.ELEMENTS)) == {(other, email)}
    assert set(members.under(Reading.PERSONS)) == set()


def test_clear_removes_all_members_under_every_reading() -> None:
    members = apply_steps([("ADD", (IDENTIFIERS[0],), {})])
    members.clear()
    assert [members.under(reading) for reading in Reading] == [{}, {}, {}]
    members.add([((IDENTIFIERS[0],), {})])
    assert len(members) == 1
