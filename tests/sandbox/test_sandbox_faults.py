"""Faults as text, and when they happen."""

from __future__ import annotations

import pytest

from warehouse_sync.errors import ConfigurationError
from warehouse_sync.sandbox import Fault
from warehouse_sync.sandbox.faults import KINDS, FaultRegistry


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("503", Fault("503")),
        ("503:users:times=3", Fault("503", on="users", times=3)),
        ("reset_after:users:probability=0.1", Fault("reset_after", on="users", probability=0.1)),
        ("429:any:retry_after=2:after=5", Fault("429", retry_after=2.0, after=5)),
        ("timeout_after:create:seconds=1.5", Fault("timeout_after", on="create", seconds=1.5)),
        ("refuse_elements:users:indices=0|7:status=500", Fault("refuse_elements", "users", indices=(0, 7), status=500)),
        (
            "refuse_batch_silent:companies:values=urn:li:organization:5|acme.com:action=add",
            Fault(
                "refuse_batch_silent",
                "companies",
                values=frozenset({"urn:li:organization:5", "acme.com"}),
                action="ADD",
            ),
        ),
    ],
)
def test_text_and_fields_describe_the_same_fault(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown fault"),
        ("earthquake:users", "refuse_batch_silent"),
        ("503:weather", "companies"),
        ("503:users:often=3", "times"),
        ("503:users:times=three", "times"),
        ("503:users:more", "503:users:times=3"),
        ("503:users:action=LOOK", "REMOVE"),
    ],
)
def test_invalid_text_is_refused_with_the_valid_alternatives(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Fault.parse(text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written_as_text(kind: str) -> None:
    assert Fault.parse(kind).kind == kind


def triggers(fault: Fault, requests: int, seed: int = 0, values: set[str] | None = None) -> list[bool]:
    book = FaultRegistry(seed, [fault])
    return [bool(book.trigger("users", "ADD", values or set(), None)) for _ in range(requests)]


def test_a_fault_happens_once_by_default() -> None:
    assert triggers(Fault("503"), 4) == [True, False, False, False]
    assert triggers(Fault("503", times=2, after=1), 4) == [False, True, True, False]
    assert triggers(Fault("503", times=0), 4) == [True] * 4


def test_a_fault_with_values_happens_whenever_they_are_sent() -> None:
    bad_value = Fault("refuse_batch_silent", on="users", values=frozenset({"bad"}))
    assert triggers(bad_value, 3, values={"bad", "good"}) == [True] * 3
    assert triggers(bad_value, 3, values={"good"}) == [False] * 3


def test_the_same_seed_repeats_random_choices() -> None:
    fault = Fault("503", probability=0.5)
    first = triggers(fault, 60, seed=1)
    assert first == triggers(fault, 60, seed=1)
    assert {True, False} == set(first)


def test_a_fault_happens_only_to_its_operation_and_action() -> None:
    book = FaultRegistry(0, [Fault("503", on="segments"), Fault("500", on="users", action="REMOVE")])
    assert book.trigger("companies", "ADD", set(), None) == []
    assert book.trigger("users", "ADD", set(), None) == []
    assert [fault.kind for fault in book.trigger("create", None, set(), None)] == ["503"]
    assert [fault.kind for fault in book.trigger("users", "REMOVE", set(), None)] == ["500"]
    assert book.active() == []
