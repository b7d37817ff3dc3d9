"""The sandbox notices clients whose order of REMOVE and ADD is not safe."""

from __future__ import annotations

from dataclasses import replace

from warehouse_sync.sandbox.state import RequestRecord, find_violations


def record(action: str, started: int, finished: int | None, segment: int = 1) -> RequestRecord:
    path = f"/rest/dmpSegments/{segment}/users"
    return RequestRecord("POST", path, "users", started, 0.0, segment, action=action, finished=finished)


def test_removes_that_are_answered_before_the_first_add_are_no_violation() -> None:
    assert (
        find_violations([record("REMOVE", 1, 3), record("REMOVE", 2, 4), record("ADD", 5, 7), record("ADD", 6, 8)])
        == []
    )


def test_an_add_during_a_remove_is_a_violation() -> None:
    [sentence] = find_violations([record("REMOVE", 1, 4), record("ADD", 3, 5)])
    assert "request 3" in sentence
    assert "request 1" in sentence


def test_an_add_during_a_remove_without_end_is_a_violation() -> None:
    assert len(find_violations([record("REMOVE", 1, None), record("ADD", 3, 5)])) == 1


def test_an_add_to_another_segment_is_no_violation() -> None:
    assert find_violations([record("REMOVE", 1, 4), record("ADD", 3, 5, segment=2)]) == []


def test_an_abandoned_remove_is_no_violation() -> None:
    assert find_violations([replace(record("REMOVE", 1, 4), abandoned=True), record("ADD", 3, 5)]) == []


def test_a_request_that_mixes_both_is_a_violation() -> None:
    assert len(find_violations([record("ADD+REMOVE", 1, 2)])) == 1
