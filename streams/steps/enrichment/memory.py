"""Remember the values in a visitor's events, and add them to later events of the same user.

Costs 30 µs per event.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, SecretStr

from streams.consent.policy import Assumption, Consent, ConsentSettings, GivenConsent
from streams.events import Event, Note
from streams.records.memory import Remembered, Value, Values
from streams.settings import StrictModel
from streams.steps.enrichment.contract import NOTHING, Enrich, Enrichment, Settings, object_at
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.step import EnrichmentStep
from streams.steps.source_rules import merge_into
from streams.steps.step import Blocked, Step
from turnout_tracking.context import CLICK_IDS
from turnout_tracking.optout import names_of, opts_out

MAX_VALUE_CHARACTERS = 512
"""Maximum characters of a value; longer ones are not remembered."""

Match = Literal["all", "any"]


MIN_SECRET_CHARACTERS = 16


class VisitorMemorySettings(StrictModel):
    """The key `memory` of turnout.yaml, for sources with the enrichment `memory`."""

    secret: SecretStr | None = None
    """Secret from which the keys for digests and encryption are derived, such as '${TURNOUT_MEMORY_SECRET}' or
    '${file:/run/secrets/memory}', of at least 16 characters. If it changes, the memory is lost.
    """
    days: int = Field(30, ge=1, le=400)
    """Days that a value is remembered after its event."""
    entries: int = Field(100_000, ge=1)
    """Maximum entries per partition; those that have not changed for the longest time are dropped."""


class MemorySettings(Settings):
    """The consent that the memory needs."""

    consent: tuple[str, ...]
    """Categories of consent that an event must all grant to be remembered or completed. `[]` if no consent is needed.
    """


class MemoryGroup(NamedTuple):
    """Fields of an event that are remembered, replaced and added together.

    `parent` is the object that has the `leaves`. The event has values of its own if one of the leaves is in it, or in
    one of the objects `rivals`, which presets also read. `vendor` is the integration whose opt-out applies.
    """

    name: str
    parent: tuple[str, ...]
    leaves: tuple[str, ...]
    rivals: tuple[tuple[str, ...], ...] = (("properties",),)
    vendor: str = ""


def _of_vendors() -> Iterator[MemoryGroup]:
    ids: Mapping[str, Sequence[tuple[str, ...]]] = {
        "meta": [("fbp",), ("fbc",)],
        "ga4": [("client_id",), ("session_id",), ("app_instance_id",)],
        # Google Ads takes one click ID per conversion.
        "google_ads": [("gclid", "gbraid", "wbraid"), ("session_attributes",)],
        "tiktok": [("ttclid",), ("ttp",)],
        "snapchat": [("click_id",), ("cookie",)],
        "reddit": [("click_id",), ("uuid",)],
        "pinterest": [("click_id",)],
        "linkedin": [("li_fat_id",)],
    }
    for vendor, groups in ids.items():
        for leaves in groups:
            yield MemoryGroup(f"{vendor}.{leaves[0]}", ("integrations", vendor), leaves, vendor=vendor)


def _of_traits() -> Iterator[MemoryGroup]:
    for leaves in (
        ("email",),
        ("phone",),
        ("firstName", "first_name"),
        ("lastName", "last_name"),
        ("gender",),
        ("birthday",),
    ):
        yield MemoryGroup(f"traits.{leaves[0]}", ("context", "traits"), leaves)
    # The parts of two addresses are not mixed.
    parts = ("city", "state", "postalCode", "postal_code", "country")
    yield MemoryGroup("traits.address", ("context", "traits", "address"), parts, (("properties", "address"),))


GROUPS: Sequence[MemoryGroup] = (
    *_of_vendors(),
    MemoryGroup("clicks", ("context", "clickIds"), tuple(sorted(CLICK_IDS)), ()),
    *_of_traits(),
)
"""All that is remembered: fields that presets read, by which vendors of advertising and GA4 recognize a visitor."""

GROUP_SECONDS = {"ga4.session_id": 24 * 3600}
"""Maximum seconds for which a group is added. GA4 adds an event to a session of the last 24 hours only:
https://developers.google.com/analytics/devguides/collection/protocol/ga4/use-cases (read in November 2026).
"""

_BY_NAME = {group.name: group for group in GROUPS}
_NAMES = {vendor: names_of(vendor) for vendor in {group.vendor for group in GROUPS if group.vendor}}


class MemoryAccess(Protocol):
    """The memory of one event's user and visitor."""

    @property
    def origin(self) -> str:
        """The origin of the entries, for `turnout explain`; empty in a router."""

    def remember(self, event: Event, found: Mapping[str, Values]) -> None:
        """Remember the values that an event has, by group, and that its user and visitor are the same person."""

    def recall(self, event: Event) -> Mapping[str, Remembered]:
        """Return the newest values of the event's user, by group, without those that are too old."""

    def forget(self, event: Event) -> None:
        """Delete the entries of the event's user and visitor."""


class VisitorMemory:
    """Shared by the memory steps of a configuration. Without `opened`, which the caller sets, they do nothing."""

    def __init__(self) -> None:
        self.opened: MemoryAccess | None = None


