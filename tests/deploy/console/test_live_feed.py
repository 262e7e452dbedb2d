"""One reader for all open Live pages."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from deploy.console.live_feed import MAX_ROWS, ROWS_PER_SECOND, LiveFeed, LiveTab
from deploy.live.live_view import LiveFilter, OutcomeRow, SeenEvent
from streams.kafka.settings import BrokerError
from streams.records.event import Origin
from streams.records.outcomes import FORWARDED
from streams.records.rejected import Rejected

TIMEOUT_SECONDS = 60


def seen(offset, event="Order Completed", source="web", trace="", **outcomes):
    """An event with outcomes by integration."""
    rows = {(name, "r"): OutcomeRow(name, "r", outcome) for name, outcome in outcomes.items()}
    data = {"event": event, "userId": f"u-{offset}", "receivedAt": "2026-11-28T14:02:47.000Z"}
    return SeenEvent(Origin("turnout.events", 0, offset), source, trace, data, rows=rows)


class Reader:
    """A reader whose events tests give; counts how often it is opened and whether it is open."""

    def __init__(self):
        self.opened, self.is_open, self.fails = 0, False, False
        self.events = asyncio.Queue()

    @asynccontextmanager
    async def open(self, _configuration):
        if self.fails:
            raise BrokerError("Kafka is away")
        self.opened, self.is_open = self.opened + 1, True
        try:
            yield self
        finally:
            self.is_open = False

    async def follow(self):
        while True:
            yield await self.events.get()


async def until(condition):
    """Wait for a condition."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


def run(test):
    """Run a test with a feed and its reader."""

    async def with_feed():
        reader = Reader()
        configuration = object()
        await test(LiveFeed(lambda: configuration, reader.open, linger_seconds=0), reader)

    asyncio.run(with_feed())


def test_pages_share_a_reader():
    """The first page opens a reader, others share it, and it is closed after the last."""

    async def test(feed, reader):
        with feed.tab(LiveFilter()) as one:
            with feed.tab(LiveFilter(sources=frozenset({"app"}))) as two:
                await reader.events.put((seen(1), [], []))
                await reader.events.put((seen(2, source="app"), [], []))
                await until(lambda: len(one._new) == 2)
                assert [row["source"] for row in one.batch([])["rows"]] == ["app", "web"]
                assert [row["source"] for row in two.batch([])["rows"]] == ["app"]
            assert reader.is_open
        await until(lambda: not reader.is_open)
        assert reader.opened == 1
        with feed.tab(LiveFilter()):
            await until(lambda: reader.opened == 2)

    run(test)


def test_page_that_is_not_read_does_not_stop_others():
    """A page that takes nothing keeps a bounded number of events, and others get theirs."""

    async def test(feed, reader):
        with feed.tab(LiveFilter()) as slow, feed.tab(LiveFilter()) as fast:
            drawn = 0
            for number in range(50 * ROWS_PER_SECOND):
                await reader.events.put((seen(number), [], []))
                if number % ROWS_PER_SECOND == ROWS_PER_SECOND - 1:
                    await until(reader.events.empty)
                    await until(lambda: len(fast._new) == ROWS_PER_SECOND)
                    drawn += len(fast.batch([])["rows"])
            assert drawn == 50 * ROWS_PER_SECOND
            assert len(slow._new) == ROWS_PER_SECOND
            assert len(fast._shown) == MAX_ROWS

    run(test)


def test_failing_reader_is_reported_and_opened_again(monkeypatch):
    """Why no events can be read is known, and reading begins when Kafka is back."""
    monkeypatch.setattr("deploy.console.live_feed.RETRY_SECONDS", 0.01)

    async def test(feed, reader):
        reader.fails = True
        with feed.tab(LiveFilter()):
            await until(lambda: feed.problem is not None)
            assert (feed.problem, feed.is_ready) == ("Kafka is away", False)
            reader.fails = False
            await until(lambda: feed.is_ready)
            assert feed.problem is None

    run(test)


def test_changed_configuration_opens_a_new_reader():
    """With a changed configuration, reading restarts."""

    async def test():
        reader, current = Reader(), [object()]
        feed = LiveFeed(lambda: current[0], reader.open)
        with feed.tab(LiveFilter()):
            await until(lambda: feed.is_ready)
            current[0] = object()
            await reader.events.put((seen(1), [], []))
            await until(lambda: reader.opened == 2)

    asyncio.run(test())


def test_more_events_than_rows_are_counted(monkeypatch: pytest.MonkeyPatch):
    """At most 20 events are drawn; the rest is a number."""
    monkeypatch.setattr("deploy.console.live_feed.monotonic", iter([0.0, 2.0]).__next__)
    tab = LiveTab(LiveFilter())
    for number in range(334):
        tab.take((seen(number), [], []))
    batch = tab.batch([])
    assert len(batch["rows"]) == ROWS_PER_SECOND
    assert batch["per_second"] == 167
    assert batch["more"] == 157


def test_later_outcomes_change_the_row():
    """A row that was drawn with a waiting outcome is drawn again with the final one; others are not."""
    tab = LiveTab(LiveFilter())
    event = seen(1, meta=FORWARDED, crm="filtered")
    tab.take((event, [], ["meta"]))
    (row,) = tab.batch(["meta", "crm", "ga4"])["rows"]
    assert [each["outcome"] for each in row["outcomes"]] == [FORWARDED, "filtered", None]
    event.rows["meta", "r"].outcome = "dead"
    tab.take((event, [], []))
    batch = tab.batch(["meta"])
    assert (batch["rows"], batch["changed"][0]["key"]) == ([], row["key"])
    assert batch["changed"][0]["outcomes"] == [{"integration": "meta", "outcome": "dead"}]


def test_worst_outcome_is_shown():
    """Of the outcomes of several rules, the one that needs attention is shown."""
    event = seen(1)
    event.rows = {("meta", rule): OutcomeRow("meta", rule, rule) for rule in ("filtered", "delivered", "dead")}
    tab = LiveTab(LiveFilter())
    tab.take((event, [], []))
    assert tab.batch(["meta"])["rows"][0]["outcomes"][0]["outcome"] == "dead"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({}, ["rejected", 3, 2, 1]),
        ({"sources": {"app"}}, [2]),
        ({"events": {"Checkout"}}, [3]),
        ({"users": {"u-1"}}, [1]),
        ({"users": {"u-r"}}, ["rejected"]),
        ({"traces": {"mine"}}, ["rejected", 3]),
        ({"outcomes": {"dead"}}, [1]),
        ({"outcomes": {"dead"}, "integrations": {"crm"}}, []),
        ({"outcomes": {"rejected"}}, ["rejected"]),
        ({"integrations": {"crm"}}, [3, 2, 1]),
    ],
)
def test_filters(only, expected):
    """Each filter of a page selects events like `turnout tail`, from the events that all pages share."""
    tab = LiveTab(LiveFilter(**{name: frozenset(values) for name, values in only.items()}))
    for event in (seen(1, meta="dead", crm="filtered"), seen(2, source="app"), seen(3, "Checkout", trace="mine")):
        tab.take((event, [], []))
    tab.take(Rejected("missing", "", "web", None, None, b'{"userId":"u-r"}', trace=b"mine"))
    rows = tab.batch([])["rows"]
    assert [(row["rejected"] and "rejected") or int(row["at"].rpartition(":")[2]) for row in rows] == expected
