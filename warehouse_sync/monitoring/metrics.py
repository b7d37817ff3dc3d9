"""Metrics of the runs of a process, for Prometheus.

Nothing here is global: a process may have several `Metrics`. Labels have few values: names of the configuration and
words of closed sets, never text from a row or a message. docs/observability.md describes each metric.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from warehouse_sync.config.loader import Config
from warehouse_sync.events import (
    ConfigurationLoaded,
    CredentialsChecked,
    DelayCause,
    Event,
    OperationsEnded,
    PhaseStarted,
    RequestAnswered,
    RequestsDelayed,
    RetryQueueCounted,
    RowsRejected,
    RunEnded,
    RunPromoted,
    RunReported,
    RunStarted,
)
from warehouse_sync.monitoring.metric_definitions import (
    END_STATUSES,
    METRICS,
    OPEN_PHASE,
    ROW_REASONS,
    RUN_KINDS,
    SYNC_LABELS,
    Metric,
    field_label,
    operation_reason_label,
    row_reason_label,
    status_label,
    value_reason_label,
)
from warehouse_sync.operations import OperationKind, Outcome, OutcomeStatus, RunKind, RunStatus
from warehouse_sync.reports import RunReport

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `Metrics.text()`."""

DAY: Final = 86400.0

_BY_NAME: Final = {metric.name.removeprefix("warehouse_sync_"): metric for metric in METRICS}
_SAMPLES: Final = {metric.name: short for short, metric in _BY_NAME.items()}
_EXPIRY, _DAYS_LEFT = "refresh_token_expiry_timestamp_seconds", "refresh_token_days_left"


