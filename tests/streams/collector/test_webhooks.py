"""Webhooks over a socket: signatures, and the events that rules make of deliveries."""

import hmac
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from streams.collector.server import Collector
from streams.collector.settings import SignatureSettings
from streams.collector.signatures import make_verify
from streams.sources.limits import SourceLimits
from streams.sources.source import Source, Sources
from streams.sources.webhooks import WebhookEndpoint
from tests.streams.collector import helpers
from tests.streams.collector.helpers import TOPICS, Answer, Kept, basic, exchange, head, post, serving
from transforms import read_rules
from transforms.documents import Document

pytestmark = pytest.mark.anyio

GITHUB_SECRET = "It's a Secret to Everybody"
STRIPE_SECRET = "whsec_test_secret"
STRIPE_BODY = (
    b'{"id":"evt_1","object":"event","type":"checkout.session.completed","created":1767323045,"data":{"object":'
    b'{"id":"cs_1","amount_total":5990,"currency":"eur","client_reference_id":"u-1"}}}'
)
STRIPE_SIGNATURE = b"882b9ad1e33f6f6b2c493d0d71ab7a9527015a94ea5cff0c0fcab168a8bab2d3"  # by stripe-python 16.1.0
STRIPE_TIME = 1767323045.0

STARS = """
rules:
  - name: star
    when: headers.x-github-event = "star" and body.action = "created"
    map:
      type: track
      event: Repository Starred
      messageId: $.headers.x-github-delivery
      userId: {"@string": $.body.sender.id}
      timestamp: $.body.starred_at
      properties: {repository: $.body.repository.full_name, secret: $.headers.x-hub-signature-256}
"""
BOTH = """
match: all
map: {messageId: $.body.id, userId: $.body.user}
rules:
  - {name: who, map: {type: identify, traits: {plan: $.body.plan}}}
  - {name: what, when: exists(body.event), map: {type: track, event: $.body.event}}
"""


def webhook(path: str, rules: str, **signature: Any) -> WebhookEndpoint:
    """Make a webhook from its file's content."""
    read, mistakes = read_rules(Document.parse(rules, "hook.yaml"))
    assert read, mistakes
    if not signature:
        return WebhookEndpoint(path, read)
    settings = SignatureSettings(**signature)
    return WebhookEndpoint(path, read, make_verify(settings), settings.header_name)


SOURCES = Sources(
    [
        Source.of("github", [], webhook=webhook("/hooks/github", STARS, scheme="github", secret=GITHUB_SECRET)),
        Source.of("crm", ["crm-key"], webhook=webhook("/v1/webhook/crm", BOTH)),
        Source.of("web", ["web-key"]),
        Source.of("off", ["off-key"], disabled=True, webhook=webhook("/v1/webhook/off", BOTH)),
        Source.of(
            "slow",
            ["slow-key"],
            webhook=webhook("/v1/webhook/slow", BOTH),
            limits=SourceLimits(requests_per_second=0.01, burst=100),
        ),
    ]
)


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch, producer: Kept) -> AsyncIterator[Collector]:
    """A collector with webhooks."""
    monkeypatch.setattr(helpers, "SOURCES", SOURCES)
    async with serving(producer) as collector:
        yield collector


def star(**changes: Any) -> bytes:
    """Return the body of GitHub's star event, with the fields that the rules read."""
    return orjson.dumps(
        {
            "action": "created",
            "starred_at": "2026-01-02T03:04:05Z",
            "repository": {"full_name": "octo/hello"},
            "sender": {"id": 583231},
            **changes,
        }
    )


async def deliver(collector: Collector, body: bytes, *, signed: bytes | None = None, **headers: str) -> Answer:
    """Post like GitHub; `signed` is the signed text, by default the body."""
    signature = hmac.digest(GITHUB_SECRET.encode(), body if signed is None else signed, "sha256").hex()
    fields = {
        "content-type": "application/json",
        "x-github-event": "star",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={signature}",
        **headers,
    }
    return await exchange(collector, post("/hooks/github", body, fields, key=None))


async def test_a_delivery_becomes_an_event(collector: Collector, producer: Kept):
    """By the source's rules, which see headers and body, but never the signature."""
    answer = await deliver(collector, star())
    assert (answer.status, answer.json) == (200, {"success": True})
    (event,) = producer.events()
    assert event.pop("receivedAt")
    assert event == {
        "type": "track",
        "event": "Repository Starred",
        "messageId": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "userId": "583231",
        "timestamp": "2026-01-02T03:04:05.000Z",
        "properties": {"repository": "octo/hello"},
    }
    assert producer.records[0].key == b"583231"
    assert ("turnout-source", b"github") in producer.records[0].headers


async def test_what_no_rule_takes_is_answered_and_left(collector: Collector, producer: Kept):
    """Senders must not deliver it again and again."""
    assert (await deliver(collector, star(action="deleted"))).status == 200
    assert (await deliver(collector, b'"text"')).status == 200
    assert not producer.records


