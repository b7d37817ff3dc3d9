"""The sandbox against the destination's contract, row by row of its table, over a real socket."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from warehouse_sync.sandbox import Sandbox, SandboxSettings

ACCOUNT = "urn:li:sponsoredAccount:507404993"
DAY = 86400.0
NOON = 1_795_305_600.0 - 12 * 3600  # 2026-11-21 12:00 UTC


class Clock:
    """A clock that moves only when it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Api:
    """A careful client of one sandbox."""

    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.session = requests.Session()
        self.headers = {
            "Authorization": "Bearer sandbox-access",
            "LinkedIn-Version": "202609",
            "X-Restli-Protocol-Version": "2.0.0",
        }

    def call(self, method: str, path: str, headers: Mapping[str, str | None] | None = None, **rest: Any) -> Any:
        merged = {name: value for name, value in {**self.headers, **(headers or {})}.items() if value is not None}
        return self.session.request(method, f"{self.sandbox.url}/rest{path}", headers=merged, timeout=300, **rest)

    def create(self, *, wait: bool = True, **changes: Any) -> Any:
        reply = self.call("POST", "/dmpSegments", json=segment_body(**changes))
        if wait:
            self.clock.now += self.sandbox.settings.ready_after
        return reply

    def segment(self, **changes: Any) -> str:
        reply = self.create(**changes)
        assert reply.status_code == 201, reply.text
        return str(reply.headers["x-restli-id"])

    def batch(self, segment: str, elements: Sequence[Any], kind: str = "users", **headers: str | None) -> Any:
        merged: dict[str, str | None] = {"X-RestLi-Method": "BATCH_CREATE"}
        merged |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", f"/dmpSegments/{segment}/{kind}", merged, json={"elements": list(elements)})

    def find(self, **query: Any) -> Any:
        return self.call("GET", "/dmpSegments", params={"q": "account", "account": ACCOUNT, **query})

    def get(self, segment: str) -> Any:
        return self.call("GET", f"/dmpSegments/{segment}").json()

    def status(self, segment: str) -> str:
        return str(self.get(segment)["destinations"][0]["status"])

    def token(self, **form: str | None) -> Any:
        content = {
            "grant_type": "refresh_token",
            "refresh_token": "sandbox-refresh",
            "client_id": "sandbox",
            "client_secret": "sandbox",
        }
        merged = {name: value for name, value in (content | form).items() if value is not None}
        return self.session.post(f"{self.sandbox.url}/oauth/v2/accessToken", data=merged, timeout=300)


Open = Callable[..., Api]


