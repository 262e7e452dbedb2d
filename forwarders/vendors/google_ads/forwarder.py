"""Google Ads conversions through the Data Manager API, which replaces the uploads of the Google Ads API."""

import re
from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api import oauth
from forwarders.api.contract import (
    Authorization,
    BatchFailure,
    Category,
    Contract,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Settings,
    Split,
    Version,
)
from forwarders.api.fields import Currency, Sha256, without_empty_objects
from forwarders.api.oauth import RefreshToken, ServiceAccount
from forwarders.api.tolerance import needless
from forwarders.api.urls import Endpoint

SCOPE: Final = "https://www.googleapis.com/auth/datamanager"
EVENT_IN_PATH: Final = re.compile(r"\bevents\[(\d{1,6})\]")

Granted = Literal["CONSENT_GRANTED", "CONSENT_DENIED"]
AccountId = Annotated[str, Field(pattern="^[0-9]{1,20}$")]


class Address(Payload):
    """A person's address, with hashed names."""

    givenName: Sha256  # noqa: N815
    familyName: Sha256  # noqa: N815
    regionCode: Annotated[str, Field(pattern="^[A-Z]{2}$")]  # noqa: N815
    postalCode: str  # noqa: N815


class UserIdentifier(Payload):
    """An identifier: exactly one of these fields."""

    emailAddress: Sha256 | None = None  # noqa: N815
    phoneNumber: Sha256 | None = None  # noqa: N815
    address: Address | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("an identifier is one of emailAddress, phoneNumber and address")
        return self


class GoogleAdsUserData(Payload):
    """The person who converted."""

    userIdentifiers: Annotated[list[UserIdentifier], Field(min_length=1, max_length=10)]  # noqa: N815


class GoogleAdsDevice(Payload):
    """The device of an event."""

    userAgent: str | None = None  # noqa: N815
    ipAddress: str | None = None  # noqa: N815


class AdIdentifiers(Payload):
    """The click that led to the conversion."""

    sessionAttributes: str | None = None  # noqa: N815
    gclid: str | None = None
    gbraid: str | None = None
    wbraid: str | None = None
    landingPageDeviceInfo: GoogleAdsDevice | None = None  # noqa: N815


class GoogleAdsConsent(Payload):
    """The person's consent."""

    adUserData: Granted | None = None  # noqa: N815
    adPersonalization: Granted | None = None  # noqa: N815


class GoogleAdsProduct(Payload):
    """A product of an order."""

    merchantProductId: str | None = None  # noqa: N815
    quantity: int | None = None
    unitPrice: float | None = None  # noqa: N815


class CartData(Payload):
    """The purchased products."""

    merchantId: str | None = None  # noqa: N815
    merchantFeedLabel: str | None = None  # noqa: N815
    merchantFeedLanguageCode: str | None = None  # noqa: N815
    transactionDiscount: float | None = None  # noqa: N815
    items: list[GoogleAdsProduct] | None = None


class CustomVariable(Payload):
    """A custom variable of the conversion action."""

    variable: str
    value: str


class GoogleAdsEvent(Payload):
    """A conversion. `conversion` is a name from the setting `conversions`; the other fields are Google's."""

    conversion: Annotated[str, Field(min_length=1)]
    transactionId: Annotated[str, Field(min_length=1)] | None = None  # noqa: N815
    eventTimestamp: str  # noqa: N815
    currency: Currency | None = None
    conversionValue: float | None = None  # noqa: N815
    eventSource: Literal["WEB", "APP", "IN_STORE", "PHONE", "OTHER"] | None = None  # noqa: N815
    adIdentifiers: AdIdentifiers | None = None  # noqa: N815
    userData: GoogleAdsUserData | None = None  # noqa: N815
    consent: GoogleAdsConsent | None = None
    eventDeviceInfo: GoogleAdsDevice | None = None  # noqa: N815
    cartData: CartData | None = None  # noqa: N815
    customVariables: list[CustomVariable] | None = None  # noqa: N815

    @model_validator(mode="after")
    def _check_person(self) -> Self:
        click = self.adIdentifiers or AdIdentifiers()
        if not (self.userData or click.gclid or click.gbraid or click.wbraid or click.sessionAttributes):
            raise ValueError("needs userData, or a gclid, gbraid, wbraid or sessionAttributes in adIdentifiers")
        if self.conversionValue is not None and self.currency is None:
            raise needless("a conversionValue needs a currency", "conversionValue")
        return self


