"""Outcomes of deliveries: gathered for a moment, written as intervals, and only then are the deliveries finished."""

import asyncio

from streams.delivery.objects import StoredObject
from streams.delivery.parcels import Parcel
from streams.ledger import Tally
from streams.metrics import DELIVERY_OUTCOMES
from streams.produce import NO_HEADERS, Producer, RecordTooLargeError
from streams.topics import DeadLetter, Headers, Outcome, Retried, Stage, Topics


class _Round:
    """The parcels settled in one moment; finishes them when every record about them is confirmed."""

    __slots__ = ("_books", "_failed", "_open", "parcels")

    def __init__(self, books: "Settlements") -> None:
        self._books = books
        self._open = 1
        self._failed = False
        self.parcels: list[Parcel | StoredObject] = []

    def hold(self) -> None:
        self._open += 1

    def release(self, error: BaseException | None) -> None:
        self._open -= 1
        self._failed = self._failed or error is not None
        if self._open:
            return
        if not self._failed:
            for parcel in self.parcels:
                parcel.finish()
        self._books.closed()


class Settlements:
    """Writes what became of one integration's deliveries; outcomes are gathered for `moment` seconds."""

    def __init__(self, integration: str, topics: Topics, producer: Producer, moment: float = 0.05) -> None:
        self._integration, self._topics, self._producer, self._moment = integration, topics, producer, moment
        self._tallies: dict[tuple[str, int, str], Tally] = {}
        self._round: _Round | None = None
        self._rounds = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def settle(self, parcel: Parcel, outcome: Outcome, reason: str = "", detail: str = "") -> None:
        """A delivery has come to its end; with a reason where it was not delivered."""
        round_ = self._current()
        round_.parcels.append(parcel)
        delivery = parcel.delivery
        topic, partition, offset = delivery.origin
        tally = self._tally_of(topic, partition, delivery.rules)
        if reason:
            tally.name(self._integration, delivery.rule, outcome, offset, reason, detail)
        else:
            tally.add(self._integration, delivery.rule, outcome, offset)

    def settle_rows(self, written: StoredObject) -> None:
        """An object is written: its rows are delivered."""
        self._current().parcels.append(written)
        for (topic, partition, rules, rule), offsets in written.rows.items():
            self._tally_of(topic, partition, rules).extend(self._integration, rule, Outcome.DELIVERED, offsets)

    def bury(self, parcel: Parcel, letter: DeadLetter) -> None:
        """A delivery is dead: keep its letter, and settle it."""
        try:
            self._append(parcel, self._topics.dead, letter.encode())
        except RecordTooLargeError:
            # Request and answer beside a payload near the bound are more than a record may hold.
            slim = letter._replace(request=None, answer=None, delivery={**letter.delivery, "payload": {}})
            self._append(parcel, self._topics.dead, slim.encode())
        self.settle(parcel, Outcome.DEAD, letter.reason, letter.detail)

    def hand_on(self, parcel: Parcel, retried: Retried) -> None:
        """A delivery is to be tried again later: keep it in the retry topic. Its outcome is still to come."""
        value: bytes = parcel.record.value
        self._append(parcel, self._topics.retry(self._integration), value, retried.headers())
        self._current().parcels.append(parcel)

    def _tally_of(self, topic: str, partition: int, rules: str) -> Tally:
        place = (topic, partition, rules)
        tally = self._tallies.get(place)
        if tally is None:
            tally = self._tallies[place] = Tally(Stage.FORWARDER, *place)
        return tally

    def _append(self, parcel: Parcel, topic: str, value: bytes, headers: Headers = NO_HEADERS) -> None:
        self._producer.append(
            topic,
            parcel.delivery.origin.partition % self._topics.partitions,
            self._current(),
            key=parcel.key,
            value=value,
            headers=headers,
        )

    async def wait_until_idle(self) -> None:
        """Write what is gathered, and wait until all of it is confirmed."""
        self._write()
        await self._idle.wait()

    def closed(self) -> None:
        """A round is over; called by the round."""
        self._rounds -= 1
        if not self._rounds:
            self._idle.set()

    def _current(self) -> _Round:
        if self._round is None:
            self._round = _Round(self)
            self._rounds += 1
            self._idle.clear()
            self._timer = asyncio.get_running_loop().call_later(self._moment, self._write)
        return self._round

    def _write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        round_, self._round = self._round, None
        if round_ is None:
            return
        tallies, self._tallies = self._tallies, {}
        for (topic, partition, _), tally in tallies.items():
            tally.count(DELIVERY_OUTCOMES)
            for outcomes in tally.records():
                self._producer.append(
                    self._topics.outcomes,
                    partition % self._topics.partitions,
                    round_,
                    key=f"{topic}:{partition}".encode(),
                    value=outcomes.encode(),
                )
        round_.release(None)
