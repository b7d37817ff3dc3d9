"""Data for histories: many small groups of people in one table, each with a life of its own.

Groups share nothing, so that one run carries as many histories of data as there are groups. Within a group addresses
and devices are few, so that rows double, members share identifiers and addresses change hands all the time.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

Person = dict[str, Any]

CODE = 2
"""Bytes that tell what happens to one group in one step; zeros: nothing."""

MOST = 5
"""Rows of a group."""

BACK, FRESH = 0.2, 0.35
"""How often a group becomes what it was before, and otherwise, how often it is made anew instead of edited."""


class People:
    """The groups as they are now and as they were before their last change."""

    def __init__(self, groups: int) -> None:
        self.groups: list[list[Person]] = [[] for _ in range(groups)]
        self._before: list[list[Person]] = [[] for _ in range(groups)]

    @property
    def rows(self) -> list[Person]:
        """The table."""
        return [person for group in self.groups for person in group]

    def change(self, codes: bytes) -> None:
        """Each group as its code says, CODE bytes a group."""
        for number, group in enumerate(self.groups):
            code = int.from_bytes(codes[number * CODE : (number + 1) * CODE])
            if code:
                chance = Random(code)
                back = chance.random() < BACK
                self.groups[number] = self._before[number] if back else _changed(number, group, chance)
                self._before[number] = group

    def leave(self) -> None:
        """Nobody is left."""
        self._before, self.groups = self.groups, [[] for _ in self.groups]


def _changed(number: int, rows: list[Person], chance: Random) -> list[Person]:
    if chance.random() < FRESH:
        return [_person(number, chance) for _ in range(chance.randrange(MOST + 1))]
    rows = [dict(row) for row in rows]
    for _ in range(chance.randint(1, 2)):
        _edit(number, rows, chance)
    return rows


def _edit(number: int, rows: list[Person], chance: Random) -> None:
    deeds = ["join"] if not rows else ["join", "leave", "double", "swap", "field", "device", "address", "clear"]
    deed = chance.choice(deeds) if len(rows) < MOST else "leave"
    if deed == "join":
        rows.append(_person(number, chance))
        return
    one, other = chance.choice(rows), chance.choice(rows)
    if deed == "leave":
        rows.remove(one)
    elif deed == "double":
        rows.append({**one, "id": number * 10 + chance.randint(1, 9)})
    elif deed == "swap":
        one["email"], other["email"] = other["email"], one["email"]
    elif deed == "field":
        one["first_name"] = chance.choice([None, "Ann", "Bob", "Eve"])
        one["country"] = chance.choice([None, "de", "fr"])
    elif deed == "device":
        one["device"] = _device(number, chance)
    elif deed == "address":
        one["email"] = _address(number, chance)
    else:
        rows.clear()


def _person(number: int, chance: Random) -> Person:
    return {
        "id": number * 10 + chance.randint(1, 9),
        "email": _address(number, chance),
        "device": _device(number, chance),
        "first_name": chance.choice([None, "Ann", "Bob"]),
        "country": chance.choice([None, None, "de"]),
    }


def _address(number: int, chance: Random) -> str | None:
    letter = chance.choice("abcd ")
    return None if letter == " " else f"{letter}{number}@example.com"


def _device(number: int, chance: Random) -> str | None:
    place = chance.choice((0, 0, 1, 2))
    return None if place == 0 else f"{number:08}-aaaa-4aaa-8aaa-{place:012}"


def hashed(address: str | None) -> str | None:
    """The address as a column of hashes holds it."""
    return None if address is None else hashlib.sha256(address.encode()).hexdigest()
