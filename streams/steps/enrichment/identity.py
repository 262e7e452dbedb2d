"""Ids that can be relied on.

Costs 0.5 µs.
"""

from typing import Any, Literal

from streams.events import Event
from streams.steps.enrichment.contract import Enrich, Enrichment, Settings
from streams.steps.enrichment.files import Files
from streams.steps.enrichment.patches import Patch


class IdentitySettings(Settings):
    """Which ids are none, and what stands in for one that is missing."""

    placeholders: tuple[str, ...] = (
        "null",
        "undefined",
        "none",
        "nan",
        "nil",
        "(null)",
        "[object object]",
        "anonymous",
        "guest",
        "unknown",
        "00000000-0000-0000-0000-000000000000",
    )
    """Texts, in any case, that stand for nobody where a userId or an anonymousId should be; they are taken out."""

    anonymous_id: Literal["keep", "user"] = "keep"
    """`user`: an event with a userId and no anonymousId gets the userId as one, for vendors that need it."""


def make(settings: IdentitySettings, _files: Files) -> Enrich:
    """Take placeholders and quotes off the ids.

    Old browser clients put an id into JSON's quotes. An event that has no user left is one of its own: its messageId is
    its anonymousId.
    """
    placeholders = frozenset(text.casefold() for text in ("", *settings.placeholders))

    def clean(value: Any) -> str | None:
        if type(value) is not str:
            return None
        if value[:1] == '"' or value[:3] == "%22":
            value = value.removeprefix("%22").removesuffix("%22").strip('"')
        return None if value.strip().casefold() in placeholders else value

    def identify(event: Event) -> Patch | None:
        patch: dict[str, Any] = {}
        user, anonymous = event.get("userId"), event.get("anonymousId")
        kept_user, kept_anonymous = clean(user), clean(anonymous)
        if kept_user != user and event["type"] != "alias":
            patch["userId"] = kept_user
        if kept_anonymous is None:
            if kept_user is None:
                kept_anonymous = event.get("messageId")
                if kept_anonymous is None:
                    return None  # a rule of the source took it out, and nothing else is left
            elif settings.anonymous_id == "user":
                kept_anonymous = kept_user
        if kept_anonymous != anonymous:
            patch["anonymousId"] = kept_anonymous
        return patch or None

    return identify


IDENTITY = Enrichment("identity", IdentitySettings, make, replaces=True)
