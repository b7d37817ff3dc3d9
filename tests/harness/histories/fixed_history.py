"""One fixed history, interrupted at every point: a first sync, then two alternating sets of rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise

from harness.histories.random_histories import DEVICES, EMAILS, History, Row, Step
from harness.processes.kill_points import KINDS, SIDES, WorkerFault

POINTS_PER_HISTORY = 8
"""The number of interrupted later syncs in one history; a sync without faults follows each of them."""


def _make_row(number: int, email: int | None, device: int | None, name: str | None = None) -> Row:
    return {
        "id": number,
        "email": None if email is None else EMAILS[email],
        "device": None if device is None else DEVICES[device],
        "first_name": name,
        "country": "DE",
    }


ROWS_A = (
    _make_row(1, 0, 0, "Ann"),
    _make_row(2, 1, 0),
    _make_row(3, 2, None),
    _make_row(4, None, 1),
    _make_row(5, 3, 2, "Ann"),
)
"""Two rows share a device; one has no device, one no address."""

ROWS_B = (
    *(_make_row(1, 0, 1, "Ann"), _make_row(2, 1, 0), _make_row(3, 2, None), _make_row(5, 3, 2, "Bob")),
    *(_make_row(6, 4, 2), _make_row(7, 5, None), _make_row(8, 2, 1)),
)
"""From ROWS_A one of the two rows with a shared device changes its device, one row changes its name, one leaves, three
join. Back to ROWS_A, a row leaves that shares an address with one that stays."""

LATER, FIRST = "later", "first"


def make_dry_run() -> History:
    """Return the history without faults: a first sync, one to ROWS_B, one back to ROWS_A."""
    steps = tuple(Step(rows, ("run",), record_every_batch=True, must_succeed=True) for rows in (ROWS_A, ROWS_B, ROWS_A))
    return History("dry runs", steps)


def list_worker_faults(passed: Mapping[str, int], *, remote: bool) -> list[WorkerFault]:
    """Return the faults that can happen at each point of a run.

    Args:
        passed: The number of points in the run by their kind.
        remote: Whether the warehouse is a server, so that the answer to a COMMIT can be lost.
    """
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


def make_first_syncs(worker_faults: Sequence[WorkerFault]) -> Iterator[History]:
    """Yield histories in which the first sync is interrupted, one per fault."""
    for worker_fault in worker_faults:
        yield History(
            f"{FIRST}: {worker_fault}", (Step(ROWS_A, ("run",), worker_fault=worker_fault, record_every_batch=True),)
        )


def make_later_syncs(worker_faults: Sequence[WorkerFault]) -> Iterator[History]:
    """Yield histories in which later syncs are interrupted; a sync without faults follows each."""
    for start in range(0, len(worker_faults), POINTS_PER_HISTORY):
        chosen = worker_faults[start : start + POINTS_PER_HISTORY]
        steps = [Step(ROWS_A, ("run",), must_succeed=True)]
        for worker_fault, rows in zip(chosen, cycle((ROWS_B, ROWS_A)), strict=False):
            steps.append(Step(rows, ("run",), worker_fault=worker_fault, record_every_batch=True))
            steps.append(Step(None, ("run",), must_succeed=True))
        yield History(f"{LATER}: {'; '.join(map(str, chosen))}", tuple(steps))


def sample_evenly(worker_faults: Sequence[WorkerFault], count: int) -> list[WorkerFault]:
    """Return `count` of the faults, always the same, one from each of `count` equal parts; all if there are fewer.

    The sample contains as many different kinds of faults as possible.
    """
    if count >= len(worker_faults):
        return list(worker_faults)
    edges = [part * len(worker_faults) // count for part in range(count + 1)]
    generators = (random.Random(f"{count} {attempt}") for attempt in range(100))
    samples = ([worker_faults[rng.randrange(start, end)] for start, end in pairwise(edges)] for rng in generators)
    return max(samples, key=lambda sample: len({worker_fault.act for worker_fault in sample}))


def parse_history(name: str) -> History:
    """Return the history with this name."""
    kind, _, worker_faults = name.partition(": ")
    parsed = [WorkerFault.parse(text) for text in worker_faults.split("; ")]
    (history,) = (make_first_syncs if kind == FIRST else make_later_syncs)(parsed)
    return history