def segment_body(**changes: Any) -> dict[str, Any]:
    body = {
        "account": ACCOUNT,
        "name": "Customers",
        "type": "USER",
        "sourcePlatform": "DIRECT_API",
        "destinations": [{"destination": "LINKEDIN"}],
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def user(value: str = "device-1", action: str = "ADD", **fields: Any) -> dict[str, Any]:
    return {"action": action, "userIds": [{"idType": "GOOGLE_AID", "idValue": value}], **fields}


def company(name: str = "Acme", action: str = "ADD") -> dict[str, Any]:
    return {"action": action, "companyName": name}


@pytest.fixture
def open_api() -> Iterator[Open]:
    with ExitStack() as stack:

        def opener(**switches: Any) -> Api:
            clock = Clock()
            api = Api(stack.enter_context(Sandbox(SandboxSettings(**switches), clock)), clock)
            stack.callback(api.session.close)
            return api

        yield opener


@pytest.fixture
def api(open_api: Open) -> Api:
    return open_api()


def assert_refused(reply: Any, status: int, code: str | None = None, number: int | None = None) -> None:
    assert reply.status_code == status
    body = reply.json()
    assert body["status"] == status
    assert body.get("code") == code
    assert body.get("serviceErrorCode") == number
    assert reply.headers["X-RestLi-Error-Response"] == "true"
    assert "Retry-After" not in reply.headers


# Rows 1 to 6: tokens


@pytest.mark.parametrize("header", [None, "sandbox-access", "Basic c2FuZGJveA==", "Bearer "])
def test_row_1_a_request_without_bearer_token_is_refused(api: Api, header: str | None) -> None:
    assert_refused(api.call("GET", "/dmpSegments/1", {"Authorization": header}), 401, "EMPTY_ACCESS_TOKEN", 401)


def test_row_2_an_unknown_token_is_refused(api: Api) -> None:
    reply = api.call("GET", "/dmpSegments/1", {"Authorization": "Bearer other"})
    assert_refused(reply, 401, "INVALID_ACCESS_TOKEN", 65600)


def test_row_3_a_revoked_token_is_refused_and_a_new_one_is_not(api: Api) -> None:
    api.sandbox.revoke_access_tokens()
    assert_refused(api.find(), 401, "REVOKED_ACCESS_TOKEN", 65601)
    api.headers["Authorization"] = f"Bearer {api.token().json()['access_token']}"
    assert api.find().status_code == 200


def test_row_4_an_expired_token_is_refused(api: Api) -> None:
    api.clock.now += 60 * DAY - 1
    assert api.find().status_code == 200
    api.clock.now += 1
    assert_refused(api.find(), 401, "EXPIRED_ACCESS_TOKEN", 65602)


def test_row_5_a_new_token_works_after_a_while(open_api: Open) -> None:
    api = open_api(token_propagation=5.0)
    api.headers["Authorization"] = f"Bearer {api.token().json()['access_token']}"
    assert_refused(api.find(), 401, "REVOKED_ACCESS_TOKEN", 65601)
    api.clock.now += 5
    assert api.find().status_code == 200


def test_row_6_a_token_without_the_scope_is_refused(open_api: Open) -> None:
    reply = open_api(scopes=("r_ads",)).find()
    assert_refused(reply, 403, "ACCESS_DENIED", 100)
    assert reply.json()["message"].startswith("Not enough permissions to access: ")


def test_row_6_a_member_without_write_role_can_read_and_not_write(api: Api) -> None:
    segment = api.segment()
    api.sandbox.set_writable(507404993, writable=False)
    assert_refused(api.create(), 403, "ACCESS_DENIED", 100)
    assert_refused(api.batch(segment, [user()]), 403, "ACCESS_DENIED", 100)
    assert api.find().json()["paging"]["total"] == 1
    assert api.create(account="urn:li:sponsoredAccount:507404994").status_code == 403


# Rows 7 to 9: versions


def test_row_7_a_request_without_version_is_refused(open_api: Open) -> None:
    assert_refused(open_api().call("GET", "/dmpSegments/1", {"LinkedIn-Version": None}), 400, "VERSION_MISSING")
    switched = open_api(missing_version_status=403)
    assert_refused(switched.call("GET", "/dmpSegments/1", {"LinkedIn-Version": None}), 403, "VERSION_MISSING")


@pytest.mark.parametrize("version", ["202511", "202612", "202699", "2026-09"])
def test_row_8_an_inactive_version_gets_exactly_this_body(api: Api, version: str) -> None:
    reply = api.call("GET", "/dmpSegments/1", {"LinkedIn-Version": version})
    assert reply.status_code == 426
    message = f"Requested version {version}01 is not active"
    assert reply.text == f'{{"status":426,"code":"NONEXISTENT_VERSION","message":"{message}"}}'


@pytest.mark.parametrize(("protocol", "header"), [(None, "X-LinkedIn-Id"), ("2.0.0", "x-restli-id")])
def test_row_9_the_protocol_version_names_the_created_id_header(api: Api, protocol: str | None, header: str) -> None:
    changed = {"X-Restli-Protocol-Version": protocol}
    reply = api.call("POST", "/dmpSegments", changed, json=segment_body())
    assert reply.headers[header].isdecimal()
    assert sum(name in reply.headers for name in ("X-LinkedIn-Id", "x-restli-id")) == 1
    refused = api.call("GET", "/dmpSegments/1", changed)
    marker = "X-LinkedIn-Error-Response" if protocol is None else "X-RestLi-Error-Response"
    assert refused.headers[marker] == "true"


# Rows 10 to 12: OAuth


def test_row_10_a_refresh_gives_a_new_token_and_never_renews_the_year(api: Api) -> None:
    first = api.token().json()
    assert first["expires_in"] == 60 * 86400
    assert first["refresh_token_expires_in"] == 365 * 86400
    assert first["scope"] == "r_ads,rw_ads,rw_dmp_segments"
    assert 450 <= len(first["access_token"]) <= 1000
    api.clock.now += 360 * DAY
    last = api.token().json()
    assert last["access_token"] != first["access_token"]
    assert (last["expires_in"], last["refresh_token_expires_in"]) == (5 * 86400, 5 * 86400)
    api.clock.now += 5 * DAY
    assert api.token().json()["error"] == "invalid_grant"


def test_row_10_settings_decide_what_the_refresh_reply_repeats_and_what_it_revokes(open_api: Open) -> None:
    api = open_api(refresh_repeats_refresh_token=False, refresh_kills_old_tokens=True)
    assert api.token().json().keys() == {"access_token", "expires_in", "scope"}
    assert_refused(api.find(), 401, "REVOKED_ACCESS_TOKEN", 65601)


def test_row_11_an_invalid_refresh_token_is_an_invalid_grant(api: Api) -> None:
    unknown = api.token(refresh_token="other")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_grant")
    api.sandbox.revoke_refresh_token()
    revoked = api.token()
    assert revoked.status_code == 400
    assert revoked.json() == {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 400, "invalid_request"),
        ({"refresh_token": None}, 400, "invalid_request"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
    ],
)
def test_row_11_a_wrong_form_is_refused(api: Api, form: dict[str, Any], status: int, error: str) -> None:
    reply = api.token(**form)
    assert (reply.status_code, reply.json()["error"]) == (status, error)


