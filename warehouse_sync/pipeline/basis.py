"""What the changes of a run are made from."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from warehouse_sync.pipeline.snapshot_counts import SnapshotCounts
from warehouse_sync.state.runs import Run


@dataclass(frozen=True, slots=True)
class Basis:
    """The snapshots, and what is asked of the run.

    current: the snapshot that the audience shall equal. previous: the promoted one; None for a new audience, and
    `current` itself for a retry pass. promoted: the run of `previous`, whose pending work is taken over.
    rows: the numbers of `current`. gone: of the members of `previous` those that were not carried over into `current`,
    if any was.
    full: add every member. dead: send dead work too. due_only: hold back waiting work whose time has not come.
    """

    current: sa.TableClause
    previous: sa.TableClause | None
    promoted: Run | None
    rows: SnapshotCounts
    gone: sa.TableClause
    full: bool = False
    dead: bool = False
    due_only: bool = False

    @property
    def is_retry(self) -> bool:
        return self.previous is self.current

    @property
    def left_behind(self) -> sa.TableClause | None:
        """The members of `previous` among whom leavers are to be found: who was carried over has not left."""
        return self.gone if self.rows.carried else self.previous

    @property
    def nobody_left(self) -> bool:
        """Every member of `previous` was carried over into `current`."""
        return self.promoted is not None and self.rows.carried == self.promoted.members

    @property
    def nobody_joined(self) -> bool:
        """Every member of `current` was carried over."""
        return self.rows.carried == self.rows.members
