"""The responses of each vendor, and the paths of deliveries, times and idempotency keys in its requests.

Limits, rates and time windows are in the forwarders' contracts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A received request. `body` is JSON data if possible, else text; header names are lower-case."""

    number: int
    at: str
    vendor: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class VendorReply:
    """The simulator's response; the body is JSON data, a string that is sent unchanged, or None."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Items = Sequence[Any]
Refuse = Callable[[Items, Sequence[int]], VendorReply]
"""Returns the reply to a request with these items, given the indexes of the invalid ones."""


def _whole(status: int, body: Any) -> Refuse:
    """Refuse the whole request because of one item, without naming it."""
    return lambda _items, _bad: VendorReply(status, body)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's API: `path` is a regular expression; `items`, `time` and `key` are dotted paths.

    `items` is the path of the deliveries in the body: "" if the body is a list, None if it is a single delivery. `time`
    and `key` are paths in an item; a time is RFC 3339, or a number with `unit` per second.
    """

    name: str
    path: str
    accept: Callable[[Items], VendorReply]
    refuse: Refuse = field(default=_whole(400, {"error": "invalid"}))
    items: str | None = None
    key: str | None = None
    time: str | None = None
    unit: float = 1.0
    throttled: VendorReply = field(default=VendorReply(429, {"error": "too many requests"}, {"retry-after": "1"}))
    forwarder: str | None = None

    @property
    def contract_of(self) -> str:
        """The name of the forwarder whose contract applies."""
        return self.forwarder or self.name


def _ok(body: Any, status: int = 200) -> Callable[[Items], VendorReply]:
    return lambda _items: VendorReply(status, body)


def _tiktok(code: int, message: str) -> VendorReply:
    return VendorReply(200, {"code": code, "message": message, "request_id": "simulated", "data": {}})


def _pinterest(items: Items, bad: Sequence[int] = ()) -> VendorReply:
    events = [
        {"status": "failed", "error_message": "invalid"} if number in bad else {"status": "processed"}
        for number in range(len(items))
    ]
    processed = {"num_events_received": len(items), "num_events_processed": len(items) - len(bad), "events": events}
    return VendorReply(422 if len(bad) == len(items) else 200, processed)


def _linkedin(items: Items, bad: Sequence[int] = ()) -> VendorReply:
    return VendorReply(200, {"elements": [{"status": 400 if number in bad else 201} for number in range(len(items))]})


