"""Data for histories: many small, independent groups of people in one table.

Groups share no identifiers, so one history tests as many histories of data as there are groups. Each group uses few
addresses and devices, so that duplicate rows, shared identifiers and moved addresses are frequent.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

Person = dict[str, Any]

CODE_BYTES = 2
"""The bytes that decide the change of one group in one step; zeros mean no change."""

MAX_ROWS = 5
"""The highest number of rows in a group."""

REVERT_PROBABILITY, REPLACE_PROBABILITY = 0.2, 0.35
"""How often a group returns to its previous rows, and how often its rows are otherwise replaced instead of edited."""


class People:
    """The groups now and before their last change."""

    def __init__(self, groups: int) -> None:
        self.groups: list[list[Person]] = [[] for _ in range(groups)]
        self._previous: list[list[Person]] = [[] for _ in range(groups)]

    @property
    def rows(self) -> list[Person]:
        """All rows of the table."""
        return [person for group in self.groups for person in group]

    def change(self, codes: bytes) -> None:
        """Change each group as its code says; `codes` holds CODE_BYTES bytes per group."""
        for number, group in enumerate(self.groups):
            code = int.from_bytes(codes[number * CODE_BYTES : (number + 1) * CODE_BYTES])
            if code:
                rng = Random(code)
                revert = rng.random() < REVERT_PROBABILITY
                self.groups[number] = self._previous[number] if revert else _change_group(number, group, rng)
                self._previous[number] = group

    def clear(self) -> None:
        """Remove all rows."""
        self._previous, self.groups = self.groups, [[] for _ in self.groups]


def _change_group(number: int, rows: list[Person], rng: Random) -> list[Person]:
    if rng.random() < REPLACE_PROBABILITY:
        return [_make_person(number, rng) for _ in range(rng.randrange(MAX_ROWS + 1))]
    rows = [dict(row) for row in rows]
    for _ in range(rng.randint(1, 2)):
        _edit_rows(number, rows, rng)
    return rows


def _edit_rows(number: int, rows: list[Person], rng: Random) -> None:
    edits = ["join"] if not rows else ["join", "leave", "double", "swap", "field", "device", "address", "clear"]
    edit = rng.choice(edits) if len(rows) < MAX_ROWS else "leave"
    if edit == "join":
        rows.append(_make_person(number, rng))
        return
    one, other = rng.choice(rows), rng.choice(rows)
    if edit == "leave":
        rows.remove(one)
    elif edit == "double":
        rows.append({**one, "id": number * 10 + rng.randint(1, 9)})
    elif edit == "swap":
        one["email"], other["email"] = other["email"], one["email"]
    elif edit == "field":
        one["first_name"] = rng.choice([None, "Ann", "Bob", "Eve"])
        one["country"] = rng.choice([None, "de", "fr"])
    elif edit == "device":
        one["device"] = _choose_device(number, rng)
    elif edit == "address":
        one["email"] = _choose_address(number, rng)
    else:
        rows.clear()


def _make_person(number: int, rng: Random) -> Person:
    return {
        "id": number * 10 + rng.randint(1, 9),
        "email": _choose_address(number, rng),
        "device": _choose_device(number, rng),
        "first_name": rng.choice([None, "Ann", "Bob"]),
        "country": rng.choice([None, None, "de"]),
    }


def _choose_address(number: int, rng: Random) -> str | None:
    letter = rng.choice("abcd ")
    return None if letter == " " else f"{letter}{number}@example.com"


def _choose_device(number: int, rng: Random) -> str | None:
    device = rng.choice((0, 0, 1, 2))
    return None if device == 0 else f"{number:08}-aaaa-4aaa-8aaa-{device:012}"


def hash_email(address: str | None) -> str | None:
    """Return the hash of an address, as a column of hashes contains it."""
    return None if address is None else hashlib.sha256(address.encode()).hexdigest()
