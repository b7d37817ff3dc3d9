"""Workers that send in the wrong order, the wrong things, or read answers wrongly."""

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
    "ADDs leave while REMOVEs are still under way.",
    "run_against_faults",
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


@mutation("ADDs leave first, REMOVEs behind them.", "run")
def adds_before_removes(patch: pytest.MonkeyPatch) -> None:
    send, deliver_all = LinkedIn.deliver, steps.deliver
    put_off: list[Callable[[], Outcomes]] = []

    def deliver(self: LinkedIn, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        if batch.operation is OperationKind.ADD:
            return send(self, audience, batch, permit)
        put_off.append(lambda: send(self, audience, batch, permit))
        return Outcomes([(DELIVERED, len(batch))])

    def all_then_removes(*arguments: Any) -> str | None:
        ended_early = deliver_all(*arguments)
        while put_off:
            put_off.pop(0)()
        return ended_early

    patch.setattr(LinkedIn, "deliver", deliver)
    patch.setattr(steps, "deliver", all_then_removes)


@mutation("Who shares an identifier with somebody removed is not added again.", "run")
def drop_the_readds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "_readds", lambda *_: None)


# --- what an answer means


def _taken_as_delivered(patch: pytest.MonkeyPatch, is_so: Callable[[Outcome], bool]) -> None:
    told = responses._parse_outcomes

    def trusting(*arguments: Any) -> Outcomes:
        return Outcomes.from_outcomes(DELIVERED if is_so(outcome) else outcome for outcome in told(*arguments))

    patch.setattr(responses, "_parse_outcomes", trusting)


@mutation(
    "What a short answer leaves out counts as delivered.",
    "run_against_faults",
    "run",
    faults=("cut_short:users:times=0:count=1",),
)
def trust_short_answers(patch: pytest.MonkeyPatch) -> None:
    _taken_as_delivered(patch, lambda outcome: outcome.reason == "missing_answer")


@mutation("Elements that an answer refuses count as delivered.", "run_against_refusals", "run")
def ignore_refused_elements(patch: pytest.MonkeyPatch) -> None:
    _taken_as_delivered(patch, lambda outcome: outcome.status is OutcomeStatus.REJECTED)


@mutation(
    "A batch that was not answered counts as delivered.",
    "run_against_faults",
    "run",
    faults=("reset_before:users:times=0", "reset_before:users:times=0:action=REMOVE"),
)
def trust_silence(patch: pytest.MonkeyPatch) -> None:
    told: Any = vars(TransientError)["outcome"]

    def trusting(self: TransientError) -> Outcome:
        outcome: Outcome = told.__get__(self)
        return DELIVERED if self.reason in ("timeout", "connection") else outcome

    patch.setattr(TransientError, "outcome", property(trusting))


@mutation(
    "A batch whose token is refused for good counts as delivered.",
    "run_against_faults",
    "run",
    faults=("401:users:times=0",),
)
def trust_a_dead_token(patch: pytest.MonkeyPatch) -> None:
    send = LinkedIn.deliver

    def deliver(self: LinkedIn, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        try:
            return send(self, audience, batch, permit)
        except AuthenticationFailed:
            return Outcomes([(DELIVERED, len(batch))])

    patch.setattr(LinkedIn, "deliver", deliver)


@mutation(
    "What was put off when the destination was given up counts as delivered.",
    "run_against_faults",
    "run",
    faults=("503:users:times=0",),
)
def forget_what_was_put_off(patch: pytest.MonkeyPatch) -> None:
    put_off = Recorder.defer_rest

    def forgetful(self: Recorder, last: int, removes_until: int, outcome: Outcome) -> None:
        put_off(self, last, removes_until, DELIVERED)

    patch.setattr(Recorder, "defer_rest", forgetful)


@mutation(
    "A create whose answer was lost is repeated without a look whether it happened.",
    "run_against_faults",
    faults=("reset_after:create:times=1", "timeout_after:create:times=1:seconds=9"),
)
def create_twice(patch: pytest.MonkeyPatch) -> None:
    create = Segments.create

    def blind(self: Segments, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as eyes:
            eyes.setattr(Segments, "find", lambda *_: None)
            return create(self, *arguments)

    patch.setattr(Segments, "create", blind)


@mutation("An audience whose data is gone is treated like any other.", "audiences_age", "run")
def ignore_expiry(patch: pytest.MonkeyPatch) -> None:
    look = baseline.find_target

    def hopeful(*arguments: Any, **more: Any) -> Any:
        found = look(*arguments, **more)
        return found if found.audience is None else replace(found, audience=replace(found.audience, emptied=False))

    patch.setattr(run, "find_target", hopeful)