def test_row_12_the_token_endpoint_takes_posted_forms_only(api: Api) -> None:
    url = f"{api.sandbox.url}/oauth/v2/accessToken"
    content = {
        "grant_type": "refresh_token",
        "refresh_token": "sandbox-refresh",
        "client_id": "sandbox",
        "client_secret": "sandbox",
    }
    assert api.session.get(url, params=content, timeout=300).status_code == 405
    assert api.session.post(url, json=content, timeout=300).status_code == 400
    assert api.session.post(url, params=content, timeout=300).status_code == 400
    in_header = {name: value for name, value in content.items() if not name.startswith("client")}
    assert api.session.post(url, data=in_header, auth=("sandbox", "sandbox"), timeout=300).status_code == 400


def test_introspection_shows_how_long_a_token_is_valid(api: Api) -> None:
    def ask(token: str, secret: str = "sandbox") -> Any:
        form = {"token": token, "client_id": "sandbox", "client_secret": secret}
        return api.session.post(f"{api.sandbox.url}/oauth/v2/introspectToken", data=form, timeout=300)

    known = ask("sandbox-refresh").json()
    assert known["active"] is True
    assert known["status"] == "active"
    assert known["client_id"] == "sandbox"
    assert known["expires_at"] - known["created_at"] == 365 * 86400
    assert known["authorized_at"] == int(NOON)
    assert "rw_dmp_segments" in known["scope"].split(",")
    api.sandbox.revoke_access_tokens()
    assert (ask("sandbox-access").json()["active"], ask("sandbox-access").json()["status"]) == (False, "revoked")
    assert ask("unknown").json() == {"active": False}
    assert ask("sandbox-access", secret="wrong").status_code == 401


# Rows 13 to 17: create


def test_row_13_a_created_segment_is_building_and_takes_members_after_a_while(api: Api) -> None:
    reply = api.create(wait=False)
    assert (reply.status_code, reply.content) == (201, b"")
    segment = reply.headers["x-restli-id"]
    assert reply.headers["Location"].endswith(f"/{segment}")
    shown = api.get(segment)
    assert shown["id"] == int(segment)
    assert shown["created"] == int(NOON * 1000)
    [destination] = shown["destinations"]
    assert destination["status"] == "BUILDING"
    assert destination["destinationSegmentId"].startswith("urn:li:adSegment:")
    assert not {"audienceSize", "matchedCount"} & destination.keys()
    assert "inputCount" not in shown
    api.clock.now += 4.9
    assert_refused(api.batch(segment, [user()]), 404)
    api.clock.now += 0.1
    assert api.batch(segment, [user()]).status_code == 200


def test_row_13_settings_delay_a_segment_further(open_api: Open) -> None:
    api = open_api(ready_after=120.0, find_after=3.0)
    segment = api.create(wait=False).headers["x-restli-id"]
    assert api.find().json()["paging"]["total"] == 0
    api.clock.now += 3
    assert api.find().json()["paging"]["total"] == 1
    api.clock.now += 116
    assert api.batch(segment, [user()]).json()["message"] == f"Could not find DMP segment with ID {segment}"


