"""Operations become outcomes: batches of changes, several requests in flight, answers in sending order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context

import sqlalchemy as sa

from warehouse_sync.destinations.base import Audience, Destination
from warehouse_sync.errors import StateDamaged
from warehouse_sync.fields import ElementTemplate
from warehouse_sync.operations import Batch, OperationKind, Outcome, Outcomes, OutcomeStatus
from warehouse_sync.state.lease import Lease
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.element_sql import element_text

MAX_DEFERRED_BATCHES = 3
"""Batches deferred whole, one after another and per request in flight, after which the destination counts as down."""


def batches(
    warehouse: Warehouse,
    changes: sa.TableClause,
    element: ElementTemplate,
    operation: OperationKind,
    after: int,
    last: int,
    size: int,
) -> Generator[Batch, None, None]:
    """The operations with `after` < seq <= `last`, all of one kind, in batches of at most `size`.

    They are written as `element` says. Raises StateDamaged when operations are missing, or there twice.
    """
    text = element_text(warehouse.dialect, changes, element)
    with (
        warehouse.connect("read the changes") as connection,
        closing(warehouse.stream_elements(connection, changes, text, after, last, size)) as pieces,
    ):
        for elements in pieces:
            yield Batch(operation, after + 1, elements)
            after += len(elements)
    if after < last:
        raise StateDamaged(
            f"warehouse {warehouse.name}: table {changes.schema}.{changes.name} has lost operations while it was "
            "sent. What was sent is recorded, the rest waits; run the sync again."
        )


class Delivery:
    """Sends the batches of one run to one audience.

    `given_up` is set when the destination did not take anything for so long that going on makes no sense. `is_over`:
    because of that, or since a stop is wished, no further batch is sent.
    """

    def __init__(self, destination: Destination, audience: Audience, lease: Lease) -> None:
        self.destination = destination
        self.audience = audience
        self.lease = lease
        self.outage: Outcome | None = None
        self._deferred_in_a_row = 0

    @property
    def is_stopped(self) -> bool:
        return self.outage is not None or self.lease.stop.requested

    def deliver(self, work: Iterator[Batch]) -> Iterator[tuple[Batch, Outcomes]]:
        """Each batch with its outcomes, in sending order; all answers are in when the iterator ends.

        Whatever the destination answers, a batch has one outcome per operation. Ends early when `given_up` is set. An
        error of the destination that stops the run is raised behind the batches that were answered before it.
        """
        flying: deque[tuple[Batch, Future[Outcomes]]] = deque()
        at_once = self.destination.max_in_flight
        with ThreadPoolExecutor(at_once, thread_name_prefix="deliver") as threads:
            try:
                for batch in work:
                    if self.is_stopped:
                        break
                    flying.append((batch, threads.submit(copy_context().run, self._send, batch)))
                    if len(flying) >= at_once:
                        yield self._collect(*flying.popleft())
                while flying:
                    yield self._collect(*flying.popleft())
            finally:
                for _, future in flying:
                    future.cancel()

    def _send(self, batch: Batch) -> Outcomes:
        self.lease.require()
        outcomes = self.destination.deliver(self.audience, batch, self.lease)
        batch.elements.release()  # It may stay in the queue for as long as an earlier one takes.
        return outcomes

    def _collect(self, batch: Batch, future: Future[Outcomes]) -> tuple[Batch, Outcomes]:
        outcomes = future.result()
        if len(outcomes) != len(batch):
            raise AssertionError(f"destination answered {len(outcomes)} outcomes for {len(batch)} operations")
        if all(outcome.status is OutcomeStatus.DEFERRED and outcome.attempted for outcome, _ in outcomes.groups):
            self._deferred_in_a_row += 1
            if self._deferred_in_a_row >= MAX_DEFERRED_BATCHES * self.destination.max_in_flight:
                self.outage, _ = outcomes.groups[-1]
        else:
            self._deferred_in_a_row = 0
        return batch, outcomes