class GoogleAdsSettings(Settings):
    """Settings of an account and its conversion actions."""

    auth: Annotated[RefreshToken | ServiceAccount, Field(discriminator="type")]
    """Credentials with the scope datamanager: `service_account` or `oauth_refresh`."""
    customer_id: AccountId
    """The Google Ads account that receives the conversions, without hyphens."""
    login_customer_id: AccountId | None = None
    """The manager account through which the credentials have access."""
    conversions: Annotated[dict[str, Annotated[int, Field(gt=0)]], Field(min_length=1)]
    """The conversion actions' IDs by the names that rules use, such as `{PURCHASE: 123456789}`."""
    validate_only: bool = False
    """Let Google validate events without recording them."""
    endpoint: Endpoint = "https://datamanager.googleapis.com"
    """Send to this address instead, for tests and proxies."""
    token_endpoint: Endpoint = "https://oauth2.googleapis.com/token"  # noqa: S105
    """Request access tokens from this address instead, for tests and proxies."""


class GoogleAds(HttpForwarder[GoogleAdsSettings]):
    """Google rejects a whole request if one event is invalid, and lists the invalid events.

    A request contains events of one conversion action. Google recognizes duplicates by `transactionId` within an
    action. Errors that Google finds later, such as an unknown click, are in its diagnostics under the request's ID.
    """

    contract = Contract(
        name="google_ads",
        title="Google Ads (Data Manager API)",
        aliases=(
            "Google AdWords",
            "AdWords",
            "Google Ads Conversions",
            "Google Enhanced Conversions",
            "Google Ads Enhanced Conversions",
            "Google Adwords Enhanced Conversions",
            "Google Ads Offline Conversions",
            "Google Adwords Offline Conversions",
            "Google Ads (Gtag)",
            "Google AdWords New",
            "Google Ads (gtag.js)",
        ),
        documentation="https://developers.google.com/data-manager/api/reference/rest/v1/events/ingest",
        category=Category.ADVERTISING,
        settings=GoogleAdsSettings,
        payload=GoogleAdsEvent,
        limits=Limits(items=2000, bytes=4_000_000, item_bytes=100_000),
        max_event_age=timedelta(days=90),
        dedupe_field="transactionId",
        batch_failure=BatchFailure.WHOLE,
        rates=(Rate(300, seconds=60, per="account"), Rate(100_000, seconds=86_400, per="account")),
        versions=(Version("v1"),),
        auth_methods=("oauth_refresh", "service_account"),
        authorization=Authorization(
            "https://accounts.google.com/o/oauth2/v2/auth", SCOPE, {"access_type": "offline", "prompt": "consent"}
        ),
        validation_setting="validate_only",
    )

    @override
    def validate(self, payload: Mapping[str, Any]) -> str | None:
        name = payload.get("conversion")
        if isinstance(name, str) and name not in self.settings.conversions:
            return f"conversion: the setting `conversions` has none of the names {name[:64]!r}"
        return super().validate(payload)

    @override
    def build_token_request(self, now: float) -> Request | None:
        return oauth.build_token_request(self.settings.auth, self.settings.token_endpoint, now, SCOPE)

    @override
    def group_key(self, payload: Mapping[str, Any]) -> Hashable:
        return str(payload.get("conversion"))

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        settings = self.settings
        action = settings.conversions[items[0].payload["conversion"]]
        destination: dict[str, Any] = {
            "operatingAccount": {"accountType": "GOOGLE_ADS", "accountId": settings.customer_id},
            "productDestinationId": str(action),
        }
        if settings.login_customer_id:
            destination["loginAccount"] = {"accountType": "GOOGLE_ADS", "accountId": settings.login_customer_id}
        body = {
            "destinations": [destination],
            "events": [_event(item) for item in items],
            "encoding": "HEX",
            "validateOnly": settings.validate_only,
        }
        return Request("POST", f"{settings.endpoint}/v1/events:ingest", oauth.headers(settings.auth), body)

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        if response.status == 400 and len(items) > 1:
            bad = dict(_violations(response.json))
            if any(number in bad for number in range(len(items))):
                return [PermanentFailure("refused", bad[n]) if n in bad else Split() for n in range(len(items))]
        return super().parse_response(response, items)


def _event(item: Delivery) -> dict[str, Any]:
    """Return the event without empty fields and without the name of the conversion action."""
    event = {"transactionId": item.id, **without_empty_objects(item.payload)}
    del event["conversion"]
    return event


def _violations(body: Any) -> list[tuple[int, str]]:
    """Return the indexes of the invalid events in the request, each with its invalid field."""
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    found = []
    for detail in details if isinstance(details, list) else ():
        violations = detail.get("fieldViolations") if isinstance(detail, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            field = violation.get("field") if isinstance(violation, dict) else None
            if isinstance(field, str) and (match := EVENT_IN_PATH.search(field)):
                found.append((int(match[1]), field))
    return found
