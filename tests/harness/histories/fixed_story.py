"""One fixed story, cut off at every point: a first sync, then joins, leaves and shared identifiers, to and fro."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise

from harness.histories.random_histories import DEVICES, EMAILS, History, Row, Step
from harness.processes.kill_points import KINDS, SIDES, WorkerFault

CHAIN = 8
"""Points of the later syncs that share a world: each takes up where the run behind the one before has ended."""


def _row(number: int, email: int | None, device: int | None, name: str | None = None) -> Row:
    return {
        "id": number,
        "email": None if email is None else EMAILS[email],
        "device": None if device is None else DEVICES[device],
        "first_name": name,
        "country": "DE",
    }


ONE = (_row(1, 0, 0, "Ann"), _row(2, 1, 0), _row(3, 2, None), _row(4, None, 1), _row(5, 3, 2, "Ann"))
"""Two share a device; one has no device, one no address."""

OTHER = (
    *(_row(1, 0, 1, "Ann"), _row(2, 1, 0), _row(3, 2, None), _row(5, 3, 2, "Bob")),
    *(_row(6, 4, 2), _row(7, 5, None), _row(8, 2, 1)),
)
"""From ONE: one takes another device and leaves behind the one who shares the old one, one is called otherwise, one
leaves, three join. On the way back one leaves who shares an address with one who stays."""

LATER, FIRST = "later", "first"


def dry_runs() -> History:
    """The story without anything going wrong; its steps are a first sync, then one there and one back."""
    steps = tuple(Step(rows, ("run",), often=True, calm=True) for rows in (ONE, OTHER, ONE))
    return History("dry runs", steps)


def points(passed: Mapping[str, int], *, remote: bool) -> list[WorkerFault]:
    """Every point of a run that passed so many, and what can happen there; `remote`: also a lost answer to a COMMIT."""
    found = []
    for kind in KINDS:
        for number in range(1, passed.get(kind, 0) + 1):
            found += [WorkerFault(kind, side, number, "kill") for side in SIDES]
            found.append(WorkerFault(kind, "before", number, "terminate"))
            if kind in ("statement", "commit"):
                found.append(WorkerFault(kind, "before", number, "break"))
            if kind == "commit" and remote:
                found.append(WorkerFault(kind, "after", number, "break"))
    return found


def first_syncs(upsets: Sequence[WorkerFault]) -> Iterator[History]:
    """The first sync meets one upset each time."""
    for upset in upsets:
        yield History(f"{FIRST}: {upset}", (Step(ONE, ("run",), upset=upset, often=True),))


def later_syncs(upsets: Sequence[WorkerFault]) -> Iterator[History]:
    """A sync of changes meets each upset, and a calm one follows; several to a history."""
    for start in range(0, len(upsets), CHAIN):
        part = upsets[start : start + CHAIN]
        steps = [Step(ONE, ("run",), calm=True)]
        for upset, rows in zip(part, cycle((OTHER, ONE)), strict=False):
            steps.append(Step(rows, ("run",), upset=upset, often=True))
            steps.append(Step(None, ("run",), calm=True))
        yield History(f"{LATER}: {'; '.join(map(str, part))}", tuple(steps))


def spread(upsets: Sequence[WorkerFault], count: int) -> list[WorkerFault]:
    """So many of them, the same each time, one from each of `count` equal parts; all when there are no more.

    Whatever can happen at all is among them, as far as there is room.
    """
    if count >= len(upsets):
        return list(upsets)
    edges = [part * len(upsets) // count for part in range(count + 1)]
    throws = (random.Random(f"{count} {throw}") for throw in range(100))
    chosen = ([upsets[dice.randrange(start, end)] for start, end in pairwise(edges)] for dice in throws)
    return max(chosen, key=lambda some: len({upset.act for upset in some}))


def told(name: str) -> History:
    """The history that has this name."""
    which, _, upsets = name.partition(": ")
    parsed = [WorkerFault.parse(text) for text in upsets.split("; ")]
    (history,) = (first_syncs if which == FIRST else later_syncs)(parsed)
    return history
