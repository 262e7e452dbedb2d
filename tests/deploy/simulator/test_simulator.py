import gzip
import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator

import orjson
import pytest
import requests
from click.testing import CliRunner
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from deploy.cli.main import main
from deploy.simulator.faults import EXPIRED
from deploy.simulator.server import Simulator
from deploy.simulator.vendors import find_vendor
from tests.support.ports import free_port
from tests.support.simulating import serving


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Simulator(keep=3)) as address:
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
    answer = requests.post(f"{url}{path}", json={}, timeout=120)
    assert (answer.status_code, answer.content) == (status, body)


def test_vendor_is_found_by_path():
    """A path of a vendor's API is that vendor's, any other a webhook's."""
    assert find_vendor("/debug/mp/collect").name == "ga4 debug"
    assert find_vendor("/hook").name == "webhook"


def test_keeps_requests(url):
    """A request is kept with all its parts; JSON is data, also when it came compressed."""
    body = gzip.compress(orjson.dumps({"n": 1}))
    requests.put(f"{url}/hook?a=b", data=body, headers={"Content-Encoding": "gzip", "X-Mark": "m"}, timeout=120)
    requests.post(f"{url}/other", data=b"no JSON", timeout=120)
    first, second = requests.get(f"{url}/_requests", timeout=60).json()
    assert (first["method"], first["path"], first["query"], first["body"]) == ("PUT", "/hook", {"a": "b"}, {"n": 1})
    assert first["headers"]["x-mark"] == "m"
    assert second["body"] == "no JSON"
    assert [it["path"] for it in requests.get(f"{url}/_requests?path=/ot", timeout=60).json()] == ["/other"]


def test_forgets(url):
    """Only the last requests are kept, and none after DELETE."""
    for number in range(5):
        requests.post(f"{url}/{number}", timeout=120)
    assert [it["path"] for it in requests.get(f"{url}/_requests", timeout=60).json()] == ["/2", "/3", "/4"]
    requests.delete(f"{url}/_requests", timeout=120)
    assert requests.get(f"{url}/_requests", timeout=60).json() == []


def test_faults(url):
    """A fault applies to `times` requests of its path, in the script's order; later ones get the vendor's response."""
    script = [
        {"path": "/mp", "status": 429, "headers": {"Retry-After": "7"}, "body": {"error": "slow"}, "times": 2},
        {"path": "/mp", "status": 500},
    ]
    assert requests.post(f"{url}/_script", json=script, timeout=60).status_code == 204
    assert requests.post(f"{url}/hook", timeout=60).status_code == 200
    answers = [requests.post(f"{url}/mp/collect", timeout=60) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 500, 204]
    assert (answers[0].headers["retry-after"], answers[0].json()) == ("7", {"error": "slow"})


def test_fault_for_good(url):
    """A fault without a number of times stays until the script is taken back."""
    requests.post(f"{url}/_script", json=[{"status": 503, "times": None}], timeout=120)
    assert {requests.post(f"{url}/hook", timeout=60).status_code for _ in range(3)} == {503}
    requests.delete(f"{url}/_script", timeout=120)
    assert requests.post(f"{url}/hook", timeout=60).status_code == 200


def test_poison(url):
    """A delivery with the text of a fault is refused in the vendor's form, and the others are counted."""
    body = {"elements": [{"eventId": "e-1", "user": {"lead": "bad"}}, {"eventId": "e-2"}]}
    requests.post(f"{url}/_script", json=[{"path": "/rest", "poison": "bad", "times": None}], timeout=120)
    for _ in range(2):
        headers = {"Authorization": "Bearer t0ken"}
        answer = requests.post(f"{url}/rest/conversionEvents", json=body, headers=headers, timeout=120)
        assert answer.json() == {"elements": [{"status": 400}, {"status": 201}]}
    counts = {"requests": 2, "deliveries": 2, "keys": 1, "repeated": {"e-2": 2}, "missing": ["e-1"]}
    assert requests.get(f"{url}/_counts", timeout=60).json() == {"linkedin": counts}


