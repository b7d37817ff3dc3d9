"""Telling the webhooks of a configuration, once for each change of a sync's state.

    a run ends as                       the sync is
    succeeded                           ok
    failed                              failed
    blocked                             blocked
    incomplete, with dead operations    dead
    incomplete without, skipped         what it was

A retry pass runs no query, so it puts an end to `dead` only.

Each webhook knows a state of each sync; the state schema remembers it (state/alerted.py), so that the runs of a CronJob
and several workers tell as one. A state that a webhook is not told of leaves for it everything as it was, but for ok.
Whoever changes the record tells; what a webhook has not taken is changed back, so that the next run tells it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import WebhookConfig
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events import ConfigurationLoaded, Event, RunReported
from warehouse_sync.monitoring.webhooks import post_all
from warehouse_sync.operations import RunStatus
from warehouse_sync.redaction import redact
from warehouse_sync.reports import RunReport
from warehouse_sync.run.context import open_warehouse
from warehouse_sync.state import alerts
from warehouse_sync.state.migrate import is_readable
from warehouse_sync.state.store import State, SyncKey

log = structlog.get_logger(__name__)

OK: Final = "ok"
FAILED: Final = "failed"
BLOCKED: Final = "blocked"
DEAD: Final = "dead"
ALL_STATES: Final = (OK, FAILED, BLOCKED, DEAD)
RECOVERED: Final = "recovered"

MAX_REASON_LENGTH: Final = 1500
"""Characters of a reason that are told."""

SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")
"""Gets the text alone: Slack promises nothing for keys that it does not know."""

WebhookStates = dict[str, str]
"""A state by webhook; one that is not named knows the sync as ok."""


def alert_state(report: RunReport) -> str | None:
    """How a sync stands after this run; None: as before."""
    if report.status == RunStatus.SUCCEEDED:
        return OK
    if report.status == RunStatus.FAILED:
        return FAILED
    if report.status == RunStatus.BLOCKED:
        return BLOCKED
    return DEAD if report.status == RunStatus.INCOMPLETE and report.dead else None


class Alerts:
    """Tells the webhooks behind each run. Where the state schema cannot be asked, this process remembers by itself."""

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Config(warehouses={}, destinations={}, webhooks={}, syncs={})
        self._seen: dict[str, WebhookStates] = {}
        self._unwritten: dict[str, WebhookStates] = {}

    def handle(self, sync: str, event: Event) -> None:
        """Call the webhooks when a run is reported; a listener of events."""
        match event:
            case ConfigurationLoaded(config):
                self._config = config
            case RunReported(report, is_retry):
                self._alert(sync, report, is_retry=is_retry)

    def _alert(self, sync: str, report: RunReport, *, is_retry: bool) -> None:
        state = alert_state(report)
        webhooks = {name: hook for name, hook in self._config.webhooks.items() if hook.applies_to(sync)}
        if state is None or not webhooks:
            return
        about = {"sync": sync} if report.run_id is None else {"sync": sync, "run": report.run_id}
        with structlog.contextvars.bound_contextvars(**about):
            before = self._claim(sync, report, state, webhooks, mends=(OK, DEAD) if is_retry else ALL_STATES)
            told = {
                name: known
                for name, known in before.items()
                if state != OK or RECOVERED in self._config.webhooks[name].on
            }
            posts = {
                name: (webhooks[name].url.get_secret_value(), make_body(webhooks[name], report, state, known))
                for name, known in told.items()
            }
            failures = {name: reason for name, reason in post_all(posts).items() if reason is not None}
            for name in told:
                if name in failures:
                    log.error("webhook not told, the next run tells it", webhook=name, reason=failures[name])
                else:
                    log.info("webhook told", webhook=name, state=_word(state))
            if failures:
                self._put_back(sync, state, {name: before[name] for name in failures})

    def _claim(
        self,
        sync: str,
        report: RunReport,
        state: str,
        webhooks: Mapping[str, WebhookConfig],
        mends: Collection[str],
    ) -> WebhookStates:
        """What each webhook knew whose knowledge changes by this, and has changed now: whoever gets that tells it.

        mends: the states that a run like this can put an end to, but for a failure of its own.
        """

        def changing(known: WebhookStates) -> list[str]:
            return [
                name
                for name, hook in webhooks.items()
                if (was := known.get(name, OK)) != state
                and (state == FAILED or was in mends)
                and (state == OK or state in hook.on)
            ]

        def step(known: WebhookStates) -> WebhookStates:
            return known | dict.fromkeys(changing(known), state)

        def outdated(ledger: State, key: SyncKey) -> bool:
            return alerts.is_outdated(ledger, key, report.run_id)

        known = self._change(sync, step, unless=outdated)
        return {} if known is None else {name: known.get(name, OK) for name in changing(known)}

    def _put_back(self, sync: str, state: str, before: WebhookStates) -> None:
        def step(known: WebhookStates) -> WebhookStates:
            return known | {name: was for name, was in before.items() if known.get(name, OK) == state}

        self._change(sync, step)

    def _change(
        self,
        sync: str,
        step: Callable[[WebhookStates], WebhookStates],
        unless: Callable[[State, SyncKey], bool] = lambda *_: False,
    ) -> WebhookStates | None:
        """What the webhooks knew before `step` was made, be it in the state schema or here; None: `unless` holds."""
        config = self._config.sync(sync)
        key = SyncKey(config.name, config.destination)
        try:
            with open_warehouse(self._config, config) as warehouse:
                ledger = State(warehouse)
                if is_readable(ledger):
                    for _ in range(alerts.MAX_ATTEMPTS):
                        written = alerts.read(ledger, key)
                        known = written | self._unwritten.get(sync, {})
                        after = self._without_ok(step(known))
                        if after != written and unless(ledger, key):
                            return None
                        if alerts.compare_and_set(ledger, key, written, after):
                            self._unwritten.pop(sync, None)
                            self._seen[sync] = after
                            return known
        except WarehouseSyncError as error:
            log.warning("what the webhooks were told cannot be recorded in the warehouse", reason=redact(str(error)))
        known = self._seen.get(sync, {}) | self._unwritten.get(sync, {})
        self._unwritten[sync] = step(known)
        return known

    def _without_ok(self, known: WebhookStates) -> WebhookStates:
        return {name: state for name, state in known.items() if state != OK and name in self._config.webhooks}


def _word(state: str) -> str:
    return RECOVERED if state == OK else state


def make_body(webhook: WebhookConfig, report: RunReport, state: str, before: str) -> bytes:
    """What is posted: a text that chats show, and the same for programs. No row, no address, no token."""
    message: dict[str, Any] = {"text": _text(report, state, before)}
    if urlsplit(webhook.url.get_secret_value()).hostname not in SLACK_HOSTS:
        message |= {
            "sync": report.sync,
            "state": _word(state),
            "previous_state": before,
            "run_id": report.run_id,
            "status": report.status.value,
            "reason": _reason(report),
            "counts": {
                "rows": report.rows,
                "members": report.members,
                "rejected": report.rejected,
                "planned": asdict(report.planned),
                "delivered": asdict(report.delivered),
                "deferred": report.deferred,
                "dead": report.dead,
            },
            "seconds": report.seconds,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    return json.dumps(message).encode()


def _text(report: RunReport, state: str, before: str) -> str:
    what = {
        OK: f"has recovered; it was {before}",
        FAILED: "has failed",
        BLOCKED: "is blocked by its guard; nothing was sent",
        DEAD: f"has {report.dead:,} dead operations, which are no longer retried by themselves",
    }[state]
    run = "" if report.run_id is None else f", run {report.run_id}"
    reason = _reason(report) if state != OK else None
    plain = f"warehouse-sync: {report.sync} {what}{run}" + (f"\n{reason}" if reason else "")
    # Slack reads <…> as a link or as a call to everybody, and wants these three escaped.
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _reason(report: RunReport) -> str | None:
    if report.reason is None:
        return None
    reason = redact(report.reason)
    return reason if len(reason) <= MAX_REASON_LENGTH else reason[: MAX_REASON_LENGTH - 1] + "…"
