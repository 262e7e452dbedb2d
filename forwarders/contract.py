"""What a forwarder is: the facts that only the vendor's documentation knows, and the functions that only code can say.

A forwarder opens no socket, sleeps, retries or logs. Delivery does that for all of them, from the facts given here.
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
from typing import Any, ClassVar, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Kind(StrEnum):
    """What a vendor does with personal data; an identity field goes to an advertising vendor only hashed."""

    ADVERTISING = "advertising"
    ANALYTICS = "analytics"
    CRM = "crm"
    STORAGE = "storage"


class BatchFailure(StrEnum):
    """What becomes of the good deliveries of a batch with a bad one among them."""

    WHOLE = "whole"  # all are refused: smaller batches find the bad one
    LISTED = "listed"  # the answer lists the bad ones
    SILENT = "silent"  # the answer does not tell


class Settings(BaseModel):
    """Base of a forwarder's settings: unknown keys are refused, secrets are `SecretStr`, errors quote no value.

    The text below each field is its description: the documentation and editors' schema come from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class Payload(BaseModel):
    """Base of a forwarder's payload model: field names are the vendor's own, errors quote no value."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request or write may hold; bytes are of the JSON of the payloads."""

    items: int = 1
    bytes: int = 1_000_000
    item_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests or items in so many seconds, for each token, user or account."""

    count: int
    seconds: float = 1.0
    of: Literal["requests", "items"] = "requests"
    per: Literal["token", "user", "account"] = "token"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the vendor's API, and the day it ends, as far as that is published."""

    name: str
    sunset: date | None = None


