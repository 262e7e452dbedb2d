"""The plug-in API: what a forwarder declares about its vendor, and the functions it implements.

A forwarder never opens a socket, sleeps, retries or logs. Delivery does that for every forwarder, based on the facts
declared here. A forwarder for an HTTP API subclasses `HttpForwarder`; one for a file, queue or database subclasses
`WriterForwarder`; one for object storage subclasses `ObjectForwarder`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, NoReturn, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from forwarders.api.tolerance import leave_out_invalid

DELAY_PATTERN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
"""A delay in seconds, as vendors write it in headers."""

RENAMED: Final[Mapping[str, str]] = {
    "Answer": "Response",
    "Auth": "AuthFailed",
    "Coordinates": "OffsetRange",
    "Dead": "PermanentFailure",
    "Item": "Delivery",
    "Kind": "Category",
    "SECONDS": "DELAY_PATTERN",
    "Way": "AuthMethod",
    "by_status": "result_for_status",
    "refused": "split_or_fail",
}
"""Old names of this module, and the names that replace them."""

RENAMED_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Authorization": {"more": "extra_parameters"},
    "Contract": {
        "auth": "auth_methods",
        "dedupe": "dedupe_field",
        "dedupe_doubt": "dedupe_caveat",
        "kind": "category",
        "validation": "validation_setting",
        "window": "max_event_age",
    },
}
"""Old fields of each class, and the fields that replace them."""


def __getattr__(name: str) -> NoReturn:
    """Refuse an old name of this module with an error that names the new one.

    Raises:
        ImportError: The name was renamed. An AttributeError would reach `from … import …` without its text.
        AttributeError: There has never been such a name.

    """
    if name in RENAMED:
        raise ImportError(f"{name} was renamed to {RENAMED[name]}", name=__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _RefusesOldFields:
    """Refuses the old names of a dataclass's fields before `__init__` reports them as unexpected."""

    __slots__ = ()

    def __new__(cls, *_: Any, **values: Any) -> Self:
        renamed = RENAMED_FIELDS[cls.__name__]
        if found := [f"{name} was renamed to {renamed[name]}" for name in values if name in renamed]:
            raise TypeError(f"{cls.__name__}: {', '.join(found)}")
        return object.__new__(cls)


class Category(StrEnum):
    """The category of a vendor. Personal identifiers are sent to advertising vendors only as hashes."""

    ADVERTISING = "advertising"
    ANALYTICS = "analytics"
    CRM = "crm"
    STORAGE = "storage"


class BatchFailure(StrEnum):
    """How a vendor treats the valid deliveries in a batch that also contains an invalid one."""

    WHOLE = "whole"  # it rejects the whole batch: delivery searches for the invalid one with smaller batches
    LISTED = "listed"  # it accepts the valid ones, and the response lists the invalid ones
    SILENT = "silent"  # it accepts the batch and does not report invalid ones


class Settings(BaseModel):
    """Base class for a forwarder's settings.

    Unknown keys are rejected. Declare secrets as `SecretStr`; error messages never quote a value. The docstring below
    each field is its description in the documentation and in the schema for editors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class Payload(BaseModel):
    """Base class for a forwarder's payload model, with the vendor's own field names.

    Optional fields that are empty or invalid are left out of the request. Only a field that the vendor requires may be
    required here, since an event without it becomes a dead letter. Errors never quote a value.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, str_min_length=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum size of one request or write.

    Args:
        items: Number of deliveries.
        bytes: Total size of the payloads as JSON.
        item_bytes: Size of one payload as JSON.

    """

    items: int = 1
    bytes: int = 1_000_000
    item_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: `count` requests or items per `seconds`.

    Args:
        count: How many requests or items are allowed.
        seconds: The length of the period.
        of: Whether requests or items count.
        per: The scope of the limit: each access token, each user, or the whole account.

    """

    count: int
    seconds: float = 1.0
    of: Literal["requests", "items"] = "requests"
    per: Literal["token", "user", "account"] = "token"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the vendor's API, and the date on which the vendor turns it off, if published."""

    name: str
    sunset: date | None = None


