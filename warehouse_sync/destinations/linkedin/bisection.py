"""Find the outcome of each element of a batch, also if LinkedIn refuses the batch without saying why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from warehouse_sync.destinations.linkedin.errors import TransientError
from warehouse_sync.destinations.linkedin.responses import AllAnswered, BatchResult, NamedRefusal, UnnamedRefusal
from warehouse_sync.operations import Outcome, Outcomes, OutcomeStatus, deferred

MAX_REQUESTS_PER_BATCH = 1000
"""The greatest number of requests for one batch: two minutes at the default rate limit of users.

If no refusal names an element, a hundred invalid ones among 5,000 need about as many. Outcomes that were found are
recorded, so a batch that needs more requests is completed by later runs.
"""


def bisect_batch(size: int, send: Callable[[Sequence[int]], BatchResult]) -> Outcomes:
    """Send a batch and return the outcomes of its elements, in order.

    Elements that a refusal names are rejected, and the others are sent again. If a refusal names none, the batch is
    halved until the invalid element is alone. Before the first halving an empty batch is sent: if that is refused as
    well, the elements are not the reason, and all are deferred.

    Args:
        size: Number of elements.
        send: Send the elements at these positions, which may be none, and return the result; positions in the result
            count from the first sent element. It may raise TransientError: the elements without an outcome are
            deferred for that reason.
    """
    outcomes: list[Outcome | None] = [None] * size
    pending: list[Sequence[int]] = [range(size)] if size else []
    requests = 0
    is_empty_accepted = False
    rest = deferred("too_many_refusals", "LinkedIn refuses more elements of this batch than one run can isolate")
    try:
        while pending and requests < MAX_REQUESTS_PER_BATCH:
            part = pending.pop()
            requests += 1
            result = send(part)
            if isinstance(result, AllAnswered) and len(part) == size:
                return result.outcomes
            if isinstance(result, AllAnswered):
                for position, outcome in zip(part, result.outcomes, strict=True):
                    outcomes[position] = outcome
            elif isinstance(result, NamedRefusal):
                for at, outcome in result.outcomes.items():
                    outcomes[part[at]] = outcome
                if others := [position for position in part if outcomes[position] is None]:
                    pending.append(others)
            else:
                if not is_empty_accepted and result.single_outcome.status is OutcomeStatus.REJECTED:
                    requests += 1
                    if isinstance(probe := send([]), UnnamedRefusal):
                        raise TransientError(
                            probe.single_outcome.reason,
                            f"An empty batch is refused as well; {probe.single_outcome.message}",
                        )
                    is_empty_accepted = True
                if len(part) == 1:
                    outcomes[part[0]] = result.single_outcome
                else:
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
    except TransientError as error:
        # The first request carried all elements, so each was attempted, even if the last request never left.
        rest = replace(error.outcome, attempted=error.attempted or requests > 1)
    return Outcomes.from_outcomes(rest if outcome is None else outcome for outcome in outcomes)
