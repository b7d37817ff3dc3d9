"""The metrics by name, and the closed sets of words that their labels take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from warehouse_sync.config.destination_types import known_field_names
from warehouse_sync.operations import RunStatus

SYNC_LABELS: Final = ("sync", "destination")
OTHER: Final = "other"

OPEN_PHASE: Final = "open"
"""The phase before the first one: the warehouse is being connected to."""

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
"""Reasons of outcomes besides `http_…`. Those that LinkedIn words by itself are told as `other`; the log has them."""

_HTTP = re.compile(r"(?:oauth_)?http_[1-5][0-9][0-9]")
_STATUS = re.compile(r"[1-5][0-9][0-9]|timeout|connection")
RUN_KINDS: Final = ("run", "retry")
END_STATUSES: Final = tuple(status for status in RunStatus if status is not RunStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is the one of its samples, so a counter's ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    help: str


METRICS: Final = (
    Metric("warehouse_sync_build_info", "gauge", ("version",), "Always 1; the release that is running"),
    Metric("warehouse_sync_members", "gauge", SYNC_LABELS, "Members that the audience holds once pending work is done"),
    Metric(
        "warehouse_sync_delivered_total",
        "counter",
        (*SYNC_LABELS, "operation"),
        "Operations that the destination has taken",
    ),
    Metric(
        "warehouse_sync_rejected_operations_total",
        "counter",
        (*SYNC_LABELS, "operation", "reason"),
        "Operations that the destination has refused for good",
    ),
    Metric(
        "warehouse_sync_deferred_operations_total",
        "counter",
        (*SYNC_LABELS, "operation", "reason"),
        "Operations that went into the retry queue, as often as they did",
    ),
    Metric(
        "warehouse_sync_waiting_operations",
        "gauge",
        SYNC_LABELS,
        "Operations in the retry queue, without the dead ones",
    ),
    Metric(
        "warehouse_sync_dead_operations", "gauge", SYNC_LABELS, "Operations that are no longer retried by themselves"
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
        "1 for how the last run ended, 0 for the others; skipped ones and retry passes do not count",
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
        "Requests to the destination by HTTP status; timeout or connection where no answer came",
    ),
    Metric(
        "warehouse_sync_request_seconds_total",
        "counter",
        (*SYNC_LABELS, "action"),
        "Time until those requests were answered, of all that were under way at once together",
    ),
    Metric(
        "warehouse_sync_throttled_seconds_total",
        "counter",
        (*SYNC_LABELS, "cause"),
        "Time during which requests were held back: by our own pace, or because the destination wants fewer",
    ),
    Metric(
        "warehouse_sync_refresh_token_expiry_timestamp_seconds",
        "gauge",
        ("destination",),
        "When the refresh token dies, to the day, where the destination tells it",
    ),
    Metric(
        "warehouse_sync_refresh_token_days_left",
        "gauge",
        ("destination",),
        "Days from now until the refresh token dies",
    ),
)

_KNOWN_FIELDS: Final = frozenset(
    name
    for known in (known_field_names("identifiers"), known_field_names("fields"))
    for names in known.values()
    for name in names
)


def field_label(name: str) -> str:
    """The name of a field, if it is one."""
    return name if name in _KNOWN_FIELDS else OTHER


def row_reason_label(reason: str) -> str:
    """Why a row cannot be a member."""
    return reason if reason in ROW_REASONS else OTHER


def value_reason_label(reason: str) -> str:
    """Why a value is left out."""
    return reason if reason in VALUE_REASONS else OTHER


def status_label(status: str) -> str:
    """How a request was answered."""
    return status if _STATUS.fullmatch(status) else OTHER


def operation_reason_label(reason: str) -> str:
    """Why an operation was rejected or deferred."""
    return reason if reason in OPERATION_REASONS or _HTTP.fullmatch(reason) else OTHER
