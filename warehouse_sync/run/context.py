"""What a run of one sync needs, opened and checked: the warehouse, the destination, the query, the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from warehouse_sync.config.loader import Config
from warehouse_sync.config.models import SyncConfig
from warehouse_sync.destinations.base import Audience, AudienceSpec, Destination
from warehouse_sync.destinations.registry import audience_fields, open_destination
from warehouse_sync.errors import ConfigurationError
from warehouse_sync.events import CredentialsChecked, Events, Phase, PhaseStarted
from warehouse_sync.pipeline.guard import Guard
from warehouse_sync.pipeline.model import Model
from warehouse_sync.pipeline.retry_policy import RetryPolicy
from warehouse_sync.pipeline.snapshot import check_model
from warehouse_sync.state.runs import table_slug
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.registry import make_warehouse


@dataclass(frozen=True, slots=True)
class RunContext:
    """One sync, ready to run.

    spelling: the query's own spelling of each column that the configuration names. existing: the audience that the
    configuration names by its id, else None.
    """

    sync: SyncConfig
    key: SyncKey
    warehouse: Warehouse
    destination: Destination
    state: State
    model: Model
    spelling: Mapping[str, str]
    existing: Audience | None
    events: Events

    @property
    def guard(self) -> Guard:
        """The sync's guard."""
        settings = self.sync.guard
        return Guard(settings.max_removed_percent, settings.min_members, settings.ignore_below)

    @property
    def retry_policy(self) -> RetryPolicy:
        """When the sync's deferred operations are due, and when they are given up."""
        return RetryPolicy(self.sync.retry.enabled, self.sync.retry.max_age)

    def spec(self, installation_id: str, generation: int) -> AudienceSpec:
        """The audience that the sync wants, under the name by which the destination finds it again."""
        return audience_spec(self.sync, self.key, installation_id, generation)


def audience_spec(sync: SyncConfig, key: SyncKey, installation_id: str, generation: int) -> AudienceSpec:
    """The audience that `sync` wants; its source_id is the same until it is given up, so that it is found again."""
    audience = sync.audience
    source_id = f"warehouse-sync:{installation_id}:{table_slug(key)}"
    if generation > 1:
        source_id += f":{generation}"
    return AudienceSpec(audience.type, audience.name, audience.description, audience.id, source_id)


@contextmanager
def open_warehouse(config: Config, sync: SyncConfig) -> Iterator[Warehouse]:
    """The sync's warehouse, connected. Raises ConfigurationError and WarehouseUnavailable."""
    warehouse = make_warehouse(config.warehouse_of(sync))
    warehouse.tag_session(sync.name)
    try:
        warehouse.open()
        yield warehouse
    finally:
        warehouse.close()


def model_of(config: Config, sync: SyncConfig) -> Model:
    """The sync's query and mapping as the snapshot takes them."""
    fields = audience_fields(config.destination_of(sync).type, sync.audience.type)
    return Model(
        sync=sync.name,
        sql=sync.model.text,
        table=sync.model.table_parts,
        primary_key=sync.model.primary_key,
        mapping={**sync.identifiers, **sync.fields},
        fields=fields,
        hash_pii=sync.hash_pii,
    )


@contextmanager
def open_context(config: Config, name: str, events: Events, *, with_query: bool = True) -> Iterator[RunContext]:
    """Everything that can be refused is refused here, before anything is written anywhere.

    A retry pass comes without the query: what waits is sent even while that is broken.
    Raises ConfigurationError, WarehouseUnavailable or DestinationUnavailable.
    """
    sync = config.sync(name)
    model = model_of(config, sync)
    key = SyncKey(sync.name, sync.destination)
    with open_warehouse(config, sync) as warehouse:
        spelling = check_model(warehouse, model) if with_query else {}
        destination = open_destination(config.destination_of(sync), events=events)
        try:
            events.publish(PhaseStarted(Phase.AUDIENCE))
            events.publish(CredentialsChecked(destination.check().refresh_token_expires))
            wanted = sync.audience
            existing = None
            if wanted.id is not None:
                with located_at(name):
                    existing = destination.find(AudienceSpec(wanted.type, None, None, wanted.id, ""), None)
            yield RunContext(sync, key, warehouse, destination, State(warehouse), model, spelling, existing, events)
        finally:
            destination.close()


@contextmanager
def located_at(sync: str) -> Iterator[None]:
    """What the destination says of an audience is told at the sync that wants it."""
    try:
        yield
    except ConfigurationError as error:
        place = f"syncs.{sync}.audience"
        problems = [problem if problem.path else replace(problem, path=place) for problem in error.problems]
        raise ConfigurationError(problems) from error
