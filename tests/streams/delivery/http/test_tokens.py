"""Access tokens in delivery: requested once, renewed before they expire, and failures without one."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.simulator.server import Simulator
from deploy.simulator.tokens import LIFETIME_SECONDS
from forwarders import registry
from forwarders.api.contract import AuthFailed, HttpForwarder, Retry
from streams.delivery.http.client import Client
from streams.delivery.http.tokens import NoTokenError, Tokens
from streams.observability.metrics import DELIVERY_PAUSED
from tests.support.delivering import Bench
from tests.support.reading import until
from tests.support.simulating import serving

pytestmark = pytest.mark.anyio

REFRESH = {"type": "oauth_refresh", "client_id": "c-1", "client_secret": "c-s3cret", "refresh_token": "r3fresh+/=="}


class World:
    """A simulator of the vendors, and a clock shared by both sides."""

    def __init__(self) -> None:
        self.url = ""
        self.vendors_lead = 0.0
        self.shift = 0.0

    def clock(self) -> float:
        return time.time() + self.shift

    def seen(self, path: str = "/") -> list[dict[str, Any]]:
        return list(requests.get(f"{self.url}/_requests?path={path}", timeout=60).json())

    def script(self, **fault: Any) -> None:
        assert requests.post(f"{self.url}/_script", json=[fault], timeout=60).status_code == 204

    def forwarder(self, name: str = "google_ads", **auth: str) -> HttpForwarder[Any]:
        settings: dict[str, Any] = {
            "google_ads": {"customer_id": "1", "conversions": {"PURCHASE": 7}},
            "linkedin": {"conversions": {"PURCHASE": 7}},
            "hubspot": {"hub_id": 7},
        }[name]
        kind = registry.find(name)
        made = kind(
            kind.contract.settings(
                auth=auth or REFRESH, endpoint=self.url, token_endpoint=f"{self.url}/token", **settings
            )
        )
        assert isinstance(made, HttpForwarder)
        return made

    @asynccontextmanager
    async def tokens(self, forwarder: HttpForwarder[Any], timeout: float = 60):
        client, learnt = Client(8, timeout), list[str]()
        tokens = Tokens("one", forwarder, client, clock=self.clock, learn=learnt.append)
        await client.open()
        try:
            yield tokens
        finally:
            await tokens.close()
            await client.close()
        assert learnt == [f"simulated-{n + 1}" for n in range(len(learnt))]


async def value(tokens: Tokens) -> str | None:
    token = await tokens.get()
    return token and token.value


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with serving(Simulator(clock=lambda: world.clock() + world.vendors_lead)) as url:
        world.url = url
        yield world


def payload(name: str, n: int) -> dict[str, Any]:
    return {
        "google_ads": {
            "conversion": "PURCHASE",
            "transactionId": f"t-{n}",
            "eventTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "adIdentifiers": {"gclid": "g"},
        },
        "linkedin": {
            "conversion": "PURCHASE",
            "conversionHappenedAt": round(time.time() * 1000),
            "user": {"lead": f"l-{n}"},
        },
        "hubspot": {"eventName": "bought", "email": f"{n}@example.com"},
    }[name]


async def test_one_token_for_all_who_ask(world: World):
    """All workers wait for one token request, and share the token until shortly before it expires."""
    async with world.tokens(world.forwarder()) as tokens:
        assert set(await asyncio.gather(*(value(tokens) for _ in range(8)))) == {"simulated-1"}
        world.shift = LIFETIME_SECONDS - 61
        assert await value(tokens) == "simulated-1"
        world.shift = LIFETIME_SECONDS - 59
        assert await value(tokens) == "simulated-2"
    assert len(world.seen("/token")) == 2


async def test_a_dropped_token_is_not_given_again(world: World):
    """Who drops a token that was renewed in the meantime does not drop the new one."""
    async with world.tokens(world.forwarder()) as tokens:
        first = await tokens.get()
        assert first is not None
        tokens.drop(first)
        second = await tokens.get()
        tokens.drop(first)
        assert second is not None
        assert await tokens.get() is second


async def test_settings_that_have_a_token_ask_for_none(world: World):
    """A token that is renewed by hand is in the settings."""
    async with world.tokens(world.forwarder("linkedin", type="static", access_token="t0ken")) as tokens:
        assert await tokens.get() is None
    assert not world.seen()


@pytest.mark.parametrize(
    ("fault", "result", "says"),
    [
        (
            {"status": 400, "body": {"error": "invalid_grant"}},
            AuthFailed(),
            "the vendor rejected the grant (invalid_grant): run `turnout authorize one`",
        ),
        (
            {"status": 400, "body": {"status": "BAD_REFRESH_TOKEN"}},
            AuthFailed(),
            "the vendor rejected the grant (BAD_REFRESH_TOKEN): run `turnout authorize one`",
        ),
        (
            {"status": 401, "body": "ann@example.com"},
            AuthFailed(),
            "the vendor rejected the grant (status 401): run `turnout authorize one`",
        ),
        ({"status": 503, "headers": {"Retry-After": "7"}}, Retry(7.0), "the token endpoint responded 503"),
        ({"delay": 1}, Retry(), "no response from the token endpoint: TimeoutError"),
    ],
)
async def test_no_token(world: World, fault: dict[str, Any], result: AuthFailed | Retry, says: str):
    """A refused grant names the remedy; a failing endpoint is retried with one request for all."""
    world.script(path="/token", **fault)
    async with world.tokens(world.forwarder(), 0.5 if "delay" in fault else 60) as tokens:
        errors = await asyncio.gather(*(tokens.get() for _ in range(4)), return_exceptions=True)
        assert {(type(error), str(error)) for error in errors} == {(NoTokenError, says)}
        assert all(isinstance(error, NoTokenError) and error.result == result for error in errors)
        assert await value(tokens) == "simulated-1"
    assert len(world.seen("/token")) == 2


async def test_a_key_that_is_none(world: World):
    """A service account's key that cannot sign is reported without quoting it."""
    key = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"
    async with world.tokens(
        world.forwarder(type="service_account", client_email="a@b.example", private_key=key)
    ) as tokens:
        with pytest.raises(NoTokenError, match="the setting `auth` is invalid") as caught:
            await tokens.get()
    assert caught.value.result == AuthFailed()
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("name", ["google_ads", "linkedin", "hubspot"])
async def test_delivers_with_tokens_that_end(bench: Bench, world: World, name: str):
    """Each request has a token; one that the vendor refuses before its end is replaced once, and all is delivered."""
    await bench.forward(*(payload(name, n) for n in range(4)))
    async with bench.running(world.forwarder(name), items=2):
        assert set((await bench.settled(4)).values()) == {"delivered"}
        world.vendors_lead = LIFETIME_SECONDS
        await bench.forward(payload(name, 4), partition=1)
        async with asyncio.timeout(120):
            while world.seen()[-1]["headers"].get("authorization") != "Bearer simulated-2":
                await asyncio.sleep(0.05)
    seen = world.seen()
    paths = [each["path"] == "/token" for each in seen]
    assert paths.count(True) == 2
    assert [each["headers"]["authorization"] for each in seen if each["path"] != "/token"][-2:] == [
        "Bearer simulated-1",
        "Bearer simulated-2",
    ]
    assert not await bench.dead()


