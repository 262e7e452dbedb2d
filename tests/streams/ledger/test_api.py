"""The ledger's API: access, responses, and data that it never contains."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import orjson
import pytest

from streams.kafka.settings import BrokerError
from streams.ledger.api import LedgerApi
from streams.ledger.audit import AuditReport, BehindError, Finding, Problem
from streams.ledger.catalog import sample_of
from streams.ledger.settings import LedgerSettings
from streams.ledger.sqlite_store import SqliteReader, SqliteStore
from streams.ledger.store import LedgerBatch
from streams.ledger.undelivered import PartitionDeliveries
from streams.records.outcomes import OutcomeDetail, OutcomeInterval
from tests.streams.ledger.making import START_MS, TOPICS, Records, feed

KEY = b"a key for users, long"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger with ten events: one rejected, one dead and delivered later, the others delivered."""
    records = Records()
    spans = [OutcomeInterval("ga4", "r", "forwarded", 0, 8), OutcomeInterval("slack", "", "filtered", 0, 8)]
    records.run(
        0, range(10), spans, [OutcomeDetail("", "", "noted", 3, "plan", "total is text")], names=("Order", "Pay")
    )
    records.rejected(0, 9, "too_deep")
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 8), OutcomeInterval("ga4", "r", "dead", 4, 4)])
    records.dead(0, 4, "ga4", "r")
    with closing(SqliteStore(tmp_path, KEY, 7)) as store:
        feed(store, records.made)
    return tmp_path


def get(
    folder: Path,
    path: str,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    user_key: bytes | None = KEY,
    result: Callable[[], AuditReport] = AuditReport,
) -> tuple[int, Any]:
    """Ask the API in this process; returns the status and the answer."""
    asked: list[tuple[int, int | None]] = []

    async def audit(since: int, until: int | None) -> AuditReport:
        asked.append((since, until))
        return result()

    async def find_deliveries(integration: str, since: int, until: int | None) -> list[PartitionDeliveries]:
        asked.append((since, until))
        return [PartitionDeliveries("t.events", 0, [(0, 9)], {integration: [(0, 3)]}, {})]

    api = LedgerApi(lambda: SqliteReader(folder, user_key), audit, lambda: False, token, lambda: 0, find_deliveries)
    path, _, query = path.partition("?")
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        lines = {"host": "127.0.0.1:8090", **(headers or {})}
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            "scheme": "http",
            "server": ("127.0.0.1", 8090),
        }
        await api(scope, receive, send)

    asyncio.run(ask())
    return sent[0]["status"], orjson.loads(sent[1]["body"])


def test_without_the_token_nothing_is_answered(folder: Path):
    """A missing and a wrong token get 401, the right one an answer; health and readiness need none."""
    for path in ("/why?message_id=m-0-1", "/audit", "/counts", "/events", "/dead/groups", "/catalog"):
        assert get(folder, path, token="right")[0] == 401
        assert get(folder, path, token="right", headers={"authorization": "Bearer wrong"})[0] == 401
        assert get(folder, path, token="right", headers={"authorization": "Bearer right"})[0] == 200
    assert get(folder, "/health", token="right")[0] == 200
    assert get(folder, "/ready", token="right")[0] == 503


def test_without_a_token_only_a_loopback_host_is_answered(folder: Path):
    """A web page whose name leads to this machine gets 403."""
    assert get(folder, "/counts", headers={"host": "evil.example"}) == (
        403,
        {"code": "forbidden", "message": "without a token, the API answers only to loopback addresses"},
    )
    for host in ("localhost:8090", "127.0.0.1", "[::1]:8090"):
        assert get(folder, "/counts", headers={"host": host})[0] == 200


def test_other_addresses_need_a_token():
    """An address that others reach is a mistake without a token."""
    with pytest.raises(ValueError, match="needs a `token`"):
        LedgerSettings(host="0.0.0.0")
    assert LedgerSettings(host="0.0.0.0", token="t" * 16).address == "http://127.0.0.1:8090"
    assert LedgerSettings(url="https://ledger.example/x/").address == "https://ledger.example/x"


def test_a_story_has_every_outcome_and_no_id_or_payload(folder: Path):
    """By messageId, by place and by user: outcomes by integration, notes, dead letters with attempts and status."""
    status, answer = get(folder, "/why?message_id=m-0-4")
    assert (status, answer["found"]) == (200, 1)
    (story,) = answer["stories"]
    assert (story["topic"], story["partition"], story["offset"], story["event"]) == (TOPICS.events, 0, 4, "Order")
    ga4, slack = story["outcomes"]
    assert (ga4["outcome"], ga4["recorded"]) == ("delivered", ["forwarded", "dead", "delivered"])
    assert ga4["dead_letters"] == [{"partition": 0, "offset": 0, "reason": "status", "attempts": 3, "status": 422}]
    assert (slack["integration"], slack["rule"], slack["outcome"]) == ("slack", "", "filtered")
    assert get(folder, f"/why?at={TOPICS.events}:0:4")[1] == answer
    assert get(folder, f"/why?at={TOPICS.events}:0:3")[1]["stories"][0]["notes"] == [
        {"reason": "plan", "detail": "total is text"}
    ]
    status, answer = get(folder, "/why?user=u-4")
    assert [story["offset"] for story in answer["stories"]] == [4, 9]
    assert answer["stories"][1]["rejected"] == "too_deep"
    status, answer = get(folder, "/why?user=u-4&limit=1")
    assert ([story["offset"] for story in answer["stories"]], answer["found"]) == ([9], 2)


