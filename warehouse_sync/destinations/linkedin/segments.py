"""Find, create and describe DMP segments.

LinkedIn's create is not idempotent: a request that is sent twice creates two segments. So we search for ours by
`sourceSegmentId` before a create, and after each create that may have been applied although it failed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from warehouse_sync.destinations.base import Audience, AudienceSpec, Permit
from warehouse_sync.destinations.linkedin.api import Api
from warehouse_sync.destinations.linkedin.audience_status import with_usability
from warehouse_sync.destinations.linkedin.config import LinkedInSettings
from warehouse_sync.destinations.linkedin.errors import (
    FINAL_REASONS,
    PermanentError,
    TransientError,
    access_denied_error,
    stopped_error,
)
from warehouse_sync.destinations.linkedin.fields import SEGMENT_TYPES
from warehouse_sync.destinations.linkedin.http import Response
from warehouse_sync.destinations.linkedin.responses import (
    StatusClass,
    classify_status,
    describe_response,
    sanitise_message,
)
from warehouse_sync.events import Action

log = structlog.get_logger(__name__)

PATH = "/rest/dmpSegments"
PAGE_SIZE = 100
FIND_ATTEMPTS_AFTER_CREATE = 3
"""How often a segment is searched for that may have been created, `wait_after_create` seconds apart.