Way = Literal["static", "oauth_refresh", "service_account"]
"""How requests are authenticated: by what stands in the settings, or by access tokens that end and are renewed."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The page where somebody lets an app in, and gets it a refresh token (RFC 6749, section 4.1.1).

    `scope` is what the app asks to be allowed, separated by spaces; `more` are parameters that only this vendor wants.
    """

    url: str
    scope: str
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contract:
    """The facts of a vendor: everything about a forwarder that is data.

    `payload` is None where any JSON object will do. `ordered` asks for one user's deliveries in order. `window` is how
    old an event the vendor takes. `dedupe` says which field the vendor tells repeats by, and `dedupe_window` for how
    long: without it a repeat counts twice. `dedupe_doubt` says why what is replayed may count twice in spite of it.
    `versions` are those of the API that a setting may choose, newest first.
    `auth` are the ways to authenticate that settings may choose from, `authorization` is where a refresh token is got.
    `validation` is the setting that has the vendor
    check what it gets and say so: true, or the code of its test tool. `aliases` are the names, besides `name`
    and `title`, that Segment's and RudderStack's documentation give the vendor in an event's `integrations`.
    """

    name: str
    title: str
    documentation: str
    kind: Kind
    settings: type[Settings]
    payload: type[Payload] | None = None
    limits: Limits = field(default_factory=Limits)
    ordered: bool = False
    window: timedelta | None = None
    dedupe: str | None = None
    dedupe_window: timedelta | None = None
    dedupe_doubt: str | None = None
    batch_failure: BatchFailure = BatchFailure.WHOLE
    rates: tuple[Rate, ...] = ()
    versions: tuple[Version, ...] = ()
    auth: tuple[Way, ...] = ("static",)
    authorization: Authorization | None = None
    validation: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What events may call the vendor in `integrations`."""
        return (self.name, self.title, *self.aliases)

    def oldest(self, max_age: float | None = None) -> timedelta | None:
        """How old an event may be: the window, or so many seconds if those are fewer; None where nothing bounds it."""
        ages = [self.window, None if max_age is None else timedelta(seconds=max_age)]
        return min((age for age in ages if age is not None), default=None)

    def complaint(self, payload: Mapping[str, Any]) -> str | None:
        """What the payload model says against a payload, None if nothing; quotes no value."""
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
class Item:
    """One delivery, as a forwarder sees it.

    `id` is the same on every attempt and replay of the delivery: the idempotency key. `time` is the event's own, RFC
    3339. `event` is the track event's name, else None.
    """

    id: str
    payload: Mapping[str, Any]
    type: str
    event: str | None
    time: str


@dataclass(frozen=True, slots=True)
class Request:
    """What goes to the vendor. `body` is JSON data or bytes; JSON is encoded, and its Content-Type set, by delivery.

    URL and headers may hold secrets, the body holds personal data: none of them is in the repr.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor said. Header names are lower-case; the body is cut at 1 MB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, None if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait by the Retry-After header, None when it says nothing.

        RFC 9110, 10.2.3: whole seconds or a date; some vendors send fractions of a second.
        """
        value = self.headers.get("retry-after", "").strip()
        if SECONDS.fullmatch(value):
            return float(value)
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class Delivered:
    """The vendor has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, after so many seconds if the vendor said how many: 0 is at once."""

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """The vendor takes no more for now; `scope` says for whom (the whole token, or one user)."""

    after: float | None = None
    scope: str = "token"


@dataclass(frozen=True, slots=True)
class Dead:
    """Will never be taken; `reason` is a short code, `detail` may quote the vendor but no personal data."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """The batch is refused as a whole; smaller ones may pass."""


@dataclass(frozen=True, slots=True)
class Auth:
    """The credentials are refused, for this delivery or for all: delivery finds out by trying others."""


Result = Delivered | Retry | Throttled | Dead | Split | Auth
"""All that a forwarder may answer for an item."""

S = TypeVar("S", bound=Settings)


class Forwarder(ABC, Generic[S]):
    """Base of both kinds of forwarder; made once a process and integration with its checked settings."""

    contract: ClassVar[Contract]
    preset_name: ClassVar[str | None] = None
    """Whose preset it takes, where several share one; by default its own."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def limits(self) -> Limits:
        """How much one request or write may hold: the contract's limits, unless settings narrow them."""
        return self.contract.limits

    def complaint(self, payload: Mapping[str, Any]) -> str | None:
        """What is wrong with a payload by the contract's model, or by these settings; None if nothing."""
        return self.contract.complaint(payload)

    @classmethod
    def libraries(cls, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the modules that it needs with these settings, as they are written, and the extra of each."""
        auth = settings.get("auth")
        if isinstance(auth, Mapping) and auth.get("type") == "service_account":
            yield "jwt", "service-account"

    @classmethod
    def preset(cls) -> Traversable | None:
        """The vendor's default rules: `presets/NAME.yaml` in the forwarder's package, None when there are none."""
        package = cls.__module__.rpartition(".")[0]
        preset = files(package or cls.__module__) / "presets" / f"{cls.preset_name or cls.contract.name}.yaml"
        return preset if preset.is_file() else None


def find_problem(
    forwarder: Forwarder[Any], payload: Mapping[str, Any], size: int, item_bytes: int | None = None
) -> Dead | None:
    """Say why the vendor would never take a payload of `size` bytes of JSON; None if it may.

    `item_bytes` is the largest size that it takes, by default that of the forwarder's limits.
    """
    if item_bytes is None:
        item_bytes = forwarder.limits.item_bytes
    if size > item_bytes:
        return Dead("too_large", f"{size} bytes are more than the vendor takes ({item_bytes})")
    complaint = forwarder.complaint(payload)
    return Dead("payload", complaint) if complaint else None


class HttpForwarder(Forwarder[S]):
    """A vendor behind HTTP: pure functions from items to a request, and from an answer to results."""

    def group(self, payload: Mapping[str, Any]) -> Hashable:  # noqa: ARG002
        """What must be equal within one request. By default nothing: any payloads may share one."""
        return None

    def token_request(self, now: float) -> Request | None:  # noqa: ARG002
        """What asks for the access token that requests need by now (Unix time), None where the settings suffice.

        `forwarders.oauth` reads the answer, and puts the token into a request.
        """
        return None

    @abstractmethod
    def request(self, items: Sequence[Item]) -> Request:
        """The one request that carries these items: at least one, of one group, within the contract's limits."""

    def read(self, answer: Answer, items: Sequence[Item]) -> Sequence[Result]:
        """One result an item, in their order. By default the status decides for all alike."""
        result = by_status(answer)
        if answer.status in (400, 422) and isinstance(result, Dead):
            return refused(items, result.reason)
        return [result] * len(items)


def refused(items: Sequence[Item], reason: str, detail: str = "") -> Sequence[Result]:
    """Results for a batch that is refused as a whole for one of its items: smaller ones, down to the bad one alone."""
    return [Dead(reason, detail)] if len(items) == 1 else [Split()] * len(items)


def by_status(answer: Answer) -> Result:
    """What an HTTP status means where the vendor says nothing else (RFC 9110, section 15)."""
    match answer.status:
        case status if 200 <= status < 300:
            return Delivered()
        case 401 | 403:
            return Auth()
        case 413:
            return Split()
        case 429:
            return Throttled(answer.retry_after)
        case 408 | 425:
            return Retry(answer.retry_after)
        case status if status >= 500 and status not in (501, 505):
            return Retry(answer.retry_after)
        case status:
            return Dead(f"status_{status}")


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The topic, partition and offsets of a batch of deliveries: the same on every attempt at the same records.

    A batch that fails again and again is divided, and what still fails alone comes again from the retry topic.
    """

    topic: str
    partition: int
    first: int
    last: int


class WriterForwarder(Forwarder[S]):
    """A destination that is written to rather than asked: files, queues, databases."""

    async def open(self) -> None:
        """Called once before the first write; repairs what a crash left behind."""

    @abstractmethod
    async def write(self, items: Sequence[Item], coordinates: Coordinates) -> Sequence[Result]:
        """Write the items so that they outlive this process; one result an item, in their order."""

    def preview(self, items: Sequence[Item]) -> Request:
        """What a write of these items would hold, for those who want to see it beforehand; nothing is written."""
        return Request("WRITE", f"{self.contract.name}:", body=[item.payload for item in items])

    async def close(self) -> None:
        """Called once after the last write."""


class ObjectForwarder(WriterForwarder[S]):
    """A destination of whole objects: each holds what the records between two cuts of a partition came to, however long
    the second cut takes to come. The contract's `limits.bytes` bound the records of one.
    """

    @abstractmethod
    def cut(self, offset: int, time: float) -> Hashable:
        """What is equal for all records of an object: where it changes from one record to the next, an object ends.

        `offset` and `time` (when it came into Kafka, in seconds since 1970) are the record's.
        """

    @abstractmethod
    def encode(self, items: Iterable[Item]) -> bytes:
        """The object that holds these items, the same for the same items. Called in a thread.

        The items come one by one, and are not to be kept: there may be very many, and the iterable is read once.
        """

    @abstractmethod
    async def put(self, content: bytes, coordinates: Coordinates) -> Delivered | Retry | Throttled | Auth:
        """Store an object so that it outlives this process, in the place of one with the same coordinates.

        They are those of all its records, whether or not each of them came to an item.
        """

    @override
    async def write(self, items: Sequence[Item], coordinates: Coordinates) -> Sequence[Result]:
        return [await self.put(self.encode(items), coordinates)] * len(items)
