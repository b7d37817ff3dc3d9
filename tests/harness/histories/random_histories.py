"""Random histories, reproducible by their seed: changing data and audiences, faults of LinkedIn and of workers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.processes.kill_points import WorkerFault

EMAILS = tuple(f"{letter}@example.com" for letter in "abcdef")
DEVICES = tuple(f"0000000{n}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in range(1, 4))
NAMES = (None, "Ann", "Bob")
COUNTRIES = (None, None, "de", "FR")
IDS = range(1, 9)

Row = dict[str, Any]

BATCH_FAULTS = (
    "short_answer", "cut_short", "refuse_elements", "refuse_batch_named", "refuse_batch_indices", "refuse_batch_silent",
)  # fmt: skip
FAULTS = (
    "401", "403", "408", "409", "423", "426", "429", "429_daily", "429_infrastructure", "500", "502", "503", "504",
    "65600", "65601", "65602", "not_found", "reset_before", "reset_after", "reset_before", "reset_after", "bad_json",
    "slow", "timeout_after", *BATCH_FAULTS, *BATCH_FAULTS, *BATCH_FAULTS,
)  # fmt: skip
REQUEST_KINDS = ("users",) * 10 + ("any", "any", "token", "create", "find", "get")


@dataclass(frozen=True, slots=True)
class Step:
    """New data and one run.

    Attributes:
        rows: The new data; None leaves the data unchanged.
        arguments: The arguments of the command line.
        faults: The faults of LinkedIn during the run.
        worker_fault: The fault of the worker, if any.
        audience: What happens to the audience before the run: `expired` (LinkedIn deletes its members), `denied` (no
            write role during this run), or nothing.
        guarded: Whether the guard is strict.
        record_every_batch: Whether outcomes are recorded after each batch.
        two_workers: Whether a second worker runs at the same time.
        must_succeed: Whether the run has no faults and must succeed.
    """

    rows: tuple[Row, ...] | None
    arguments: tuple[str, ...]
    faults: tuple[str, ...] = ()
    worker_fault: WorkerFault | None = None
    audience: str = ""
    guarded: bool = False
    record_every_batch: bool = False
    two_workers: bool = False
    must_succeed: bool = False

    def __str__(self) -> str:
        parts = [" ".join(self.arguments)]
        if self.rows is not None:
            parts.insert(0, f"{len(self.rows)} rows")
        parts += [
            name for name in ("guarded", "record_every_batch", "two_workers", "must_succeed") if getattr(self, name)
        ]
        parts += [f"audience {self.audience}"] if self.audience else []
        parts += self.faults
        parts += [str(self.worker_fault)] if self.worker_fault else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class History:
    """Steps, and the settings for all of them.

    Attributes:
        name: The name that identifies the history, so that it can be repeated.
        steps: The steps in order.
        sandbox: Settings of the sandbox.
        sync: Configuration keys of the sync.
        account: Configuration keys of the destination.
    """

    name: str
    steps: tuple[Step, ...]
    sandbox: dict[str, Any] = field(default_factory=dict)
    sync: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = {**self.sandbox, **self.sync, **self.account}
        return "\n".join([f"{self.name} {settings}", *(f"  {n}. {step}" for n, step in enumerate(self.steps, 1))])


def make_random_history(seed: str, number: int, *, overlapping: bool) -> History:
    """Return history `number` of a seed.

    Args:
        seed: The seed.
        number: The number of the history, counted from 1.
        overlapping: Whether two workers may run at the same time.
    """
    rng = random.Random(f"{seed}:{number}")
    rows: list[Row] = []
    earlier: list[list[Row]] = [[]]
    steps = []
    for _ in range(rng.randint(2, 5)):
        changed = rng.random() < 0.8
        if changed:
            rows = _change_rows(rng, rows, earlier)
            earlier.append(rows)
        steps.append(_make_step(rng, tuple(rows) if changed else None, overlapping=overlapping))
    sandbox: dict[str, Any] = {
        "token_life": rng.choice([5.0, 86400.0]),
        "token_propagation": rng.choice([0.0, 0.0, 0.1]),
        "refresh_kills_old_tokens": rng.random() < 0.3,
        "ready_after": rng.choice([0.0, 0.0, 0.2]),
        "batch_index": rng.random() < 0.5,
        "echo_values": rng.random() < 0.5,
        "seed": rng.randint(0, 1_000_000),
    }
    sync: dict[str, Any] = {"retry": {"enabled": False}} if rng.random() < 0.15 else {}
    account = {"max_in_flight": rng.choice([1, 2, 8])}
    return History(f"{seed}:{number}", tuple(steps), sandbox, sync, account)


def _make_step(rng: random.Random, rows: tuple[Row, ...] | None, *, overlapping: bool) -> Step:
    arguments = rng.choice(
        [("run",)] * 6 + [("run", "--full"), ("run", "--force"), ("retry", "people"), ("retry", "people", "--dead")]
    )
    count = rng.choice([0, 0, 1, 1, 1, 2, 3])
    return Step(
        rows,
        arguments,
        tuple(_make_fault(rng) for _ in range(count)),
        _make_worker_fault(rng) if rng.random() < 0.65 else None,
        rng.choice([""] * 14 + ["expired", "expired", "denied"]),
        guarded=rng.random() < 0.1,
        record_every_batch=rng.random() < 0.5,
        two_workers=overlapping and rng.random() < 0.08,
    )


def _make_worker_fault(dice: random.Random) -> WorkerFault:
    kind = dice.choice(["statement"] * 5 + ["commit"] * 3 + ["request"] * 3 + ["record"] * 2 + ["moment"] * 2)
    if kind == "moment":
        act = dice.choice(["kill"] * 6 + ["terminate", "interrupt"])
        return WorkerFault("moment", "", dice.randint(30, 700), act)
    side = dice.choice(["before", "after"])
    acts = ["kill"] * 10 + ["terminate", "terminate twice", "interrupt"]
    if kind == "commit" or (kind == "statement" and side == "before"):
        acts += ["break"] * 4 + ["outage"] * (2 if side == "before" else 0)
    most = {"statement": 110, "commit": 30, "request": 14, "record": 8}[kind]
    return WorkerFault(kind, side, dice.randint(1, most), dice.choice(acts))


def _make_fault(rng: random.Random) -> str:
    kind = rng.choice(FAULTS)
    batches = kind in BATCH_FAULTS
    slow = kind in ("slow", "timeout_after")
    # A timeout costs seconds; a slow answer must stay below it, or LinkedIn would apply the request too late.
    options = [f"times={rng.choice([1, 1, 2]) if slow else rng.choice([0, 0, 1, 1, 2, 3, 6])}"]
    if slow:
        options.append(f"seconds={0.1 if kind == 'slow' else 1.5}")
    if rng.random() < 0.3:
        options.append(f"after={rng.randint(1, 4)}")
    if rng.random() < 0.25:
        options.append(f"probability={rng.choice([0.3, 0.6])}")
    request = "users" if batches or slow else rng.choice(REQUEST_KINDS)
    if request == "users" and rng.random() < 0.5:
        options.append(f"action={rng.choice(['ADD', 'REMOVE'])}")
    if kind in ("short_answer", "cut_short"):
        options.append(f"count={rng.choice([1, 1, 2])}")
    if kind.startswith("refuse_"):
        options += _choose_elements(rng)
    if kind == "refuse_elements":
        options.append(f"status={rng.choice([400, 400, 404, 422, 429, 500])}")
    if kind in ("429", "503") and rng.random() < 0.2:
        options.append("retry_after=60")
    return ":".join([kind, request, *options])


def _choose_elements(rng: random.Random) -> list[str]:
    match rng.choice(["first", "positions", "person"]):
        case "positions":
            return [f"indices={rng.choice(['0', '1', '0|1'])}"]
        case "person":
            return [f"values={hashlib.sha256(rng.choice(EMAILS).encode()).hexdigest()}"]
        case _:
            return []


def _change_rows(rng: random.Random, rows: Sequence[Row], earlier: Sequence[Sequence[Row]]) -> list[Row]:
    """Return changed rows, mostly similar to the current ones."""
    kind = rng.choice(["some", "some", "some", "new", "back", "empty"])
    if kind == "empty" and rng.random() < 0.6:
        return []
    if kind == "back":
        return list(rng.choice(earlier))
    if kind == "new" or not rows:
        return [_make_row(rng) for _ in range(rng.randint(1, 9))]
    changed = [dict(row) for row in rows]
    for _ in range(rng.randint(1, 4)):
        _edit_rows(rng, changed)
    return changed


def _edit_rows(rng: random.Random, rows: list[Row]) -> None:
    """Make one change: a row joins, leaves, is duplicated, swaps its address, or changes a field or an identifier."""
    if not rows:
        rows.append(_make_row(rng))
        return
    one, other = rng.choice(rows), rng.choice(rows)
    match rng.choice(["join", "join", "leave", "leave", "double", "swap", "field", "identifier", "share"]):
        case "join":
            rows.append(_make_row(rng))
        case "leave":
            rows.remove(one)
        case "double":
            rows.append({**one, "id": rng.choice(IDS)})
        case "swap":
            one["email"], other["email"] = other["email"], one["email"]
        case "field":
            one["first_name"] = rng.choice(NAMES)
        case "identifier":
            one.update({name: value for name, value in _make_row(rng).items() if name in ("email", "device")})
        case _:
            rows.append({**_make_row(rng), "device": one["device"]})


def _make_row(rng: random.Random) -> Row:
    return {
        "id": rng.choice(IDS),
        "email": rng.choice([None, *EMAILS]),
        "device": rng.choice([None, *DEVICES]),
        "first_name": rng.choice(NAMES),
        "country": rng.choice(COUNTRIES),
    }
