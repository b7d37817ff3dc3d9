"""The metrics of real runs: equal to the reports and to the counts of the sandbox."""

from __future__ import annotations

import stat
import time
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from harness.processes.command import CommandResult, call
from harness.worlds.world import SYNC, World, create_audience, people, shorten_timeouts
from prometheus_client.parser import text_string_to_metric_families

from warehouse_sync.errors import ConfigurationError, WarehouseSyncError
from warehouse_sync.events import (
    Action,
    ConfigurationLoaded,
    CredentialsChecked,
    Events,
    OperationsEnded,
    RequestAnswered,
    RowsRejected,
    RunReported,
    RunStarted,
)
from warehouse_sync.monitoring.metrics import Metrics
from warehouse_sync.monitoring.restore import restore_metrics
from warehouse_sync.monitoring.textfile import MetricsFile
from warehouse_sync.operations import OperationKind, RunStatus, rejected
from warehouse_sync.reports import RunReport
from warehouse_sync.run.run import retry_sync, run_sync

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def world(duckdb_world: World) -> World:
    return duckdb_world


def read(text: bytes | str) -> Figures:
    """Return all samples by name and labels; fail unless Prometheus' parser accepts the text."""
    whole = text.decode() if isinstance(text, bytes) else text
    samples = [sample for family in text_string_to_metric_families(whole) for sample in family.samples]
    figures = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(figures) == len(samples)
    return figures


def figure(figures: Figures, name: str, **labels: str) -> float:
    """Return the sum of the samples of a metric with these labels; fail if there are none."""
    found = [
        value
        for (sample, given), value in figures.items()
        if sample == f"warehouse_sync_{name}" and labels.items() <= dict(given).items()
    ]
    assert found, (name, labels)
    return sum(found)


def run_with_metrics(world: World, metrics: Metrics, **options: Any) -> RunReport:
    config = world.config
    try:
        report = run_sync(config, SYNC, events=Events(metrics.handle), **options)
    except WarehouseSyncError as error:
        report = error.report
    metrics.handle(SYNC, RunReported(report))
    return report


