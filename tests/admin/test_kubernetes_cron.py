"""CronJobs get cron expressions that have the same ticks in Kubernetes as here.

Kubernetes reads cron expressions with robfig/cron v3 (`cron.ParseStandard`); `Robfig` below follows its parser and its
rule for days, written from its source.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from warehouse_sync.admin.kubernetes import shortest_interval, to_kubernetes_cron
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.schedule import INTERVALS, Schedule

PATH = "syncs.people.schedule"
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = {name: 1 + i for i, name in enumerate(MONTH_NAMES)}
WEEKDAYS = {name: i for i, name in enumerate(WEEKDAY_NAMES)}
BOUNDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, MONTHS),
    (0, 6, WEEKDAYS),
)


class Robfig:
    """An expression as robfig/cron v3 reads it. Raises ValueError if robfig/cron refuses it."""

    def __init__(self, expression: str) -> None:
        fields = [self.field(text, *bounds) for text, bounds in zip(expression.split(" "), BOUNDS, strict=True)]
        (self.minutes, _), (self.hours, _), (self.days, star), (self.months, _), (self.weekdays, weekday_star) = fields
        self.both = star or weekday_star

    def field(self, text: str, lowest: int, highest: int, names: dict[str, int]) -> tuple[set[int], bool]:
        numbers, star = set[int](), False
        for term in text.split(","):
            span, slash, written = term.partition("/")
            low, dash, high = span.partition("-")
            step = int(written) if slash else 1
            if low == "*":
                start, end = lowest, highest
                star = star or step == 1
            else:
                start = names[low.lower()] if low.lower() in names else int(low)
                end = (names[high.lower()] if high.lower() in names else int(high)) if dash else start
                if slash and not dash:
                    end = highest
            if not lowest <= start <= end <= highest or step == 0:
                raise ValueError(term)
            numbers |= set(range(start, end + 1, step))
        return numbers, star

    def is_due(self, moment: datetime) -> bool:
        day, weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and moment.month in self.months
            and ((day and weekday) if self.both else (day or weekday))
        )


def terms(lowest: int, highest: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest)
    step = st.integers(1, highest)
    span = st.tuples(number, number).map(sorted)
    kinds = [
        st.just("*"),
        step.map("*/{}".format),
        number.map(str),
        st.tuples(number, step).map(lambda t: f"{t[0]}/{t[1]}"),
        span.map(lambda s: f"{s[0]}-{s[1]}"),
        st.tuples(span, step).map(lambda t: f"{t[0][0]}-{t[0][1]}/{t[1]}"),
    ]
    if names:
        kinds.append(st.sampled_from(names))
    return st.lists(st.one_of(kinds), min_size=1, max_size=2).map(",".join)


EXPRESSIONS = st.tuples(
    terms(0, 59), terms(0, 23), terms(1, 31), terms(1, 12, tuple(MONTHS)), terms(0, 7, tuple(WEEKDAYS))
).map(" ".join)


def schedule(expression: str) -> Schedule:
    try:
        return Schedule(expression)
    except ValueError:
        assume(False)
        raise


@settings(max_examples=150)
@given(EXPRESSIONS)
def test_kubernetes_has_the_ticks_of_the_schedule(expression: str) -> None:
    """The next ticks are due there too, and no minutes between them; or the schedule is refused."""
    wanted = schedule(expression)
    try:
        in_kubernetes = Robfig(to_kubernetes_cron(wanted, PATH))
    except ConfigurationError:
        return
    moment = datetime(2026, 2, 25, 22, 57, tzinfo=UTC)
    ticks = CronSim(wanted.cron, moment)
    tick = next(ticks)
    for _ in range(70):
        moment += timedelta(minutes=1)
        assert in_kubernetes.is_due(moment) is (moment == tick), (expression, moment)
        tick = next(ticks) if moment == tick else tick
    for day in range(366):
        moment = datetime(2026, 1, 1, min(in_kubernetes.hours), min(in_kubernetes.minutes), tzinfo=UTC) + timedelta(
            days=day
        )
        due = ticks.match_day(moment.date()) and moment.month in ticks.months
        assert in_kubernetes.is_due(moment) is due, (expression, moment)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/30 * * * *", "*/30 * * * *"),
        ("3-59/5 * * * *", "3-59/5 * * * *"),
        ("0 2 * * MON-FRI", "0 2 * * MON-FRI"),
        ("0 2 * * 7", "0 2 * * 0"),
        ("0 2 * * 5-7", "0 2 * * 0,5,6"),
        ("0 2 1,15 * MON", "0 2 1,15 * MON"),
        ("0 2 */1 * MON", "0 2 * * MON"),
        ("0 2 1,* * MON", "0 2 * * *"),
        ("0 2 * jan,jul *", "0 2 * 1,7 *"),
        ("5-5/20 2 * * *", "5,25,45 2 * * *"),
    ],
)
def test_an_expression_is_changed_only_if_kubernetes_reads_it_differently(expression: str, expected: str) -> None:
    assert to_kubernetes_cron(Schedule(expression), PATH) == expected


def test_days_that_must_be_both_are_refused() -> None:
    """`*/2` and a weekday: every second day that is a Monday here, every second day and every Monday there."""
    with pytest.raises(ConfigurationError, match=r"syncs.people.schedule: .*cannot express"):
        to_kubernetes_cron(Schedule("0 2 */2 * MON"), PATH)


@pytest.mark.parametrize("every", INTERVALS)
@pytest.mark.parametrize("at", ["00:00", "02:07"])
def test_an_interval_is_unchanged(every: str, at: str) -> None:
    wanted = Schedule.every(every, at, "Europe/Berlin")
    assert to_kubernetes_cron(wanted, PATH) == wanted.cron
    assert shortest_interval(wanted) == INTERVALS[every] * 60


def test_the_interval_of_an_expression_is_its_shortest() -> None:
    assert shortest_interval(Schedule("0 9-17 * * MON-FRI")) == 3600
    assert shortest_interval(Schedule("0 2 1 * *")) == 28 * 86400