def test_unknown_events_and_wrong_parameters(folder: Path):
    """What is not there is an empty list, a wrong parameter is 400 with what would be right."""
    assert get(folder, "/why?message_id=nobody") == (200, {"found": 0, "stories": []})
    for query, said in (
        ("", "give one of"),
        ("message_id=a&user=b", "give one of"),
        ("at=events:1", "TOPIC:PARTITION:OFFSET"),
        ("user=b&limit=x", "not a whole number"),
    ):
        status, answer = get(folder, f"/why?{query}")
        assert status == 400
        assert said in answer["message"]
    status, answer = get(folder, "/counts?by=integration,colour")
    assert (status, answer["message"].partition(";")[0]) == (400, "cannot group by 'colour'")
    assert get(folder, "/other")[0] == 404


def test_a_ledger_without_user_key_says_so(folder: Path):
    """Without the key there is no index of users, and the error names the setting."""
    status, answer = get(folder, "/why?user=u-1", user_key=None)
    assert (status, answer["code"]) == (409, "no_user_index")
    assert "user_key" in answer["message"]


def test_counts_by_events_and_by_outcomes(folder: Path):
    """Grouped by event, events are counted; grouped by an outcome's properties, outcomes."""
    since, until = START_MS // 1000 - 3600, START_MS // 1000 + 3600
    window = f"since={since}&until={until}"
    status, answer = get(folder, f"/counts?{window}&by=event")
    assert (status, answer["accepted"], answer["rejected"]) == (200, 10, 1)
    assert answer["rows"] == [{"event": "Order", "count": 5}, {"event": "Pay", "count": 5}]
    assert get(folder, f"/counts?{window}")[1]["rows"] == [
        {"integration": "ga4", "outcome": "delivered", "count": 9},
        {"integration": "slack", "outcome": "filtered", "count": 9},
        {"integration": "", "outcome": "rejected", "count": 1},
    ]
    assert get(folder, f"/counts?since={until}&until={until + 60}")[1]["rows"] == []


def test_events_are_selected_by_name(folder: Path):
    """Examples can be asked for by type and name."""
    everything = get(folder, "/events?limit=50")[1]["events"]
    found = get(folder, "/events?limit=50&type=track&event=Pay")[1]["events"]
    assert found == [it for it in everything if it["event"] == "Pay"]
    assert 0 < len(found) < len(everything)
    assert get(folder, "/events?type=page")[1]["events"] == []


def test_the_catalog_names_events_and_properties_with_shares(folder: Path):
    """Most frequent events first; shares are of the sampled events, by type."""
    with closing(SqliteStore(folder, KEY, 7)) as store:
        for name, properties in (("Pay", {}), ("Order", {"total": 1}), ("Order", {"total": "x"}), ("Order", {"a": []})):
            value = {"type": "track", "event": name, "properties": properties}
            sample = sample_of(orjson.dumps(value), "web", 60)
            assert sample is not None
            store.write(LedgerBatch(samples=[sample]))
    status, answer = get(folder, "/catalog")
    assert (status, answer["found"]) == (200, 2)
    order, pay = answer["events"]
    assert (order["source"], order["event"], order["sampled"], order["last"]) == (
        "web",
        "Order",
        3,
        "1970-01-01T00:01:00Z",
    )
    assert (pay["event"], pay["properties"]) == ("Pay", [])
    assert [(each["name"], each["share"], each["types"]) for each in order["properties"]] == [
        ("properties.a", 0.3333, {"array": 0.3333}),
        ("properties.total", 0.6667, {"number": 0.3333, "string": 0.3333}),
    ]
    assert get(folder, "/catalog?event=Pay")[1]["events"] == [pay]
    assert len(get(folder, "/catalog?limit=1")[1]["events"]) == 1


