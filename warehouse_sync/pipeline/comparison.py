"""What the changes of a run are computed from: two snapshots, and what the run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from warehouse_sync.pipeline.counts import SnapshotCounts
from warehouse_sync.state.runs import Run
from warehouse_sync.warehouses.base import Warehouse


@dataclass(frozen=True, slots=True)
class Comparison:
    """The snapshots to compare, and the options of the run.

    Attributes:
        current: The snapshot that the audience shall equal.
        previous: The promoted snapshot; None for a new audience, and `current` itself for a retry pass.
        promoted: The run of `previous`, whose pending work is taken over.
        counts: The numbers of `current`.
        not_reused: The members of `previous` that were not reused in `current`; a table only if some were reused.
        full: Add every member.
        include_dead: Send dead operations too.
        due_only: Hold back waiting operations whose time has not come.
        no_common_identity: No identity of `previous` is in `current`.
        no_common_fingerprint: No fingerprint of `previous` is in `current`, so every member is added.
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
        """Return whether the run sends pending work only."""
        return self.previous is self.current

    @property
    def unmatched_previous(self) -> sa.TableClause | None:
        """Return the members of `previous` among which removed ones are to be found: a reused one is not removed."""
        return self.not_reused if self.counts.reused else self.previous

    @property
    def all_previous_reused(self) -> bool:
        """Return whether every member of `previous` was reused in `current`."""
        return self.promoted is not None and self.counts.reused == self.promoted.members

    @property
    def all_current_reused(self) -> bool:
        """Return whether every member of `current` was reused from `previous`."""
        return self.counts.reused == self.counts.members


def find_overlap(warehouse: Warehouse, connection: sa.Connection, comparison: Comparison) -> Comparison:
    """Return the comparison with what its snapshots have in common, if no row was reused.

    Where they have nothing in common, no row needs a lookup: so many do not fit into memory, and a lookup that does not
    fit writes all columns to disk. Engines that never reuse rows are not asked, as this would cost them each time.
    """
    previous, current = comparison.previous, comparison.current
    if previous is None or comparison.is_retry or comparison.full or comparison.counts.reused:
        return comparison
    if not warehouse.capabilities.row_hashes:
        return comparison

    def have_common(key: str) -> bool:
        both = sa.select(sa.literal(1)).join_from(current, previous, current.c[key] == previous.c[key])
        with warehouse.prefer_full_joins(connection):
            return bool(connection.scalar(sa.select(both.exists())))

    if have_common("fingerprint"):
        return comparison
    return replace(comparison, no_common_fingerprint=True, no_common_identity=not have_common("identity"))