def _google(_: Items, bad: Sequence[int]) -> VendorReply:
    violations = [
        {"field": f"events.events[{number}].event_timestamp", "description": "invalid", "reason": "INVALID_ARGUMENT"}
        for number in bad
    ]
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return VendorReply(400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": details}})


def _amplitude(_: Items, bad: Sequence[int]) -> VendorReply:
    fields = {"events_with_invalid_fields": {"time": list(bad)}}
    return VendorReply(400, {"code": 400, "error": "Invalid field values on some events", **fields})


def _mixpanel(items: Items, bad: Sequence[int]) -> VendorReply:
    failed = [{"index": number, "field": "properties.time", "message": "invalid"} for number in bad]
    return VendorReply(400, {"code": 400, "num_records_imported": len(items) - len(bad), "failed_records": failed})


def _customerio(_: Items, bad: Sequence[int]) -> VendorReply:
    return VendorReply(207, {"errors": [{"batch_index": n, "reason": "invalid", "field": "name"} for n in bad]})


def _braze(_: Items, bad: Sequence[int]) -> VendorReply:
    errors = [{"type": "invalid", "input_array": "events", "index": number} for number in bad]
    return VendorReply(201, {"message": "success", "errors": errors})


def _iterable(items: Items, bad: Sequence[int]) -> VendorReply:
    emails = [items[number].get("email") for number in bad]
    ids = [items[number].get("userId") for number in bad if not items[number].get("email")]
    failed = {"invalidEmails": [each for each in emails if each], "invalidUserIds": [each for each in ids if each]}
    return VendorReply(200, {"successCount": len(items) - len(bad), "failCount": len(bad), "failedUpdates": failed})


META_ERROR = {"error": {"message": "Invalid parameter", "type": "OAuthException", "code": 100}}
KLAVIYO_ERROR = {"errors": [{"status": 400, "code": "invalid", "source": {"pointer": "/data"}}]}
HUBSPOT_ERROR = {"status": "error", "category": "VALIDATION_ERROR", "message": "invalid"}
HUBSPOT_CONTACTS = {"status": "COMPLETE", "results": []}
ITERABLE_OK = {"successCount": 1, "failCount": 0}

ANY = Vendor("webhook", "/.*", _ok({}))
TOKEN = Vendor("token", "(/oauth)?(/v[23])?/(token|accessToken)", _ok({}), forwarder="webhook")
"""The token endpoint of any vendor, whose replies come from `deploy.simulator.tokens`."""

VENDORS = (
    Vendor("ga4", "/mp/collect", _ok(None, 204), items="events"),
    Vendor("ga4 debug", "/debug/mp/collect", _ok({"validationMessages": []}), items="events", forwarder="ga4"),
    Vendor(
        "meta", r"/v\d+\.0/\d+/events", lambda items: VendorReply(200, {"events_received": len(items), "messages": []}),
        _whole(400, META_ERROR), items="data", key="event_id", time="event_time",
        throttled=VendorReply(400, {"error": {"code": 80004, "message": "too many calls"}}),
    ),
    Vendor(
        "tiktok", "/open_api/v1.3/event/track/", lambda _: _tiktok(0, "OK"), lambda _, __: _tiktok(40002, "invalid"),
        items="data", key="event_id", time="event_time", throttled=_tiktok(40100, "too many requests"),
    ),
    Vendor(
        "pinterest", r"/v5/ad_accounts/\w+/events", _pinterest, _pinterest,
        items="data", key="event_id", time="event_time",
    ),
    Vendor(
        "snapchat", "/v3/[^/]+/events(/validate)?", _ok({"status": "SUCCESS"}), _whole(400, {"status": "FAILED"}),
        items="data", key="event_id", time="event_time",
    ),
    Vendor(
        "reddit", r"/api/v3/pixels/\w+/conversion_events", _ok({"data": {"message": "processed"}}),
        items="data.events", key="metadata.conversion_id", time="event_at", unit=1e3,
    ),
    Vendor(
        "linkedin", "(/rest)?/conversionEvents", _linkedin, _linkedin,
        items="elements", key="eventId", time="conversionHappenedAt", unit=1e3,
    ),
    Vendor(
        "google_ads", "/v1/events:ingest", _ok({"requestId": "simulated"}), _google,
        items="events", key="transactionId", time="eventTimestamp",
    ),
    Vendor(
        "amplitude", "/(2/httpapi|batch)", lambda items: VendorReply(200, {"code": 200, "events_ingested": len(items)}),
        _amplitude, items="events", key="insert_id", time="time", unit=1e3,
    ),
    Vendor("amplitude mapping", "/usermap", _ok({}), forwarder="amplitude"),
    Vendor(
        "mixpanel", "/import", lambda items: VendorReply(200, {"code": 200, "num_records_imported": len(items)}),
        _mixpanel, items="", key="properties.$insert_id",
    ),
    Vendor(
        "mixpanel profiles", "/(engage|groups)", _ok({"status": 1, "error": None}),
        _whole(200, {"status": 0, "error": "invalid"}), items="", forwarder="mixpanel",
    ),
    Vendor("posthog", "/batch/", _ok({"status": "Ok"}), items="batch", key="uuid"),
    Vendor("braze", "/users/track", _ok({"message": "success"}, 201), _braze, items="events"),
    Vendor(
        "braze identify", "/users/identify", _ok({"message": "success"}, 201),
        items="aliases_to_identify", forwarder="braze",
    ),
    Vendor(
        "klaviyo", "/api/(events|profile-import)", _ok(None, 202), _whole(400, KLAVIYO_ERROR),
        key="data.attributes.unique_id",
    ),
    Vendor(
        "hubspot", "/events/(2026-03|v3)/send/batch", _ok(None, 204), _whole(400, HUBSPOT_ERROR),
        items="inputs", key="uuid",
    ),
    Vendor(
        "hubspot contacts", "/crm/(objects/2026-03|v3/objects)/contacts/batch/upsert", _ok(HUBSPOT_CONTACTS),
        _whole(400, HUBSPOT_ERROR), items="inputs", forwarder="hubspot",
    ),
    Vendor("customerio", "/api/v2/batch", _ok({}), _customerio, items="batch", key="id"),
    Vendor("iterable", "/api/events/trackBulk", _ok(ITERABLE_OK), _iterable, items="events", key="id"),
    Vendor("iterable users", "/api/users/bulkUpdate", _ok(ITERABLE_OK), _iterable, items="users", forwarder="iterable"),
    Vendor(
        "iterable purchases", "/api/commerce/trackPurchase", _ok({"code": "Success"}), key="id", forwarder="iterable",
    ),
    Vendor("iterable merge", "/api/users/merge", _ok({"code": "Success"}), forwarder="iterable"),
    Vendor("segment", "/v1/batch", _ok({"success": True}), items="batch", key="messageId"),
    Vendor("slack", "/services/.+", _ok("ok"), _whole(400, "invalid_payload")),
    TOKEN,
    ANY,
)  # fmt: skip


def find_vendor(path: str) -> Vendor:
    """Return the vendor whose API has this path; any other path is a webhook's."""
    return next(vendor for vendor in VENDORS if re.fullmatch(vendor.path, path))
