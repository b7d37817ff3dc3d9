"""The settings of the sandbox.

Where the contract of LinkedIn leaves a question open, there is a setting, so that a client can be tested with each
answer. All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from warehouse_sync.sandbox.faults import Fault

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How the sandbox answers. The defaults follow the documented or most likely behaviour of LinkedIn.

    Attributes:
        host: The address that it listens on.
        port: The port that it listens on; 0 takes a free one.

        account_ids: Sponsored accounts that the member may write to.
        viewer_account_ids: Accounts on which the member is a VIEWER only.
        test_account_ids: LinkedIn test accounts.
        client_id: The client that the token endpoint accepts.
        client_secret: The secret of the client.
        refresh_token: The refresh token that is valid from the start.
        access_token: The access token that is valid from the start.
        scopes: The scopes of every access token.
        source_platforms: The values that `sourcePlatform` may have.

        token_life: Lifetime of an access token, from its issue.
        refresh_token_life: Lifetime of the refresh token, from its issue; a refresh does not extend it.
        token_propagation: How long a new access token is refused with 65601.
        refresh_repeats_refresh_token: The answer to a refresh has `refresh_token` and `refresh_token_expires_in`.
        refresh_kills_old_tokens: A refresh revokes the access tokens issued before.

        versions: Active API versions, YYYYMM.
        missing_version_status: The status of the answer to a request without a version.
        check_content_type: A write that is not application/json gets 415.
        retry_after: Seconds in the `Retry-After` header of every 429; None sends no header.

        ready_after: How long `/users` and `/companies` answer 404 for a new segment.
        find_after: How long the finder does not return a new segment.
        segment_cap: Segments per account; creating more gets 429 SEGMENT_LIMIT_EXCEEDED.
        missing_field_status: The status of the answer to a create without a required field.
        duplicate_source_segment: A second create with the same sourceSegmentId creates a second segment, or gets 409.
        unpaged_find: Without start and count the finder returns all segments, or the first ten.
        unknown_account_find: For an account without access the finder returns an empty list, or 403.
        name_max_length: In characters; None is unlimited.
        build_seconds: Time from BUILDING to READY, after the first ADD.
        update_seconds: Time from UPDATING to READY, after each later write.
        archive_after: Idle time until ARCHIVED.
        expire_after: Idle time until EXPIRED, which deletes the members.
        expired_writes: A write to an EXPIRED segment is accepted and builds it again, or gets 400.

        batch_limit: Elements per request; a larger batch gets 400 and nothing is applied.
        partial_validation: Refuse only the bad elements; otherwise the whole batch gets 422 and nothing is applied.
        id_types: The values that `idType` may have.
        uppercase_hex: Hashes may be in upper case.
        bare_domains: Company domains must have no scheme, path or white space.
        unknown_fields: An element or a create with a field outside the contract is refused, or accepted.
        batch_index: The error of a refused element has its position in `batchIndex`.
        echo_values: Messages about refused elements repeat the bad value, as a careless server would.
        unmatched_values: Identifier values of persons whom LinkedIn does not know; only inputCount counts them.

        users_per_minute: Requests to `/users` per member in any 60 s.
        companies_per_minute: Requests to `/companies` per member in any 60 s.
        daily_quota: Requests per member and endpoint until 00:00 UTC; None is unlimited.

        faults: The faults that are active from the start.
        seed: The seed of random choices for faults with a probability.
    """

    host: str = "127.0.0.1"
    port: int = 0

    account_ids: frozenset[int] = frozenset({507404993})
    viewer_account_ids: frozenset[int] = frozenset({507404994})
    test_account_ids: frozenset[int] = frozenset({507404995})
    client_id: str = "sandbox"
    client_secret: str = "sandbox"  # noqa: S105 - the sandbox protects nothing
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
