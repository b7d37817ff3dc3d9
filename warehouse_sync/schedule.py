"""Schedules: when a sync is due. Pure: no clock, no input or output.

A tick is a moment at which a schedule is due. When clocks change, the rules are those of Debian's cron:

    Hour and minute are fixed (`30 2 * * *`; every 3h and longer): a tick in the hour that is skipped in spring comes
    right after that hour; in the hour that is repeated in autumn it comes once, the first time.

    The minute or the hour begins with * (`*/5 * * * *`; every 1h and shorter): ticks follow real time, so that none is
    skipped and none comes twice.
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
"""Minutes of each interval. Each divides a day, so each can be written as a cron expression."""

_MINUTES_PER_HOUR: Final = 60

_SEARCH_SPANS: Final = tuple(timedelta(hours=hours) for hours in (1, 24, 7 * 24, 32 * 24, 367 * 24, 10 * 366 * 24))
"""How far before a moment the latest tick is searched for, in turn. The last one holds a 29 February even around
2100, which is no leap year."""

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
_WEEKDAY_FIELD: Final = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """An endless series of ticks, given by a cron expression in a time zone.

    Attributes:
        cron: Five fields as in crontab(5); 0 is Sunday.
        timezone: The IANA name of the time zone.
        max_gap: The longest real time between two ticks, also when clocks change; None if only `cron` counts.

    Raises:
        ValueError: The expression or the time zone is invalid; the message says why.
    """

    cron: str
    timezone: str = "UTC"
    max_gap: timedelta | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cron", _normalise_cron(self.cron))
        _load_timezone(self.timezone)

    @classmethod
    def every(cls, interval: str, at: str = "00:00", timezone: str = "UTC") -> Schedule:
        """Return the schedule of an interval.

        Args:
            interval: A key of INTERVALS.
            at: The time of day, "HH:MM", from which the intervals are counted.
            timezone: The IANA name of the time zone of `at`.

        Raises:
            ValueError: An argument is invalid.
        """
        clock_time = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", at)
        if interval not in INTERVALS or not clock_time:
            raise ValueError(f"every {interval} at {at} is not a schedule")
        minutes, start = INTERVALS[interval], int(clock_time[1]) * _MINUTES_PER_HOUR + int(clock_time[2])
        if minutes <= _MINUTES_PER_HOUR:
            first = start % minutes
            field = str(first) if minutes == _MINUTES_PER_HOUR else f"{first}-59/{minutes}" if first else f"*/{minutes}"
            return cls(f"{field} * * * *", timezone, timedelta(minutes=minutes))
        # Never `*/3`: an hour that begins with * would be skipped, or come twice, when clocks change in it.
        hour, step = start % minutes // _MINUTES_PER_HOUR, minutes // _MINUTES_PER_HOUR
        hours = str(hour) if minutes == 24 * _MINUTES_PER_HOUR else f"{hour}-23/{step}"
        return cls(f"{start % _MINUTES_PER_HOUR} {hours} * * *", timezone)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first tick after `moment`, which has a time zone; in UTC."""
        following = next(self._cron_ticks(moment))
        if self.max_gap is None:
            return following
        latest = self._latest_cron_tick(moment)
        return min(following, latest + ((moment - latest) // self.max_gap + 1) * self.max_gap)

    def latest_until(self, moment: datetime) -> datetime:
        """Return the latest tick that is not after `moment`, which has a time zone; in UTC."""
        latest = self._latest_cron_tick(moment)
        return latest if self.max_gap is None else latest + (moment - latest) // self.max_gap * self.max_gap

    def _latest_cron_tick(self, moment: datetime) -> datetime:
        """Return the latest tick of the cron expression, found by walking towards `moment` as `next_after` does."""
        for span in _SEARCH_SPANS if self.max_gap is None else (2 * self.max_gap, *_SEARCH_SPANS):
            latest = None
            for tick in self._cron_ticks(moment - span):
                if tick > moment:
                    break
                latest = tick
            if latest is not None:
                return latest
        raise AssertionError("a valid cron expression has a tick in ten years")

    def _cron_ticks(self, after: datetime) -> Iterator[datetime]:
        """Yield the ticks of the cron expression after a moment.

        They are in UTC, because Python compares two times of one zone by what the clock shows.
        """
        after = after.astimezone(UTC)
        for tick in CronSim(self.cron, after.astimezone(_load_timezone(self.timezone))):
            tick = tick.astimezone(UTC)
            if tick > after:  # After a repeated hour, cronsim yields its first occurrence again.
                after = tick
                yield tick


def _normalise_cron(cron: str) -> str:
    """Return the expression with single spaces and Sunday as 0. Raise ValueError if it is invalid."""
    fields = cron.split()
    if len(fields) != 5:
        hint = "; write @daily and the like as fields" if cron.strip().startswith("@") else ""
        raise ValueError(
            f"a cron expression has five fields (minute hour day month weekday), found {len(fields)}{hint}"
        )
    for field in fields:
        # cronsim accepts more than crontab(5) defines (L, W, #), and other schedulers read that differently.
        plain = re.sub(r"[A-Za-z]{3}", "", field)
        if not _CRON_FIELD.fullmatch(field) or re.search(r"[A-Za-z]", plain):
            raise ValueError(f"{field} is not a field of a cron expression; it takes numbers, names, * , - and /")
    try:
        expression = CronSim(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC))
        if "7" in fields[_WEEKDAY_FIELD].partition("/")[0]:
            fields[_WEEKDAY_FIELD] = ",".join(
                str(day) for day in sorted({day % 7 for day in expression.weekdays if isinstance(day, int)})
            )
        first = next(expression, None)
    except CronSimError as error:
        raise ValueError(f"this is not a cron expression: {str(error).lower()}") from None
    if first is None or first > datetime(2033, 1, 1, tzinfo=UTC):
        raise ValueError("this cron expression names a date that almost never occurs")
    return " ".join(fields)


def _load_timezone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # A folder, a path, an unknown name.
        raise ValueError(f"there is no time zone {name!r}; IANA names are accepted, such as Europe/Berlin") from None