@pytest.mark.parametrize(
    ("signed", "headers"),
    [
        (b"something else", {}),
        (None, {"x-hub-signature-256": ""}),
        (None, {"x-hub-signature-256": "sha256="}),
        (None, {"x-hub-signature-256": "é" * 64}),
        (b"", {}),
    ],
)
async def test_a_wrong_signature_is_refused(
    signed: bytes | None, headers: dict[str, str], collector: Collector, producer: Kept
):
    """With 401, and nothing is produced."""
    answer = await deliver(collector, star(), signed=signed, **headers)
    assert (answer.status, answer.json["code"]) == (401, "bad_signature")
    assert not producer.records


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":NaN}', b"[" * 2000])
async def test_a_delivery_that_is_no_json_is_refused(body: bytes, collector: Collector, producer: Kept):
    """With 400, though it is signed."""
    answer = await deliver(collector, body)
    assert (answer.status, answer.json["code"]) == (400, "json")
    assert not producer.records


async def test_a_delivery_that_makes_no_event_is_kept(collector: Collector, producer: Kept):
    """With its headers, so that it can be mapped again when the rule is mended; it is answered 200."""
    body = star(sender={})
    answer = await deliver(collector, body)
    assert answer.status == 200
    assert [(it["index"], it["code"]) for it in answer.json["rejected"]] == [(0, "no_user")]
    assert not producer.events()
    (kept,) = producer.values(TOPICS.rejected)
    assert kept.endswith(b',"body":' + body + b"}")
    headers = orjson.loads(kept)["headers"]
    assert headers["x-github-event"] == "star"
    assert not {"x-hub-signature-256", "authorization", "cookie"} & headers.keys()


async def test_one_delivery_may_become_several_events(collector: Collector, producer: Kept):
    """Where all rules may match each makes one, whose messageId is its own."""
    body = orjson.dumps({"id": "d1", "user": "u1", "plan": "pro", "event": "Upgraded"})
    answer = await exchange(collector, post("/v1/webhook/crm", body, key="crm-key"))
    assert answer.status == 200
    assert [(it["type"], it["messageId"]) for it in producer.events()] == [("identify", "d1:who"), ("track", "d1:what")]


async def test_a_list_is_taken_item_by_item(collector: Collector, producer: Kept):
    """A bad one is refused by its index, and kept as it stood."""
    body = b'[{"id":"1","user":"u"}, {"id" : "2"} ,{"id":"3","user":"u"}]'
    answer = await exchange(collector, post("/v1/webhook/crm", body, key="crm-key"))
    assert [(it["index"], it["messageId"]) for it in answer.json["rejected"]] == [(1, "2:who")]
    assert [it["messageId"] for it in producer.events()] == ["1:who", "3:who"]
    (kept,) = producer.values(TOPICS.rejected)
    assert kept.endswith(b',"body":{"id" : "2"}}')


@pytest.mark.parametrize(("key", "status"), [("crm-key", 200), ("web-key", 401), ("x", 401), (None, 401)])
async def test_without_signature_a_write_key_is_wanted(
    key: str | None, status: int, collector: Collector, producer: Kept
):
    """One of the source's own, by Basic authorization, as a URL may hold it."""
    body = b'{"id":"1","user":"u"}'
    fields = {"host": "test", "content-length": str(len(body)), **(basic(key) if key else {})}
    answer = await exchange(collector, head("POST", "/v1/webhook/crm", fields) + body)
    assert answer.status == status
    assert len(producer.records) == (status == 200)


async def test_a_webhook_has_its_source_s_state_and_limits(collector: Collector):
    """A disabled source answers 404, one over its rate 429, a GET 405."""
    body = b'{"id":"1","user":"u"}'
    assert (await exchange(collector, post("/v1/webhook/off", body, key="off-key"))).status == 404
    statuses = [(await exchange(collector, post("/v1/webhook/slow", body, key="slow-key"))).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await exchange(collector, head("GET", "/v1/webhook/crm", {"host": "test"}))).status == 405
    assert (await exchange(collector, post("/v1/webhook/none", body))).status == 404


def verify(body: bytes, headers: dict[str, bytes], now: float = 0.0, **settings: Any) -> bool:
    """Whether a signature is right."""
    check = make_verify(SignatureSettings(**settings))
    return check(body, {name.lower().encode(): value for name, value in headers.items()}, now)


def test_githubs_published_example():
    """From GitHub's page on validating webhook deliveries."""
    right = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    github = {"scheme": "github", "secret": SecretStr(GITHUB_SECRET)}
    assert verify(b"Hello, World!", {"X-Hub-Signature-256": right}, **github)
    assert not verify(b"Hello, World?", {"X-Hub-Signature-256": right}, **github)
    assert not verify(b"Hello, World!", {"X-Hub-Signature-256": right[7:]}, **github)


@pytest.mark.parametrize(
    ("header", "now", "right"),
    [
        (b"t=1767323045,v1=" + STRIPE_SIGNATURE, STRIPE_TIME, True),
        (b"t=1767323045,v1=" + STRIPE_SIGNATURE, STRIPE_TIME + 300, True),
        (b"t=1767323045,v1=" + b"0" * 64 + b",v1=" + STRIPE_SIGNATURE + b",v0=abc", STRIPE_TIME, True),
        (b"t=1767323045,v1=" + STRIPE_SIGNATURE, STRIPE_TIME + 301, False),
        (b"t=1767323045,v1=" + STRIPE_SIGNATURE, STRIPE_TIME - 301, False),
        (b"t=1767323046,v1=" + STRIPE_SIGNATURE, STRIPE_TIME, False),
        (b"t=1767323045,v0=" + STRIPE_SIGNATURE, STRIPE_TIME, False),
        (b"t=1767323045,t=1767323045,v1=" + STRIPE_SIGNATURE, STRIPE_TIME, True),
        (b"v1=" + STRIPE_SIGNATURE, STRIPE_TIME, False),
        (b"t=" + b"9" * 5000 + b",v1=" + STRIPE_SIGNATURE, STRIPE_TIME, False),
        ("t=²,v1=".encode() + STRIPE_SIGNATURE, STRIPE_TIME, False),
        (b"", STRIPE_TIME, False),
    ],
)
def test_stripes_signature(header: bytes, now: float, right: bool):
    """By any of several v1 (while a secret is rolled), within the tolerance of its time."""
    stripe = {"scheme": "stripe", "secret": SecretStr(STRIPE_SECRET)}
    assert verify(STRIPE_BODY, {"Stripe-Signature": header}, now, **stripe) is right


@pytest.mark.parametrize(
    ("stem", "options"), [("webhook-", {}), ("svix-", {"header": "svix-signature"})], ids=["webhook", "svix"]
)
def test_the_published_example_of_standard_webhooks(stem: str, options: dict[str, str]):
    """Also with the header names that Svix has."""
    headers = {
        f"{stem}id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
        f"{stem}timestamp": b"1614265330",
        f"{stem}signature": b"v1a,xyz v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    standard = {"scheme": "standard-webhooks", "secret": SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), **options}
    body = b'{"test": 2432232314}'
    assert verify(body, headers, 1614265330.0, **standard)
    assert not verify(body, headers, time.time(), **standard)
    assert not verify(body, {**headers, f"{stem}id": b"msg_2"}, 1614265330.0, **standard)


def test_an_hmac_in_a_header_of_any_name():
    """As Shopify has it: base64, and no prefix."""
    signature = b64encode(hmac.digest(b"secret", b"{}", "sha256"))
    shopify = {"scheme": "hmac-sha256", "secret": SecretStr("secret"), "header": "X-Shopify-Hmac-SHA256"}
    assert verify(b"{}", {"X-Shopify-Hmac-SHA256": signature}, encoding="base64", **shopify)
    assert not verify(b"{}", {"X-Shopify-Hmac-SHA256": signature}, **shopify)


async def test_a_delivery_of_invalid_json_costs_only_itself(collector: Collector, producer: Kept):
    """Of a list each valid delivery becomes events, with U+FFFD for lone surrogates, and the others are kept."""
    bad = b'{"id":"2","user":"u","x":NaN}'
    body = b"\xef\xbb\xbf[" + rb'{"id":"1","user":"u\ud800","event":"A"},%b,{"id":"3","user":"u","event":"B"}]' % bad
    answer = await exchange(collector, post("/v1/webhook/crm", body, key="crm-key"))
    assert (answer.status, [(one["index"], one["code"]) for one in answer.json["rejected"]]) == (200, [(1, "json")])
    assert [event["messageId"] for event in producer.events()] == ["1:who", "1:what", "3:who", "3:what"]
    assert producer.events()[0]["userId"] == "u\ufffd"
    (kept,) = producer.values(TOPICS.rejected)
    assert kept is not None
    assert kept.endswith(b'"body":' + bad + b"}")


def nested(levels: int) -> dict[str, list[Any]]:
    """Return a part of a body with this many levels."""
    inner: list[Any] = []
    for _ in range(levels - 2):
        inner = [inner]
    return {"deep": inner}


async def test_a_delivery_that_is_too_deep_costs_no_neighbour(collector: Collector, producer: Kept):
    """A body has 64 levels at most; of a list, each item is a body."""
    fine, deep = star(more=nested(63)), star(more=nested(64))
    answer = await deliver(collector, b"[%b,%b]" % (deep, fine))
    assert [(each["index"], each["code"]) for each in answer.json["rejected"]] == [(0, "too_deep")]
    assert len(producer.events()) == 1
    assert len(producer.values(TOPICS.rejected)) == 1


async def test_a_delivery_with_a_lone_surrogate_becomes_an_event(collector: Collector, producer: Kept):
    """It becomes U+FFFD."""
    body = star(repository={"full_name": "X"}).replace(b'"X"', rb'"octo\ud83d"')
    assert (await deliver(collector, body)).json == {"success": True}
    assert producer.events()[0]["properties"] == {"repository": "octo\ufffd"}
