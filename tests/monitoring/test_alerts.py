"""Webhooks: called once per change of a sync's state, in whatever process and however often it runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
import yaml
from harness.processes.command import CommandResult, call
from harness.servers.webhook_receiver import WebhookReceiver
from harness.worlds.world import SYNC, World, create_audience, people, sandbox

from warehouse_sync.config.loader import Config, load_config
from warehouse_sync.config.models import WebhookConfig
from warehouse_sync.events import Event, Events, RunReported
from warehouse_sync.monitoring import webhooks
from warehouse_sync.monitoring.alerts import Alerts, make_body
from warehouse_sync.operations import OperationCounts, RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.run.run import run_sync

OKAY = RunReport(SYNC, RunStatus.SUCCEEDED)
FAILED = RunReport(SYNC, RunStatus.FAILED, reason="the warehouse is on fire")
BLOCKED = RunReport(SYNC, RunStatus.BLOCKED, reason="too many would go")
DEAD = RunReport(SYNC, RunStatus.INCOMPLETE, dead=3)
WAITING = RunReport(SYNC, RunStatus.INCOMPLETE, deferred=3)
SKIPPED = RunReport(SYNC, RunStatus.SKIPPED)


on_duckdb = pytest.mark.parametrize("warehouse_url", ["duckdb"], indirect=True)


@pytest.fixture
def hooks() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    """Retry webhooks without delays."""
    stamina.set_testing(True, attempts=webhooks.ATTEMPTS)
    yield
    stamina.set_testing(False)


def configured(world: World, **hooks: dict[str, Any]) -> Config:
    """Return the world's configuration with these webhooks; its state schema exists."""
    path = world.folder / "config.yaml"
    path.write_text(yaml.safe_dump({**world.raw_config, "webhooks": hooks}))
    return load_config(path)


@pytest.fixture
def ran(world: World, short_timeouts: None) -> World:
    """A world whose sync has run once."""
    world.fill(people(*range(5)))
    run_sync(world.config, SYNC)
    return world


def publish(alerts: Alerts, *reports: RunReport) -> None:
    for report in reports:
        alerts.handle(SYNC, RunReported(report))


def test_a_day_of_a_cron_job(tmp_path: Path, hooks: WebhookReceiver) -> None:
    """Separate processes: failed is posted once, then recovered, blocked and dead; nothing else is."""
    with sandbox() as running:
        world = World(f"duckdb:///{tmp_path}/warehouse.duckdb", running, tmp_path)
        world.fill(people(*range(10)))
        audience = {"type": "user", "id": create_audience(running)}
        world.destination_settings = {"access_token": running.settings.access_token}

        def run(**changes: Any) -> CommandResult:
            world.sync_settings = {"audience": audience, **changes}
            written = world.raw_config
            for key in ("client_id", "client_secret", "refresh_token"):
                del written["destinations"]["ads"][key]
            (tmp_path / "config.yaml").write_text(
                yaml.safe_dump({**written, "webhooks": {"chat": {"url": hooks.url("/services/T0/B0/s3cr3t-of-ours")}}})
            )
            return call(tmp_path, "run", "--json")

        path = "/services/T0/B0/s3cr3t-of-ours"
        assert run().code == 0
        assert hooks.attempts == []
        broken = {"model": {"sql": "select * from people where 1/id > 'x'", "primary_key": "id"}}
        answers = [run(**broken), run(**broken), run()]
        world.fill(people(*range(3)))
        answers.append(run(guard={"max_removed_percent": 10, "ignore_below": 0}))
        running.inject("refuse_elements:users:times=0:action=REMOVE:indices=0")
        answers.append(run())
        assert [answer.code for answer in answers] == [1, 1, 0, 4, 3]
    expected = [("ok", "failed"), ("failed", "recovered"), ("ok", "blocked"), ("blocked", "dead")]
    assert hooks.states(path) == expected
    bodies = hooks.accepted(path)
    reports = [answer.json[0] for answer in answers]
    assert [body["run_id"] for body in bodies] == [reports[at]["run_id"] for at in (0, 2, 3, 4)]
    assert all(body["sync"] == SYNC and SYNC in body["text"] for body in bodies)
    assert bodies[0]["reason"] == reports[0]["reason"]
    assert bodies[3]["counts"]["dead"] == reports[4]["dead"] == 1
    assert "s3cr3t" not in "".join(answer.err for answer in answers)
    assert "@" not in json.dumps(bodies)


