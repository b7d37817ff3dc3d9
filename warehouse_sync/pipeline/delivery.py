"""Send the operations of a run: batches of changes, several requests in flight, outcomes in sending order."""

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
"""Batches deferred whole in a row, per request in flight, after which the destination counts as down."""


def batches(
    warehouse: Warehouse,
    changes: sa.TableClause,
    element: ElementTemplate,
    operation: OperationKind,
    after: int,
    last: int,
    size: int,
) -> Generator[Batch, None, None]:
    """Yield the operations with `after` < seq <= `last` in batches of at most `size`.

    Args:
        warehouse: The warehouse to read from.
        changes: The changes of the run.
        element: How the operations are written.
        operation: The kind of all these operations.
        after: The `seq` before the first one.
        last: The `seq` of the last one.
        size: Operations per batch.

    Raises:
        StateDamaged: Operations are missing, or exist twice.
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

    Attributes:
        outage: The outcome of the last batch, once the destination has deferred so many batches that going on makes no
            sense.
    """

    def __init__(self, destination: Destination, audience: Audience, lease: Lease) -> None:
        self.destination = destination
        self.audience = audience
        self.lease = lease
        self.outage: Outcome | None = None
        self._deferred_in_a_row = 0

    @property
    def is_stopped(self) -> bool:
        """Return whether no further batch is sent: the destination is down, or a stop was requested."""
        return self.outage is not None or self.lease.stop.requested

    def deliver(self, work: Iterator[Batch]) -> Iterator[tuple[Batch, Outcomes]]:
        """Send the batches and yield each with its outcomes, in sending order; all have an outcome at the end.

        Whatever the destination answers, a batch has one outcome per operation. The iterator ends early once
        `is_stopped`. An error of the destination that stops the run is raised after the batches answered before it.
        """
        in_flight: deque[tuple[Batch, Future[Outcomes]]] = deque()
        limit = self.destination.max_in_flight
        with ThreadPoolExecutor(limit, thread_name_prefix="deliver") as threads:
            try:
                for batch in work:
                    if self.is_stopped:
                        break
                    in_flight.append((batch, threads.submit(copy_context().run, self._send, batch)))
                    if len(in_flight) >= limit:
                        yield self._collect(*in_flight.popleft())
                while in_flight:
                    yield self._collect(*in_flight.popleft())
            finally:
                for _, future in in_flight:
                    future.cancel()

    def _send(self, batch: Batch) -> Outcomes:
        self.lease.require()
        outcomes = self.destination.deliver(self.audience, batch, self.lease)
        batch.elements.release()  # An earlier batch may keep this one waiting in the queue.
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
