"""The label values of the metrics are those of the code, and their text is valid for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from warehouse_sync.cli import sync_commands
from warehouse_sync.cli.display import Display
from warehouse_sync.config.loader import load_config
from warehouse_sync.events import Event, Events, RunReported
from warehouse_sync.monitoring.metric_definitions import METRICS, OPERATION_REASONS, ROW_REASONS, VALUE_REASONS
from warehouse_sync.monitoring.metrics import Metrics
from warehouse_sync.operations import RunStatus
from warehouse_sync.reports import RunReport
from warehouse_sync.warehouses.normalisers import NO_IDENTIFIER, REJECTING_PROBLEMS

SOURCE = Path(sync_commands.__file__).parents[1]
UNUSUAL_NAME = 'a "b" \\n\\c, é={x}'


def test_every_reason_of_the_code_is_a_label_value_of_the_metrics() -> None:
    """No reason of the code falls under `other`, and every defined reason is used."""
    values = (SOURCE / "warehouses" / "normalisers.py").read_text()
    given = set(re.findall(r'"((?:not|too|holds|opted|already)_[a-z_]+)"', values))
    assert given == VALUE_REASONS | set(REJECTING_PROBLEMS)
    assert set(ROW_REASONS) == {*REJECTING_PROBLEMS, NO_IDENTIFIER}
    senders = [*(SOURCE / "run").glob("*.py"), *(SOURCE / "destinations").rglob("*.py")]
    text = "\n".join(path.read_text() for path in senders)
    reasons = set(re.findall(r'(?:deferred|rejected|TransientError|NoResponse)\(\s*"([a-z_]+)"', text))
    reasons |= {f"oauth_{word}" for word in ("timeout", "connection")}
    assert reasons == OPERATION_REASONS


@pytest.fixture
def metrics(tmp_path: Path) -> Metrics:
    path = tmp_path / "sync.yaml"
    path.write_text(
        f"""
warehouses: {{dwh: {{url: "duckdb:///x.duckdb"}}}}
destinations: {{ads: {{type: linkedin, account_id: 5, access_token: AQX-token}}}}
syncs:
  '{UNUSUAL_NAME}':
    warehouse: dwh
    destination: ads
    model: {{sql: select 1, primary_key: id}}
    audience: {{type: user, name: VIPs}}
    identifiers: {{sha256_email: email}}
"""
    )
    return Metrics(load_config(path))


def test_the_text_follows_the_rules_of_prometheus(metrics: Metrics) -> None:
    """Names, types, help for each metric; no unknown series; names of syncs with any characters are preserved."""
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    assert len(families) == len(METRICS)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert re.fullmatch(r"warehouse_sync_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert all(set(sample.labels) == set(metric.labels) for sample in family.samples)
        assert {sample.name for sample in family.samples} <= {metric.name}
    assert {sample.labels["sync"] for sample in families["warehouse_sync_runs"].samples} == {UNUSUAL_NAME}
    metrics.handle(UNUSUAL_NAME, RunReported(RunReport(UNUSUAL_NAME, RunStatus.SUCCEEDED)))
    before = metrics.text()
    metrics.load_text(before.decode())
    assert metrics.text() == before


def test_an_internal_error_is_reported_as_a_failure() -> None:
    """Listeners receive a report of a run that ended with an unexpected error, without the error's text."""
    received: list[Event] = []

    def one(name: str, events: Events) -> RunReport:
        raise ZeroDivisionError("anna")

    with pytest.raises(ZeroDivisionError):
        sync_commands._run_syncs(
            Display(plain=True), ["a", "b"], one, Events(lambda _, event: received.append(event)), as_json=True
        )
    (event,) = received
    assert isinstance(event, RunReported)
    report = event.report
    assert (report.sync, report.status, report.reason) == ("a", RunStatus.FAILED, "internal error (ZeroDivisionError)")
