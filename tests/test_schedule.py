"""When a sync is due, in any zone, on any night."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from warehouse_sync.schedule import INTERVALS, Schedule

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Havana",
    "Asia/Beirut",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "UTC",
)

CRONS = (
    "*/5 * * * *",
    "7 * * * *",
    "30 2 * * *",
    "0,30 0-4 * * *",
    "5-55 0-3 * * *",
    "15 1 * * 1-5",
    "0 3 1 * *",
)

intervals = some.sampled_from(list(INTERVALS))
times = some.builds("{:02d}:{:02d}".format, some.integers(0, 23), some.integers(0, 59))


def change(zone: str, year: int, *, autumn: bool) -> datetime:
    """The moment at which the clocks of a zone change that year; some moment of it where they never do."""
    hour, info = timedelta(hours=1), ZoneInfo(zone)
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        before, after = (at.astimezone(info).utcoffset() for at in (moment, moment + hour))
        assert before is not None
        assert after is not None
        if (after < before) if autumn else (after > before):
            return moment
        moment += 6 * hour if before == (moment + 6 * hour).astimezone(info).utcoffset() else hour
    return datetime(year, 3, 29, 1, tzinfo=UTC)


CHANGES = [(zone, change(zone, 2027, autumn=autumn)) for zone in ZONES for autumn in (False, True)]


@some.composite
def nights(draw: some.DrawFn) -> tuple[Schedule, datetime]:
    """A schedule in some zone, and a moment about the time when the clocks of that zone change."""
    zone, moment = draw(some.sampled_from(CHANGES))
    schedule = draw(
        some.builds(Schedule.every, intervals, times, some.just(zone))
        | some.builds(Schedule, some.sampled_from(CRONS), some.just(zone))
    )
    minutes = draw(some.integers(-30, 210) | some.integers(-36 * 60, 36 * 60))
    return schedule, moment + timedelta(minutes=minutes, microseconds=draw(some.sampled_from([0, 0, 1, 999_999])))


def ticks(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """All ticks after `start` and before `end`, one by one."""
    found = [schedule.next_after(start)]
    while found[-1] < end:
        found.append(schedule.next_after(found[-1]))
    return found[:-1]


@given(nights())
@example((Schedule("5-55 0-3 * * *", "Europe/Berlin"), datetime(2027, 10, 31, 1, 20, tzinfo=UTC)))  # The second 02:20.
@settings(deadline=None, max_examples=400)
def test_ticks_only_go_forward_and_both_directions_agree(night: tuple[Schedule, datetime]) -> None:
    schedule, moment = night
    following, newest = schedule.next_after(moment), schedule.latest_until(moment)

    assert newest <= moment < following
    assert schedule.latest_until(following) == following
    assert schedule.latest_until(following - timedelta(microseconds=1)) == newest
    assert schedule.next_after(newest) == following


@given(times, some.sampled_from(CHANGES))
@settings(deadline=None, max_examples=60)
def test_a_daily_schedule_comes_exactly_once_on_each_date(at: str, known: tuple[str, datetime]) -> None:
    zone, moment = known
    first = moment.astimezone(ZoneInfo(zone)).date() - timedelta(days=2)
    start = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)

    found = ticks(Schedule.every("24h", at, zone), start - timedelta(seconds=1), start + timedelta(days=4, hours=12))

    dates = [tick.astimezone(ZoneInfo(zone)).date() for tick in found]
    assert dates[:4] == [first + timedelta(days=days) for days in range(4)]


@given(
    some.sampled_from([name for name, minutes in INTERVALS.items() if minutes <= 60]), times, some.sampled_from(CHANGES)
)
@settings(deadline=None, max_examples=60)
def test_short_intervals_follow_real_time(interval: str, at: str, known: tuple[str, datetime]) -> None:
    zone, moment = known
    span = timedelta(hours=5)

    found = ticks(Schedule.every(interval, at, zone), moment - span, moment + span)

    assert max(after - before for before, after in pairwise(found)) <= timedelta(minutes=INTERVALS[interval])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize("interval", INTERVALS)
def test_a_normal_day_has_as_many_ticks_as_intervals(interval: str, zone: str) -> None:
    day = datetime(2027, 6, 1, tzinfo=UTC)

    found = ticks(Schedule.every(interval, "02:07", zone), day, day + timedelta(days=1))

    assert len(found) == 1440 // INTERVALS[interval]
    assert datetime(2027, 6, 1, 2, 7, tzinfo=ZoneInfo(zone)) in [*found, *(tick - timedelta(days=1) for tick in found)]


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        # Berlin skips 02:00 to 03:00 (01:00 UTC) on 28 March and has it twice (00:00 to 02:00 UTC) on 31 October.
        ("30 2 * * *", "Europe/Berlin", date(2027, 3, 28), ["01:00"]),
        ("0,30 2,3 * * *", "Europe/Berlin", date(2027, 3, 28), ["01:00", "01:30"]),
        ("30 2 * * *", "Europe/Berlin", date(2027, 10, 31), ["00:30"]),
        ("0 1-4 * * *", "Europe/Berlin", date(2027, 10, 31), ["00:00", "02:00", "03:00"]),
        ("30 * * * *", "America/New_York", date(2027, 3, 14), [f"{hour:02d}:30" for hour in range(24)]),
        ("45 23 * * 0", "America/New_York", date(2027, 11, 8), ["04:45"]),
        ("0 12 * * 7", "UTC", date(2027, 11, 7), ["12:00"]),
        ("0 12 * * SUN", "UTC", date(2027, 11, 7), ["12:00"]),
        ("0 12 * * 1-5", "UTC", date(2027, 11, 7), []),
    ],
)
def test_nights_when_clocks_change_and_names_of_days(cron: str, zone: str, day: date, expected: list[str]) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)

    found = ticks(Schedule(cron, zone), start - timedelta(seconds=1), start + timedelta(days=1))

    assert [tick.strftime("%H:%M") for tick in found] == expected


@pytest.mark.parametrize(
    ("interval", "at", "cron"),
    [
        ("5m", "00:00", "*/5 * * * *"),
        ("5m", "02:07", "2-59/5 * * * *"),
        ("30m", "02:00", "*/30 * * * *"),
        ("1h", "13:45", "45 * * * *"),
        ("3h", "00:00", "0 0-23/3 * * *"),
        ("6h", "20:10", "10 2-23/6 * * *"),
        ("12h", "02:00", "0 2-23/12 * * *"),
        ("24h", "2:30", "30 2 * * *"),
    ],
)
def test_every_interval_is_a_cron_expression(interval: str, at: str, cron: str) -> None:
    assert Schedule.every(interval, at).cron == cron


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("* * * *", "five fields"),
        ("0 0 * * * *", "five fields"),
        ("@daily", "five fields"),
        ("61 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day"),
        ("0 0 L * *", "L is not a field"),
        ("0 0 * * 1#2", "1#2 is not a field"),
        ("0 0 * * XYZ", "bad day-of-week"),
        ("", "found 0"),
    ],
)
def test_an_invalid_cron_expression_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(cron)


@pytest.mark.parametrize("zone", ["Europe/Berlln", "", "../UTC", "Europe"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        Schedule("0 0 * * *", zone)


def test_sunday_as_seven_is_written_as_zero() -> None:
    assert Schedule("0  0 * * 5-7").cron == "0 0 * * 0,5,6"


def test_a_gap_at_the_end_of_a_date_moves_the_tick_to_the_next_one() -> None:
    nuuk = Schedule.every("24h", "23:30", "America/Nuuk")  # Skips 23:00 to 24:00 on 27 March.

    found = nuuk.next_after(datetime(2027, 3, 27, 12, tzinfo=UTC))

    assert found == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