@pytest.mark.parametrize("field", ["account", "name", "type", "sourcePlatform", "destinations"])
def test_row_14_a_create_without_a_required_field_is_refused(open_api: Open, field: str) -> None:
    without: dict[str, Any] = {field: None}
    reply = open_api().create(**without)
    assert_refused(reply, 422)
    message = f"ERROR :: /{field} :: field is required but not found and has no default value\n"
    assert reply.json()["message"] == message
    assert_refused(open_api(missing_field_status=400).create(**without), 400)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"type": "USER_STREAMING"}, 400, None),
        ({"sourcePlatform": "MINE"}, 400, None),
        ({"destinations": [{"destination": "GOOGLE"}]}, 400, None),
        ({"destinations": []}, 400, None),
        ({"account": "507404993"}, 400, None),
        ({"name": " "}, 400, "FIELD_LENGTH_TOO_LONG"),
        ({"name": 5}, 400, None),
        ({"accessPolicy": "PUBLIC"}, 400, None),
        ({"audience": "x"}, 422, None),
        ({"account": "urn:li:sponsoredAccount:507404995"}, 400, "SEGMENT_CREATION_NOT_ALLOWED_FOR_TEST_ACCOUNTS"),
    ],
)
def test_row_15_a_create_with_a_bad_value_is_refused(
    api: Api,
    changes: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    assert_refused(api.create(**changes), status, code)
    assert api.sandbox.segments() == []


def test_row_15_a_create_on_a_foreign_account_is_refused(api: Api) -> None:
    assert_refused(api.create(account="urn:li:sponsoredAccount:1"), 403, "ACCESS_DENIED", 100)


def test_row_16_the_cap_holds_until_a_segment_is_deleted(open_api: Open) -> None:
    api = open_api(segment_cap=2)
    first, _ = api.segment(), api.segment()
    for _ in range(2):
        assert_refused(api.create(), 429, "SEGMENT_LIMIT_EXCEEDED")
    assert api.call("DELETE", f"/dmpSegments/{first}").status_code == 204
    assert api.create().status_code == 201


def test_row_17_the_same_source_segment_id_makes_two_segments_or_a_conflict(open_api: Open) -> None:
    two = open_api()
    assert two.segment(sourceSegmentId="s") != two.segment(sourceSegmentId="s")
    one = open_api(duplicate_source_segment="409")
    one.segment(sourceSegmentId="s")
    assert_refused(one.create(sourceSegmentId="s"), 409, "CONFLICT")
    assert one.create(sourceSegmentId="t").status_code == 201


# Rows 18 to 21: find, get, update, delete, destinations


def test_row_18_the_finder_pages_and_joins_its_filters_by_and(api: Api) -> None:
    ids = [int(api.segment(sourceSegmentId=f"s{index % 2}")) for index in range(12)]
    other = int(api.segment(sourceSegmentId="s0", sourcePlatform="AGENCY_API"))
    everything = api.find().json()
    assert [each["id"] for each in everything["elements"]] == [*ids, other]
    page = api.find(start=10, count=2).json()
    assert [each["id"] for each in page["elements"]] == ids[10:12]
    assert page["paging"] == {"start": 10, "count": 2, "links": [], "total": 13}
    assert len(api.find(start=0).json()["elements"]) == 10
    both = api.find(sourceSegmentId="s0", sourcePlatform="AGENCY_API").json()
    assert [each["id"] for each in both["elements"]] == [other]
    assert api.find(sourceSegmentId="none").json()["elements"] == []


def test_row_18_the_finder_needs_its_account(open_api: Open) -> None:
    api = open_api()
    assert_refused(api.find(account=None), 400)
    assert_refused(api.find(q="owner"), 400)
    assert_refused(api.find(start="x"), 400)
    assert_refused(api.find(account="507404993"), 400)
    foreign = {"account": "urn:li:sponsoredAccount:1"}
    assert api.find(**foreign).json()["elements"] == []
    assert_refused(open_api(unknown_account_find="403").find(**foreign), 403, "ACCESS_DENIED", 100)


def test_row_18_a_setting_makes_the_unpaged_finder_show_ten(open_api: Open) -> None:
    api = open_api(unpaged_find="10")
    for _ in range(11):
        api.segment()
    shown = api.find().json()
    assert (len(shown["elements"]), shown["paging"]["total"]) == (10, 11)


def test_row_19_an_unknown_segment_is_not_found(api: Api) -> None:
    assert_refused(api.call("GET", "/dmpSegments/1"), 404)


def test_row_20_name_description_and_source_id_can_be_changed_and_nothing_else(api: Api) -> None:
    segment = api.segment()
    partial: dict[str, str | None] = {"X-RestLi-Method": "PARTIAL_UPDATE"}
    changes = {"name": "Other", "description": "d", "sourceSegmentId": "s"}
    reply = api.call("POST", f"/dmpSegments/{segment}", partial, json={"patch": {"$set": changes}})
    assert (reply.status_code, reply.content) == (204, b"")
    assert changes.items() <= api.get(segment).items()
    for immutable in ({"type": "COMPANY"}, {"account": ACCOUNT}, {"sourcePlatform": "SEGMENT"}):
        body = {"patch": {"$set": {"name": "Not this", **immutable}}}
        assert_refused(api.call("POST", f"/dmpSegments/{segment}", partial, json=body), 400)
    assert api.get(segment)["name"] == "Other"
    assert_refused(api.call("POST", f"/dmpSegments/{segment}", json={"patch": {"$set": changes}}), 400)
    assert_refused(api.call("POST", f"/dmpSegments/{segment}", partial, json={"name": "x"}), 400)


def test_row_21_a_segment_is_deleted_once_and_by_a_writer_only(api: Api) -> None:
    segment = api.segment()
    api.sandbox.set_writable(507404993, writable=False)
    assert_refused(api.call("DELETE", f"/dmpSegments/{segment}"), 403, "ACCESS_DENIED", 100)
    api.sandbox.set_writable(507404993, writable=True)
    assert api.call("DELETE", f"/dmpSegments/{segment}").status_code == 204
    assert_refused(api.call("DELETE", f"/dmpSegments/{segment}"), 404)
    assert_refused(api.batch(segment, [user()]), 404)


def test_destinations_can_be_added_and_read(api: Api) -> None:
    segment = api.segment()
    path = f"/dmpSegments/{segment}/destinations"
    reply = api.call("POST", path, json={"destination": "LINKEDIN"})
    assert (reply.status_code, reply.headers["x-restli-id"]) == (201, "LINKEDIN")
    assert api.call("GET", f"{path}/LINKEDIN").json() == api.get(segment)["destinations"][0]
    assert_refused(api.call("POST", path, json={"destination": "OTHER"}), 400)
    assert_refused(api.call("GET", f"{path}/OTHER"), 404)


# Rows 22 to 30: batches


def test_row_22_a_full_batch_is_answered_element_by_element(api: Api) -> None:
    segment = api.segment()
    reply = api.batch(segment, [user(f"device-{index}") for index in range(5000)])
    assert reply.status_code == 200
    assert reply.json() == {"elements": [{"status": 201}] * 5000}
    assert len(api.sandbox.members(segment)) == 5000


def test_row_22_companies_are_taken_by_a_company_segment(api: Api) -> None:
    segment = api.segment(type="COMPANY")
    assert api.batch(segment, [company("A"), company("B")], "companies").json() == {"elements": [{"status": 201}] * 2}
    assert api.sandbox.members(segment).keys() == {(("companyName", "A"),), (("companyName", "B"),)}


def test_row_23_an_unknown_segment_takes_no_members(api: Api) -> None:
    reply = api.batch("999", [user()])
    assert_refused(reply, 404)
    assert reply.json()["message"] == "Could not find DMP segment with ID 999"


def test_row_24_too_large_a_batch_is_refused_whole(api: Api) -> None:
    segment = api.segment()
    assert_refused(api.batch(segment, [user(f"device-{index}") for index in range(5001)]), 400)
    assert api.sandbox.members(segment) == {}


def test_row_25_an_empty_batch_is_fine(api: Api) -> None:
    reply = api.batch(api.segment(), [])
    assert (reply.status_code, reply.json()) == (200, {"elements": []})


def test_row_26_a_bad_element_is_refused_alone(api: Api) -> None:
    segment = api.segment()
    bad = {"action": "ADD", "userIds": [{"idType": "SHA256_EMAIL", "idValue": "ada@example.org"}]}
    reply = api.batch(segment, [user("a"), bad, user("b"), {"action": ["ADD"]}])
    assert reply.status_code == 200
    results = reply.json()["elements"]
    assert [result["status"] for result in results] == [201, 400, 201, 400]
    assert results[1]["error"]["status"] == 400
    assert "HEX" in results[1]["error"]["message"]
    assert results[1]["error"].keys() == {"status", "message"}
    assert len(api.sandbox.members(segment)) == 2


def test_row_26_a_setting_names_the_position_in_the_error(open_api: Open) -> None:
    api = open_api(batch_index=True)
    assert api.batch(api.segment(), [user("a"), {}]).json()["elements"][1]["error"]["batchIndex"] == 1


def test_row_26_legacy_validation_refuses_the_whole_batch_and_names_every_bad_element(open_api: Open) -> None:
    api = open_api(partial_validation=False)
    segment = api.segment()
    reply = api.batch(segment, [user("a"), {"userIds": []}, user("b"), user("c", title="t" * 51)])
    assert_refused(reply, 422)
    first, second, end = reply.json()["message"].split("\n")
    assert first == "Index: 1, ERROR :: /action :: field is required but not found and has no default value"
    assert second.startswith("Index: 3, ERROR :: /title :: ")
    assert end == ""
    assert api.sandbox.members(segment) == {}


def test_row_27_add_and_remove_may_be_repeated(api: Api) -> None:
    segment = api.segment()
    for element in (user(), user(title="Other"), user("absent", "REMOVE"), user("absent", "REMOVE")):
        assert api.batch(segment, [element]).json() == {"elements": [{"status": 201}]}
    assert api.sandbox.members(segment) == {(("GOOGLE_AID", "device-1"),): {"title": "Other"}}


def test_row_28_a_value_without_a_match_counts_as_input_only(open_api: Open) -> None:
    api = open_api(unmatched_values=frozenset({"unmatched"}), build_seconds=0.0)
    segment = api.segment()
    assert api.batch(segment, [user("unmatched"), user("matched")]).json()["elements"] == [{"status": 201}] * 2
    shown = api.get(segment)
    assert (shown["inputCount"], shown["destinations"][0]["matchedCount"]) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "type_"), [("users", "COMPANY"), ("companies", "USER"), ("users", "USER_LIST_UPLOAD")]
)
def test_row_29_members_of_the_other_type_are_refused(api: Api, kind: str, type_: str) -> None:
    assert_refused(api.batch(api.segment(type=type_), [user() if kind == "users" else company()], kind), 400)


