"""LinkedIn as a destination: the protocol of destinations/base.py on top of the other modules of this package."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from warehouse_sync.destinations.base import NO_LISTENERS, UNCONDITIONAL, Audience, AudienceSpec, Credentials, Permit
from warehouse_sync.destinations.linkedin.api import Api
from warehouse_sync.destinations.linkedin.audience_status import with_warning
from warehouse_sync.destinations.linkedin.bisection import bisect_batch
from warehouse_sync.destinations.linkedin.config import LinkedInConfig, LinkedInSettings
from warehouse_sync.destinations.linkedin.elements import build_body, element_template, personal_values
from warehouse_sync.destinations.linkedin.errors import PermanentError, TransientError
from warehouse_sync.destinations.linkedin.fields import AUDIENCE_FIELDS, MEMBER_PATHS
from warehouse_sync.destinations.linkedin.http import HTTPClient
from warehouse_sync.destinations.linkedin.rate_limit import (
    DEFAULT_REQUESTS_PER_MINUTE,
    RateLimiter,
    RateLimitState,
    rate_limit_states,
)
from warehouse_sync.destinations.linkedin.responses import (
    BatchResult,
    StatusClass,
    classify_status,
    parse_batch_response,
)
from warehouse_sync.destinations.linkedin.segments import PATH, Segment, Segments
from warehouse_sync.destinations.linkedin.tokens import TokenStore
from warehouse_sync.errors import AuthenticationFailed, ConfigurationError, DestinationUnavailable, StopRun
from warehouse_sync.events import Action, Events
from warehouse_sync.fields import AudienceFields, ElementTemplate
from warehouse_sync.operations import Batch, OperationKind, Outcomes

BATCH_SIZE = 5000
"""The greatest number of elements in one request to LinkedIn."""

ACTIONS = {OperationKind.ADD: Action.ADD, OperationKind.REMOVE: Action.REMOVE}


def open_destination(config: LinkedInConfig, *, events: Events, interactive: bool) -> LinkedIn:
    """Return the destination of one entry of the configuration; see destinations/registry.py."""
    return LinkedIn(config.settings(interactive=interactive), events)


class LinkedIn:
    """A LinkedIn ad account as a destination; the methods are documented in base.Destination.

    Once a permit has ended, the reason of deferred operations is `stopped`.
    """

    batch_size = BATCH_SIZE

    def __init__(self, settings: LinkedInSettings, events: Events = NO_LISTENERS) -> None:
        self.max_in_flight = settings.max_in_flight
        self._settings = settings
        self._client = HTTPClient(settings, events)
        limits = {kind: self.requests_per_minute(kind) for kind in MEMBER_PATHS}
        self._rate_limit = rate_limit_states.acquire((settings.credentials, limits), lambda: RateLimitState(limits))
        rate_limiter = RateLimiter(self._rate_limit.value, settings.retry_timeout, events)
        with _translated_errors():
            self._tokens = TokenStore(self._client, settings)
        self._api = Api(self._client, self._tokens, rate_limiter, settings)
        self._new_until: dict[str, float] = {}

    def fields(self, audience_type: str) -> AudienceFields:
        """Return the declaration in linkedin/fields.py."""
        return AUDIENCE_FIELDS[audience_type]

    def element_template(self, audience_type: str, operation: OperationKind) -> ElementTemplate:
        """Return the template in linkedin/elements.py."""
        return element_template(audience_type, operation)

    def requests_per_minute(self, audience_type: str) -> int:
        """Return the configured rate limit, else the default of rate_limit.py."""
        return self._settings.requests_per_minute or DEFAULT_REQUESTS_PER_MINUTE[audience_type]

    def check(self, permit: Permit = UNCONDITIONAL) -> Credentials:
        """Check the credentials by reading a list.

        For an unknown account LinkedIn may return an empty list instead of 403.
        """
        with _translated_errors():
            self._segments(permit).check_access()
        return Credentials(refresh_token_expires=self._tokens.refresh_token_expires)

    def find(self, spec: AudienceSpec, known_id: str | None, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """Find an audience. One with our `sourceSegmentId` must also have our account and source platform."""
        with _translated_errors():
            segments = self._segments(permit)
            segment_id = known_id if spec.id is None else spec.id
            segment = None if segment_id is None else self._get_expected(segments, segment_id, spec)
            if segment is None or (spec.id is None and segment.source_id != spec.source_id):
                segment = segments.find(spec.source_id)
            if segment is None:
                return None
            self._check_type_and_account(segment, spec)
            self._remember_if_new(segment)
            return _audience_with_warning(segment, spec)

    def get(self, audience_id: str, permit: Permit = UNCONDITIONAL) -> Audience | None:
        """Return an audience. It counts as deleted only if the account's list does not contain it either."""
        with _translated_errors():
            segments = self._segments(permit)
            segment = segments.get(_validated_id(audience_id)) or segments.find_in_list(audience_id)
            if segment is None:
                return None
            self._check_account(segment)
            return segment.audience

    def create(self, spec: AudienceSpec, permit: Permit = UNCONDITIONAL) -> Audience:
        """Create an audience. It takes at least the five seconds that LinkedIn asks for before the first members."""
        with _translated_errors():
            segment, created = self._segments(permit).create(spec)
            self._check_type_and_account(segment, spec)
            self._remember_if_new(segment, created=created)
            return replace(_audience_with_warning(segment, spec), created=created)

    def deliver(self, audience: Audience, batch: Batch, permit: Permit) -> Outcomes:
        """Send one batch. Each failed request is retried for at most `retry_timeout` seconds."""
        if len(batch) > BATCH_SIZE:
            raise ValueError(f"a batch has {len(batch)} operations, LinkedIn accepts {BATCH_SIZE}")
        path = f"{PATH}/{audience.id}/{MEMBER_PATHS[audience.type]}"

        def send(positions: Sequence[int]) -> BatchResult:
            response = self._api.send(
                "POST",
                path,
                permit=permit,
                action=ACTIONS[batch.operation],
                body=build_body(batch.elements, positions),
                restli_method="BATCH_CREATE",
                endpoint=audience.type,
                new_until=self._new_until.get(audience.id, 0.0),
            )
            if classify_status(response.status) is StatusClass.NOT_FOUND:
                raise TransientError(
                    "audience_not_found",
                    f"LinkedIn does not know audience {audience.id}: it was deleted there, or is not ready yet",
                )
            return parse_batch_response(
                response, len(positions), lambda at: personal_values(batch.elements[positions[at]])
            )

        if audience.created and audience.id not in self._new_until:
            self._new_until[audience.id] = time.monotonic() + self._settings.new_audience_timeout
        try:
            return bisect_batch(len(batch), send)
        except PermanentError as error:
            kind = AuthenticationFailed if error.is_credentials else StopRun
            raise kind(f"{error} Nothing is lost: the next run sends what LinkedIn has not accepted.") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._tokens.close()
        self._rate_limit.release()

    def _segments(self, permit: Permit) -> Segments:
        return Segments(self._api, self._settings, permit)

    def _get_expected(self, segments: Segments, segment_id: str, spec: AudienceSpec) -> Segment:
        segment = segments.get(_validated_id(segment_id))
        if segment is None and spec.id is None:
            # A segment that is a few seconds old may be in the list before it can be read.
            found = segments.find(spec.source_id)
            segment = found if found is not None and found.audience.id == segment_id else None
        if segment is not None:
            return segment
        if spec.id is not None:
            raise PermanentError(
                f"Audience {segment_id} does not exist on LinkedIn, or the token may not see it. Remove audience.id "
                "to have an audience created, or correct it."
            )
        raise PermanentError(
            f"Audience {segment_id}, which this sync created or found earlier, does not exist on LinkedIn: it was "
            "deleted there. To start with a new audience, run the sync once with --recreate."
        )

    def _check_type_and_account(self, segment: Segment, spec: AudienceSpec) -> None:
        audience = segment.audience
        if audience.type != spec.type:
            alternative = (
                "name another audience"
                if spec.id is not None
                else "run the sync once with --recreate: it creates a new audience"
            )
            raise PermanentError(
                f"Audience {audience.id} on LinkedIn is of type {audience.type}, but audience.type of this sync is "
                f"{spec.type}; LinkedIn cannot change it. Correct audience.type, or {alternative}."
            )
        self._check_account(segment)

    def _check_account(self, segment: Segment) -> None:
        if segment.account != self._settings.account_urn:
            raise PermanentError(
                f"Audience {segment.audience.id} belongs to another ad account than {self._settings.account_id}. "
                f"Correct audience.id or {self._settings.key('account_id')}."
            )

    def _remember_if_new(self, segment: Segment, *, created: bool = False) -> None:
        """Note until when a 404 for this audience only means that it is new."""
        age = 0.0 if created or segment.created_at is None else max(0.0, time.time() - segment.created_at)
        if created or (segment.created_at is not None and age < self._settings.new_audience_timeout):
            self._new_until[segment.audience.id] = time.monotonic() + self._settings.new_audience_timeout - age


def _audience_with_warning(segment: Segment, spec: AudienceSpec) -> Audience:
    age = None if segment.created_at is None else time.time() - segment.created_at
    return with_warning(segment.audience, age, chosen_by_id=spec.id is not None)


def _validated_id(audience_id: str) -> str:
    if not (audience_id.isascii() and audience_id.isdigit()):
        raise PermanentError(
            f"{audience_id!r} is not the id of a LinkedIn audience, which is a number, not a URN. Correct audience.id."
        )
    return audience_id


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate the errors of calls before a delivery, when nothing was sent, to those of the protocol."""
    try:
        yield
    except PermanentError as error:
        raise ConfigurationError(f"{error} Nothing was sent.") from None
    except TransientError as error:
        raise DestinationUnavailable(f"{error}. Nothing was sent.", error.retry_after) from None
