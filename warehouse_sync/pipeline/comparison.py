"""What the changes of a run are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.state.runs import Run
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class Comparison:
    """The snapshots, and what is asked of the run.

    current: the snapshot that the audience shall equal. previous: the promoted one; None for a new audience, and
    `current` itself for a retry pass. promoted: the run of `previous`, whose pending work is taken over.
    rows: the numbers of `current`. gone: of the members of `previous` those that were not carried over into `current`,
    if any was.
    full: add every member. dead: send dead work too. due_only: hold back waiting work whose time has not come.
    none_stayed: no identity of `previous` is in `current`. none_as_before: no fingerprint is; so every member is added.
    """

    current: sa.TableClause
    previous: sa.TableClause | None
    promoted: Run | None
    counts: SnapshotCounts
    not_reused: sa.TableClause
    full: bool = False
    include_dead: bool = False
    due_only: bool = False
    no_common_identity: bool = False
    no_common_fingerprint: bool = False

    @property
    def is_retry(self) -> bool:
        return self.previous is self.current

    @property
    def unmatched_previous(self) -> sa.TableClause | None:
        """The members of `previous` among whom leavers are to be found: who was carried over has not left."""
        return self.not_reused if self.counts.reused else self.previous

    @property
    def all_previous_reused(self) -> bool:
        """Every member of `previous` was carried over into `current`."""
        return self.promoted is not None and self.counts.reused == self.promoted.members

    @property
    def all_current_reused(self) -> bool:
        """Every member of `current` was carried over."""
        return self.counts.reused == self.counts.members


def find_overlap(warehouse: Warehouse, connection: sa.Connection, basis: Comparison) -> Comparison:
    """The basis, which knows now whether its snapshots have anything in common, if no row was carried over.

    Where they have not, no row need be looked up: so many do not fit into memory, and what one looks up that does not
    fit goes to disk with all its columns. Engines that carry over nothing are not asked, as it would be each time.
    """
    previous, current = basis.previous, basis.current
    if previous is None or basis.is_retry or basis.full or basis.counts.reused or not warehouse.capabilities.row_hashes:
        return basis

    def have_common(key: str) -> bool:
        both = sa.select(sa.literal(1)).join_from(current, previous, current.c[key] == previous.c[key])
        with warehouse.prefer_full_joins(connection):
            return bool(connection.scalar(sa.select(both.exists())))

    if have_common("fingerprint"):
        return basis
    return replace(basis, no_common_fingerprint=True, no_common_identity=not have_common("identity"))
