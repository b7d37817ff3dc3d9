"""Alerts: call the webhooks of a configuration once for each change of a sync's state.

    a run ends as                       state of the sync
    succeeded                           ok
    failed                              failed
    blocked                             blocked
    incomplete, with dead operations    dead
    incomplete without, skipped         unchanged

A retry pass runs no query, so its success can only end the state `dead`.

The state schema stores, for each webhook and sync, the state that the webhook was last called for (state/alerts.py).
So the runs of a CronJob and several workers act as one. A state that a webhook does not subscribe to leaves the stored
state unchanged, except ok. The process that changes the stored state calls the webhook. If the call fails, it reverts
the stored state, so that the next run calls the webhook again.
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
"""Characters of a reason that are sent."""

SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")
"""These get only the text: Slack does not define how it treats unknown keys."""

WebhookStates = dict[str, str]
"""State of a sync by webhook, as the webhook was last called for it; ok for a webhook without an entry."""


def alert_state(report: RunReport) -> str | None:
    """Return the state of a sync after a run; None if the run does not change it."""
    if report.status == RunStatus.SUCCEEDED:
        return OK
    if report.status == RunStatus.FAILED:
        return FAILED
    if report.status == RunStatus.BLOCKED:
        return BLOCKED
    return DEAD if report.status == RunStatus.INCOMPLETE and report.dead else None


class Alerts:
    """Calls the webhooks after each run.

    While the state schema cannot be read, this object remembers the states itself.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Config(warehouses={}, destinations={}, webhooks={}, syncs={})
        self._stored: dict[str, WebhookStates] = {}
        self._not_stored: dict[str, WebhookStates] = {}

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
            previous = self._claim(sync, report, state, webhooks, can_end=(OK, DEAD) if is_retry else ALL_STATES)
            bodies = {
                name: (webhooks[name].url.get_secret_value(), make_body(webhooks[name], report, state, previous_state))
                for name, previous_state in previous.items()
                if state != OK or RECOVERED in self._config.webhooks[name].on
            }
            failures = {name: reason for name, reason in post_all(bodies).items() if reason is not None}
            for name in bodies:
                if name in failures:
                    log.error("webhook failed, the next run calls it again", webhook=name, reason=failures[name])
                else:
                    log.info("webhook called", webhook=name, state=_reported_state(state))
            if failures:
                self._revert(sync, state, {name: previous[name] for name in failures})

    def _claim(
        self,
        sync: str,
        report: RunReport,
        state: str,
        webhooks: Mapping[str, WebhookConfig],
        can_end: Collection[str],
    ) -> WebhookStates:
        """Store the new state for each webhook that must be called for it.

        Args:
            sync: Name of the sync.
            report: How its run ended.
            state: The new state.
            webhooks: The webhooks that apply to the sync.
            can_end: The states that a run of this kind can end; a failure of its own always counts.

        Returns:
            The previous states of these webhooks. The caller calls them; no other process does.
        """

        def changed(states: WebhookStates) -> list[str]:
            return [
                name
                for name, hook in webhooks.items()
                if (previous := states.get(name, OK)) != state
                and (state == FAILED or previous in can_end)
                and (state == OK or state in hook.on)
            ]

        def update(states: WebhookStates) -> WebhookStates:
            return states | dict.fromkeys(changed(states), state)

        def is_outdated(store: State, key: SyncKey) -> bool:
            return alerts.is_outdated(store, key, report.run_id)

        states = self._update(sync, update, unless=is_outdated)
        return {} if states is None else {name: states.get(name, OK) for name in changed(states)}

    def _revert(self, sync: str, state: str, previous: WebhookStates) -> None:
        def update(states: WebhookStates) -> WebhookStates:
            return states | {name: old for name, old in previous.items() if states.get(name, OK) == state}

        self._update(sync, update)

    def _update(
        self,
        sync: str,
        update: Callable[[WebhookStates], WebhookStates],
        unless: Callable[[State, SyncKey], bool] = lambda *_: False,
    ) -> WebhookStates | None:
        """Change the stored states, in the state schema or else here.

        Returns:
            The states before the update; None if `unless` is true, then nothing changes.
        """
        config = self._config.sync(sync)
        key = SyncKey(config.name, config.destination)
        try:
            with open_warehouse(self._config, config) as warehouse:
                store = State(warehouse)
                if is_readable(store):
                    for _ in range(alerts.MAX_ATTEMPTS):
                        stored = alerts.read(store, key)
                        states = stored | self._not_stored.get(sync, {})
                        updated = self._without_ok(update(states))
                        if updated != stored and unless(store, key):
                            return None
                        if alerts.compare_and_set(store, key, stored, updated):
                            self._not_stored.pop(sync, None)
                            self._stored[sync] = updated
                            return states
        except WarehouseSyncError as error:
            log.warning("the states of the webhooks cannot be stored in the warehouse", reason=redact(str(error)))
        states = self._stored.get(sync, {}) | self._not_stored.get(sync, {})
        self._not_stored[sync] = update(states)
        return states

    def _without_ok(self, states: WebhookStates) -> WebhookStates:
        return {name: state for name, state in states.items() if state != OK and name in self._config.webhooks}


def _reported_state(state: str) -> str:
    return RECOVERED if state == OK else state


def make_body(webhook: WebhookConfig, report: RunReport, state: str, previous: str) -> bytes:
    """Return the JSON to post: a text for chats, and the same as fields. It contains no row, address or token."""
    message: dict[str, Any] = {"text": _text(report, state, previous)}
    if urlsplit(webhook.url.get_secret_value()).hostname not in SLACK_HOSTS:
        message |= {
            "sync": report.sync,
            "state": _reported_state(state),
            "previous_state": previous,
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


def _text(report: RunReport, state: str, previous: str) -> str:
    event = {
        OK: f"has recovered; it was {previous}",
        FAILED: "has failed",
        BLOCKED: "is blocked by its guard; nothing was sent",
        DEAD: f"has {report.dead:,} dead operations, which are no longer retried automatically",
    }[state]
    run = "" if report.run_id is None else f", run {report.run_id}"
    reason = _reason(report) if state != OK else None
    text = f"warehouse-sync: {report.sync} {event}{run}" + (f"\n{reason}" if reason else "")
    # Slack reads <…> as a link or a mention, and requires these three escapes.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _reason(report: RunReport) -> str | None:
    if report.reason is None:
        return None
    reason = redact(report.reason)
    return reason if len(reason) <= MAX_REASON_LENGTH else reason[: MAX_REASON_LENGTH - 1] + "…"
