"""Mutations: workers that send in the wrong order, send the wrong elements, or misread answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from harness.histories.mutation import mutation

from warehouse_sync.destinations.base import Audience, Permit
from warehouse_sync.destinations.linkedin import responses
from warehouse_sync.destinations.linkedin.destination import LinkedIn
from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.segments import Segments
from warehouse_sync.errors import AuthenticationFailed
from warehouse_sync.operations import DELIVERED, Batch, OperationKind, Outcome, Outcomes, OutcomeStatus
from warehouse_sync.pipeline import changes
from warehouse_sync.pipeline.recording import Recorder
from warehouse_sync.run import baseline, run, steps

# --- the order of sending


@mutation(
    "ADDs are sent while REMOVEs are still in flight.",
    "run_with_faults",
    faults=("slow:users:times=0:seconds=0.02:action=REMOVE",),
)
def skip_the_barrier(patch: pytest.MonkeyPatch) -> None:
    send = LinkedIn.deliver

    def deliver(self: LinkedIn, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        if batch.operation is OperationKind.ADD:
            return send(self, audience, batch, permit)
        threading.Thread(target=send, args=(self, audience, batch, permit), daemon=True).start()
        time.sleep(0.005)
        return Outcomes([(DELIVERED, len(batch))])

    patch.setattr(LinkedIn, "deliver", deliver)


@mutation("ADDs are sent before REMOVEs.", "run")
def adds_before_removes(patch: pytest.MonkeyPatch) -> None:
    send, deliver_all = LinkedIn.deliver, steps.deliver
    deferred: list[Callable[[], Outcomes]] = []

    def deliver(self: LinkedIn, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        if batch.operation is OperationKind.ADD:
            return send(self, audience, batch, permit)
        deferred.append(lambda: send(self, audience, batch, permit))
        return Outcomes([(DELIVERED, len(batch))])

    def deliver_removes_last(*arguments: Any) -> str | None:
        ended_early = deliver_all(*arguments)
        while deferred:
            deferred.pop(0)()
        return ended_early

    patch.setattr(LinkedIn, "deliver", deliver)
    patch.setattr(steps, "deliver", deliver_removes_last)


@mutation("Members that share an identifier with a removed member are not added again.", "run")
def drop_readds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "_readds", lambda *_: None)


# --- the outcome of a request


def _count_as_delivered(patch: pytest.MonkeyPatch, condition: Callable[[Outcome], bool]) -> None:
    parse = responses._parse_outcomes

    def trust(*arguments: Any) -> Outcomes:
        return Outcomes.from_outcomes(DELIVERED if condition(outcome) else outcome for outcome in parse(*arguments))

    patch.setattr(responses, "_parse_outcomes", trust)


@mutation(
    "Operations that a short answer leaves out count as delivered.",
    "run_with_faults",
    "run",
    faults=("cut_short:users:times=0:count=1",),
)
def trust_short_answers(patch: pytest.MonkeyPatch) -> None:
    _count_as_delivered(patch, lambda outcome: outcome.reason == "missing_answer")


@mutation("Elements that an answer refuses count as delivered.", "run_with_refusals", "run")
def ignore_refused_elements(patch: pytest.MonkeyPatch) -> None:
    _count_as_delivered(patch, lambda outcome: outcome.status is OutcomeStatus.REJECTED)


@mutation(
    "A batch without an answer counts as delivered.",
    "run_with_faults",
    "run",
    faults=("reset_before:users:times=0", "reset_before:users:times=0:action=REMOVE"),
)
def trust_missing_answers(patch: pytest.MonkeyPatch) -> None:
    original: Any = vars(TransientError)["outcome"]

    def trust(self: TransientError) -> Outcome:
        outcome: Outcome = original.__get__(self)
        return DELIVERED if self.reason in ("timeout", "connection") else outcome

    patch.setattr(TransientError, "outcome", property(trust))


@mutation(
    "A batch whose token is refused permanently counts as delivered.",
    "run_with_faults",
    "run",
    faults=("401:users:times=0",),
)
def trust_refused_tokens(patch: pytest.MonkeyPatch) -> None:
    send = LinkedIn.deliver

    def deliver(self: LinkedIn, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        try:
            return send(self, audience, batch, permit)
        except AuthenticationFailed:
            return Outcomes([(DELIVERED, len(batch))])

    patch.setattr(LinkedIn, "deliver", deliver)


@mutation(
    "Operations that were deferred because the destination was down count as delivered.",
    "run_with_faults",
    "run",
    faults=("503:users:times=0",),
)
def drop_deferred_operations(patch: pytest.MonkeyPatch) -> None:
    defer_rest = Recorder.defer_rest

    def count_as_delivered(self: Recorder, last: int, removes_until: int, outcome: Outcome) -> None:
        defer_rest(self, last, removes_until, DELIVERED)

    patch.setattr(Recorder, "defer_rest", count_as_delivered)


@mutation(
    "A create whose answer was lost is repeated without checking whether the audience exists.",
    "run_with_faults",
    faults=("reset_after:create:times=1", "timeout_after:create:times=1:seconds=9"),
)
def create_twice(patch: pytest.MonkeyPatch) -> None:
    create = Segments.create

    def create_without_check(self: Segments, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Segments, "find", lambda *_: None)
            return create(self, *arguments)

    patch.setattr(Segments, "create", create_without_check)


@mutation("An audience whose members LinkedIn has deleted is treated like any other.", "age_audiences", "run")
def ignore_expiry(patch: pytest.MonkeyPatch) -> None:
    find_target = baseline.find_target

    def ignore_emptied(*arguments: Any, **options: Any) -> Any:
        found = find_target(*arguments, **options)
        return found if found.audience is None else replace(found, audience=replace(found.audience, emptied=False))

    patch.setattr(run, "find_target", ignore_emptied)