def test_row_30_a_company_needs_an_identifier_of_the_right_form(api: Api) -> None:
    segment = api.segment(type="COMPANY")
    elements = [
        {"action": "ADD", "city": "Berlin"},
        {"action": "ADD", "organizationUrn": "urn:li:organizationUrn:1"},
        {"action": "ADD", "organizationUrn": "urn:li:organization:1"},
    ]
    results = api.batch(segment, elements, "companies").json()["elements"]
    assert [result["status"] for result in results] == [400, 400, 201]
    assert "Invalid organization urn" in results[1]["error"]["message"]


# Rows 31 and 32: limits


@pytest.mark.parametrize(("kind", "limit"), [("users", 600), ("companies", 300)])
def test_row_31_the_minute_limit_is_a_sliding_window_per_endpoint(api: Api, kind: str, limit: int) -> None:
    segments = {"users": api.segment(), "companies": api.segment(type="COMPANY")}
    for _ in range(limit // 2):
        assert api.batch(segments[kind], [], kind).status_code == 200
    api.clock.now += 30
    for _ in range(limit // 2):
        assert api.batch(segments[kind], [], kind).status_code == 200
    element = user() if kind == "users" else company()
    reply = api.batch(segments[kind], [element], kind)
    assert_refused(reply, 429, None, 101)
    assert reply.json()["message"] == "Resource level throttle limit for calls to this resource is reached."
    assert api.sandbox.members(segments[kind]) == {}
    other = "companies" if kind == "users" else "users"
    assert api.batch(segments[other], [], other).status_code == 200
    api.clock.now += 30
    assert api.batch(segments[kind], [element], kind).status_code == 200


def test_row_31_a_setting_sends_retry_after(open_api: Open) -> None:
    api = open_api(users_per_minute=0, retry_after=2.0)
    assert api.batch(api.segment(), []).headers["Retry-After"] == "2"


def test_row_32_the_daily_quota_ends_at_midnight_utc(open_api: Open) -> None:
    api = open_api(daily_quota=2, ready_after=0.0)
    segment = api.segment()
    statuses = [api.batch(segment, []).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    api.clock.now += 12 * 3600 - 1
    assert_refused(api.batch(segment, []), 429, None, 101)
    api.clock.now += 1
    assert api.batch(segment, []).status_code == 200


# Rows 35 to 37, and the protocol


def test_row_35_a_segment_is_built_updated_archived_and_expired(api: Api) -> None:
    segment = api.segment()
    api.clock.now += 3600
    assert api.status(segment) == "BUILDING"
    api.batch(segment, [user("a"), user("b"), user("a")])
    assert api.status(segment) == "BUILDING"
    api.clock.now += 10
    shown = api.get(segment)
    assert shown["destinations"][0]["status"] == "READY"
    assert shown["destinations"][0]["audienceSize"] == 2
    assert shown["inputCount"] == 3
    api.batch(segment, [user("a", "REMOVE")])
    assert api.status(segment) == "UPDATING"
    api.clock.now += 2
    assert api.status(segment) == "READY"
    api.clock.now += 7 * DAY
    shown = api.get(segment)
    assert (shown["destinations"][0]["audienceSize"], shown["destinations"][0]["matchedCount"]) == (1, 0)
    api.clock.now += 23 * DAY
    assert api.status(segment) == "ARCHIVED"
    api.batch(segment, [user("c")])
    assert api.status(segment) == "UPDATING"
    assert len(api.sandbox.members(segment)) == 2


def test_row_35_an_expired_segment_has_lost_its_members_and_is_built_again(open_api: Open) -> None:
    api = open_api(expire_after=40 * DAY)
    segment = api.segment()
    api.batch(segment, [user("a")])
    api.clock.now += 40 * DAY
    assert api.status(segment) == "EXPIRED"
    assert [api.sandbox.members(segment, reading) for reading in ("identifiers", "elements", "persons")] == [{}] * 3
    api.batch(segment, [user("b")])
    assert api.status(segment) == "BUILDING"
    strict = open_api(expired_writes="refuse")
    other = strict.segment()
    strict.sandbox.force_status(other, "EXPIRED")
    assert_refused(strict.batch(other, [user()]), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("kind", ["users", "companies"])
def test_row_36_members_cannot_be_read_back(api: Api, method: str, kind: str) -> None:
    assert_refused(api.call(method, f"/dmpSegments/{api.segment()}/{kind}"), 405)


def test_row_37_a_batch_without_its_method_header_has_no_action(api: Api) -> None:
    segment = api.segment()
    reply = api.batch(segment, [user()], X_RestLi_Method=None)
    assert_refused(reply, 422)
    assert "/action :: field is required but not found and has no default value" in reply.json()["message"]
    assert api.sandbox.members(segment) == {}
    single = api.call("POST", f"/dmpSegments/{segment}/users", json=user("alone"))
    assert single.status_code == 201
    assert len(api.sandbox.members(segment)) == 1


def test_every_answer_carries_trace_headers(api: Api) -> None:
    for reply in (api.find(), api.call("GET", "/dmpSegments/1"), api.token(), api.create()):
        assert reply.headers["x-li-uuid"]
        assert reply.headers["x-li-request-id"]


def test_a_post_needs_a_length_and_json(api: Api) -> None:
    connection = http.client.HTTPConnection(api.sandbox.url.removeprefix("http://"), timeout=300)
    connection.putrequest("POST", "/rest/dmpSegments")
    for name, value in api.headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    assert_refused(api.call("POST", "/dmpSegments", data=b"{}", headers={"Content-Type": "text/plain"}), 415)
    broken = {"Content-Type": "application/json"}
    assert_refused(api.call("POST", "/dmpSegments", data=b"{", headers=broken), 400)
    assert_refused(api.call("POST", "/dmpSegments", data=b"[]", headers=broken), 400)


def test_unknown_addresses_and_methods_are_refused(api: Api) -> None:
    assert_refused(api.call("GET", "/adAccounts"), 404)
    assert_refused(api.call("PUT", "/dmpSegments", json={}), 405)


def test_one_connection_serves_many_requests(api: Api) -> None:
    connection = http.client.HTTPConnection(api.sandbox.url.removeprefix("http://"), timeout=300)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/rest/dmpSegments/1", headers=api.headers)
        assert connection.getresponse().read()
    assert connection.sock is first
    connection.close()
