"""Google Analytics 4 Measurement Protocol."""

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import orjson
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from typing_extensions import override

from forwarders.api.auth import Secret
from forwarders.api.contract import (
    BatchFailure,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Request,
    Response,
    Result,
    Settings,
)
from forwarders.api.urls import Endpoint

HOSTS = {"global": "https://www.google-analytics.com", "eu": "https://region1.google-analytics.com"}
MAX_PARAMETERS = 25
MAX_LENGTH = {"page_location": 1000, "page_referrer": 420, "page_title": 300}
"""Maximum length of these values; for all others it is 100 characters, or 500 in Google Analytics 360."""

RESERVED_NAMES = """
    ad_activeview ad_click ad_exposure ad_query ad_reward adunit_exposure app_background app_clear_data app_exception
    app_install app_remove app_store_refund app_store_subscription_cancel app_store_subscription_convert
    app_store_subscription_renew app_update app_upgrade dynamic_link_app_open dynamic_link_app_update
    dynamic_link_first_open error firebase_campaign firebase_in_app_message_action firebase_in_app_message_dismiss
    firebase_in_app_message_impression first_open first_visit notification_dismiss notification_foreground
    notification_open notification_receive notification_send os_update session_start session_start_with_rollout
    user_engagement
"""
APP_NAMES = frozenset({"ad_impression", "in_app_purchase", "screen_view"})
RESERVED_PREFIXES = ("firebase_", "ga_", "google_", "gtag_")
RESERVED_PROPERTIES = """
    first_open_time first_visit_time last_deep_link_referrer user_id first_open_after_install
"""


@lru_cache(4096)
def legal(name: str) -> str:
    """Convert a name to letters, digits and underscores, starting with a letter, at most 40; may return ''."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    return (f"n_{name}" if name[:1].isdigit() else name)[:40]


def _check_name(name: str) -> str:
    if legal(name) in {"", *RESERVED_NAMES.split()}:
        raise ValueError("the event name is reserved by GA4, or has no digit and no letter from a to z")
    if legal(name).startswith(RESERVED_PREFIXES):
        raise ValueError(f"GA4 reserves event names that begin with {', '.join(RESERVED_PREFIXES)}")
    return name


def _check_property(name: str) -> str:
    if name in RESERVED_PROPERTIES.split() or name.startswith((*RESERVED_PREFIXES, "_")):
        raise ValueError("GA4 reserves this user property name")
    return name


class UserProperty(Payload):
    """The value of a user property, and when it was set."""

    value: Annotated[str, Field(max_length=36)] | int | float
    timestamp_micros: int | None = None


class Ga4Consent(Payload):
    """The user's consent."""

    ad_user_data: Literal["GRANTED", "DENIED"] | None = None
    ad_personalization: Literal["GRANTED", "DENIED"] | None = None


class UserLocation(Payload):
    """The user's location. It takes precedence over `ip_override`."""

    city: str | None = None
    region_id: str | None = None
    country_id: str | None = None
    subcontinent_id: str | None = None
    continent_id: str | None = None


class Ga4Device(Payload):
    """The user's device. It takes precedence over `user_agent`."""

    category: str | None = None
    language: str | None = None
    screen_resolution: str | None = None
    operating_system: str | None = None
    operating_system_version: str | None = None
    model: str | None = None
    brand: str | None = None
    browser: str | None = None
    browser_version: str | None = None


class Parameters(Payload):
    """An event's parameters. Any name is allowed; the types of these are checked."""

    model_config = ConfigDict(extra="allow")

    session_id: str | int | None = None
    engagement_time_msec: int | None = None
    currency: str | None = None
    value: float | None = None
    transaction_id: str | None = None
    items: Annotated[list[dict[str, Any]], Field(max_length=200)] | None = None


class Ga4Event(Payload):
    """An event, and the fields of its request. Events can share a request if all fields but name and params are equal.

    `timestamp_micros` is a field of the request. Google's reference also mentions a timestamp per event, but does not
    document its field.
    """

    client_id: Annotated[str, Field(min_length=1)] | None = None
    app_instance_id: Annotated[str, Field(min_length=1)] | None = None
    user_id: Annotated[str, Field(max_length=256)] | None = None
    timestamp_micros: int | None = None
    user_properties: (
        Annotated[
            dict[Annotated[str, Field(max_length=24), AfterValidator(_check_property)], UserProperty],
            Field(max_length=25),
        ]
        | None
    ) = None
    user_data: dict[str, Any] | None = None
    consent: Ga4Consent | None = None
    user_location: UserLocation | None = None
    ip_override: str | None = None
    device: Ga4Device | None = None
    user_agent: str | None = None
    name: Annotated[str, AfterValidator(_check_name)]
    params: Parameters | None = None

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if (self.client_id is None) == (self.app_instance_id is None):
            raise ValueError("an event has a client_id (web stream) or an app_instance_id (app stream)")
        if self.app_instance_id is None and legal(self.name) in APP_NAMES:
            raise ValueError(f"GA4 takes {self.name} for app streams only")
        return self


