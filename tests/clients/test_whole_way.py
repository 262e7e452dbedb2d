"""End to end as for users: an SDK of Segment, and a forwarder from a user's package."""

from collections.abc import Iterator

import pytest
import segment.analytics.client as segment

from tests.support import plugin_install
from tests.support.running_up import Up

ACME = """
integration: acme
forwarder: acme
preset: acme
settings: {token: '${ACME_TOKEN}', endpoint: 'http://127.0.0.1:8099/acme'}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("clients")
    plugin_install.install(folder / "site")
    running = Up(
        folder / "example",
        files={"integrations/acme.yaml": ACME},
        variables={"PYTHONPATH": str(folder / "site"), "ACME_TOKEN": "acme-token"},
    )
    try:
        yield running.begun()
    finally:
        running.close()


def at_acme(up: Up, who: str) -> list[str]:
    """Return the requests that the plug-in's vendor received about a user."""
    return [
        event["what"]
        for request in up.at_vendors()
        if request["path"] == "/acme/events"
        for event in request["body"]
        if event.get("who") == who
    ]


def test_segments_python_sdk_and_a_forwarder_from_a_package_of_ones_own(up: Up):
    """With only host and write key set in the SDK, each event reaches the integrations that the rules choose."""
    refused: list[Exception] = []
    client = segment.Client(
        "demo-server",
        host=f"http://127.0.0.1:{up.ports['8080']}",
        on_error=lambda error, _: refused.append(error),
    )
    client.track("python", "Order Completed", {"order_id": "A-1", "total": "9.50", "name": "ünï 😀"})
    client.identify("python", {"plan": "pro"})
    client.page("python", "Home")
    client.group("python", "acme-inc")
    client.alias("python-before", "python")
    client.screen("python", "Main")
    client.shutdown()
    assert not refused
    up.until(lambda: len(at_acme(up, "python")) == 6)
    assert sorted(at_acme(up, "python")) == ["Order Completed", "alias", "group", "identify", "page", "screen"]
    up.until(lambda: any(it["path"] == "/hooks/sales" for it in up.at_vendors()))
    (order,) = (it for it in up.at_vendors() if it["path"] == "/hooks/sales")
    assert order["body"]["text"] == "Order A-1 for 9.50"
    (acme, *_) = (it for it in up.at_vendors() if it["path"] == "/acme/events")
    assert acme["headers"]["authorization"] == "Bearer acme-token"