def test_delay(url):
    """A fault with a delay and no status gives the vendor's own answer, late."""
    requests.post(f"{url}/_script", json=[{"delay": 0.3}], timeout=120)
    begun = time.monotonic()
    assert requests.post(f"{url}/mp/collect", timeout=60).status_code == 204
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("script", ['{"status": 500}', '[{"stauts": 500}]', "[{", '[{"status": 42}]'])
def test_wrong_script(url, script):
    """An invalid script is refused, and changes nothing."""
    answer = requests.post(f"{url}/_script", data=script, timeout=120)
    assert (answer.status_code, answer.json()["code"]) == (400, "script")
    assert requests.post(f"{url}/hook", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "error", "taken"),
    [
        ("reset", requests.ConnectionError, 0),
        ("lost", requests.ConnectionError, 1),
        ("truncated", requests.exceptions.ChunkedEncodingError, 1),
        ("silent", requests.ReadTimeout, 0),
    ],
)
def test_an_answer_that_goes_wrong(url, wrong, error, taken):
    """The client has an error, and the counts say whether the vendor took it; the next request is as ever."""
    requests.post(f"{url}/_script", json=[{"path": "/hook", "wrong": wrong}], timeout=120)
    headers = {"Idempotency-Key": "k"}
    with pytest.raises(error):
        requests.post(f"{url}/hook", headers=headers, timeout=5)
    counts = requests.get(f"{url}/_counts", timeout=60).json()["webhook"]
    assert (counts["deliveries"], counts["missing"]) == (taken, [] if taken else ["k"])
    assert requests.post(f"{url}/hook", headers=headers, timeout=60).json() == {}
    counts = requests.get(f"{url}/_counts", timeout=60).json()["webhook"]
    assert (counts["requests"], counts["repeated"], counts["missing"]) == (2, {"k": 2} if taken else {}, [])


def test_a_slow_answer(url):
    """Each byte takes a second, and the vendor has taken the delivery."""
    requests.post(f"{url}/_script", json=[{"path": "/hook", "wrong": "slow"}], timeout=120)
    begun = time.monotonic()
    answer = requests.post(f"{url}/hook", headers={"Idempotency-Key": "k"}, timeout=120)
    assert time.monotonic() - begun >= len(answer.content) - 1 > 0
    counts = requests.get(f"{url}/_counts", timeout=60).json()["webhook"]
    assert (counts["deliveries"], counts["missing"]) == (1, [])


def test_a_huge_answer(url):
    """The response never ends, and has the vendor's status."""
    requests.post(f"{url}/_script", json=[{"wrong": "huge"}], timeout=120)
    with requests.post(f"{url}/hook", timeout=60, stream=True) as answer:
        assert answer.status_code == 200
        assert len(answer.raw.read(8 << 20)) == 8 << 20


def test_a_gzip_bomb(url):
    """A few bytes inflate to as many as one cares to take."""
    requests.post(f"{url}/_script", json=[{"wrong": "bomb"}], timeout=120)
    with requests.post(f"{url}/hook", timeout=60, stream=True) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        packed = answer.raw.read(64 << 10, decode_content=False)
    assert zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, 32 << 20) == bytes(32 << 20)


def test_an_expired_certificate():
    """A client that verifies TLS is refused because of the date, even if it trusts the certificate itself."""
    with serving(Simulator(), expired=True) as url, pytest.raises(requests.exceptions.SSLError, match="expired"):
        requests.post(f"{url}/hook", timeout=60, verify=str(EXPIRED))


def test_faults_from_the_command_line(tmp_path):
    """Those of --fault, then those of the file; the counts come at the end as JSON."""
    script = tmp_path / "script.yaml"
    script.write_text("- {path: /hook, status: 503, times: 1}\n")
    port = free_port()
    command = [
        *(sys.executable, "-c", "from deploy.cli.main import main; main()", "simulate", "--port", str(port), "--quiet"),
        *("--json", "--fault", "{path: /hook, wrong: lost}", "--script", str(script)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        answers = []
        retrying = requests.Session()
        retrying.mount("http://", HTTPAdapter(max_retries=Retry(connect=50, backoff_factor=0.1, read=0, status=0)))
        retrying.get(f"http://127.0.0.1:{port}/_requests", timeout=120)
        for _ in range(3):
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/hook", headers={"Idempotency-Key": "k"}, timeout=120)
                answers.append(answer.status_code)
            except requests.ConnectionError:
                answers.append(None)
        process.send_signal(signal.SIGINT)
        counts = json.loads(process.communicate(timeout=120)[0])
    assert answers == [None, 503, 200]
    assert counts["webhook"] == {"requests": 3, "deliveries": 2, "keys": 1, "repeated": {"k": 2}, "missing": []}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{stauts: 500}", "0.stauts: Extra inputs"),
        ("{wrong: lots}", "0.wrong"),
        ("[", "faults:2:1: not YAML"),
        ("5", "list"),
        ("{status: 500, body: " + "[" * 2000, "faults:1:84: nested more than 64 levels deep"),
        ("{status: 500, status: 503}", "the key 'status' is defined twice"),
        ("{status: 2026-99-99}", "0.status"),
    ],
)
def test_a_fault_that_is_none(fault, said):
    """It is wrong use, with the key that is wrong."""
    result = CliRunner().invoke(main, ["simulate", "--fault", fault])
    assert result.exit_code == 2
    assert said in result.output


def test_a_script_that_is_not_text(tmp_path):
    """A script in another encoding is wrong use, with the line."""
    script = tmp_path / "script.yaml"
    script.write_bytes(b"- status: 503\n- body: \xe9\n")
    result = CliRunner().invoke(main, ["simulate", "--script", str(script)])
    assert result.exit_code == 2
    assert "faults:2:1: the file is not UTF-8 text" in result.output
