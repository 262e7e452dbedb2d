import asyncio
import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
import requests
import uvicorn

from deploy.failures import listen
from deploy.simulator.server import Simulator
from deploy.simulator.vendors import find_vendor


@contextmanager
def serving(simulator: Simulator) -> Iterator[str]:
    """The simulator on a port of its own, for the length of a `with`; gives its address."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(simulator.app, log_config=None))
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Simulator(kept=3)) as address:
        yield address


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/mp/collect?api_secret=x", 204, b""),
        ("/debug/mp/collect", 200, b'{"validationMessages":[]}'),
        ("/anything/else", 200, b"{}"),
    ],
)
def test_answers_as_the_vendor(url, path, status, body):
    """A path of a vendor's API is answered as that vendor would, any other with an empty object."""
    answer = requests.post(f"{url}{path}", json={}, timeout=5)
    assert (answer.status_code, answer.content) == (status, body)


def test_vendor_is_found_by_path():
    """A path of a vendor's API is that vendor's, any other a webhook's."""
    assert find_vendor("/debug/mp/collect").name == "ga4 debug"
    assert find_vendor("/hook").name == "webhook"


def test_keeps_requests(url):
    """A request is kept with all its parts; JSON is data, also when it came compressed."""
    body = gzip.compress(orjson.dumps({"n": 1}))
    requests.put(f"{url}/hook?a=b", data=body, headers={"Content-Encoding": "gzip", "X-Mark": "m"}, timeout=5)
    requests.post(f"{url}/other", data=b"no JSON", timeout=5)
    first, second = requests.get(f"{url}/_requests", timeout=5).json()
    assert (first["method"], first["path"], first["query"], first["body"]) == ("PUT", "/hook", {"a": "b"}, {"n": 1})
    assert first["headers"]["x-mark"] == "m"
    assert second["body"] == "no JSON"
    assert [it["path"] for it in requests.get(f"{url}/_requests?path=/ot", timeout=5).json()] == ["/other"]


def test_forgets(url):
    """Only the last requests are kept, and none after DELETE."""
    for number in range(5):
        requests.post(f"{url}/{number}", timeout=5)
    assert [it["path"] for it in requests.get(f"{url}/_requests", timeout=5).json()] == ["/2", "/3", "/4"]
    requests.delete(f"{url}/_requests", timeout=5)
    assert requests.get(f"{url}/_requests", timeout=5).json() == []


def test_faults(url):
    """A fault answers as many requests of its path as it says, in the order of the script, and then the vendor does."""
    script = [
        {"path": "/mp", "status": 429, "headers": {"Retry-After": "7"}, "body": {"error": "slow"}, "times": 2},
        {"path": "/mp", "status": 500},
    ]
    assert requests.post(f"{url}/_script", json=script, timeout=5).status_code == 204
    assert requests.post(f"{url}/hook", timeout=5).status_code == 200
    answers = [requests.post(f"{url}/mp/collect", timeout=5) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 500, 204]
    assert (answers[0].headers["retry-after"], answers[0].json()) == ("7", {"error": "slow"})


def test_fault_for_good(url):
    """A fault without a number of times stays until the script is taken back."""
    requests.post(f"{url}/_script", json=[{"status": 503, "times": None}], timeout=5)
    assert {requests.post(f"{url}/hook", timeout=5).status_code for _ in range(3)} == {503}
    requests.delete(f"{url}/_script", timeout=5)
    assert requests.post(f"{url}/hook", timeout=5).status_code == 200


def test_poison(url):
    """A delivery that holds the text of a fault is refused as its vendor does, and the others are counted."""
    body = {"elements": [{"eventId": "e-1", "user": {"lead": "bad"}}, {"eventId": "e-2"}]}
    requests.post(f"{url}/_script", json=[{"path": "/rest", "poison": "bad", "times": None}], timeout=5)
    for _ in range(2):
        headers = {"Authorization": "Bearer t0ken"}
        answer = requests.post(f"{url}/rest/conversionEvents", json=body, headers=headers, timeout=5)
        assert answer.json() == {"elements": [{"status": 400}, {"status": 201}]}
    counts = {"deliveries": 2, "keys": 1, "repeated": {"e-2": 2}}
    assert requests.get(f"{url}/_counts", timeout=5).json() == {"linkedin": counts}


def test_delay(url):
    """A fault with a delay and no status gives the vendor's own answer, late."""
    requests.post(f"{url}/_script", json=[{"delay": 0.3}], timeout=5)
    begun = time.monotonic()
    assert requests.post(f"{url}/mp/collect", timeout=5).status_code == 204
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("script", ['{"status": 500}', '[{"stauts": 500}]', "[{", '[{"status": 42}]'])
def test_wrong_script(url, script):
    """A script that is none is refused, and changes nothing."""
    answer = requests.post(f"{url}/_script", data=script, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (400, "script")
    assert requests.post(f"{url}/hook", timeout=5).status_code == 200
