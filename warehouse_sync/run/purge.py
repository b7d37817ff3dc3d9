"""Remove what a sync has put into an audience that it no longer feeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from warehouse_sync.cancellation import CancelToken
from warehouse_sync.config.loader import Config
from warehouse_sync.destinations.base import Audience
from warehouse_sync.destinations.registry import open_destination
from warehouse_sync.errors import ConfigurationError, LeaseLost, WarehouseSyncError
from warehouse_sync.events import Events
from warehouse_sync.operations import RunKind, RunStatus
from warehouse_sync.pipeline import cleanup
from warehouse_sync.redaction import redact
from warehouse_sync.reports import RunReport
from warehouse_sync.run import steps
from warehouse_sync.run.baseline import TargetState, find_target
from warehouse_sync.run.context import RunContext
from warehouse_sync.run.record import RunOptions, RunProgress, begin, ending
from warehouse_sync.run.run import execute, under_lease
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.runs import Run


def purge_sync(
    config: Config,
    name: str,
    *,
    trigger: str = "library",
    events: Events | None = None,
    stop: CancelToken | None = None,
) -> list[RunReport]:
    """Remove the members that sync `name` has put into audiences that it no longer feeds.

    A purge is a run whose current snapshot is empty. What could not be removed waits in the retry queue, and the next
    purge continues with it.

    Args:
        config: The configuration.
        name: The sync.
        trigger: Who asks for it, for the row of the run.
        events: Publishes what happens.
        stop: As in `run_sync()`.

    Returns:
        A report for each such audience, `failed` ones too; none where no audience holds a member of the sync.

    Raises:
        WarehouseSyncError: It could not begin.
    """
    stop = stop or CancelToken()

    def purge_each(context: RunContext, lease: Lease) -> list[RunReport]:
        reports: list[RunReport] = []
        for old in find_target(context).left:
            if stop.requested:
                break
            try:
                with _old_audience(config, context, old) as (its_context, audience):
                    reports.append(_purge(its_context, lease, old, audience, trigger))
            except LeaseLost:
                raise
            except WarehouseSyncError as error:
                failure = error.report or RunReport(name, RunStatus.FAILED)
                reports.append(replace(failure, reason=redact(str(error))))
        return reports

    return under_lease(config, name, purge_each, events or Events(), stop, with_query=False)


def _purge(context: RunContext, lease: Lease, old: Run, audience: Audience | None, trigger: str) -> RunReport:
    """Purge one audience.

    Args:
        context: The sync, with the destination of the audience.
        lease: The lease of the sync.
        old: The newest run into the audience.
        audience: The audience; None when it was deleted at the destination.
        trigger: Who asks for it.
    """
    options = RunOptions(RunKind.PURGE, trigger=trigger)
    if audience is None:
        deleted = Audience(str(old.audience_id), context.sync.audience.type, "")
        return _forget(_with_fields_of(context, deleted), lease, options, old, deleted)
    return execute(_with_fields_of(context, audience), lease, options, TargetState(audience, old))


def _with_fields_of(context: RunContext, audience: Audience) -> RunContext:
    """Return the context with the fields of the audience's type: the old snapshot has these, whatever is mapped now."""
    return replace(context, fields=context.destination.fields(audience.type))


def _forget(context: RunContext, lease: Lease, options: RunOptions, old: Run, deleted: Audience) -> RunReport:
    """Record that an audience was deleted at the destination: no member is left in it, and its tables are dropped."""
    target = TargetState(deleted, old)
    active = begin(context, lease, options, target)
    with ending(active) as end:
        with active.state.fenced(context.key, lease.token, "forget an audience") as connection:
            steps.promote_row(active, connection, target, deleted, watermark=0)
        end.reached(RunProgress(is_promoted=True))
        cleanup.drop_run_tables(active.state, lease, active.row)
        cleanup.drop_run_tables(active.state, lease, old)
        return end.finished(active.row, deleted.id, f"audience {deleted.id} does not exist at the destination any more")
    return end.report


@contextmanager
def _old_audience(config: Config, context: RunContext, old: Run) -> Iterator[tuple[RunContext, Audience | None]]:
    """Yield the context with the destination that has the old audience, and that audience; None when it was deleted.

    Raises:
        ConfigurationError: The destination is not configured any more.
    """
    audience_id = str(old.audience_id)
    if old.destination == context.key.destination:
        yield context, context.destination.get(audience_id)
        return
    if old.destination not in config.destinations:
        # It may have been renamed: the same account under another name.
        audience = context.destination.get(audience_id)
        if audience is not None:
            yield context, audience
            return
        raise ConfigurationError(
            f"destinations.{old.destination}: sync {context.sync.name} has left {old.members:,} members in audience "
            f"{old.audience_id} there, but the configuration has no such destination any more. Nothing was touched; "
            "put it back for the purge, or delete the audience at the destination."
        )
    destination = open_destination(config.destinations[old.destination], events=context.events)
    try:
        yield replace(context, destination=destination), destination.get(audience_id)
    finally:
        destination.close()
