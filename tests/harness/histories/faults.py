"""Faults, kinds of runs and edits of the configuration in histories, as data and Hypothesis strategies."""

from __future__ import annotations

from typing import Any

from harness.histories.injection import SimulatedFault
from hypothesis import strategies as st

RUN_KINDS: dict[str, dict[str, bool]] = {
    "run": {},
    "full": {"full": True},
    "forced": {"force": True},
    "retry": {},
    "retry due": {"due_only": True},
    "retry dead": {"dead": True},
}

FAULTS = (
    "503:users:times=0",
    "503:users:times=0:action=REMOVE",
    "503:users:times=0:action=ADD",
    "500:users:times=0:after=2",
    "504:users:times=2",
    "502:users:probability=0.5",
    "502:any:probability=0.3",
    "503:find:times=9",
    "503:get:times=9",
    "503:create:times=1",
    "408:users:times=2",
    "409:users:times=2",
    "423:users:times=2",
    "429:users:times=2",
    "429:users:times=0:action=ADD",
    "429:users:times=1:retry_after=0.002",
    "429_daily:users:times=0:retry_after=3600",
    "429_infrastructure:any:probability=0.3",
    "reset_before:users:times=1",
    "reset_before:any:probability=0.3",
    "reset_before:users:times=0:action=REMOVE",
    "reset_after:users:times=1",
    "reset_after:users:times=0",
    "reset_after:users:times=0:action=REMOVE",
    "reset_after:users:times=0:action=ADD",
    "reset_after:create:times=1",
    "timeout_after:create:times=1:seconds=9",
    "timeout_after:users:times=0:seconds=9:action=ADD",
    "timeout_after:users:times=0:seconds=9:action=REMOVE",
    "timeout_after:users:times=2:seconds=9",
    "slow:users:times=1:seconds=9:action=REMOVE",
    "slow:users:times=3:seconds=0.003:action=REMOVE",
    "short_answer:users:times=1",
    "short_answer:users:times=0:count=2",
    "short_answer:users:times=0:action=REMOVE",
    "cut_short:users:times=0:count=1",
    "cut_short:users:times=1:action=REMOVE",
    "cut_short:users:times=0:count=2:action=ADD",
    "bad_json:users:times=1",
    "bad_json:users:times=0:action=ADD",
    "bad_json:find:times=1",
    "401:any:times=1",
    "65600:users:times=2",
    "65601:users:times=1:after=1",
    "65602:users:times=1:action=ADD",
    "401:users:times=0",
    "401:token:times=1",
    "503:token:times=2",
    "403:users:times=1",
    "403:users:times=0:action=ADD",
    "403:find:times=1",
    "426:users:times=1",
    "not_found:users:times=0",
    "not_found:users:times=1:action=REMOVE",
)

REFUSALS = (
    "refuse_elements:users:times=0:action=REMOVE:indices=0",
    "refuse_elements:users:times=1:action=REMOVE:indices=0|1:status=422",
    "refuse_elements:users:times=0:action=ADD:indices=1:status=503",
    "refuse_elements:users:times=0:action=REMOVE:indices=0:status=503",
    "refuse_elements:users:times=2:action=ADD:indices=0",
    "refuse_batch_named:users:times=1:indices=1",
    "refuse_batch_named:users:times=2:action=REMOVE",
    "refuse_batch_indices:users:times=1:indices=0|1",
    "refuse_batch_silent:users:times=1",
    "refuse_batch_silent:users:times=2:action=REMOVE",
)
"""Faults that refuse elements: an ADD that is refused permanently is not sent again until a full run."""

EDITS: dict[str, dict[str, Any]] = {
    "without devices": {"identifiers": {"sha256_email": "email"}, "hash_pii": True},
    "with devices": {"identifiers": {"sha256_email": "email", "google_aid": "device"}, "hash_pii": True},
    "hashed beforehand": {"identifiers": {"sha256_email": "hashed", "google_aid": "device"}, "hash_pii": False},
    "without fields": {"fields": {}},
    "one field": {"fields": {"country": "country"}},
    "both fields": {"fields": {"first_name": "first_name", "country": "country"}},
    "no retries": {"retry": {"enabled": False}},
    "retries": {"retry": {"enabled": True}},
    "more snapshots kept": {"retention": {"snapshots": 3}},
}

POINTS = st.sampled_from(["statement", "statement", "statement", "commit", "request", "record"])

crashes = st.builds(
    SimulatedFault, kind=st.just("crash"), point=POINTS, nth=st.integers(1, 60), after=st.booleans()
) | st.builds(
    SimulatedFault, kind=st.just("crash"), point=st.just("request"), nth=st.integers(1, 12), after=st.booleans()
)
breaks = st.builds(
    SimulatedFault,
    kind=st.just("break"),
    point=st.sampled_from(["statement", "statement", "commit"]),
    nth=st.integers(1, 60),
    after=st.just(False),
    count=st.sampled_from([1, 1, 2, 1000]),
) | st.builds(
    SimulatedFault, kind=st.just("break"), point=st.just("commit"), nth=st.integers(1, 20), after=st.just(True)
)
freezes = st.builds(
    SimulatedFault, kind=st.just("freeze"), point=st.just("request"), nth=st.integers(3, 12), after=st.just(True)
) | st.builds(
    SimulatedFault, kind=st.just("freeze"), point=st.just("begin"), nth=st.integers(6, 30), after=st.just(False)
)

run_kinds = st.sampled_from(["run", "run", "run", "run", "full", "forced", "retry", "retry due", "retry dead"])
faults: st.SearchStrategy[str] = st.runner().flatmap(lambda history: st.sampled_from(history.faults))

stops = st.builds(SimulatedFault, kind=st.just("stop"), point=POINTS, nth=st.integers(1, 60), after=st.booleans())

WORKER_FAULTS = crashes | breaks
"""Faults that end a run early in most cases."""

worker_faults: st.SearchStrategy[SimulatedFault] = st.runner().flatmap(lambda history: history.worker_faults)