class Metrics(Collector):
    """The metrics of the syncs of a configuration. Syncs that leave the configuration are dropped. Thread-safe."""

    def __init__(self, config: Config | None = None) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[str, ...], float]] = {short: {} for short in _BY_NAME}
        self._targets: dict[str, str] = {}
        self._runs: dict[str, _RunMetrics] = {}
        if config is not None:
            self._configure(config)
        self._registry.register(self)

    def handle(self, sync: str, event: Event) -> None:
        """Update the metrics; a listener of events."""
        match event:
            case ConfigurationLoaded(config):
                self._configure(config)
            case RunReported(report, is_retry):
                self._count_run(sync, report, is_retry=is_retry)
            case RunStarted():
                self._runs[sync] = _RunMetrics(self, (sync, self._targets.get(sync, "")))
            case _ if run := self._runs.get(sync):
                run.handle(event)

    def _configure(self, config: Config) -> None:
        """Keep the metrics of the syncs and destinations of `config` only."""
        targets = {name: sync.destination for name, sync in config.syncs.items()}
        with self._lock:
            self._targets = targets
            for short, values in self._values.items():
                for labels in [labels for labels in values if not self._is_known(_BY_NAME[short], labels)]:
                    del values[labels]
        # Start counters at 0: Prometheus sees no increase if a counter appears with its first value.
        for sync, destination in targets.items():
            key = (sync, destination)
            for status in END_STATUSES:
                for kind in RUN_KINDS:
                    self.add("runs_total", (*key, kind, status), 0)
            for operation in OperationKind:
                self.add("delivered_total", (*key, _word(operation)), 0)
            for cause in DelayCause:
                self.add("throttled_seconds_total", (*key, cause), 0)

    def _count_run(self, sync: str, report: RunReport, *, is_retry: bool) -> None:
        key = (sync, self._targets.get(sync, ""))
        self.add("runs_total", (*key, RUN_KINDS[is_retry], report.status), 1)
        if is_retry or report.status == RunStatus.SKIPPED:
            return
        now = time.time()
        for status in END_STATUSES:
            self.set("last_run_status", (*key, status), float(status == report.status))
        self.set("last_run_timestamp_seconds", key, now)
        self.set("last_run_duration_seconds", key, report.seconds)
        if report.status == RunStatus.SUCCEEDED:
            self.set("last_success_timestamp_seconds", key, now)

    def add(self, short: str, labels: tuple[str, ...], count: float) -> None:
        """Increase a counter; `short` is its name without `warehouse_sync_`. Unknown syncs are ignored."""
        with self._lock:
            if self._is_known(_BY_NAME[short], labels):
                values = self._values[short]
                values[labels] = values.get(labels, 0.0) + count

    def set(self, short: str, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge; like `add`."""
        with self._lock:
            if self._is_known(_BY_NAME[short], labels):
                self._values[short][labels] = value

    def replace(self, short: str, key: tuple[str, str], values: Mapping[tuple[str, ...], float]) -> None:
        """Replace all values of a gauge of one sync; `values` are by the labels after sync and destination."""
        with self._lock:
            kept = {labels: value for labels, value in self._values[short].items() if labels[:2] != key}
            if self._is_known(_BY_NAME[short], key):
                kept |= {(*key, *rest): value for rest, value in values.items()}
            self._values[short] = kept

    def _is_known(self, metric: Metric, labels: tuple[str, ...]) -> bool:
        if metric.labels[:2] == SYNC_LABELS:
            return self._targets.get(labels[0]) == labels[1]
        return metric.labels != ("destination",) or labels[0] in self._targets.values()

    def load_text(self, text: str) -> None:
        """Continue from the `text()` of an earlier process. Raises ValueError for other text."""
        found: list[tuple[str, tuple[str, ...], float]] = []
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                short = _SAMPLES.get(sample.name)
                if short is None or set(sample.labels) != set(_BY_NAME[short].labels):
                    raise ValueError(f"{sample.name} is not a metric of warehouse-sync")
                if short not in ("build_info", _DAYS_LEFT):
                    labels = tuple(sample.labels[label] for label in _BY_NAME[short].labels)
                    found.append((short, labels, float(sample.value)))
        for short, labels, value in found:
            self.set(short, labels, value)

    def restore_sync(self, sync: str, *, members: int, waiting: int, dead: int, last_success: datetime | None) -> None:
        """Set the metrics of a sync from the state schema when a process starts. `last_success` has a time zone."""
        key = (sync, self._targets.get(sync, ""))
        self.set("members", key, members)
        self.set("waiting_operations", key, waiting)
        self.set("dead_operations", key, dead)
        if last_success is not None:
            self.set("last_success_timestamp_seconds", key, last_success.timestamp())

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield a family per metric; called by the registry."""
        with self._lock:
            values = {short: dict(known) for short, known in self._values.items()}
        values["build_info"] = {(_version(),): 1.0}
        now = time.time()
        values[_DAYS_LEFT] = {labels: (expiry - now) / DAY for labels, expiry in values[_EXPIRY].items()}
        for short, metric in _BY_NAME.items():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in sorted(values[short].items()):
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Return nothing: the registry must not collect the metrics to know their names."""
        return ()


class _RunMetrics:
    """Updates the metrics from the events of one run.

    Its labels are those of the configuration that the run started with.
    """

    def __init__(self, metrics: Metrics, key: tuple[str, str]) -> None:
        self._metrics = metrics
        self._key = key
        self._phase: str | None = OPEN_PHASE
        self._since = time.monotonic()

    def handle(self, event: Event) -> None:
        metrics, key = self._metrics, self._key
        match event:
            case PhaseStarted(phase):
                self._enter(phase)
            case RunEnded():
                self._enter(None)
            case CredentialsChecked(date() as last_day):
                midnight = datetime.combine(last_day, datetime.min.time(), tzinfo=UTC)
                metrics.set(_EXPIRY, (key[1],), midnight.timestamp())
            case RowsRejected(reasons):
                self._count_rejected(reasons)
            case RunPromoted(kind, members) if kind is not RunKind.PURGE:
                metrics.set("members", key, members)
            case OperationsEnded(operation, outcome, count):
                self._count_operations(operation, outcome, count)
            case RetryQueueCounted(kind, waiting, dead) if kind is not RunKind.PURGE:
                metrics.set("waiting_operations", key, waiting)
                metrics.set("dead_operations", key, dead)
            case RequestAnswered(action, status, seconds):
                metrics.add("requests_total", (*key, action, status_label(status)), 1)
                metrics.add("request_seconds_total", (*key, action), seconds)
            case RequestsDelayed(cause, seconds):
                metrics.add("throttled_seconds_total", (*key, cause), seconds)

    def _enter(self, phase: str | None) -> None:
        now = time.monotonic()
        if self._phase is not None:
            self._metrics.add("phase_seconds_total", (*self._key, self._phase), now - self._since)
        self._phase, self._since = phase, now

    def _count_rejected(self, reasons: Mapping[str, int]) -> None:
        rows: dict[tuple[str, ...], float] = {(reason,): 0.0 for reason in ROW_REASONS}
        values: dict[tuple[str, ...], float] = {}
        for full_reason, count in reasons.items():
            field, is_value, reason = full_reason.partition(":")
            labels = (field_label(field), value_reason_label(reason)) if is_value else (row_reason_label(full_reason),)
            counts = values if is_value else rows
            counts[labels] = counts.get(labels, 0.0) + count
        self._metrics.replace("rejected_rows", self._key, rows)
        self._metrics.replace("left_out_values", self._key, values)

    def _count_operations(self, operation: OperationKind, outcome: Outcome, count: int) -> None:
        labels = (*self._key, _word(operation))
        match outcome.status:
            case OutcomeStatus.DELIVERED:
                self._metrics.add("delivered_total", labels, count)
            case OutcomeStatus.REJECTED:
                self._metrics.add("rejected_operations_total", (*labels, operation_reason_label(outcome.reason)), count)
            case OutcomeStatus.DEFERRED:
                self._metrics.add("deferred_operations_total", (*labels, operation_reason_label(outcome.reason)), count)


def _word(operation: OperationKind) -> str:
    return operation.value.lower()


def _version() -> str:
    try:
        return version("warehouse-sync")
    except PackageNotFoundError:
        return "unknown"
