"""When a sync is due. Pure: no clock, no I/O.

A tick is a moment at which a schedule is due. In the nights when clocks change the rules are those of Debian's cron:

    `30 2 * * *`, every 3h and longer: hour and minute are fixed. A tick in the hour that spring leaves out comes right
    behind it; in the hour that autumn has twice it comes once, the first time.

    `*/5 * * * *`, every 1h and shorter: the minute or the hour begins with *. Ticks keep the pace of real time: none is
    left out, none comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

INTERVALS: Final = {
    "5m": 5,
    "10m": 10,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "3h": 180,
    "6h": 360,
    "12h": 720,
    "24h": 1440,
}
"""The intervals, in minutes; each divides a day, so that each is a cron expression."""

_MINUTES_PER_HOUR: Final = 60

_SEARCH_SPANS: Final = tuple(timedelta(hours=hours) for hours in (1, 24, 7 * 24, 32 * 24, 367 * 24, 10 * 366 * 24))
"""How far back the newest tick is looked for; the last one spans two leap days around a century."""

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
_WEEKDAY_FIELD: Final = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """Ticks without end, as a cron expression in a time zone.

    cron: five fields as in crontab(5), 0 is Sunday. timezone: its IANA name. pace: no two ticks are further apart than
    this in real time, whatever clocks do; None where the expression alone counts. Raises ValueError that says why the
    expression or the time zone is none.
    """

    cron: str
    timezone: str = "UTC"
    max_gap: timedelta | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cron", _normalise_cron(self.cron))
        _load_timezone(self.timezone)

    @classmethod
    def every(cls, interval: str, at: str = "00:00", timezone: str = "UTC") -> Schedule:
        """One of `EVERY`, counted from `at` ("HH:MM") of each day. Raises ValueError."""
        found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", at)
        if interval not in INTERVALS or not found:
            raise ValueError(f"every {interval} at {at} is no schedule")
        minutes, start = INTERVALS[interval], int(found[1]) * _MINUTES_PER_HOUR + int(found[2])
        if minutes <= _MINUTES_PER_HOUR:
            first = start % minutes
            field = str(first) if minutes == _MINUTES_PER_HOUR else f"{first}-59/{minutes}" if first else f"*/{minutes}"
            return cls(f"{field} * * * *", timezone, timedelta(minutes=minutes))
        # Never `*/3`: an hour that begins with * would be left out, or come twice, when clocks change in it.
        hour, step = divmod(start % minutes, _MINUTES_PER_HOUR)[0], minutes // _MINUTES_PER_HOUR
        hours = str(hour) if minutes == 24 * _MINUTES_PER_HOUR else f"{hour}-23/{step}"
        return cls(f"{start % _MINUTES_PER_HOUR} {hours} * * *", timezone)

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after `moment`, which is aware; in UTC."""
        following = next(self._cron_ticks(moment))
        if self.max_gap is None:
            return following
        newest = self._latest_cron_tick(moment)
        return min(following, newest + ((moment - newest) // self.max_gap + 1) * self.max_gap)

    def latest_until(self, moment: datetime) -> datetime:
        """The newest tick that is not after `moment`, which is aware; in UTC."""
        newest = self._latest_cron_tick(moment)
        return newest if self.max_gap is None else newest + (moment - newest) // self.max_gap * self.max_gap

    def _latest_cron_tick(self, moment: datetime) -> datetime:
        """The newest tick of the expression, found by walking towards `moment` as `next_after` does."""
        for span in _SEARCH_SPANS if self.max_gap is None else (2 * self.max_gap, *_SEARCH_SPANS):
            newest = None
            for tick in self._cron_ticks(moment - span):
                if tick > moment:
                    break
                newest = tick
            if newest is not None:
                return newest
        raise AssertionError("an expression that was checked has a tick in ten years")

    def _cron_ticks(self, after: datetime) -> Iterator[datetime]:
        """The ticks of the expression after a moment, in UTC: times of one zone compare by the face of the clock."""
        after = after.astimezone(UTC)
        for tick in CronSim(self.cron, after.astimezone(_load_timezone(self.timezone))):
            tick = tick.astimezone(UTC)
            if tick > after:  # Behind a repeated hour, cronsim looks at its first showing again.
                after = tick
                yield tick


def _normalise_cron(cron: str) -> str:
    """The expression in plain form: single spaces, Sunday as 0. Raises ValueError."""
    fields = cron.split()
    if len(fields) != 5:
        hint = "; write @daily and the like as fields" if cron.strip().startswith("@") else ""
        raise ValueError(
            f"a cron expression has five fields (minute hour day month weekday), found {len(fields)}{hint}"
        )
    for field in fields:
        # cronsim takes more than crontab(5) knows (L, W, #), which other schedulers read otherwise.
        plain = re.sub(r"[A-Za-z]{3}", "", field)
        if not _CRON_FIELD.fullmatch(field) or re.search(r"[A-Za-z]", plain):
            raise ValueError(f"{field} is no field of a cron expression: numbers, names, * , - and / make one")
    try:
        expression = CronSim(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC))
        if "7" in fields[_WEEKDAY_FIELD].partition("/")[0]:
            fields[_WEEKDAY_FIELD] = ",".join(
                str(day) for day in sorted({day % 7 for day in expression.weekdays if isinstance(day, int)})
            )
        first = next(expression, None)
    except CronSimError as error:
        raise ValueError(f"this is no cron expression: {str(error).lower()}") from None
    if first is None or first > datetime(2033, 1, 1, tzinfo=UTC):
        raise ValueError("this cron expression names a date that hardly ever comes")
    return " ".join(fields)


def _load_timezone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # A folder, a path, a name that nobody knows.
        raise ValueError(f"there is no time zone {name!r}; IANA names are known, such as Europe/Berlin") from None
