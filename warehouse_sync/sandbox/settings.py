"""Every switch of the sandbox.

What the destination's contract could not verify is a switch here, so that a client can be tried under each answer.
All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from warehouse_sync.sandbox.faults import Fault

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How the sandbox answers; the defaults follow the documented or most likely behaviour of LinkedIn.

    Where:
    host, port: what it listens on; port 0 takes a free one.

    Who:
    account_ids: sponsored accounts that the member may write to.
    viewer_account_ids: accounts on which the member is a VIEWER only. test_account_ids: LinkedIn test accounts.
    client_id, client_secret, refresh_token: what the token endpoint takes. access_token: valid from the start.
    scopes: what every access token carries. source_platforms: what `sourcePlatform` may be.

    Tokens:
    token_life, refresh_token_life: from their issue; a refresh never renews the latter.
    token_propagation: a freshly minted token is refused with 65601 for this long.
    refresh_repeats_refresh_token: the refresh reply carries `refresh_token` and `refresh_token_expires_in`.
    refresh_kills_old_tokens: a refresh revokes the access tokens minted before.

    Headers:
    versions: live API versions, YYYYMM. missing_version_status: the answer to a request without a version.
    check_content_type: a write that is not application/json gets 415.
    retry_after: seconds in a `Retry-After` header of every 429; None sends none.

    Segments:
    ready_after: how long `/users` and `/companies` answer 404 for a new segment.
    find_after: how long the finder overlooks a new segment.
    segment_cap: segments per account; a further one gets 429 SEGMENT_LIMIT_EXCEEDED.
    missing_field_status: the answer to a create without a required field.
    duplicate_source_segment: a second create with the same sourceSegmentId makes a second segment, or gets 409.
    unpaged_find: the finder without start and count answers all segments, or the first ten.
    unknown_account_find: the finder answers an empty list for an account that is not ours, or 403.
    name_max_length: in characters; None is unlimited.
    build_seconds: BUILDING to READY, from the first ADD. update_seconds: UPDATING to READY, from each later write.
    archive_after, expire_after: idle time to ARCHIVED, and to EXPIRED, which wipes the members.
    expired_writes: a write to an EXPIRED segment is taken and builds it anew, or gets 400.

    Elements:
    batch_limit: elements per request; more get 400 and nothing is applied.
    partial_validation: a bad element is refused alone; off, the whole batch gets 422 and nothing is applied.
    id_types: what `idType` may be. uppercase_hex: hashes may be upper-case.
    bare_domains: company domains must have no scheme, path or white space.
    unknown_fields: an element or a create body with a field outside the contract is refused, or taken.
    batch_index: a refused element's error names its position in `batchIndex`.
    echo_values: the messages of refused elements repeat the offending value, as a careless server would.
    unmatched_values: identifier values behind which nobody stands; they count in inputCount only.

    Limits:
    users_per_minute, companies_per_minute: requests per member in any 60 s.
    daily_quota: requests per member and endpoint until 00:00 UTC; None is unlimited.

    Faults:
    faults: set from the start. seed: of the random choice of faults with a probability.
    """

    host: str = "127.0.0.1"
    port: int = 0

    account_ids: frozenset[int] = frozenset({507404993})
    viewer_account_ids: frozenset[int] = frozenset({507404994})
    test_account_ids: frozenset[int] = frozenset({507404995})
    client_id: str = "sandbox"
    client_secret: str = "sandbox"  # noqa: S105  the sandbox guards nothing
    refresh_token: str = "sandbox-refresh"  # noqa: S105
    access_token: str = "sandbox-access"  # noqa: S105
    scopes: tuple[str, ...] = ("r_ads", "rw_ads", "rw_dmp_segments")
    source_platforms: frozenset[str] = frozenset(
        {"DIRECT_API", "AGENCY_API", "PARTNER_API", "SEGMENT", "ADOBE", "FAKE"},
    )

    token_life: float = 60 * DAY
    refresh_token_life: float = 365 * DAY
    token_propagation: float = 0.0
    refresh_repeats_refresh_token: bool = True
    refresh_kills_old_tokens: bool = False

    versions: frozenset[str] = frozenset(f"2026{month:02}" for month in range(1, 10))
    missing_version_status: int = 400
    check_content_type: bool = True
    retry_after: float | None = None

    ready_after: float = 5.0
    find_after: float = 0.0
    segment_cap: int = 1000
    missing_field_status: Literal[422, 400] = 422
    duplicate_source_segment: Literal["two", "409"] = "two"
    unpaged_find: Literal["all", "10"] = "all"
    unknown_account_find: Literal["empty", "403"] = "empty"
    name_max_length: int | None = None
    build_seconds: float = 10.0
    update_seconds: float = 2.0
    archive_after: float = 30 * DAY
    expire_after: float = 90 * DAY
    expired_writes: Literal["accept", "refuse"] = "accept"

    batch_limit: int = 5000
    partial_validation: bool = True
    id_types: frozenset[str] = frozenset({"SHA256_EMAIL", "SHA512_EMAIL", "GOOGLE_AID"})
    uppercase_hex: bool = True
    bare_domains: bool = True
    unknown_fields: Literal["refuse", "accept"] = "refuse"
    batch_index: bool = False
    echo_values: bool = False
    unmatched_values: frozenset[str] = frozenset()

    users_per_minute: int = 600
    companies_per_minute: int = 300
    daily_quota: int | None = None

    faults: tuple[Fault, ...] = ()
    seed: int = 0
