"""Histories at random, the same for the same seed: what befalls the data, the audience, LinkedIn and the workers."""

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
PLACES = ("users",) * 10 + ("any", "any", "token", "create", "find", "get")


@dataclass(frozen=True, slots=True)
class Step:
    """New data, and one run over it.

    rows: None leaves the data alone. words: of the command line. faults: of the sandbox while the run lasts.
    audience: what befalls it before the run: `expired` (its members are dropped) or `denied` (no write role, for this
    run). guarded: the guard is on. often: outcomes are recorded batch by batch. beside: a second worker runs at the
    same time. calm: nothing goes wrong, so the run must succeed.
    """

    rows: tuple[Row, ...] | None
    words: tuple[str, ...]
    faults: tuple[str, ...] = ()
    upset: WorkerFault | None = None
    audience: str = ""
    guarded: bool = False
    often: bool = False
    beside: bool = False
    calm: bool = False

    def __str__(self) -> str:
        parts = [" ".join(self.words)]
        if self.rows is not None:
            parts.insert(0, f"{len(self.rows)} rows")
        parts += [name for name in ("guarded", "often", "beside", "calm") if getattr(self, name)]
        parts += [f"audience {self.audience}"] if self.audience else []
        parts += self.faults
        parts += [str(self.upset)] if self.upset else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class History:
    """Steps, and what holds for all of them: settings of the sandbox, keys of the sync and of the destination."""

    name: str
    steps: tuple[Step, ...]
    sandbox: dict[str, Any] = field(default_factory=dict)
    sync: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        given = {**self.sandbox, **self.sync, **self.account}
        return "\n".join([f"{self.name} {given}", *(f"  {n}. {step}" for n, step in enumerate(self.steps, 1))])


def make_history(seed: str, number: int, *, overlapping: bool) -> History:
    """History `number` of this seed. overlapping: two workers may run at the same time."""
    dice = random.Random(f"{seed}:{number}")
    rows: list[Row] = []
    past: list[list[Row]] = [[]]
    steps = []
    for _ in range(dice.randint(2, 5)):
        changed = dice.random() < 0.8
        if changed:
            rows = _changed(dice, rows, past)
            past.append(rows)
        steps.append(_step(dice, tuple(rows) if changed else None, overlapping=overlapping))
    sandbox: dict[str, Any] = {
        "token_life": dice.choice([5.0, 86400.0]),
        "token_propagation": dice.choice([0.0, 0.0, 0.1]),
        "refresh_kills_old_tokens": dice.random() < 0.3,
        "ready_after": dice.choice([0.0, 0.0, 0.2]),
        "batch_index": dice.random() < 0.5,
        "echo_values": dice.random() < 0.5,
        "seed": dice.randint(0, 1_000_000),
    }
    sync: dict[str, Any] = {"retry": {"enabled": False}} if dice.random() < 0.15 else {}
    account = {"max_in_flight": dice.choice([1, 2, 8])}
    return History(f"{seed}:{number}", tuple(steps), sandbox, sync, account)


def _step(dice: random.Random, rows: tuple[Row, ...] | None, *, overlapping: bool) -> Step:
    words = dice.choice(
        [("run",)] * 6 + [("run", "--full"), ("run", "--force"), ("retry", "people"), ("retry", "people", "--dead")]
    )
    count = dice.choice([0, 0, 1, 1, 1, 2, 3])
    return Step(
        rows,
        words,
        tuple(_fault(dice) for _ in range(count)),
        _upset(dice) if dice.random() < 0.65 else None,
        dice.choice([""] * 14 + ["expired", "expired", "denied"]),
        guarded=dice.random() < 0.1,
        often=dice.random() < 0.5,
        beside=overlapping and dice.random() < 0.08,
    )


def _upset(dice: random.Random) -> WorkerFault:
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


def _fault(dice: random.Random) -> str:
    kind = dice.choice(FAULTS)
    batches = kind in BATCH_FAULTS
    slow = kind in ("slow", "timeout_after")
    # What times out costs seconds; what is slow must stay below the timeout, or LinkedIn would carry it out too late.
    options = [f"times={dice.choice([1, 1, 2]) if slow else dice.choice([0, 0, 1, 1, 2, 3, 6])}"]
    if slow:
        options.append(f"seconds={0.1 if kind == 'slow' else 1.5}")
    if dice.random() < 0.3:
        options.append(f"after={dice.randint(1, 4)}")
    if dice.random() < 0.25:
        options.append(f"probability={dice.choice([0.3, 0.6])}")
    on = "users" if batches or slow else dice.choice(PLACES)
    if on == "users" and dice.random() < 0.5:
        options.append(f"action={dice.choice(['ADD', 'REMOVE'])}")
    if kind in ("short_answer", "cut_short"):
        options.append(f"count={dice.choice([1, 1, 2])}")
    if kind.startswith("refuse_"):
        options += _whom(dice)
    if kind == "refuse_elements":
        options.append(f"status={dice.choice([400, 400, 404, 422, 429, 500])}")
    if kind in ("429", "503") and dice.random() < 0.2:
        options.append("retry_after=60")
    return ":".join([kind, on, *options])


def _whom(dice: random.Random) -> list[str]:
    match dice.choice(["first", "places", "person"]):
        case "places":
            return [f"indices={dice.choice(['0', '1', '0|1'])}"]
        case "person":
            return [f"values={hashlib.sha256(dice.choice(EMAILS).encode()).hexdigest()}"]
        case _:
            return []


def _changed(dice: random.Random, rows: Sequence[Row], past: Sequence[Sequence[Row]]) -> list[Row]:
    """Other data, mostly close to what was there."""
    kind = dice.choice(["some", "some", "some", "new", "back", "empty"])
    if kind == "empty" and dice.random() < 0.6:
        return []
    if kind == "back":
        return list(dice.choice(past))
    if kind == "new" or not rows:
        return [_row(dice) for _ in range(dice.randint(1, 9))]
    changed = [dict(row) for row in rows]
    for _ in range(dice.randint(1, 4)):
        _edit(dice, changed)
    return changed


def _edit(dice: random.Random, rows: list[Row]) -> None:
    """One thing changes: somebody joins, leaves, is doubled, swaps the address, changes a field or an identifier."""
    if not rows:
        rows.append(_row(dice))
        return
    one, other = dice.choice(rows), dice.choice(rows)
    match dice.choice(["join", "join", "leave", "leave", "double", "swap", "field", "identifier", "share"]):
        case "join":
            rows.append(_row(dice))
        case "leave":
            rows.remove(one)
        case "double":
            rows.append({**one, "id": dice.choice(IDS)})
        case "swap":
            one["email"], other["email"] = other["email"], one["email"]
        case "field":
            one["first_name"] = dice.choice(NAMES)
        case "identifier":
            one.update({name: value for name, value in _row(dice).items() if name in ("email", "device")})
        case _:
            rows.append({**_row(dice), "device": one["device"]})


def _row(dice: random.Random) -> Row:
    return {
        "id": dice.choice(IDS),
        "email": dice.choice([None, *EMAILS]),
        "device": dice.choice([None, *DEVICES]),
        "first_name": dice.choice(NAMES),
        "country": dice.choice(COUNTRIES),
    }