async def test_delivers_as_a_service_account(bench: Bench, world: World):
    """The account's signature gets the token."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "a@b.example", "private_key": key.decode()}
    await bench.forward(payload("google_ads", 0))
    async with bench.running(world.forwarder(**account)):
        assert await bench.settled(1) == {0: "delivered"}
    assert [each["path"] for each in world.seen()] == ["/token", "/v1/events:ingest"]


async def test_a_refused_grant_pauses_the_integration(bench: Bench, world: World):
    """Nothing is dead and nothing sent; the log has the command that repairs it, once; a mended grant lets all pass."""
    world.script(path="/token", status=400, body={"error": "invalid_grant"}, times=4)
    await bench.forward(*(payload("google_ads", n) for n in range(6)))
    with structlog.testing.capture_logs() as logs:
        async with bench.running(world.forwarder(), items=1, concurrency=3, backoff_min=0.1, backoff_max=0.2):
            await until(lambda: DELIVERY_PAUSED.labels("one")._value.get() == 1)
            assert set((await bench.settled(6)).values()) == {"delivered"}
    assert [log["reason"] for log in logs if log["event"] == "delivery is paused"] == [
        "the vendor rejected the grant (invalid_grant): run `turnout authorize one`"
    ]
    assert not await bench.dead()
    assert [each["path"] for each in world.seen()].index("/v1/events:ingest") == 5


async def test_a_dead_letter_holds_no_token(bench: Bench, world: World):
    """Neither the access token nor what got it, in any form that the vendor may answer with."""
    said = "simulated-1 c2ltdWxhdGVkLTE= r3fresh%2B%2F%3D%3D c-s3cret"
    world.script(path="/v1", status=404, body={"error": said})
    await bench.forward(payload("google_ads", 0))
    async with bench.running(world.forwarder()):
        await bench.settled(1)
    (letter,) = await bench.dead()
    assert letter.request is not None
    assert letter.answer is not None
    assert letter.request["headers"]["Authorization"] == "***"
    # Of base64 the last digit is not the secret's alone.
    assert letter.answer["body"] == '{"error":"*** ***E= *** ***"}'
