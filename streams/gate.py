"""What decides of an event before any rule does: its source, the sender's opt-out, consent, and the sample."""

from hashlib import blake2b

from streams.events import Event, EventError
from streams.ruleset import Route, Sample
from streams.sources import Source, Sources
from streams.steps import Held
from streams.topics import Outcome
from turnout_tracking.optout import opts_out


def find_source(sources: Sources, named: str | None, event: Event) -> Source:
    """An event's source: the one its record names, else by its write key, else the default; raises EventError."""
    key = event.get("writeKey")
    source = None
    if named is not None:
        source = sources.by_name(named)
    elif isinstance(key, str):
        source = sources.find(key)
    elif key is None and sources.default is not None:
        source = sources.by_name(sources.default)
    if source is None:
        raise EventError("unknown_source", "", "no source has this name or write key")
    return source


def held_back(route: Route, event: Event, source: Source | None) -> Held | None:
    """Why an integration is not to have an event whatever its rules say; `source` is None where it is not known."""
    if event.get("integrations") and opts_out(route.names, event["integrations"]):
        return _OPTED_OUT
    if route.consent is not None:
        lacking = route.consent.lacking(event, source.assume if source else None)
        if lacking:
            return Held(Outcome.CONSENT, detail=lacking)
    if route.sample is not None and not in_sample(route.sample, event):
        return _SAMPLED
    return None


_OPTED_OUT, _SAMPLED = Held(Outcome.OPTED_OUT), Held(Outcome.SAMPLED)


def in_sample(sample: Sample, event: Event) -> bool:
    """Whether the event is in the part that is forwarded; the same for all that share the field."""
    value = event.get(sample.by) or event.get("anonymousId") or event["userId"]
    digest = blake2b(str(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < sample.rate * 2**64
