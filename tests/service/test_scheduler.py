"""The scheduler with an injected clock: no tick is lost and none is run twice.

A fortnight of five-minute ticks: OFTEN=5m python -m pytest tests/service/test_scheduler.py -k fortnight
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from harness.selection import thorough
from harness.servers.postgres import Server
from harness.worlds.scheduling import SchedulerWorld, scheduler_world

from warehouse_sync.config.loader import load_config
from warehouse_sync.errors import ConfigurationError, WarehouseUnavailable
from warehouse_sync.schedule import INTERVALS
from warehouse_sync.service.clock import Intervals

OFTEN = os.environ.get("OFTEN", "1h")
SCHEDULES = {
    "often": {"every": OFTEN, "at": "00:02", "timezone": "Europe/Berlin"},
    "nightly": {"every": "24h", "at": "02:30", "timezone": "Europe/Berlin"},
    "new_york": {"cron": "30 1,2 * * *", "timezone": "America/New_York"},
    "quarterly": {"every": "6h", "at": "02:15", "timezone": "Australia/Lord_Howe"},
}


@pytest.fixture
def stage(postgres: Server, tmp_path: Path) -> Iterator[SchedulerWorld]:
    with postgres.database() as url, scheduler_world(url, tmp_path, "2027-06-01T12:00:30") as opened:
        yield opened


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param("2027-03-14T00:00:30", id="spring"),
        pytest.param("2027-10-26T00:00:30", id="autumn", marks=thorough),
    ],
)
def test_a_fortnight(postgres: Server, tmp_path: Path, begin: str) -> None:
    """Each tick is run exactly once, separately and at its time.

    The fortnight contains the nights of clock changes in Berlin and New York. Two workers share the syncs, and one of
    them is restarted every few hours.
    """
    days, dice = 15, random.Random(7)
    with postgres.database() as url, scheduler_world(url, tmp_path, begin) as stage:
        stage.configure(SCHEDULES)
        start = stage.clock.time
        workers = [stage.start_worker(), stage.start_worker()]
        while stage.clock.time < start + timedelta(days=days):
            stage.run_until(stage.clock.time + timedelta(minutes=dice.uniform(30, 1500)), *workers)
            workers[dice.randrange(2)] = stage.start_worker()
            dice.shuffle(workers)
        end = stage.clock.time
        for name, sync in load_config(stage.path, environ={}).syncs.items():
            assert sync.schedule is not None
            schedule = sync.schedule.schedule
            expected = [schedule.next_after(start)]
            while expected[-1] <= end - timedelta(minutes=2):
                expected.append(schedule.next_after(expected[-1]))
            done = stage.ticks_of(name)
            assert done[: len(expected) - 1] == expected[:-1], name
        pace = timedelta(minutes=INTERVALS[OFTEN])
        assert {after - before for before, after in pairwise(stage.ticks_of("often"))} == {pace}
        dates = [tick.astimezone(ZoneInfo("Europe/Berlin")).date() for tick in stage.ticks_of("nightly")]
        assert {after - before for before, after in pairwise(dates)} == {timedelta(days=1)}
        assert max(ran.started - ran.tick for ran in stage.runs) < timedelta(minutes=2)
        assert len({ran.worker for ran in stage.runs}) > 10


@pytest.mark.parametrize("change", ["2027-03-28T01:00:00", "2027-10-31T01:00:00"], ids=["spring", "autumn"])
def test_every_five_minutes_in_the_night_when_clocks_change(postgres: Server, tmp_path: Path, change: str) -> None:
    """In Berlin and on Lord Howe Island, where half an hour is skipped or repeated: the interval stays the same."""
    half = timedelta(hours=3)
    zones = {"berlin": "Europe/Berlin", "lord_howe": "Australia/Lord_Howe"}
    moments = {"berlin": datetime.fromisoformat(change).replace(tzinfo=UTC)}
    moments["lord_howe"] = datetime(2027, 10, 2, 15, 30, tzinfo=UTC)
    for name, zone in zones.items():
        begin = (moments[name] - half).replace(tzinfo=None).isoformat()
        with postgres.database() as url, scheduler_world(url, tmp_path, begin) as stage:
            stage.configure({name: {"every": "5m", "timezone": zone}})
            stage.run_until(moments[name] + half, stage.start_worker(), stage.start_worker())
            found = stage.ticks_of(name)
            assert len(found) == 71  # All but the one that was the baseline.
            assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=5)}


def test_missed_ticks_are_run_once_together(stage: SchedulerWorld) -> None:
    """While no worker serves, and during a run: only the newest one is run, as soon as possible."""
    stage.configure({"hourly": {"every": "1h"}})
    stage.run_until(datetime(2027, 6, 1, 14, 30, tzinfo=UTC), stage.start_worker())
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13, 14]
    stage.clock.time = datetime(2027, 6, 1, 19, 45, tzinfo=UTC)
    worker = stage.start_worker()
    stage.run_duration = lambda _, tick: timedelta(hours=3) if tick.hour == 19 else timedelta(seconds=5)
    stage.run_until(datetime(2027, 6, 2, 0, 30, tzinfo=UTC), worker)
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13, 14, 19, 22, 23, 0]
    assert [ran.started.strftime("%H:%M") for ran in stage.runs][2:4] == ["19:45", "22:45"]


def test_a_tick_that_comes_during_a_check(stage: SchedulerWorld) -> None:
    """It is run at once, although the check started before it."""
    stage.configure({"hourly": {"every": "1h"}})
    stage.state_read_duration = timedelta(seconds=2)
    stage.clock.time = datetime(2027, 6, 1, 12, 59, 59, tzinfo=UTC)
    stage.run_until(datetime(2027, 6, 1, 13, 10, tzinfo=UTC), stage.start_worker())
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13]


def test_a_new_sync_waits_for_its_next_tick(stage: SchedulerWorld) -> None:
    """It is not run for a tick before the first worker started."""
    stage.configure({"nightly": {"every": "24h", "at": "02:00"}, "manual": None})
    worker = stage.start_worker()
    stage.run_until(datetime(2027, 6, 2, 1, 59, tzinfo=UTC), worker)
    assert stage.runs == []
    assert stage.last_tick("nightly") == datetime(2027, 6, 1, 2, tzinfo=UTC)
    stage.run_until(datetime(2027, 6, 2, 3, tzinfo=UTC), worker)
    assert [ran.sync for ran in stage.runs] == ["nightly"]


def test_a_tick_whose_worker_dies_is_run_by_the_next_one(stage: SchedulerWorld) -> None:
    """A run that did not end does not count."""

    class Killed(BaseException):
        pass

    def kill(_sync: str, tick: datetime) -> None:
        if len(stage.runs) == 1:
            raise Killed

    stage.configure({"hourly": {"every": "1h"}})
    stage.on_run = kill
    stage.run_until(datetime(2027, 6, 1, 14, 10, tzinfo=UTC), stage.start_worker())
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13]
    stage.on_run = lambda _sync, _tick: None
    stage.run_until(datetime(2027, 6, 1, 14, 11, tzinfo=UTC), stage.start_worker())
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13, 14]


def test_a_tick_that_failed_is_retried(stage: SchedulerWorld) -> None:
    """With growing, limited delays, until it is run or a newer one replaces it. Every failure is reported."""
    stage.configure({"hourly": {"every": "1h"}})
    worker = stage.start_worker()
    stage.run_until(datetime(2027, 6, 1, 12, 59, 59, tzinfo=UTC), worker)
    stage.outage = WarehouseUnavailable("warehouse analytics: the connection was lost")
    looks = stage.state_reads
    stage.run_until(datetime(2027, 6, 1, 13, 40, tzinfo=UTC), worker)
    assert 8 <= stage.state_reads - looks <= 14
    assert len(stage.reports) == stage.state_reads - looks
    assert worker.not_ready_reason == "warehouse analytics: the connection was lost"
    stage.outage = None
    stage.run_until(datetime(2027, 6, 1, 13, 59, 59, tzinfo=UTC), worker)
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13]
    assert worker.not_ready_reason is None
    stage.outage = ConfigurationError("warehouses.analytics.url: cannot connect")
    stage.run_until(datetime(2027, 6, 1, 16, 30, tzinfo=UTC), worker)
    stage.outage = None
    stage.run_until(datetime(2027, 6, 1, 17, 30, tzinfo=UTC), worker)
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13, 16, 17]


def test_an_internal_error_stops_no_other_sync(stage: SchedulerWorld) -> None:
    """It is reported without its text, and the sync is retried."""

    def break_down(sync: str, _tick: datetime) -> None:
        if sync == "broken":
            raise KeyError("ann@example.com")

    stage.configure({"broken": {"every": "1h"}, "sound": {"every": "1h"}})
    stage.on_run = break_down
    worker = stage.start_worker()
    stage.run_until(datetime(2027, 6, 1, 13, 30, tzinfo=UTC), worker)
    assert [tick.hour for tick in stage.ticks_of("sound")] == [13]
    reasons = {report.reason for report in stage.reports if report.status == "failed"}
    (reason,) = reasons
    assert reason is not None
    assert reason.startswith("internal error at test_scheduler.py:")
    assert "ann" not in reason
    stage.on_run = lambda _sync, _tick: None
    stage.run_until(datetime(2027, 6, 1, 13, 59, tzinfo=UTC), worker)
    assert [tick.hour for tick in stage.ticks_of("broken")] == [13]


def test_a_changed_configuration(stage: SchedulerWorld) -> None:
    """New, removed, disabled and changed syncs are so from their next tick on; a bad file changes nothing."""
    stage.configure({"kept": {"every": "1h"}, "removed": {"every": "1h"}, "faster": {"every": "3h"}})
    worker = stage.start_worker(Intervals(config_check=60.0))
    stage.run_until(datetime(2027, 6, 1, 13, 10, tzinfo=UTC), worker)
    assert sorted(ran.sync for ran in stage.runs) == ["kept", "removed"]
    stage.path.write_text("syncs: {kept: {}}")
    stage.run_until(datetime(2027, 6, 1, 14, 10, tzinfo=UTC), worker)
    assert sorted(ran.sync for ran in stage.runs[2:]) == ["kept", "removed"]
    stage.configure({"kept": {"every": "1h"}, "faster": {"every": "30m"}, "new": {"cron": "50 * * * *"}})
    stage.run_until(datetime(2027, 6, 1, 15, 10, tzinfo=UTC), worker)
    since = [(ran.sync, ran.tick.strftime("%H:%M")) for ran in sorted(stage.runs[4:], key=lambda ran: ran.tick)]
    assert sorted(since) == [
        ("faster", "14:00"),  # Newer than its last tick, and passed: made up for.
        ("faster", "14:30"),
        ("faster", "15:00"),
        ("kept", "15:00"),
        ("new", "14:50"),
    ]
    stage.configure({"kept": {"every": "1h"}, "faster": {"every": "30m"}}, enabled=False)
    stage.run_until(datetime(2027, 6, 1, 18, 10, tzinfo=UTC), worker)
    assert len(stage.runs) == 4 + len(since)


def test_what_probes_report(stage: SchedulerWorld) -> None:
    """Ready: the configuration is loaded and no warehouse is known to be unreachable. Alive: the loop runs."""
    stage.configure({"hourly": {"every": "1h"}})
    worker = stage.start_worker()
    assert (worker.is_alive, worker.not_ready_reason) == (True, None)
    worker._last_step -= 1000
    assert not worker.is_alive
    worker.step()
    assert worker.is_alive
    worker.drain("SIGTERM")
    assert (worker.is_alive, worker.not_ready_reason) == (True, "stopping: SIGTERM")


def test_retention_is_applied_once_a_day(stage: SchedulerWorld) -> None:
    """First some time after the start, then daily, between ticks; also for a sync without a schedule."""
    stage.configure({"nightly": {"every": "24h"}, "manual": None})
    worker = stage.start_worker(Intervals(config_check=86400.0, sync_check=7200.0))
    stage.run_until(datetime(2027, 6, 4, 12, 0, tzinfo=UTC), worker)
    days = [(name, at.day) for name, at in sorted(stage.retention_calls)]
    assert days == [(name, day) for name in ("manual", "nightly") for day in (1, 2, 3)]


def test_a_clock_that_was_wrong_is_logged(
    stage: SchedulerWorld, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A sync that was run for next year's tick is not run before that, and the log says why."""
    stage.configure({"hourly": {"every": "1h"}})
    stage.run_until(datetime(2027, 6, 1, 13, 10, tzinfo=UTC), stage.start_worker())
    with stage.warehouse.write("set") as connection:
        syncs = stage.state.tables.syncs
        connection.execute(sa.update(syncs).values(last_tick=datetime(2028, 1, 1)))
    stage.run_until(datetime(2027, 6, 1, 14, 10, tzinfo=UTC), stage.start_worker())
    assert [tick.hour for tick in stage.ticks_of("hourly")] == [13]
    assert "was run for a time in the future" in capsys.readouterr().out + caplog.text
