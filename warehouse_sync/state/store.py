"""The state schema of a warehouse, and the fence around every write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from warehouse_sync.errors import LeaseLost
from warehouse_sync.state.tables import StateTables, state_tables
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class SyncKey:
    """The key of all state of a sync.

    Attributes:
        sync: The name of the sync.
        destination: The name of the destination that it feeds.
        audience_key: Which of its audiences; empty for the only one.
    """

    sync: str
    destination: str
    audience_key: str = ""

    def match(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        """Return the condition that a row of `table` has this key."""
        return sa.and_(
            table.c.sync == self.sync,
            table.c.destination == self.destination,
            table.c.audience_key == self.audience_key,
        )

    def values(self) -> dict[str, str]:
        """Return the values of the key columns, by name."""
        return {"sync": self.sync, "destination": self.destination, "audience_key": self.audience_key}

    def columns(self) -> list[sa.ColumnElement[str]]:
        """Return the key columns as constants of a SELECT, in the order of `values()`."""
        return [sa.literal(value, sa.String).label(name) for name, value in self.values().items()]


class State:
    """The worker's own tables in one warehouse.

    Attributes:
        warehouse: The warehouse.
        tables: Its state tables.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.tables: StateTables = state_tables(warehouse.schema)

    @contextmanager
    def fenced(self, key: SyncKey, token: int, action: str) -> Iterator[sa.Connection]:
        """Yield a transaction that commits only if this worker still holds the lease; entering it renews the lease.

        The lease's row is written first: a worker that takes over waits for this transaction, and this one fails if
        the lease was taken before.

        Args:
            key: The sync.
            token: The token of the lease.
            action: What is done, as an infinitive, for the messages of errors.

        Raises:
            LeaseLost: Another worker has taken over.
        """
        with self.warehouse.write(action) as connection:
            syncs = self.tables.syncs
            renewed = connection.execute(
                sa.update(syncs)
                .where(key.match(syncs), syncs.c.lease_token == token, syncs.c.lease_holder.is_not(None))
                .values(lease_expires_at=self.warehouse.dialect.utc_now(self.warehouse.lease_seconds))
            )
            if renewed.rowcount != 1:
                raise LeaseLost(
                    f"sync {key.sync}: another worker has taken over (could not {action}). This one has stopped; "
                    "nothing is lost, the other one sends what is pending."
                )
            yield connection
