"""The part of a sync's configuration that says when it runs by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from warehouse_sync.config_problems import Found, Part, wrong
from warehouse_sync.schedule import Schedule

_TIME = r"([01]?[0-9]|2[0-3]):[0-5][0-9]"


def _time(value: Any) -> Any:
    # YAML 1.1 reads 12:30 as a number to the base of 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        raise wrong(f'a time is expected here; put it in quotes: "{value // 60:02d}:{value % 60:02d}"')
    if isinstance(value, str) and not re.fullmatch(_TIME, value):
        raise wrong('a time is expected here, "00:00" to "23:59"')
    return value


def _cron(value: str) -> str:
    try:
        return Schedule(value).cron
    except ValueError as error:
        raise wrong(str(error)) from None


def _zone(value: str) -> str:
    try:
        return Schedule("0 0 * * *", value).timezone
    except ValueError as error:
        raise wrong(str(error)) from None


class ScheduleConfig(Part):
    """When a sync runs by itself; exactly one of every and cron."""

    every: Annotated[
        Literal["5m", "10m", "15m", "30m", "1h", "3h", "6h", "12h", "24h"] | None,
        Field(description="The interval, counted from `at` of each day"),
    ] = None
    at: Annotated[
        str | None,
        BeforeValidator(_time),
        WithJsonSchema({"type": "string", "pattern": f"^{_TIME}$"}),
        Field(description='A time of day that is hit, "HH:MM"; only with every, 00:00 unless given'),
    ] = None
    cron: Annotated[
        str | None,
        Field(description="Five fields as in crontab(5): minute hour day month weekday; 0 is Sunday"),
        AfterValidator(lambda value: None if value is None else _cron(value)),
    ] = None
    timezone: Annotated[
        str, AfterValidator(_zone), Field(description="IANA name of the zone that at and cron are meant in")
    ] = "UTC"

    @classmethod
    def rules(cls, given: Mapping[str, Any]) -> Iterable[Found]:
        """An interval or an expression; a time belongs to an interval."""
        every, cron = (given.get(key) is not None for key in ("every", "cron"))
        if every == cron:
            yield (), f"exactly one of every and cron is needed, found {'both' if every else 'none'}"
        if cron and not every and given.get("at") is not None:
            yield ("at",), "a cron expression says itself at what time; leave this key out"

    @property
    def schedule(self) -> Schedule:
        """The ticks of it."""
        if self.every is not None:
            return Schedule.every(self.every, self.at or "00:00", self.timezone)
        if self.cron is None:
            raise AssertionError("a schedule has an interval or an expression")
        return Schedule(self.cron, self.timezone)