def test_dead_letters_by_group(folder: Path):
    """Open ones first, with numbers by hour and the newest places; handled groups only if all are asked for."""
    assert get(folder, "/dead/groups") == (200, {**get(folder, "/dead/groups")[1], "open": 0, "groups": []})
    status, answer = get(folder, "/dead/groups?all=1&hours=3")
    assert (status, answer["found"]) == (200, 1)
    (group,) = answer["groups"]
    assert (group["integration"], group["rule"], group["reason"], group["status"]) == ("ga4", "r", "status", 422)
    assert (group["message"], group["open"], group["total"], len(group["hours"])) == ("…", 0, 1, 3)
    assert get(folder, f"/dead/groups?id={group['id']}")[1]["groups"][0]["id"] == group["id"]
    with closing(SqliteStore(folder, KEY, 7)) as store:
        records = Records()
        for _ in range(2):  # the ledger has the first one
            records.dead(1, 7, "crm", "r", detail="too long", at=int(time() * 1000))
        feed(store, records.made[1:])
    status, answer = get(folder, "/dead/groups?all=1")
    assert [group["message"] for group in answer["groups"]] == ["too long", "…"]
    (group,) = get(folder, "/dead/groups?limit=1")[1]["groups"]
    assert group["newest"] == [{"partition": 1, "offset": 1}]
    assert group["hours"][-2:] in ([0, 1], [1, 0])
    assert get(folder, "/dead/groups?integration=other")[1]["found"] == 0


def test_counts_in_time(folder: Path):
    """By time, a row for each step; a longer time is read in larger steps, and the answer says which."""
    since, until = START_MS // 1000 - 3600, START_MS // 1000 + 3600
    answer = get(folder, f"/counts?since={since}&until={until}&by=time,event")[1]
    assert answer["step"] == 60
    assert [row["count"] for row in answer["rows"]] == [2, 2, 2, 1, 2, 1]
    assert [row["time"] for row in answer["rows"]] == sorted(row["time"] for row in answer["rows"])
    for days, step in ((1, 3600), (30, 86400)):
        answer = get(folder, f"/counts?since={until - days * 86400}&until={until}&by=time")[1]
        assert (answer["step"], answer["accepted"], len(answer["rows"])) == (step, 10, 1)
    assert get(folder, f"/counts?since={since}&until={until}&by=time&step=hour")[1]["step"] == 3600
    assert get(folder, "/counts?step=week")[0] == 400


def test_an_audit_names_what_is_missing(folder: Path):
    """Findings come with topic, partition and offsets; a ledger that is behind, or no Kafka, is 503."""

    def lost() -> AuditReport:
        report = AuditReport(events=5)
        report.add(Finding(Problem.LOST, "t.events", 1, 7, 9))
        return report

    status, answer = get(folder, "/audit", result=lost)
    assert (status, answer["balanced"], answer["problems"]) == (200, False, {"lost": 3})
    (finding,) = answer["findings"]
    assert (finding["topic"], finding["partition"], finding["first"], finding["last"]) == ("t.events", 1, 7, 9)

    def behind() -> AuditReport:
        raise BehindError(12)

    def away() -> AuditReport:
        raise BrokerError("Kafka at x does not answer")

    assert get(folder, "/audit", result=behind)[1]["code"] == "behind"
    assert get(folder, "/audit", result=away) == (503, {"code": "kafka", "message": "Kafka at x does not answer"})


def test_deliveries(folder: Path):
    """The deliveries of an integration, by partition and rule; without an integration the request is refused."""
    status, answer = get(folder, "/deliveries?integration=one&since=1&until=2")
    assert status == 200
    assert answer == {
        "partitions": [
            {"topic": "t.events", "partition": 0, "read": [[0, 9]], "delivered": {"one": [[0, 3]]}, "waiting": {}}
        ]
    }
    assert get(folder, "/deliveries")[0] == 400


def test_counts_by_time(folder: Path):
    """Counts are grouped by time in steps of minutes, hours or days; all steps have the same sum."""
    since, until = START_MS // 1000 - 3600, START_MS // 1000 + 3600
    rows = {
        step: get(folder, f"/counts?since={since}&until={until}&by=time,event&step={name}")[1]["rows"]
        for step, name in ((60, "minute"), (3600, "hour"), (86_400, "day"))
    }
    for step, found in rows.items():
        assert sum(row["count"] for row in found) == 10
        assert {round(datetime.fromisoformat(row["time"]).timestamp()) % step for row in found} == {0}


def test_examples_of_an_outcome(folder: Path):
    """Events are found by the outcome that counts, the newest of a partition; also by source, reason and time."""

    def offsets(query: str) -> list[int]:
        return [event["offset"] for event in get(folder, f"/events?{query}")[1]["events"]]

    assert sorted(offsets("integration=ga4&outcome=delivered")) == list(range(9))
    assert sorted(offsets("integration=ga4&outcome=delivered&limit=2")) == [7, 8]
    # It died, and was delivered later.
    assert offsets("integration=ga4&outcome=dead") == []
    assert offsets("integration=slack&rule=&outcome=filtered&limit=1") == [8]
    assert offsets("outcome=rejected&reason=too_deep") == [9]
    assert offsets("outcome=rejected&reason=other") == []
    assert offsets("integration=ga4&outcome=delivered&source=nobody") == []
    assert offsets(f"integration=ga4&outcome=delivered&until={START_MS // 1000 - 3600}") == []
    assert offsets(f"integration=ga4&outcome=delivered&since={START_MS // 1000 + 3600}") == []