AuthMethod = Literal["static", "oauth_refresh", "service_account"]
"""How requests are authenticated: with a credential from the settings, or with access tokens that expire."""


@dataclass(frozen=True, slots=True)
class Authorization(_RefusesOldFields):
    """The vendor's page on which a user grants an app access, to get a refresh token (RFC 6749, section 4.1.1).

    Args:
        url: The address of the page.
        scope: The requested permissions, separated by spaces.
        extra_parameters: Query parameters that only this vendor requires.

    """

    url: str
    scope: str
    extra_parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contract(_RefusesOldFields):
    """Everything about a vendor that is data.

    Args:
        name: The forwarder's name in configuration files: the name of its entry point.
        title: The vendor's name in texts.
        documentation: Link to the vendor's documentation of the API.
        category: The vendor's use of the data.
        settings: Model of the settings.
        payload: Model of one payload; None accepts any JSON object.
        limits: Maximum size of a request.
        ordered: Whether deliveries of one user must arrive in order.
        max_event_age: The oldest event that the vendor accepts; older ones expire instead of being sent.
        dedupe_field: The field by which the vendor recognizes duplicates. Without it, a repeated delivery counts twice.
        dedupe_window: How long the vendor remembers that field; None if it is not documented.
        dedupe_caveat: Why a replay may count twice in spite of `dedupe_field`.
        batch_failure: The vendor's behaviour for a batch that contains an invalid delivery.
        rates: The vendor's rate limits.
        versions: Versions of the API that the setting `version_setting` can select, newest first, each with its sunset
            if the vendor publishes one. Without such a setting, the first is the one that requests use.
        version_setting: The setting that selects the version.
        auth_methods: Authentication methods that the setting `auth` can select.
        authorization: Where to get a refresh token, for the method `oauth_refresh`.
        validation_setting: The setting that makes the vendor validate events and report problems. Its value is true
            or the code of the vendor's test tool.
        aliases: Other names of the vendor in an event's `integrations`, from Segment's and RudderStack's documentation.

    Raises:
        TypeError: A field has its old name; the message names the new one.

    """

    name: str
    title: str
    documentation: str
    category: Category
    settings: type[Settings]
    payload: type[Payload] | None = None
    limits: Limits = field(default_factory=Limits)
    ordered: bool = False
    max_event_age: timedelta | None = None
    dedupe_field: str | None = None
    dedupe_window: timedelta | None = None
    dedupe_caveat: str | None = None
    batch_failure: BatchFailure = BatchFailure.WHOLE
    rates: tuple[Rate, ...] = ()
    versions: tuple[Version, ...] = ()
    version_setting: str = "api_version"
    auth_methods: tuple[AuthMethod, ...] = ("static",)
    authorization: Authorization | None = None
    validation_setting: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name of the vendor that an event's `integrations` may use."""
        return (self.name, self.title, *self.aliases)

    def version_in_use(self, settings: Mapping[str, Any]) -> Version | None:
        """Return the version of the API that these settings select, explicitly or by default.

        Args:
            settings: The integration's settings.

        Returns:
            The version, or None if the contract does not declare it.

        """
        field = self.settings.model_fields.get(self.version_setting)
        if field is None:
            return next(iter(self.versions), None)
        name = settings.get(self.version_setting, field.default)
        return next((version for version in self.versions if version.name == name), None)

    def max_age(self, seconds: float | None = None) -> timedelta | None:
        """Return the maximum age of an event.

        Args:
            seconds: A limit from the integration's settings; the lower one of both applies.

        Returns:
            The maximum age, or None if it is unlimited.

        """
        ages = [self.max_event_age, None if seconds is None else timedelta(seconds=seconds)]
        return min((age for age in ages if age is not None), default=None)

    def validate(self, payload: Mapping[str, Any]) -> str | None:
        """Validate a payload with the payload model.

        Args:
            payload: The payload that a rule made from an event.

        Returns:
            The first error, without quoting a value, or None if the payload is valid.

        """
        if self.payload is None:
            return None
        try:
            self.payload.model_validate(payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            return f"{place}: {first['msg']} ({error.error_count()} in all)"
        return None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to the vendor.

    Args:
        id: The idempotency key: the same on every attempt and every replay.
        payload: The data to send, as made by the rules.
        type: The event's type, such as `track`.
        event: The event's name; None unless it is a track event.
        time: The event's own time, in RFC 3339.

    """

    id: str
    payload: Mapping[str, Any]
    type: str
    event: str | None
    time: str


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to the vendor.

    URL and headers may contain secrets and the body contains personal data, so the repr shows none of them.

    Args:
        method: The HTTP method.
        url: The full URL.
        headers: The headers; delivery adds `Content-Type: application/json` for a JSON body.
        body: JSON data, which delivery encodes, or bytes.

    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The vendor's response to a request.

    Args:
        status: The HTTP status.
        headers: The headers, with lower-case names.
        body: The body, truncated to 1 MB.

    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON data, or None if it is not valid JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def retry_after(self) -> float | None:
        """Return the seconds to wait according to the Retry-After header, or None without a valid one.

        The value is a number of seconds or a date (RFC 9110, section 10.2.3). Some vendors send fractions of a second.
        """
        value = self.headers.get("retry-after", "").strip()
        if DELAY_PATTERN.fullmatch(value):
            return float(value)
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class Delivered:
    """The vendor accepted the delivery."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The delivery failed temporarily.

    Args:
        after: Seconds to wait, if the vendor specified them; 0 retries immediately.

    """

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """A rate limit was exceeded.

    Args:
        after: Seconds to wait, if the vendor specified them.
        scope: Who has to wait: `token` (all deliveries) or `user` (those of the same user).

    """

    after: float | None = None
    scope: str = "token"


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """The vendor will never accept the delivery: it goes to the dead-letter topic.

    Args:
        reason: A short code, such as `status_400`.
        detail: An explanation. It may quote the vendor, but must not contain personal data.

    """

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """The vendor rejected the batch as a whole: smaller batches may succeed."""


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """The vendor rejected the credentials.

    Delivery sends other deliveries to find out whether this one is affected or all of them.
    """


@dataclass(frozen=True, slots=True)
class Retired:
    """The vendor has turned off the version of its API that the request used.

    Delivery pauses at once and probes: no delivery is lost until a newer version is set.
    """


Result = Delivered | Retry | Throttled | PermanentFailure | Split | AuthFailed | Retired
"""The possible results of a delivery."""

S = TypeVar("S", bound=Settings)


class Forwarder(ABC, Generic[S]):
    """Base class of all forwarders.

    Delivery creates one per process and integration.

    Args:
        settings: The integration's validated settings.

    """

    contract: ClassVar[Contract]
    preset_name: ClassVar[str | None] = None
    """The preset to use if several forwarders share one; by default the preset with the forwarder's own name."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def limits(self) -> Limits:
        """Return the maximum size of a request. Override it if settings can lower the contract's limits."""
        return self.contract.limits

    def validate(self, payload: Mapping[str, Any]) -> str | None:
        """Validate a payload before it is sent. Override it if validity also depends on the settings.

        Args:
            payload: The payload that a rule made from an event.

        Returns:
            An error without personal data, which ends the delivery as a dead letter; None if the payload is valid.

        """
        return self.contract.validate(payload)

    @classmethod
    def required_modules(cls, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the optional modules that these settings require.

        Args:
            settings: The settings as written in the file, before validation.

        Yields:
            A module's import name, and the extra of the package that installs it.

        """
        auth = settings.get("auth")
        if isinstance(auth, Mapping) and auth.get("type") == "service_account":
            yield "jwt", "service-account"

    @classmethod
    def preset(cls) -> Traversable | None:
        """Return the vendor's default rules, or None without any.

        They are `NAME.yaml` beside the forwarder's module, or `presets/NAME.yaml` in its package. A preset that several
        forwarders share by `preset_name` may also be one package further up.
        """
        package, _, _ = cls.__module__.rpartition(".")
        above, _, _ = package.rpartition(".")
        name = f"{cls.preset_name or cls.contract.name}.yaml"
        beside = files(package or cls.__module__)
        places = [beside / name, beside / "presets" / name]
        if cls.preset_name and above:
            places.append(files(above) / name)
        return next((place for place in places if place.is_file()), None)


MAX_NOTES: Final = 5
"""Optional values that are listed with the reason why a payload is invalid."""


class CheckedPayload(NamedTuple):
    """A payload as it is sent.

    Args:
        payload: The payload, without its invalid optional values.
        left_out: A note per value that was left out. It names the field and does not quote the value.
        problem: Why the vendor would never accept the payload; None if it may.

    """

    payload: Mapping[str, Any]
    left_out: Sequence[str] = ()
    problem: PermanentFailure | None = None


def check_payload(
    forwarder: Forwarder[Any], payload: Mapping[str, Any], size: int, item_bytes: int | None = None
) -> CheckedPayload:
    """Check a payload before it is sent, and leave out optional values that are invalid.

    Args:
        forwarder: The forwarder that sends it.
        payload: The payload that a rule made from an event.
        size: Its size as JSON, in bytes.
        item_bytes: The largest size that the vendor accepts; by default that of the forwarder's limits.

    """
    if item_bytes is None:
        item_bytes = forwarder.limits.item_bytes
    if size > item_bytes:
        too_large = PermanentFailure("too_large", f"{size} bytes exceed the vendor's limit of {item_bytes}")
        return CheckedPayload(payload, (), too_large)
    problem = forwarder.validate(payload)
    if problem is None:
        return CheckedPayload(payload)
    model = forwarder.contract.payload
    if model is None:
        return CheckedPayload(payload, (), PermanentFailure("payload", problem))
    kept = leave_out_invalid(model, payload)
    if kept.left_out:
        problem = kept.problem or forwarder.validate(kept.payload)
        if problem is None:
            return CheckedPayload(kept.payload, kept.left_out)
        problem = f"{problem} (also invalid: {'; '.join(kept.left_out[:MAX_NOTES])})"
    return CheckedPayload(payload, (), PermanentFailure("payload", problem))


class HttpForwarder(Forwarder[S]):
    """A vendor with an HTTP API: pure functions that build requests and parse responses."""

    def group_key(self, payload: Mapping[str, Any]) -> Hashable:  # noqa: ARG002
        """Return the key that all payloads of one request must share.

        Args:
            payload: The payload that a rule made from an event.

        Returns:
            A hashable key. By default all payloads have the same key and may share a request.

        """
        return None

    def build_token_request(self, now: float) -> Request | None:  # noqa: ARG002
        """Build the request for an access token. `forwarders.api.oauth` implements it for the usual methods.

        Args:
            now: The current Unix time.

        Returns:
            The request, or None if the settings contain all credentials.

        """
        return None

    @abstractmethod
    def build_request(self, items: Sequence[Delivery]) -> Request:
        """Build the request that sends these deliveries. It must be the same on every attempt.

        Args:
            items: At least one delivery, all with the same group key, within the limits.

        Returns:
            The request.

        """

    def parse_response(self, response: Response, items: Sequence[Delivery]) -> Sequence[Result]:
        """Return which deliveries the vendor accepted. By default the HTTP status applies to all of them.

        Args:
            response: The vendor's response.
            items: The deliveries in the request.

        Returns:
            One result per delivery, in the same order.

        """
        result = result_for_status(response)
        if response.status in (400, 422) and isinstance(result, PermanentFailure):
            return split_or_fail(items, result.reason)
        return [result] * len(items)


def split_or_fail(items: Sequence[Delivery], reason: str, detail: str = "") -> Sequence[Result]:
    """Return the results for a batch that the vendor rejected as a whole because of one delivery.

    Args:
        items: The deliveries in the request.
        reason: The reason of the permanent failure.
        detail: The detail of the permanent failure.

    Returns:
        `Split` for each delivery, or a `PermanentFailure` if there is only one.

    """
    return [PermanentFailure(reason, detail)] if len(items) == 1 else [Split()] * len(items)


def result_for_status(response: Response) -> Result:
    """Return the result that an HTTP status implies if the vendor documents nothing else (RFC 9110, section 15).

    Args:
        response: The vendor's response.

    Returns:
        The result for the whole request.

    """
    match response.status:
        case status if 200 <= status < 300:
            return Delivered()
        case 401 | 403:
            return AuthFailed()
        case 413:
            return Split()
        case 429:
            return Throttled(response.retry_after)
        case 408 | 425:
            return Retry(response.retry_after)
        case status if status >= 500 and status not in (501, 505):
            return Retry(response.retry_after)
        case status:
            return PermanentFailure(f"status_{status}")


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The topic, partition and offsets of the records in a batch. They are the same when the batch is retried.

    If a batch fails repeatedly, delivery divides it. A delivery that still fails on its own is read again from the
    retry topic.

    Args:
        topic: The topic.
        partition: The partition.
        first: The offset of the first record.
        last: The offset of the last record, inclusive.

    """

    topic: str
    partition: int
    first: int
    last: int


class WriterForwarder(Forwarder[S]):
    """A destination that is written to instead of being called over HTTP: a file, a queue or a database."""

    async def open(self) -> None:
        """Prepare for writing, and repair incomplete writes after a crash. Called once, before the first write."""

    @abstractmethod
    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        """Write deliveries durably.

        Args:
            items: At least one delivery, within the limits.
            offsets: Where the deliveries' records are in Kafka.

        Returns:
            One result per delivery, in the same order. `Delivered` means that the data survives a crash.

        Raises:
            OSError: The destination is unavailable, and delivery retries. It also retries after other errors, except
                TypeError, ValueError and the like: these mean an invalid delivery and are permanent failures.

        """

    def preview(self, items: Sequence[Delivery]) -> Request:
        """Show what `write` would write, without writing it.

        Args:
            items: The deliveries.

        Returns:
            A request with the method `WRITE`, for display only.

        """
        return Request("WRITE", f"{self.contract.name}:", body=[item.payload for item in items])

    async def close(self) -> None:
        """Release resources. Called once, after the last write."""


class ObjectForwarder(WriterForwarder[S]):
    """A destination that stores whole objects.

    An object contains the deliveries of consecutive records of a partition with the same rotation key. The contract's
    `limits.bytes` is the maximum size of its records.
    """

    @abstractmethod
    def rotation_key(self, offset: int, time: float) -> Hashable:
        """Return the key that all records of an object share: a record with another key begins the next object.

        Args:
            offset: The record's offset.
            time: When the record was written to Kafka, as Unix time.

        Returns:
            A hashable key.

        """

    @abstractmethod
    def encode(self, items: Iterable[Delivery]) -> bytes:
        """Encode deliveries as an object. Called in a thread.

        Args:
            items: The deliveries. There may be very many: iterate once, and do not keep them.

        Returns:
            The object's content. The same deliveries must give the same content.

        """

    @abstractmethod
    async def put(
        self, content: bytes, offsets: OffsetRange
    ) -> Delivered | Retry | Throttled | AuthFailed | PermanentFailure:
        """Store an object durably, replacing one with the same offsets.

        A `PermanentFailure` says that the store does not accept this object. If it accepts others, delivery divides
        the object, and the deliveries that are refused alone become dead letters.

        Args:
            content: The return value of `encode`.
            offsets: The offsets of all records of the object, including those without a delivery in it. The parts of a
                divided object have narrower ranges.

        Returns:
            The result for the whole object.

        """

    @override
    async def write(self, items: Sequence[Delivery], offsets: OffsetRange) -> Sequence[Result]:
        return [await self.put(self.encode(items), offsets)] * len(items)
