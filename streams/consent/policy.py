"""Decide whether an event's consent is enough for an integration.

Consent is read from Segment's `context.consent.categoryPreferences`, RudderStack's `context.consentManagement`, an IAB
TCF consent string in `context.consent.tcString`, and Global Privacy Control, which the collector and the middleware
store in `context.consent.globalPrivacyControl`.
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
"""The default consent of an event without consent information."""

STRINGS = ("tcString", "tcfString")
"""Keys of `context.consent` that may hold a consent string: the name in the TCF API, and other common names."""


class Purposes(StrictModel):
    """The permissions that a consent string must give to grant a category."""

    purposes: tuple[Annotated[int, Field(ge=1, le=24)], ...] = Field(min_length=1)
    """IDs of the TCF purposes, all of which must be permitted."""
    vendors: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """IDs of vendors in the Global Vendor List, each of which must be permitted."""
    basis: Literal["consent", "legitimate_interest"] = "consent"
    """`legitimate_interest` also accepts a legitimate interest without objection, if the TCF allows it for the purpose.
    """


class ConsentSettings(StrictModel):
    """The key `consent` of turnout.yaml: how consent strings and Global Privacy Control apply to categories."""

    gpc_denies: tuple[str, ...] = ("advertising", "marketing", "targeting")
    """Categories that Global Privacy Control (`Sec-GPC: 1`) denies, regardless of other consent information."""
    tcf: Mapping[str, Purposes] = Field(default_factory=dict)
    """Categories by name, with the permissions that an IAB consent string must give to grant each."""

    def category(self, name: str) -> "ConsentCategory":
        """Return a category that an integration requires."""
        return ConsentCategory(name, name in self.gpc_denies, self.tcf.get(name))


@dataclass(frozen=True, slots=True)
class ConsentCategory:
    """A category of consent, and the signals that grant or deny it in addition to its name."""

    name: str
    denied_by_gpc: bool = False
    purposes: Purposes | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """The categories that must be granted, all or any of them. `assume` is for events without consent information."""

    categories: tuple[ConsentCategory, ...]
    match: Literal["all", "any"] = "all"
    assume: Assumption = "denied"

    def summarize(self, event: Event) -> str:
        """Return the required categories, and those that an event grants by name, in words."""
        required = (" and " if self.match == "all" else " or ").join(it.name for it in self.categories)
        return f"needs {required}; the event {GivenConsent.by(event.get('context') or {}).summary}"

    def lacking(self, event: Event, assume: Assumption | None = None) -> str:
        """Describe the required categories that an event does not grant; empty if its consent is enough.

        `assume` is the default of the event's source and takes precedence over the integration's.
        """
        given = GivenConsent.by(event.get("context") or {})
        assumed = (assume or self.assume) == "granted"
        missing = [it.name for it in self.categories if not given.grants(it, assumed=assumed)]
        if self.match == "all":
            return " and ".join(missing)
        return " or ".join(missing) if len(missing) == len(self.categories) else ""


class GivenConsent(NamedTuple):
    """The consent information in an event: preferences by category, allowed and denied lists, a consent string, and
    GPC.

    If `lists`, categories that the event does not name are not granted. Invalid information grants nothing.
    """

    preferences: Mapping[str, Any]
    allowed: Sequence[Any]
    denied: Sequence[Any]
    string: str | None
    gpc: bool
    lists: bool

    @classmethod
    def by(cls, context: Mapping[str, Any]) -> Self:
        """Read the consent information in an event's context."""
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

    @property
    def is_given(self) -> bool:
        """Return whether the event has any consent information."""
        return bool(self.lists or self.preferences or self.allowed or self.denied or self.string or self.gpc)

    @property
    def summary(self) -> str:
        """Return the categories that are granted by name, in words."""
        names = [name for name, given in self.preferences.items() if given is True]
        names += [str(name) for name in self.allowed if name not in names]
        granted = ", ".join(name for name in names if name not in self.denied)
        extra = (" by its consent string" if self.string else "") + (
            " under Global Privacy Control" if self.gpc else ""
        )
        if not (granted or self.lists or self.denied or extra):
            return "has no consent information"
        return f"grants {granted or ('less' if self.string else 'nothing')}{extra}"

    def grants(self, category: ConsentCategory, *, assumed: bool) -> bool:
        """Return whether a category is granted: any denial wins, then any grant, then `assumed`."""
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
def permits(string: str, required: Purposes) -> bool:
    """Return whether a consent string gives all required permissions; an invalid string gives none."""
    try:
        consent = ConsentString.decode(string)
    except ConsentStringError:
        return False
    by_interest = required.basis == "legitimate_interest"
    return all(
        consent.permits(purpose, vendor, by_interest=by_interest)
        for purpose in required.purposes
        for vendor in required.vendors or (None,)
    )