The finder may show a new segment with a delay, whose length LinkedIn does not document.
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A DMP segment: the audience, and what shows whether it is ours.

    Attributes:
        audience: The audience.
        account: URN of its ad account.
        source_id: Its `sourceSegmentId`.
        source_platform: Its `sourcePlatform`.
        created_at: When it was created, in seconds since the epoch; None if unknown.
    """

    audience: Audience
    account: str
    source_id: str | None
    source_platform: str | None
    created_at: float | None


class Segments:
    """All requests to `/rest/dmpSegments` except those for members, under one permit.

    Each method raises TransientError or PermanentError if it fails.
    """

    def __init__(self, api: Api, settings: LinkedInSettings, permit: Permit) -> None:
        self._api = api
        self._settings = settings
        self._permit = permit

    def check_access(self) -> None:
        """Check the token, the API version, the scope and our access to the account by one cheap read."""
        self._fetch_page({"count": "1", "start": "0"})

    def get(self, segment_id: str) -> Segment | None:
        """Return the segment with this id; None if there is none."""
        response = self._api.send("GET", f"{PATH}/{segment_id}", permit=self._permit)
        if classify_status(response.status) is StatusClass.NOT_FOUND:
            return None
        if classify_status(response.status) is StatusClass.REFUSED:
            raise PermanentError(
                f"LinkedIn refuses to show audience {segment_id} ({describe_response(response)}). Check its id."
            )
        if classify_status(response.status) is not StatusClass.SUCCESS:
            raise _unexpected_status_error(response)
        segment = _parse_segment(response.json)
        if segment is None:
            raise TransientError("malformed_answer", "LinkedIn's description of an audience has no id, type or account")
        return segment

    def find(self, source_id: str) -> Segment | None:
        """Return our segment with this `sourceSegmentId`, the oldest one of several; None if there is none."""
        ours = [
            segment
            for segment in self._list({"sourcePlatform": self._settings.source_platform, "sourceSegmentId": source_id})
            if segment.source_id == source_id
            and segment.account == self._settings.account_urn
            and segment.source_platform == self._settings.source_platform
        ]
        if len(ours) > 1:
            log.warning(
                "linkedin_duplicate_audiences", source_id=source_id, ids=[segment.audience.id for segment in ours]
            )
        return min(ours, key=lambda segment: int(segment.audience.id), default=None)

    def find_in_list(self, segment_id: str) -> Segment | None:
        """Return the segment with this id from the account's list; None if the list does not contain it.

        A 404 alone may also mean that a segment cannot be read yet. An account has at most 1,000 segments.
        """
        return next((segment for segment in self._list({}) if segment.audience.id == segment_id), None)

    def create(self, spec: AudienceSpec) -> tuple[Segment, bool]:
        """Find the segment of this spec, or create it and wait until it accepts members.

        Returns:
            The segment, and whether this call created it.
        """
        started = time.monotonic()
        may_exist = False
        for attempt in range(1, self._settings.attempts + 1):
            found = self.find(spec.source_id)
            if found is not None:
                return found, may_exist
            try:
                segment = self._create_once(spec)
            except TransientError as error:
                pause = max(error.retry_after or 0.0, self._backoff(attempt))
                is_timed_out = time.monotonic() + pause - started > self._settings.retry_timeout
                may_exist = may_exist or error.may_be_applied
                if error.may_be_applied and (found := self._find_after_create(spec.source_id)) is not None:
                    return found, True
                if error.reason in FINAL_REASONS or attempt == self._settings.attempts or is_timed_out:
                    raise
                self._wait(pause)
            else:
                self._wait(self._settings.wait_after_create)
                return segment, True
        raise AssertionError("the last attempt returns or raises")

    def _find_after_create(self, source_id: str) -> Segment | None:
        for _ in range(FIND_ATTEMPTS_AFTER_CREATE):
            self._wait(self._settings.wait_after_create)
            if (found := self.find(source_id)) is not None:
                return found
        return None

    def _create_once(self, spec: AudienceSpec) -> Segment:
        settings = self._settings
        name = spec.name or spec.source_id
        wanted: dict[str, Any] = {
            "account": settings.account_urn,
            "name": name,
            "type": SEGMENT_TYPES[spec.type],
            "sourcePlatform": settings.source_platform,
            "sourceSegmentId": spec.source_id,
            "destinations": [{"destination": "LINKEDIN"}],
        }
        if spec.description:
            wanted["description"] = spec.description
        response = self._api.send(
            "POST",
            PATH,
            permit=self._permit,
            action=Action.CREATE,
            body=orjson.dumps(wanted),
            expects_json=False,
            is_single_attempt=True,
        )
        status_class = classify_status(response.status)
        if status_class is StatusClass.NOT_FOUND:
            raise access_denied_error(settings, response)
        if status_class is StatusClass.REFUSED:
            raise _create_refused_error(settings, spec, response)
        if status_class is not StatusClass.SUCCESS:
            raise _unexpected_status_error(response)
        created_id = response.created_id
        if created_id is None or not created_id.isdigit():
            raise TransientError(
                "malformed_answer", "LinkedIn created an audience but did not return its id", may_be_applied=True
            )
        log.info("linkedin_audience_created", id=created_id, source_id=spec.source_id)
        audience = with_usability(Audience(id=created_id, type=spec.type, name=name, status="BUILDING", created=True))
        return Segment(audience, settings.account_urn, spec.source_id, settings.source_platform, time.time())

    def _list(self, query: Mapping[str, str]) -> list[Segment]:
        """Return the segments of our account that match `query`, from all pages of the finder.

        Requests always have `start` and `count`: without them LinkedIn returns all segments according to its
        documentation, but ten in its samples.
        """
        found: list[Segment] = []
        start = 0
        previous: list[Any] = []
        while True:
            body = self._fetch_page({**query, "start": str(start), "count": str(PAGE_SIZE)})
            elements = body["elements"]
            found += [segment for element in elements if (segment := _parse_segment(element)) is not None]
            start += len(elements)
            paging = body.get("paging")
            total = paging.get("total") if isinstance(paging, Mapping) else None
            has_more = start < total if isinstance(total, int) else len(elements) == PAGE_SIZE
            # Without the last condition, a server that ignores `start` would be asked without end.
            if not elements or not has_more or elements == previous:
                return found
            previous = elements

    def _fetch_page(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        full_query = {"q": "account", "account": self._settings.account_urn, **query}
        response = self._api.send("GET", PATH, permit=self._permit, action=Action.FIND, query=full_query)
        status_class = classify_status(response.status)
        if status_class is StatusClass.NOT_FOUND:
            raise access_denied_error(self._settings, response)
        if status_class is StatusClass.REFUSED:
            raise PermanentError(
                f"LinkedIn refuses to list the audiences of ad account {self._settings.account_id} "
                f"({describe_response(response)}). Check {self._settings.key('account_id')}, "
                f"{self._settings.key('source_platform')} and {self._settings.key('api_version')}."
            )
        if status_class is not StatusClass.SUCCESS:
            raise _unexpected_status_error(response)
        body = response.json
        if not isinstance(body, Mapping) or not isinstance(body.get("elements"), list):
            raise TransientError("malformed_answer", "LinkedIn's list of audiences has no elements")
        return body

    def _backoff(self, attempt: int) -> float:
        longest = min(self._settings.backoff_max, self._settings.backoff_initial * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def _wait(self, seconds: float) -> None:
        if self._permit.wait(seconds):
            raise stopped_error(attempted=True)


def _unexpected_status_error(response: Response) -> TransientError:
    return TransientError(
        f"http_{response.status}", f"LinkedIn gave an unexpected answer ({describe_response(response)})"
    )


def _create_refused_error(settings: LinkedInSettings, spec: AudienceSpec, response: Response) -> PermanentError:
    text = describe_response(response)
    if "SEGMENT_CREATION_NOT_ALLOWED_FOR_TEST_ACCOUNTS" in str(response.json):
        return PermanentError(
            f"Ad account {settings.account_id} is a test account, on which LinkedIn allows no audiences ({text}). "
            f"Set {settings.key('account_id')} to a real one."
        )
    return PermanentError(
        f"LinkedIn refuses to create the audience {sanitise_message(spec.name or spec.source_id)!r} ({text}). Check "
        f"its name and description, and {settings.key('source_platform')}, which must be a platform that LinkedIn gave "
        "to your application."
    )


def _parse_segment(body: Any) -> Segment | None:
    """Return the segment in an element of the finder or in the answer to a GET; None if it is none."""
    if not isinstance(body, Mapping):
        return None
    segment_id, kind, account = body.get("id"), body.get("type"), body.get("account")
    if _int_or_none(segment_id) is None or not isinstance(kind, str) or not isinstance(account, str):
        return None
    # Status and sizes are in the destination LINKEDIN inside the segment. The sizes are absent while it is BUILDING.
    listed = body.get("destinations")
    destinations = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    linkedin = next((each for each in destinations if each.get("destination") == "LINKEDIN"), {})
    status = linkedin.get("status")
    created = body.get("created")
    audience = Audience(
        id=str(segment_id),
        type={theirs: ours for ours, theirs in SEGMENT_TYPES.items()}.get(kind, kind.lower()),
        name=str(body.get("name") or ""),
        status=status if isinstance(status, str) else None,
        size=_int_or_none(linkedin.get("audienceSize")),
        matched=_int_or_none(linkedin.get("matchedCount")),
        input_count=_int_or_none(body.get("inputCount")),
    )
    return Segment(
        with_usability(audience),
        account,
        body.get("sourceSegmentId"),
        body.get("sourcePlatform"),
        created / 1000 if isinstance(created, int | float) else None,
    )


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
