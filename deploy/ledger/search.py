"""Find events by messageId, user or place: the ledger returns candidates, and the events confirm them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deploy.config.configuration import Configuration
from deploy.ledger.client import LedgerAwayError, LedgerClient
from deploy.ledger.event_story import EventStory, StoryTeller
from streams.ledger.lookup import read_place
from streams.records.event import Origin


class EventQuery(NamedTuple):
    """The event to find; exactly one of the fields is set."""

    message_id: str | None = None
    user: str | None = None
    place: Origin | None = None

    def is_met(self, story: EventStory) -> bool:
        """Confirm a candidate by its event, since a hash may be shared; an expired event cannot be confirmed."""
        if story.expired:
            return True
        return self.message_id in (None, story.message_id) and self.user in (None, story.user)


class Candidates(NamedTuple):
    """Places where the event may be, each with the ledger's story.

    `found` is their total number. `ledger_away` is why the ledger did not respond; places are then from Kafka only.
    """

    found: int
    places: Sequence[tuple[Origin, Mapping[str, Any] | None]]
    ledger_away: str | None = None


def find_place(configuration: Configuration, text: str) -> Origin | None:
    """Read TOPIC:PARTITION:OFFSET; the topic may be left out."""
    return read_place(text) or read_place(f"{configuration.topics.events}:{text}")


def find_candidates(configuration: Configuration, query: EventQuery, limit: int) -> Candidates:
    """Return the newest candidates; raises LedgerAwayError, unless the place is given, and LedgerRefusedError."""
    client = LedgerClient(configuration.settings.ledger, configuration.folder)
    if query.place is not None:
        try:
            stories = client.ask("/why", {"at": ":".join(map(str, query.place))})["stories"]
        except LedgerAwayError as error:
            return Candidates(1, [(query.place, None)], error.message)
        return Candidates(1, [(query.place, stories[0] if stories else None)])
    answer = client.ask("/why", {"message_id": query.message_id, "user": query.user, "limit": limit})
    places = [Origin(story["topic"], story["partition"], story["offset"]) for story in answer["stories"]]
    return Candidates(answer["found"], list(zip(places, answer["stories"], strict=True)))


def confirm(teller: StoryTeller, candidates: Candidates, query: EventQuery) -> list[tuple[EventStory, Any | None]]:
    """Return the stories to complete, with the events' records."""
    heads = (teller.head(place, known) for place, known in candidates.places)
    return [head for head in heads if head is not None and query.is_met(head[0])]
