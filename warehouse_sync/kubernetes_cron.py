"""A schedule as the cron expression that means the same to Kubernetes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise

from cronsim import CronSim

from warehouse_sync.errors import ConfigurationError, Problem
from warehouse_sync.schedule import Schedule

_PLAIN_FIELD = re.compile(r"\*(/[0-9]+)?|[0-9]+-[0-9]+/[0-9]+|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_STEP_IN_ONE = re.compile(r"0*([0-9]+)-0*\1/[0-9]+")
"""5-5/10 is 5 to Kubernetes, and 5, 15, 25 … to cronsim."""

_WEEKDAYS = re.compile(r"[0-6](-[0-6])?(,[0-6](-[0-6])?)*|[A-Za-z]{3}(-[A-Za-z]{3})?(,[A-Za-z]{3}(-[A-Za-z]{3})?)*")


def kubernetes_cron(schedule: Schedule, path: str) -> str:
    """The expression as Kubernetes has to be told it. Raises ConfigurationError where it cannot be told, at `path`.

    The two differ in what a weekday and a day together mean: here they are joined by AND as soon as one of them begins
    with *, in Kubernetes only when one of them is * alone.
    """
    fields = schedule.cron.split()
    meaning = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    numbers = (meaning.minutes, meaning.hours, meaning.days, meaning.months)
    told = [
        field if _PLAIN_FIELD.fullmatch(field) and not _STEP_IN_ONE.fullmatch(field) else _list(meant)
        for field, meant in zip(fields[:4], numbers, strict=True)
    ]
    weekdays = {int(day) % 7 for day in meaning.weekdays}  # type: ignore[arg-type]
    told.append(fields[4] if fields[4] == "*" or _WEEKDAYS.fullmatch(fields[4]) else _list(weekdays))
    every_day, every_weekday = len(meaning.days) == 31, len(weekdays) == 7
    if meaning.day_and:
        told[2], told[4] = "*" if every_day else told[2], "*" if every_weekday else told[4]
        if told[2] != "*" and told[4] != "*":
            message = f"Kubernetes reads {schedule.cron!r} otherwise: days that must be both cannot be told to it"
            raise ConfigurationError(Problem(message, path=path))
    elif every_day or every_weekday:
        told[2] = told[4] = "*"
    return " ".join(told)


def _list(numbers: set[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def shortest_interval(schedule: Schedule) -> int:
    """Seconds between the two ticks that are nearest to each other, leaving clock changes aside."""
    ticks = CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
    some = [next(ticks, None) for _ in range(100)]
    gaps = [int((later - earlier).total_seconds()) for earlier, later in pairwise(some) if earlier and later]
    return min(gaps)