class FixedMemory:
    """A memory of values from a test, in the form of an event; it remembers nothing."""

    origin = "from the test"

    def __init__(self, event: Event) -> None:
        self._groups = {name: Remembered(values, 0) for name, values in find_values({"type": "track", **event}).items()}

    def remember(self, _event: Event, _found: Mapping[str, Values]) -> None:
        """Implement MemoryAccess."""

    def recall(self, _event: Event) -> Mapping[str, Remembered]:
        """Implement MemoryAccess."""
        return self._groups

    def forget(self, _event: Event) -> None:
        """Implement MemoryAccess."""


@contextmanager
def remembering(memory: VisitorMemory | None, event: Event) -> Iterator[None]:
    """Give the steps that use a memory the values in `event`, if it has any."""
    if memory is None:
        yield
        return
    memory.opened = FixedMemory(event)
    try:
        yield
    finally:
        memory.opened = None


def find_values(event: Event) -> dict[str, Values]:
    """Return an event's values to remember, by group. An identify event's traits are the user's."""
    found: dict[str, Values] = {}
    for group in GROUPS:
        there = _object_in(event, group.parent)
        values = _values(there, group) if there else {}
        if not values and event["type"] == "identify" and group.parent[:2] == ("context", "traits"):
            values = _values(_object_in(event, group.parent[1:]), group)
        if values:
            found[group.name] = values
    return found


def _values(there: Mapping[str, Any], group: MemoryGroup) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for leaf in group.leaves:
        value = there.get(leaf)
        if (type(value) is str and 0 < len(value) <= MAX_VALUE_CHARACTERS) or type(value) is int:
            values[leaf] = value
    return values


def _object_in(event: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    there: Mapping[str, Any] = event
    for name in path:
        there = object_at(there, name)
        if not there:
            return NOTHING
    return there


def _has_own(event: Event, group: MemoryGroup) -> bool:
    """Return whether the event has a value of the group, even one that is too long or of another type."""
    places = [group.parent, *group.rivals]
    if group.parent[0] == "context":
        places.append(group.parent[1:])  # the traits of an identify event
    return any(
        there.get(leaf) is not None for place in places if (there := _object_in(event, place)) for leaf in group.leaves
    )


def lacking_values(event: Event, remembered: Mapping[str, Remembered]) -> dict[str, Any]:
    """Return a patch with the remembered values of groups that the event lacks.

    An integration that the event opts out of gets none.
    """
    patch: dict[str, Any] = {}
    integrations = object_at(event, "integrations")
    for name, (values, _) in remembered.items():
        group = _BY_NAME.get(name)
        if group is None or _has_own(event, group):
            continue
        if group.vendor and integrations and opts_out(_NAMES[group.vendor], integrations):
            continue
        there = patch
        for key in group.parent:
            there = there.setdefault(key, {})
        there.update(values)
    return patch


def paths_of(patch: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Yield the dotted paths of a patch's values."""
    for key, value in patch.items():
        if type(value) is dict:
            yield from paths_of(value, f"{at}{key}.")
        else:
            yield f"{at}{key}"


class MemoryStep(EnrichmentStep):
    """Remember an event's values, and add remembered values, as far as the event's consent allows.

    An event that denies the consent deletes the entries of its user and visitor. The note `memory` lists the fields
    that were added, without values.
    """

    def __init__(self, consent: Consent, assume: Assumption | None, memory: VisitorMemory) -> None:
        super().__init__("memory", _nothing, replaces=True)
        self.memory = memory
        self._consent, self._assume = consent, assume

    @property
    def name(self) -> str:
        """The name in `turnout explain`."""
        opened = self.memory.opened
        origin = opened.origin if opened else "empty here, as only routers read it"
        return f"enrich.memory ({origin})" if origin else "enrich.memory"

    def __call__(self, event: Event, note: Note, /) -> Event | Blocked:
        """Implement Step."""
        opened = self.memory.opened
        if opened is None:
            return event
        try:
            patch = self._complete(event, opened)
        except BaseException as error:  # noqa: BLE001  # no error may stop the event, and its text may quote it
            return self._fail(event, note, error)
        if patch:
            merge_into(event, patch)
            note("memory", ", ".join(paths_of(patch)))
        return event

    def _complete(self, event: Event, opened: MemoryAccess) -> dict[str, Any]:
        if self._consent.lacking(event, self._assume):
            if GivenConsent.by(event.get("context") or NOTHING).is_given:
                opened.forget(event)
            return {}
        opened.remember(event, find_values(event))
        return lacking_values(event, opened.recall(event))


def make_memory_step(
    settings: MemorySettings, consent: ConsentSettings, assume: Assumption | None, memory: VisitorMemory
) -> MemoryStep:
    """Make a source's step; `assume` is the source's consent of events without consent information."""
    return MemoryStep(Consent(tuple(map(consent.category, settings.consent))), assume, memory)


def memory_of(steps: Sequence[Step]) -> VisitorMemory | None:
    """Return the memory that the steps of a source use."""
    return next((step.memory for step in steps if isinstance(step, MemoryStep)), None)


def _nothing(_event: Event) -> None:
    return None


def make(_settings: MemorySettings, _files: Files) -> Enrich:
    """Remember the IDs and traits by which vendors recognize a visitor, and add them to later events of the same user.

    The values go where presets read them. Values of the event itself stay.
    """
    return _nothing


MEMORY = Enrichment("memory", MemorySettings, make, replaces=True)
