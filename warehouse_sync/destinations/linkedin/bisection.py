"""One batch carried through refusals until each element has its outcome. Pure but for the question it asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.responses import AllAnswered, BatchResult, NamedRefusal, UnnamedRefusal
from warehouse_sync.operations import Outcome, Outcomes, OutcomeStatus, deferred

MAX_REQUESTS_PER_BATCH = 1000
"""Requests that one batch may take: two minutes at the default pace of users.

A hundred bad elements among 5,000 need about as many when every refusal names nobody. What was found stays found, so
a batch that needs more comes to its end over a few runs.
"""


def bisect_batch(size: int, send: Callable[[Sequence[int]], BatchResult]) -> Outcomes:
    """The outcomes of elements 0 … size-1, in order.

    `ask` sends the elements at the given positions and tells the verdict, positions in it counted within the question;
    asked about nothing it tells whether an empty batch is taken. It may raise GaveUp: then all that is unsettled is
    deferred for that reason.

    Elements that a refusal names are rejected and the others asked again; a refusal that names nobody is halved until
    the culprit is alone. Before the first halving an empty batch is tried: if that is refused too, it is not the
    elements' fault, and all are deferred.
    """
    outcomes: list[Outcome | None] = [None] * size
    unsettled: list[Sequence[int]] = [range(size)] if size else []
    questions = 0
    empty_is_taken = False
    leftover = deferred("too_many_refusals", "LinkedIn refuses too many elements of this batch to single them out now")
    try:
        while unsettled and questions < MAX_REQUESTS_PER_BATCH:
            part = unsettled.pop()
            questions += 1
            verdict = send(part)
            if isinstance(verdict, AllAnswered) and len(part) == size:
                return verdict.outcomes
            if isinstance(verdict, AllAnswered):
                for position, outcome in zip(part, verdict.outcomes, strict=True):
                    outcomes[position] = outcome
            elif isinstance(verdict, NamedRefusal):
                for at, outcome in verdict.outcomes.items():
                    outcomes[part[at]] = outcome
                if rest := [position for position in part if outcomes[position] is None]:
                    unsettled.append(rest)
            else:
                if not empty_is_taken and verdict.single_outcome.status is OutcomeStatus.REJECTED:
                    questions += 1
                    if isinstance(probe := send([]), UnnamedRefusal):
                        raise TransientError(
                            probe.single_outcome.reason,
                            f"An empty batch is refused as well; {probe.single_outcome.message}",
                        )
                    empty_is_taken = True
                if len(part) == 1:
                    outcomes[part[0]] = verdict.single_outcome
                else:
                    middle = len(part) // 2
                    unsettled += [part[middle:], part[:middle]]
    except TransientError as stop:
        # Whoever is unsettled has been in the first question, even if the last one never left.
        leftover = replace(stop.outcome, attempted=stop.attempted or questions > 1)
    return Outcomes.from_outcomes(leftover if outcome is None else outcome for outcome in outcomes)
