"""Open and check what a run of one sync needs: the warehouse, the destination, the query, the state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import SyncConfig
from warehouse_sync.destinations.base import Audience, AudienceSpec, Destination
from warehouse_sync.destinations.registry import audience_fields, open_destination
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import CredentialsChecked, Events, Phase, PhaseStarted
from warehouse_sync.fields import AudienceFields
from warehouse_sync.pipeline.guard import Guard
from warehouse_sync.pipeline.model import Model, ResolvedModel
from warehouse_sync.pipeline.retry_policy import RetryPolicy
from warehouse_sync.pipeline.snapshot import resolve_model
from warehouse_sync.state.runs import table_slug
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.registry import make_warehouse


@dataclass(frozen=True, slots=True)
class RunContext:
    """One sync, ready to run.

    Attributes:
        sync: Its configuration.
        key: Its key in the state tables.
        warehouse: Its warehouse, connected.
        destination: Its destination, which accepts our credentials.
        state: The state tables.
        fields: The identifiers and fields that its audience takes.
        model: Its query; None for a run that needs none.
        existing: The audience that the configuration names by its id, else None.
        events: Publishes what happens.
    """

    sync: SyncConfig
    key: SyncKey
    warehouse: Warehouse
    destination: Destination
    state: State
    fields: AudienceFields
    model: ResolvedModel | None
    existing: Audience | None
    events: Events

    @property
    def guard(self) -> Guard:
        """Return the sync's guard."""
        settings = self.sync.guard
        return Guard(settings.max_removed_percent, settings.min_members, settings.ignore_below)

    @property
    def retry_policy(self) -> RetryPolicy:
        """Return when the sync's deferred operations are due, and when they are given up."""
        return RetryPolicy(self.sync.retry.enabled, self.sync.retry.max_age)

    @property
    def keeps_log(self) -> bool:
        """Return whether the sync has a log."""
        return self.sync.retention.sync_log_days > 0

    def spec(self, installation_id: str, generation: int) -> AudienceSpec:
        """Return the audience that the sync wants, under the name by which the destination finds it again."""
        return audience_spec(self.sync, self.key, installation_id, generation)


def audience_spec(sync: SyncConfig, key: SyncKey, installation_id: str, generation: int) -> AudienceSpec:
    """Return the audience that `sync` wants.

    Args:
        sync: The configuration of the sync.
        key: Its key in the state tables.
        installation_id: The id of the state schema.
        generation: Which of the sync's own audiences it is, from 1. Its source id stays the same until the audience is
            given up for a new one, so that the destination finds it again.
    """
    audience = sync.audience
    source_id = f"warehouse-sync:{installation_id}:{table_slug(key)}"
    if generation > 1:
        source_id += f":{generation}"
    return AudienceSpec(audience.type, audience.name, audience.description, audience.id, source_id)


@contextmanager
def open_warehouse(config: Config, sync: SyncConfig) -> Iterator[Warehouse]:
    """Open the sync's warehouse for the time of the block.

    Raises:
        ConfigurationError: The warehouse refuses us.
        WarehouseUnavailable: It does not answer, or another process holds its file.
    """
    warehouse = make_warehouse(config.warehouse_of(sync))
    warehouse.tag_session(sync.name)
    try:
        warehouse.open()
        yield warehouse
    finally:
        warehouse.close()


def model_of(config: Config, sync: SyncConfig) -> Model:
    """Return the sync's query and mapping, as the configuration has them."""
    return Model(
        sync=sync.name,
        sql=sync.model.text,
        table=sync.model.table_parts,
        primary_key=sync.model.primary_key,
        mapping={**sync.identifiers, **sync.fields},
        fields=audience_fields(config.destination_of(sync).type, sync.audience.type),
        hash_pii=sync.hash_pii,
    )


@contextmanager
def open_context(config: Config, sync: SyncConfig, events: Events, *, with_query: bool = True) -> Iterator[RunContext]:
    """Open everything that a run of the sync needs, for the time of the block.

    Whatever can be refused is refused here, before anything is written anywhere.

    Args:
        config: The configuration.
        sync: The sync.
        events: Publishes what happens.
        with_query: Check the query. A retry pass needs none: pending work is sent even while the query is broken.

    Raises:
        ConfigurationError: Something must be changed first.
        WarehouseUnavailable: The warehouse does not answer.
        DestinationUnavailable: The destination does not answer.
    """
    model = model_of(config, sync)
    with open_warehouse(config, sync) as warehouse:
        resolved = resolve_model(warehouse, model) if with_query else None
        destination = open_destination(config.destination_of(sync), events=events)
        try:
            events.publish(PhaseStarted(Phase.AUDIENCE))
            events.publish(CredentialsChecked(destination.check().refresh_token_expires))
            yield RunContext(
                sync=sync,
                key=SyncKey(sync.name, sync.destination),
                warehouse=warehouse,
                destination=destination,
                state=State(warehouse),
                fields=model.fields,
                model=resolved,
                existing=_existing_audience(destination, sync),
                events=events,
            )
        finally:
            destination.close()


def _existing_audience(destination: Destination, sync: SyncConfig) -> Audience | None:
    wanted = sync.audience
    if wanted.id is None:
        return None
    with located_at(sync.name):
        return destination.find(AudienceSpec(wanted.type, None, None, wanted.id, ""), None)


@contextmanager
def located_at(sync: str) -> Iterator[None]:
    """Add the place in the configuration to what the destination reports of the audience of `sync`."""
    try:
        yield
    except ConfigurationError as error:
        place = f"syncs.{sync}.audience"
        problems = [problem if problem.path else replace(problem, path=place) for problem in error.problems]
        raise ConfigurationError(problems) from error
