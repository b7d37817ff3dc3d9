"""Taking out of an audience what a sync has put into it, once the sync feeds another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.destinations.base import Audience
from warehouse_sync.destinations.registry import open_destination
from warehouse_sync.errors import ConfigurationError, LeaseLost, WarehouseSyncError
from warehouse_sync.events import Events, Phase, PhaseStarted
from warehouse_sync.operations import RunKind, RunStatus
from warehouse_sync.pipeline import cleanup
from warehouse_sync.redaction import redact
from warehouse_sync.reports import RunReport
from warehouse_sync.run.baseline import TargetState, target_state, verify_baseline
from warehouse_sync.run.context import RunContext
from warehouse_sync.run.leased_run import RunOptions
from warehouse_sync.run.mirror import Mirror
from warehouse_sync.run.run import mirror, under_lease
from warehouse_sync.state import runs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run


class Purge(Mirror):
    """A run into an audience that the sync feeds no more: its snapshot is empty, so everybody is removed.

    The sync's row goes on telling of the audience that it feeds; this run is found by the audience's id. When the sync
    comes back to that audience, it goes on from this run.
    """

    def __init__(
        self, job: RunContext, lease: Lease, stop: CancelToken, old: Run, audience: Audience, trigger: str
    ) -> None:
        self._old = old
        self._audience = audience
        # What the old snapshot holds are the fields of that audience's type, whatever the sync maps today.
        model = replace(job.model, fields=job.destination.fields(audience.type))
        super().__init__(replace(job, model=model), lease, RunOptions(RunKind.PURGE, trigger=trigger), stop)

    def look_around(self) -> TargetState:
        return TargetState(self._audience, self._old)

    def take_snapshot(self) -> None:
        """The current snapshot is there, and empty."""
        self.job.events.publish(PhaseStarted(Phase.SNAPSHOT))
        self.current = self._table(self.state.tables.snapshot, self.row.snapshot_table)
        assert self.previous is not None
        with self.job.warehouse.connect("make an empty snapshot") as connection:
            # Snapshots of releases before 0.4 have no row hashes.
            nobody = sa.select(
                *(
                    sa.cast(sa.null(), column.type).label(column.name) if column.name == "row_hash" else column
                    for column in self.previous.c
                )
            ).where(sa.false())
            self.job.warehouse.create_table_as(connection, self.current, nobody)
            connection.commit()

    def find_footing(self) -> None:
        """What was put into the audience is known. Raises StateDamaged."""
        way_out = f"Restore it from a backup, or delete audience {self._audience.id} at the destination."
        found = verify_baseline(self.job, None, self._old, way_out)
        self.promoted, self.previous = found.promoted, found.previous

    def objection(self) -> str | None:
        """None: the guard is there for what happens unasked."""
        return None

    def _commit(self, connection: sa.Connection, held: int) -> None:
        runs.promote(self.state, self.lease, connection, self.row.run_id, self.audience, watermark=held)

    def forget(self) -> RunReport:
        """The audience is gone from the destination: nobody is left to be removed, and nothing of it is kept."""
        self.audience = self._audience
        with self.state.fenced(self.job.key, self.lease.token, "forget an audience") as connection:
            self._commit(connection, 0)
        self.is_promoted = True
        cleanup.drop_run_tables(self.state, self.lease, self.row)
        cleanup.drop_run_tables(self.state, self.lease, self._old)
        self.ended_early = f"audience {self._audience.id} does not exist at the destination any more"
        return self.finish()


def purge_sync(
    config: Config,
    name: str,
    *,
    trigger: str = "library",
    events: Events | None = None,
    stop: CancelToken | None = None,
) -> list[RunReport]:
    """Whom sync `name` has put into audiences that it feeds no more is taken out of them.

    One report for each such audience, `failed` ones too; none when nobody is left in any. What could not be removed
    waits, and the next purge goes on with it. Raises like `run_sync` when it cannot begin.
    """
    stop = stop or CancelToken()

    def each(job: RunContext, lease: Lease) -> list[RunReport]:
        reports: list[RunReport] = []
        for old in target_state(job).left:
            if stop.requested:
                break
            try:
                with _reaching(config, job, lease, old) as (theirs, audience):
                    reports.append(_purged(theirs, lease, stop, old, audience, trigger))
            except LeaseLost:
                raise
            except WarehouseSyncError as error:
                failure = error.report or RunReport(name, RunStatus.FAILED)
                reports.append(replace(failure, reason=redact(str(error))))
        return reports

    return under_lease(config, name, each, events or Events(), stop, with_query=False)


def _purged(
    job: RunContext, lease: Lease, stop: CancelToken, old: Run, audience: Audience | None, trigger: str
) -> RunReport:
    if audience is not None:
        return mirror(Purge(job, lease, stop, old, audience, trigger))
    gone = Audience(str(old.audience_id), job.sync.audience.type, "")
    run = Purge(job, lease, stop, old, gone, trigger)
    run.begin()
    return run.forget()


@contextmanager
def _reaching(config: Config, job: RunContext, lease: Lease, old: Run) -> Iterator[tuple[RunContext, Audience | None]]:
    """The job with the destination that the old audience is at, and that audience; None when it was deleted there.

    Raises ConfigurationError when that destination is not configured any more.
    """
    audience_id = str(old.audience_id)
    if old.destination == job.key.destination:
        yield job, job.destination.get(audience_id, lease)
        return
    if old.destination not in config.destinations:
        # Renamed, perhaps: the same account under another name.
        audience = job.destination.get(audience_id, lease)
        if audience is not None:
            yield job, audience
            return
        raise ConfigurationError(
            f"destinations.{old.destination}: sync {job.sync.name} has left {old.members:,} members in audience "
            f"{old.audience_id} there, but the configuration has no such destination any more. Nothing was touched; "
            "put it back for the purge, or delete the audience at the destination."
        )
    destination = open_destination(config.destinations[old.destination], events=job.events)
    try:
        yield replace(job, destination=destination), destination.get(audience_id, lease)
    finally:
        destination.close()