def test_many_workers_at_once_call_a_webhook_once(ran: World, hooks: WebhookReceiver) -> None:
    """Eight workers that end in the same moment, on each kind of warehouse."""
    config = configured(ran, chat={"url": hooks.url()})
    for report in (FAILED, OKAY):
        start = threading.Barrier(8)

        def one(report: RunReport = report, start: threading.Barrier = start) -> None:
            alerts = Alerts(config)
            start.wait()
            alerts.handle(SYNC, RunReported(report))

        workers = [threading.Thread(target=one) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert hooks.states() == [("ok", "failed"), ("failed", "recovered")]


@on_duckdb
def test_runs_that_do_not_change_the_state_call_no_webhook(ran: World, hooks: WebhookReceiver) -> None:
    """Nor does a run that ended before one that was reported."""
    alerts = Alerts(configured(ran, chat={"url": hooks.url()}))
    publish(alerts, OKAY, WAITING, SKIPPED, DEAD, DEAD, WAITING, SKIPPED, DEAD, OKAY, OKAY)
    publish(alerts, RunReport(SYNC, RunStatus.FAILED, run_id=0))
    assert hooks.states() == [("ok", "dead"), ("dead", "recovered")]


@on_duckdb
def test_a_retry_pass_ends_only_the_dead_state(ran: World, hooks: WebhookReceiver) -> None:
    """Its success ends `dead`, not a failure of the query or a block by the guard; its own failure is posted."""
    alerts = Alerts(configured(ran, chat={"url": hooks.url()}))
    for report in (FAILED, BLOCKED, DEAD):
        publish(alerts, report)
        alerts.handle(SYNC, RunReported(OKAY, is_retry=True))
    alerts.handle(SYNC, RunReported(DEAD, is_retry=True))
    alerts.handle(SYNC, RunReported(FAILED, is_retry=True))
    alerts.handle(SYNC, RunReported(DEAD, is_retry=True))
    expected = ["failed", "blocked", "dead", "recovered", "dead", "failed"]
    assert [new for _, new in hooks.states()] == expected


def test_a_listener_that_fails_does_not_affect_the_others() -> None:
    """Nor does it change how the run ended."""

    def fail(_sync: str, _event: Event) -> None:
        raise ValueError

    received: list[tuple[str, Event]] = []
    events = Events(fail, lambda sync, event: received.append((sync, event)))
    events.for_sync(SYNC).publish(RunReported(FAILED))
    assert received == [(SYNC, RunReported(FAILED))]


@on_duckdb
def test_each_webhook_gets_what_it_subscribes_to(ran: World, hooks: WebhookReceiver) -> None:
    """`on` and `syncs` choose; a webhook that was not called for a failure is not called for its end."""
    config = configured(
        ran,
        all={"url": hooks.url("/all")},
        failures={"url": hooks.url("/failures"), "on": ["failed", "recovered"]},
        blocks={"url": hooks.url("/blocks"), "on": ["blocked"], "syncs": [SYNC]},
    )
    publish(Alerts(config), BLOCKED, OKAY, FAILED, BLOCKED, OKAY, BLOCKED)
    assert [new for _, new in hooks.states("/all")] == [
        *("blocked", "recovered", "failed", "blocked", "recovered", "blocked")
    ]
    assert hooks.states("/failures") == [("ok", "failed"), ("failed", "recovered")]
    assert hooks.states("/blocks") == [("ok", "blocked")] * 3


def test_a_webhook_that_is_down_is_called_by_the_next_run(
    ran: World, hooks: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Other webhooks are still called once; transient errors are retried; the log names only the webhook."""
    config = configured(ran, up={"url": hooks.url("/up")}, down={"url": hooks.url("/down-s3cr3t")})
    hooks.statuses["/up"] = [503]
    hooks.statuses["/down-s3cr3t"] = [404]
    publish(Alerts(config), FAILED)
    assert (hooks.states("/up"), hooks.states("/down-s3cr3t")) == ([("ok", "failed")], [])
    assert hooks.attempts.count("/down-s3cr3t") == 1
    assert "down" in caplog.text
    assert "s3cr3t" not in caplog.text
    publish(Alerts(config), FAILED, FAILED)
    assert hooks.states("/up") == hooks.states("/down-s3cr3t") == [("ok", "failed")]


@on_duckdb
def test_a_webhook_that_missed_a_failure_gets_no_recovery(ran: World, hooks: WebhookReceiver) -> None:
    """If the sync recovers before the webhook could be called for the failure."""
    config = configured(ran, chat={"url": hooks.url()})
    hooks.statuses["/hook"] = [500] * webhooks.ATTEMPTS
    publish(Alerts(config), FAILED)
    assert len(hooks.attempts) == webhooks.ATTEMPTS
    publish(Alerts(config), OKAY)
    assert hooks.states() == []


@on_duckdb
def test_a_webhook_that_hangs_does_not_block_the_worker(
    ran: World, hooks: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout it counts as failed."""
    monkeypatch.setattr(webhooks, "TOTAL_TIMEOUT", 2.0)
    hooks.statuses["/hook"] = [0] * 10
    config = configured(ran, chat={"url": hooks.url()}, other={"url": hooks.url("/other")})
    publish(Alerts(config), FAILED)
    assert hooks.states("/other") == [("ok", "failed")]
    hooks.statuses.clear()
    publish(Alerts(config), FAILED)
    assert hooks.states() == [("ok", "failed")]


@on_duckdb
def test_a_lost_warehouse_is_reported_once_by_a_process(ran: World, hooks: WebhookReceiver) -> None:
    """It remembers the posted states until the warehouse is back, and then they are not posted again."""
    good = configured(ran, chat={"url": hooks.url()})
    alerts = Alerts(good)
    real, ran.url = ran.url, "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
    alerts._config = configured(ran, chat={"url": hooks.url()})
    publish(alerts, FAILED, FAILED)
    assert hooks.states() == [("ok", "failed")]
    ran.url = real
    alerts._config = good
    publish(alerts, FAILED)
    publish(Alerts(good), FAILED, OKAY)
    assert hooks.states() == [("ok", "failed"), ("failed", "recovered")]


@on_duckdb
def test_a_sync_that_has_never_run_is_reported(world: World, hooks: WebhookReceiver) -> None:
    """Without a state schema, or a row in it, a failure is still posted."""
    world.fill([])
    publish(Alerts(configured(world, chat={"url": hooks.url()})), FAILED)
    assert hooks.states() == [("ok", "failed")]


def webhook(url: str) -> WebhookConfig:
    return WebhookConfig(name="chat", url=url)  # type: ignore[arg-type]


def test_the_message_has_no_secret_and_no_mention_and_fits_slack() -> None:
    """Slack's special characters are escaped, long reasons are cut; Slack gets only keys that it knows."""
    reason = "<!channel> & anna@example.com Bearer abcdefghijklmnop " + "x" * 5000
    report = RunReport("a <b>", RunStatus.FAILED, 7, reason, delivered=OperationCounts(1, 2))
    message = json.loads(make_body(webhook("https://example.com/x"), report, "failed", "ok"))
    assert "&lt;!channel&gt; &amp;" in message["text"]
    assert "<" not in message["text"]
    assert len(message["text"]) < 2000
    assert not {"anna", "abcdefghijklmnop"} & set(json.dumps(message).split())
    assert message["sync"] == "a <b>"
    assert message["counts"]["delivered"] == {"add": 1, "remove": 2}
    slack = json.loads(make_body(webhook("https://hooks.slack.com/services/T/B/x"), report, "failed", "ok"))
    assert slack == {"text": message["text"]}