def test_the_metrics_of_a_run_under_faults_equal_its_report_and_the_sandbox(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, 429 and refused elements: delivered, rejected, requests by status and throttled time are what they were."""
    shorten_timeouts(monkeypatch, attempts=5, wait_after_429=0.2)
    rows = people(*range(300))
    rows[7] = {**rows[7], "email": "not an address", "device": None}
    rows[8] = {**rows[8], "country": "nowhere"}
    world.fill(rows)
    world.destination_settings = {"max_in_flight": 2}
    for fault in ("503:users:times=2", "429:users:after=2:times=1", "refuse_elements:users:after=3:indices=3|5"):
        world.sandbox.inject(fault)
    metrics = Metrics(world.config)
    report = run_with_metrics(world, metrics)
    figures = read(metrics.text())

    assert report.status is RunStatus.SUCCEEDED
    assert figure(figures, "members") == report.members == 299
    assert figure(figures, "delivered_total", operation="add") == report.delivered.add > 0
    assert figure(figures, "delivered_total", operation="remove") == report.delivered.remove == 0
    refused = figure(figures, "rejected_operations_total", operation="add")
    assert refused == 2
    assert figure(figures, "rejected_rows") + refused == report.rejected
    assert figure(figures, "rejected_rows", reason="no_identifier") == 1
    assert figure(figures, "left_out_values", field="country", reason="not_a_country_code") == 1
    assert figure(figures, "runs_total", status="succeeded") == figure(figures, "runs_total") == 1
    assert figure(figures, "last_run_status", status="succeeded") == figure(figures, "last_run_status") == 1
    assert abs(figure(figures, "last_success_timestamp_seconds") - time.time()) < 60

    counted = Counter(str(record.status) for record in world.sandbox.requests())
    assert {"503", "429", "200"} <= counted.keys()
    reported = {code: figure(figures, "requests_total", code=code) for code in counted}
    assert reported == counted
    assert figure(figures, "requests_total") == counted.total()
    assert figure(figures, "requests_total", action="add") == len(world.sandbox.requests("users"))
    assert figure(figures, "requests_total", action="token") == len(world.sandbox.requests("token"))

    phases = figure(figures, "phase_seconds_total")
    assert report.seconds * 0.9 < phases < report.seconds + 0.1
    assert 0.2 <= figure(figures, "throttled_seconds_total", cause="destination") < report.seconds
    assert 364 <= figure(figures, "refresh_token_days_left", destination="ads") <= 365


def test_gauges_that_a_run_does_not_reach_keep_their_value(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members, queue and last success outlive runs that are blocked, deferred, failed and skipped; all are counted."""
    shorten_timeouts(monkeypatch, attempts=1)
    metrics = Metrics(world.config)
    world.fill(people(*range(20)))
    assert run_with_metrics(world, metrics).status is RunStatus.SUCCEEDED
    success = figure(read(metrics.text()), "last_success_timestamp_seconds")

    world.fill(people(*range(5)))
    world.sync_settings = {"guard": {"max_removed_percent": 10, "ignore_below": 1, "min_members": 0}}
    assert run_with_metrics(world, metrics).status is RunStatus.BLOCKED
    figures = read(metrics.text())
    assert figure(figures, "members") == 20
    assert figure(figures, "last_run_status", status="blocked") == figure(figures, "last_run_status") == 1

    world.sync_settings = {}
    world.sandbox.inject("503:users:times=0")
    report = run_with_metrics(world, metrics)
    assert report.status is RunStatus.INCOMPLETE
    figures = read(metrics.text())
    assert figure(figures, "members") == 5
    assert figure(figures, "waiting_operations") == report.deferred > 0
    deferred = figure(figures, "deferred_operations_total", operation="remove", reason="http_503")
    assert deferred == report.planned.remove == 15

    world.sandbox.clear_faults()
    world.sync_settings = {"model": {"sql": "select * from nowhere", "primary_key": "id"}}
    assert run_with_metrics(world, metrics).status is RunStatus.FAILED
    world.sync_settings = {"enabled": False}
    assert run_with_metrics(world, metrics).status is RunStatus.SKIPPED
    figures = read(metrics.text())
    assert figure(figures, "last_run_status", status="failed") == 1
    assert figure(figures, "members") == 5
    assert figure(figures, "waiting_operations") == report.deferred
    assert figure(figures, "last_success_timestamp_seconds") == success
    ended = {"succeeded": 1, "blocked": 1, "incomplete": 1, "failed": 1, "skipped": 1}
    assert {status: figure(figures, "runs_total", status=status) for status in ended} == ended

    world.sync_settings = {}
    report = retry_sync(world.config, SYNC, events=Events(metrics.handle))
    figures = read(metrics.text())
    assert figure(figures, "delivered_total", operation="remove") == report.delivered.remove == 15
    assert figure(figures, "waiting_operations") == 0


def test_a_retry_pass_does_not_hide_that_the_query_fails(world: World) -> None:
    """It is counted separately; status and times of the last run and success do not change."""
    metrics = Metrics(world.config)
    metrics.handle(SYNC, RunReported(RunReport(SYNC, RunStatus.FAILED)))
    before = read(metrics.text())
    metrics.handle(SYNC, RunReported(RunReport(SYNC, RunStatus.SUCCEEDED), is_retry=True))
    after = read(metrics.text())
    assert figure(after, "runs_total", kind="retry", status="succeeded") == 1
    assert figure(after, "last_run_status", status="failed") == 1
    same = {key for key in before if key[0] != "warehouse_sync_runs_total"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_a_new_process_restores_metrics_from_the_state_schema(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members, queue and last success are those of the previous process; a lost warehouse does no harm."""
    shorten_timeouts(monkeypatch, attempts=1)
    metrics = Metrics(world.config)
    world.fill(people(*range(20)))
    run_with_metrics(world, metrics)
    world.fill(people(*range(5, 25)))
    world.sandbox.inject("503:users:times=0:action=ADD")
    run_with_metrics(world, metrics)
    world.sandbox.clear_faults()
    world.destination_settings = {"account_id": 7}
    assert run_with_metrics(world, metrics).status is RunStatus.FAILED
    again = Metrics(world.config)
    restore_metrics(again, world.config)
    before, after = read(metrics.text()), read(again.text())
    for name in ("members", "waiting_operations", "dead_operations"):
        assert figure(after, name) == figure(before, name), name
    assert figure(after, "waiting_operations") == 5
    name = "last_success_timestamp_seconds"
    assert figure(after, name) == pytest.approx(figure(before, name), abs=5)
    world.url = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
    lost = Metrics(world.config)
    restore_metrics(lost, world.config)
    assert ("warehouse_sync_members", (("destination", "ads"), ("sync", SYNC))) not in read(lost.text())


def test_metrics_of_syncs_that_leave_the_configuration_are_dropped(world: World) -> None:
    """Renamed syncs and destinations leave no series, and their late events are ignored."""
    config = world.config
    metrics = Metrics(config)
    metrics.handle(SYNC, RunStarted())
    metrics.handle(SYNC, CredentialsChecked(date.today() + timedelta(days=10)))
    assert b"ads" in metrics.text()
    world.destination_name = "adverts"
    metrics.handle("", ConfigurationLoaded(world.config))
    metrics.handle(SYNC, RequestAnswered(Action.ADD, "200", 0.1))
    metrics.handle(SYNC, CredentialsChecked(date.today()))
    assert b"ads" not in metrics.text()
    assert b"adverts" in metrics.text()


def test_labels_have_only_known_values(world: World) -> None:
    """An unknown reason or status becomes `other`."""
    metrics = Metrics(world.config)
    run = Events(metrics.handle, sync=SYNC)
    run.publish(RunStarted())
    for word in ("MEMBER_anna", "http_999", "anna@example.com"):
        run.publish(OperationsEnded(OperationKind.ADD, rejected(word, ""), 1))
        run.publish(RequestAnswered(Action.ADD, word, 0.1))
    run.publish(RowsRejected({"anna": 1, "secret:too_long": 2, "country:anna": 3}))
    run.publish(OperationsEnded(OperationKind.ADD, rejected("http_400", ""), 1))
    figures = read(metrics.text())
    assert figure(figures, "rejected_operations_total", reason="other") == 3
    assert figure(figures, "rejected_operations_total", reason="http_400") == 1
    assert figure(figures, "requests_total", code="other") == 3
    assert figure(figures, "left_out_values", field="other", reason="too_long") == 2
    assert figure(figures, "left_out_values", field="country", reason="other") == 3
    assert b"anna" not in metrics.text()


def test_metrics_continue_from_a_text(world: World) -> None:
    """A text that is loaded gives the same text, except the time; other text is refused."""
    metrics = Metrics(world.config)
    metrics.handle(SYNC, RunStarted())
    metrics.handle(SYNC, OperationsEnded(OperationKind.ADD, rejected("http_400", ""), 2))
    metrics.handle(SYNC, RunReported(RunReport(SYNC, RunStatus.SUCCEEDED, seconds=1.5)))
    again = Metrics(world.config)
    again.load_text(metrics.text().decode())
    assert again.text() == metrics.text()
    for foreign in ("node_load1 0.5\n", "{", "warehouse_sync_members 3\n"):
        with pytest.raises(ValueError):
            again.load_text(foreign)
    assert again.text() == metrics.text()


def command(world: World, *words: str) -> CommandResult:
    """Run the real program, without fetching a token."""
    return call(world.save_with_access_token(), *words)


def test_commands_write_their_metrics_to_a_file_and_continue_from_it(world: World) -> None:
    """The file is complete, readable for all, without a draft; a second command continues its counters."""
    world.fill(people(*range(10)))
    world.sync_settings = {"audience": {"type": "user", "id": create_audience(world.sandbox)}}
    folder = world.folder / "textfiles"
    folder.mkdir()
    path = folder / "sync.prom"
    first = command(world, "run", "--json", "--metrics-file", str(path))
    assert first.code == 0, first.err
    (report,) = first.json
    figures = read(path.read_text())
    assert figure(figures, "delivered_total", operation="add") == report["delivered"]["add"] == 10
    assert figure(figures, "requests_total") == len(world.sandbox.requests()) - 1  # One has made the audience.
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(folder.iterdir()) == [path]

    world.fill(people(*range(4)))
    second = command(world, "run", "--json", "--metrics-file", str(path))
    assert second.code == 0, second.err
    figures = read(path.read_text())
    assert figure(figures, "delivered_total", operation="add") == 10
    assert figure(figures, "delivered_total", operation="remove") == second.json[0]["delivered"]["remove"] == 6
    assert figure(figures, "runs_total", status="succeeded") == 2
    assert figure(figures, "members") == 4


def test_a_file_with_other_content_is_refused_before_anything_is_touched(world: World) -> None:
    """Exit 2, one sentence, no request, no file created or changed."""
    world.fill(people(*range(4)))
    (world.folder / "foreign.prom").write_text("node_load1 0.5\n")
    (world.folder / "config.yaml").touch()
    before = sorted(world.folder.iterdir())
    answer = command(world, "run", "--metrics-file", "foreign.prom")
    assert answer.code == 2
    assert "Nothing was touched" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert world.sandbox.requests() == []
    assert sorted(world.folder.iterdir()) == before
    assert (world.folder / "foreign.prom").read_text() == "node_load1 0.5\n"


@pytest.mark.parametrize("name", ["nowhere/sync.prom", "folder", "binary.prom"])
def test_a_metrics_file_that_cannot_be_written_is_refused(world: World, name: str) -> None:
    """Its folder is missing, it is a folder itself, it is not even text; no draft remains."""
    metrics = Metrics(world.config)
    (world.folder / "folder").mkdir()
    (world.folder / "binary.prom").write_bytes(b"\xff\xfe")
    before = sorted(world.folder.iterdir())
    with pytest.raises(ConfigurationError, match="Nothing was touched"):
        MetricsFile(metrics, world.folder / name)
    assert sorted(world.folder.iterdir()) == before
