"""Decide whether an event's consent is enough for an integration.

They are Segment's `context.consent.categoryPreferences`, RudderStack's `context.consentManagement`, a consent string of
IAB's TCF in `context.consent.tcString`, and Global Privacy Control, which the collector and the middleware keep in
`context.consent.globalPrivacyControl`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field

from streams.consent.tcf import ConsentString, ConsentStringError
from streams.events import Event
from streams.settings import StrictModel

Assumption = Literal["granted", "denied"]
"""What an event that says nothing of consent counts as."""

STRINGS = ("tcString", "tcfString")
"""Keys of `context.consent` under which a consent string is looked for: as its own API calls it, and as others do."""


class Purposes(StrictModel):
    """What a consent string must permit for a category to count as granted."""

    purposes: tuple[Annotated[int, Field(ge=1, le=24)], ...] = Field(min_length=1)
    """Purposes by the framework's numbers, all of which must be permitted."""
    vendors: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """Vendors by the numbers of the global vendor list, for each of which they must be."""
    basis: Literal["consent", "legitimate_interest"] = "consent"
    """`legitimate_interest` permits what was not objected to as well, where the framework admits it."""


class ConsentSettings(StrictModel):
    """The key `consent` of turnout.yaml: what the signals say that name no categories."""

    gpc_denies: tuple[str, ...] = ("advertising", "marketing", "targeting")
    """Categories that Global Privacy Control (`Sec-GPC: 1`) denies, whatever else an event says."""
    tcf: Mapping[str, Purposes] = Field(default_factory=dict)
    """Categories, each with what an IAB consent string must permit to grant it."""

    def category(self, name: str) -> "ConsentCategory":
        """A category that an integration wants."""
        return ConsentCategory(name, name in self.gpc_denies, self.tcf.get(name))


@dataclass(frozen=True, slots=True)
class ConsentCategory:
    """A category of consent, and what grants or denies it besides its name."""

    name: str
    denied_by_gpc: bool = False
    purposes: Purposes | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """Which categories must be granted, all or any of them; `assume` is what no information means."""

    categories: tuple[ConsentCategory, ...]
    match: Literal["all", "any"] = "all"
    assume: Assumption = "denied"

    def lacking(self, event: Event, assume: Assumption | None = None) -> str:
        """The categories that an event lacks, in words; empty where it has what is wanted.

        `assume` is what the event's source says of no information, and stands before the integration's.
        """
        said = GivenConsent.by(event.get("context") or {})
        assumed = (assume or self.assume) == "granted"
        missing = [it.name for it in self.categories if not said.grants(it, assumed=assumed)]
        if self.match == "all":
            return " and ".join(missing)
        return " or ".join(missing) if len(missing) == len(self.categories) else ""


class GivenConsent(NamedTuple):
    """What an event says: categories by name, those allowed, those denied, a consent string, and GPC.

    `lists`: a category that it does not name is not granted. What cannot be understood grants nothing.
    """

    preferences: Mapping[str, Any]
    allowed: Sequence[Any]
    denied: Sequence[Any]
    string: str | None
    gpc: bool
    lists: bool

    @classmethod
    def by(cls, context: Mapping[str, Any]) -> Self:
        """Read the context of an event."""
        consent, management = context.get("consent"), context.get("consentManagement")
        if consent is None and management is None:
            return cls({}, (), (), None, gpc=False, lists=False)
        own = consent if isinstance(consent, dict) else {}
        lists = own is not consent and consent is not None
        preferences = own.get("categoryPreferences")
        theirs = management if isinstance(management, dict) else {}
        lists |= theirs is not management and management is not None
        allowed, denied = theirs.get("allowedConsentIds"), theirs.get("deniedConsentIds")
        string = next((own[key] for key in STRINGS if isinstance(own.get(key), str)), None)
        return cls(
            preferences if isinstance(preferences, dict) else {},
            allowed if isinstance(allowed, list) else (),
            denied if isinstance(denied, list) else (),
            string,
            gpc=own.get("globalPrivacyControl") is True,
            lists=lists or preferences is not None or allowed is not None,
        )

    def grants(self, category: ConsentCategory, *, assumed: bool) -> bool:
        """Whether a category is granted: a denial in any form counts, then a grant, then what is `assumed`."""
        name = category.name
        if (self.gpc and category.denied_by_gpc) or name in self.denied:
            return False
        named = name in self.preferences
        if named and self.preferences[name] is not True:
            return False
        if self.string is not None and category.purposes is not None:
            return permits(self.string, category.purposes)
        return named or name in self.allowed or (assumed and not self.lists)


@lru_cache(1024)
def permits(string: str, wanted: Purposes) -> bool:
    """Whether a consent string permits all that is wanted; one that cannot be read permits nothing."""
    try:
        consent = ConsentString.decode(string)
    except ConsentStringError:
        return False
    by_interest = wanted.basis == "legitimate_interest"
    return all(
        consent.permits(purpose, vendor, by_interest=by_interest)
        for purpose in wanted.purposes
        for vendor in wanted.vendors or (None,)
    )
