"""Definitions of the metrics, and the closed sets of values of their labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from warehouse_sync.config.destination_types import known_field_names
from warehouse_sync.operations import RunStatus

SYNC_LABELS: Final = ("sync", "destination")
OTHER: Final = "other"

OPEN_PHASE: Final = "open"
"""The phase before the first one: connecting to the warehouse."""

ROW_REASONS: Final = ("already_hashed", "no_identifier", "not_hashed")
VALUE_REASONS: Final = frozenset(
    {
        "holds_an_address",
        "not_a_country_code",
        "not_a_device_id",
        "not_a_domain",
        "not_a_list",
        "not_an_address",
        "not_an_id",
        "opted_out",
        "too_long",
    }
)
OPERATION_REASONS: Final = frozenset(
    {
        "audience_not_found",
        "connection",
        "daily_limit",
        "interrupted",
        "malformed_answer",
        "missing_answer",
        "oauth_connection",
        "oauth_malformed_answer",
        "oauth_timeout",
        "stopped",
        "throttled",
        "timeout",
        "too_many_refusals",
    }
)
"""Reasons of outcomes, without `http_…`. Codes that LinkedIn chooses become `other`; the sync log has them."""

_HTTP = re.compile(r"(?:oauth_)?http_[1-5][0-9][0-9]")
_STATUS = re.compile(r"[1-5][0-9][0-9]|timeout|connection")
RUN_KINDS: Final = ("run", "retry")
END_STATUSES: Final = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: Name of its samples, so that of a counter ends in `_total`.
        kind: Type in Prometheus.
        labels: Names of its labels.
        help: Its description.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    help: str


METRICS: Final = (
    Metric("warehouse_sync_build_info", "gauge", ("version",), "Always 1; the release that is running"),
    Metric("warehouse_sync_members", "gauge", SYNC_LABELS, "Members that the audience holds when pending work is done"),
    Metric(
        "warehouse_sync_delivered_total",
        "counter",
        (*SYNC_LABELS, "operation"),
        "Operations that the destination accepted",
    ),
    Metric(
        "warehouse_sync_rejected_operations_total",
        "counter",
        (*SYNC_LABELS, "operation", "reason"),
        "Operations that the destination rejected permanently",
    ),
    Metric(
        "warehouse_sync_deferred_operations_total",
        "counter",
        (*SYNC_LABELS, "operation", "reason"),
        "Operations added to the retry queue, each time counted",
    ),
    Metric(
        "warehouse_sync_waiting_operations",
        "gauge",
        SYNC_LABELS,
        "Operations in the retry queue, without the dead ones",
    ),
    Metric(
        "warehouse_sync_dead_operations", "gauge", SYNC_LABELS, "Operations that are no longer retried automatically"
    ),
    Metric(
        "warehouse_sync_rejected_rows",
        "gauge",
        (*SYNC_LABELS, "reason"),
        "Rows of the query that cannot be members, at the last snapshot",
    ),
    Metric(
        "warehouse_sync_left_out_values",
        "gauge",
        (*SYNC_LABELS, "field", "reason"),
        "Rows whose value of a field is left out, at the last snapshot",
    ),
    Metric(
        "warehouse_sync_runs_total",
        "counter",
        (*SYNC_LABELS, "kind", "status"),
        "Runs and retry passes by how they ended",
    ),
    Metric(
        "warehouse_sync_last_run_status",
        "gauge",
        (*SYNC_LABELS, "status"),
        "1 for the status of the last run, 0 for the others; skipped runs and retry passes do not count",
    ),
    Metric("warehouse_sync_last_run_timestamp_seconds", "gauge", SYNC_LABELS, "When that run ended"),
    Metric("warehouse_sync_last_run_duration_seconds", "gauge", SYNC_LABELS, "How long that run took"),
    Metric("warehouse_sync_last_success_timestamp_seconds", "gauge", SYNC_LABELS, "When a run last ended as succeeded"),
    Metric(
        "warehouse_sync_phase_seconds_total", "counter", (*SYNC_LABELS, "phase"), "Time that runs spent in each phase"
    ),
    Metric(
        "warehouse_sync_requests_total",
        "counter",
        (*SYNC_LABELS, "action", "code"),
        "Requests to the destination by HTTP status; timeout or connection without an answer",
    ),
    Metric(
        "warehouse_sync_request_seconds_total",
        "counter",
        (*SYNC_LABELS, "action"),
        "Time until those requests were answered, summed over parallel requests",
    ),
    Metric(
        "warehouse_sync_throttled_seconds_total",
        "counter",
        (*SYNC_LABELS, "cause"),
        "Time during which requests were delayed: by our own rate limit, or because the destination asked for it",
    ),
    Metric(
        "warehouse_sync_refresh_token_expiry_timestamp_seconds",
        "gauge",
        ("destination",),
        "When the refresh token expires, to the day, if the destination reports it",
    ),
    Metric(
        "warehouse_sync_refresh_token_days_left",
        "gauge",
        ("destination",),
        "Days until the refresh token expires",
    ),
)

_KNOWN_FIELDS: Final = frozenset(
    name
    for known in (known_field_names("identifiers"), known_field_names("fields"))
    for names in known.values()
    for name in names
)


def field_label(name: str) -> str:
    """Return the name of a field; `other` if it is unknown."""
    return name if name in _KNOWN_FIELDS else OTHER


def row_reason_label(reason: str) -> str:
    """Return the reason why a row is no member; `other` if it is unknown."""
    return reason if reason in ROW_REASONS else OTHER


def value_reason_label(reason: str) -> str:
    """Return the reason why a value is left out; `other` if it is unknown."""
    return reason if reason in VALUE_REASONS else OTHER


def status_label(status: str) -> str:
    """Return the HTTP status of a request, `timeout` or `connection`; `other` if it is none of these."""
    return status if _STATUS.fullmatch(status) else OTHER


def operation_reason_label(reason: str) -> str:
    """Return the reason why an operation was rejected or deferred; `other` if it is unknown."""
    return reason if reason in OPERATION_REASONS or _HTTP.fullmatch(reason) else OTHER