class Ga4Settings(Settings):
    """Settings of a data stream."""

    measurement_id: Annotated[str, Field(pattern="^G-[A-Z0-9]+$")] | None = None
    """The measurement ID of a web stream, such as `G-ABC123`."""
    firebase_app_id: Annotated[str, Field(min_length=1)] | None = None
    """The Firebase app ID of an app stream."""
    api_secret: Secret
    """A Measurement Protocol API secret of the stream."""
    region: Literal["global", "eu"] = "global"
    """`eu` processes data in the European Union."""
    endpoint: Endpoint | None = None
    """Send to this address instead, for tests and proxies."""
    debug: bool = False
    """Send to the validation server, which reports errors and records nothing."""
    max_value_length: Annotated[int, Field(ge=1, le=500)] = 100
    """Truncate text values to this length. Google Analytics 360 accepts 500."""

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if (self.measurement_id is None) == (self.firebase_app_id is None):
            raise ValueError("set measurement_id (web stream) or firebase_app_id (app stream)")
        return self


class Ga4(HttpForwarder[Ga4Settings]):
    """Events of one user share a request. Names are made valid, and parameters that GA4 ignores are omitted.

    GA4 responds 2xx to every request and does not report invalid events. With `debug: true`, events are sent to the
    validation server, which reports errors and records nothing. A repeated event counts twice, except purchases with a
    transaction_id.
    """

    contract = Contract(
        name="ga4",
        title="Google Analytics 4",
        aliases=(
            "Google Analytics 4 Cloud",
            "Google Analytics 4 Web",
            "Google Analytics 4 (GA4)",
            "Google Analytics 4 (GA4) v2",
            "GA4 v2",
            "Google Analytics",
        ),
        documentation="https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference",
        category=Category.ANALYTICS,
        settings=Ga4Settings,
        payload=Ga4Event,
        limits=Limits(items=25, bytes=129_000, item_bytes=129_000),  # 130 kB, minus the fields around the events
        max_event_age=timedelta(hours=72),
        batch_failure=BatchFailure.SILENT,
        validation_setting="debug",
    )

    def __init__(self, settings: Ga4Settings) -> None:
        super().__init__(settings)
        stream = {"measurement_id": settings.measurement_id, "firebase_app_id": settings.firebase_app_id}
        query = {name: value for name, value in stream.items() if value}
        query["api_secret"] = settings.api_secret.get_secret_value()
        path = "/debug/mp/collect" if settings.debug else "/mp/collect"
        self._url = f"{settings.endpoint or HOSTS[settings.region]}{path}?{urlencode(query)}"

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        return orjson.dumps(_shared(payload), option=orjson.OPT_SORT_KEYS)

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        body = _shared(items[0].payload)
        if self.settings.debug:
            body["validation_behavior"] = "ENFORCE_RECOMMENDATIONS"
        body["events"] = [
            {"name": legal(item.payload["name"]), "params": self._parameters(item.payload.get("params") or {})}
            for item in items
        ]
        return Request("POST", self._url, body=body)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        if self.settings.debug and response.status == 200:
            complaints = ", ".join(_complaints(response.json))
            if complaints:
                return [PermanentFailure("validation", complaints)] * len(items)
        return super().parse_response(response, items)

    def _parameters(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first 25 parameters with a valid name and value."""
        taken: dict[str, Any] = {}
        for name, value in params.items():
            key = legal(name)
            if not key or key.startswith(RESERVED_PREFIXES) or value is None:
                continue
            if key == "items" and isinstance(value, list):
                taken[key] = [self._parameters(item) for item in value if isinstance(item, dict)]
            elif isinstance(value, bool):
                taken[key] = "true" if value else "false"
            elif isinstance(value, str):
                taken[key] = value[: MAX_LENGTH.get(key, self.settings.max_value_length)]
            elif isinstance(value, int | float):
                taken[key] = value
            if len(taken) == MAX_PARAMETERS:
                break
        return taken


def _complaints(body: Any) -> Iterator[str]:
    """Yield the validation server's errors without their descriptions, which quote values."""
    messages = body.get("validationMessages") if isinstance(body, dict) else None
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield f"{message.get('validationCode')} {message.get('fieldPath')}"


def _shared(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in ("name", "params") and value is not None}
