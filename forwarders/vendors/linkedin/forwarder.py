"""LinkedIn Conversions API."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from forwarders.api import oauth
from forwarders.api.contract import (
    Authorization,
    BatchFailure,
    Category,
    Contract,
    Delivered,
    Delivery,
    HttpForwarder,
    Limits,
    Payload,
    PermanentFailure,
    Rate,
    Request,
    Response,
    Result,
    Retired,
    Settings,
    Version,
    result_for_status,
    split_or_fail,
)
from forwarders.api.fields import Currency, without_nulls
from forwarders.api.keys import uuid_key
from forwarders.api.oauth import AccessToken, RefreshToken
from forwarders.api.urls import Endpoint

URN = "urn:lla:llaPartnerConversion:"


class UserId(Payload):
    """An identifier by which LinkedIn matches a person."""

    idType: Literal[  # noqa: N815
        "SHA256_EMAIL",
        "LINKEDIN_FIRST_PARTY_ADS_TRACKING_UUID",
        "ACXIOM_ID",
        "ORACLE_MOAT_ID",
        "PLAINTEXT_IP_ADDRESS",
        "SHA256_IP_ADDRESS",
        "GOOGLE_AID",
    ]
    idValue: Annotated[str, Field(min_length=1)]  # noqa: N815

    @model_validator(mode="after")
    def _check_hash(self) -> Self:
        if self.idType.startswith("SHA256") and not (len(self.idValue) == 64 and self.idValue.isalnum()):
            raise ValueError(f"the idValue of {self.idType} is a SHA-256 hash in hex")
        return self


class UserInfo(Payload):
    """A person's name and company."""

    firstName: Annotated[str, Field(max_length=35)] | None = None  # noqa: N815
    lastName: Annotated[str, Field(max_length=35)] | None = None  # noqa: N815
    companyName: str | None = None  # noqa: N815
    title: str | None = None
    countryCode: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None  # noqa: N815


class LinkedInUser(Payload):
    """A person. LinkedIn requires the list of IDs even if it is empty."""

    userIds: list[UserId] = Field(default_factory=list)  # noqa: N815
    userInfo: UserInfo | None = None  # noqa: N815
    externalIds: Annotated[list[str], Field(max_length=1)] | None = None  # noqa: N815
    lead: str | None = None


class Money(Payload):
    """An amount: a decimal number as a string."""

    currencyCode: Currency  # noqa: N815
    amount: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]


class LinkedInEvent(Payload):
    """A conversion. `conversion` is a name from the setting `conversions`, or the URN of a conversion rule."""

    conversion: Annotated[str, Field(min_length=1)]
    conversionHappenedAt: Annotated[int, Field(ge=10**12)]  # noqa: N815
    conversionValue: Money | None = None  # noqa: N815
    eventId: Annotated[str, Field(min_length=1, max_length=64)] | None = None  # noqa: N815
    user: LinkedInUser

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        user, info = self.user, self.user.userInfo or UserInfo()
        if not (user.userIds or user.externalIds or user.lead or (info.firstName and info.lastName)):
            raise ValueError(
                "user needs an id in userIds, an external id, a lead, or firstName and lastName in userInfo"
            )
        return self


class LinkedInSettings(Settings):
    """Settings of an ad account and its conversion rules."""

    auth: Annotated[AccessToken | RefreshToken, Field(discriminator="type")]
    """Credentials with the permission rw_conversions: `static` or `oauth_refresh`."""
    conversions: Annotated[dict[str, Annotated[int, Field(gt=0)]], Field(min_length=1)]
    """The conversion rules' IDs by the names that rules use, such as `{PURCHASE: 104012}`."""
    api_version: Annotated[str, Field(pattern="^20[0-9]{2}(0[1-9]|1[0-2])$")] = "202603"
    """The version of the API: a month."""
    endpoint: Endpoint = "https://api.linkedin.com/rest"
    """Send to this address instead, for tests and proxies."""
    token_endpoint: Endpoint = "https://www.linkedin.com/oauth/v2/accessToken"  # noqa: S105
    """Request access tokens from this address instead, for tests and proxies."""


class LinkedIn(HttpForwarder[LinkedInSettings]):
    """LinkedIn's response has a status for each conversion of a request.

    LinkedIn recognizes duplicates by `eventId` within a conversion rule, including events from the Insight Tag with the
    same ID. It does not publish its rate limit; the one here is the lower of those that others have measured.
    """

    contract = Contract(
        name="linkedin",
        title="LinkedIn Conversions API",
        aliases=(
            "LinkedIn Ads",
            "LinkedIn Insight Tag",
        ),
        documentation="https://learn.microsoft.com/en-us/linkedin/marketing/integrations/ads-reporting/conversions-api",
        category=Category.ADVERTISING,
        settings=LinkedInSettings,
        payload=LinkedInEvent,
        limits=Limits(items=5000, bytes=4_000_000, item_bytes=100_000),
        max_event_age=timedelta(days=90),
        dedupe_field="eventId",
        batch_failure=BatchFailure.LISTED,
        rates=(Rate(300, seconds=60), Rate(300_000, seconds=86_400)),
        versions=(
            Version("202603", date(2027, 3, 16)),
            Version("202602", date(2027, 2, 15)),
            Version("202601", date(2027, 1, 15)),
            Version("202511", date(2026, 11, 16)),
        ),
        auth_methods=("static", "oauth_refresh"),
        authorization=Authorization("https://www.linkedin.com/oauth/v2/authorization", "rw_conversions r_ads"),
    )

    @override
    def validate(self, payload: Mapping[str, Any]) -> str | None:
        name = payload.get("conversion")
        if isinstance(name, str) and not name.startswith(URN) and name not in self.settings.conversions:
            return f"conversion: the setting `conversions` has none of the names {name[:64]!r}"
        return super().validate(payload)

    @override
    def build_token_request(self, now: float) -> Request | None:
        return oauth.build_token_request(self.settings.auth, self.settings.token_endpoint, now)

    @override
    def build_request(self, items: Sequence[Delivery]) -> Request:
        headers = {
            **oauth.headers(self.settings.auth),
            "LinkedIn-Version": self.settings.api_version,
            "X-Restli-Protocol-Version": "2.0.0",
            "X-RestLi-Method": "BATCH_CREATE",
        }
        body = {"elements": [self._element(item) for item in items]}
        return Request("POST", f"{self.settings.endpoint}/conversionEvents", headers, body)

    def _element(self, item: Delivery) -> dict[str, Any]:
        name = item.payload["conversion"]
        urn = name if name.startswith(URN) else f"{URN}{self.settings.conversions[name]}"
        event = {"eventId": uuid_key(item.id), **without_nulls(item.payload), "conversion": urn}
        return {**event, "user": {"userIds": [], **event["user"]}}

    @override
    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        elements = response.json.get("elements") if isinstance(response.json, dict) else None
        if 200 <= response.status < 300 and isinstance(elements, list) and len(elements) == len(items):
            return [_result(element, response) for element in elements]
        if response.status == 426:  # "Version Header is Deprecated"
            return [Retired()] * len(items)
        if response.status == 422:
            return split_or_fail(items, "status_422")
        return super().parse_response(response, items)


def _result(element: Any, response: Response) -> Result:
    status = element.get("status") if isinstance(element, dict) else None
    if not isinstance(status, int) or 200 <= status < 300:
        return Delivered()
    result = result_for_status(Response(status, response.headers, b""))
    return PermanentFailure("refused", f"status {status}") if isinstance(result, PermanentFailure) else result
