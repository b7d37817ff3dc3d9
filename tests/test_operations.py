"""Elements and outcomes of a batch, as a whole and one by one."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.operations import DELIVERED, SEPARATOR, Elements, Outcomes, deferred, rejected

objects = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=2), min_size=1, max_size=9)


def join_elements(written: list[bytes]) -> Elements:
    return Elements(b"".join(each + SEPARATOR.encode() for each in written), len(written))


@given(objects, st.data())
def test_elements_are_joined_in_the_requested_order(each: list[dict[str, str]], data: st.DataObject) -> None:
    written = [orjson.dumps(one) for one in each]
    elements = join_elements(written)
    indexes = st.integers(0, len(each) - 1)
    positions = data.draw(st.lists(indexes) | st.builds(range, indexes, indexes) | st.just(range(len(each))))
    assert len(elements) == len(each)
    assert orjson.loads(b"[" + elements.join(positions) + b"]") == [each[index] for index in positions]
    assert [elements[index] for index in range(len(each))] == written


def test_a_wrong_number_of_elements_is_refused() -> None:
    with pytest.raises(AssertionError, match="3 elements came apart into 2"):
        Elements(b"{},\n{},\n", 3)[0]


@given(st.lists(st.sampled_from([DELIVERED, deferred("http_503", "x"), rejected("http_400", "x")])))
def test_outcomes_are_grouped_and_iterated_one_by_one(each: list[object]) -> None:
    outcomes = Outcomes.from_outcomes(each)  # type: ignore[arg-type]
    assert list(outcomes) == each
    assert len(outcomes) == len(each)
    kinds = [outcome for outcome, _ in outcomes.groups]
    assert all(one != other for one, other in pairwise(kinds))
