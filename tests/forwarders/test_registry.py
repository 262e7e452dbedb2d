"""Forwarders are found by their entry points, from whatever package they come."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from forwarders import registry
from forwarders.webhook import Webhook
from tests.forwarders import plugin_install


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Entry points of the test's own, as name and value."""
    values: dict[str, str] = {"webhook": "forwarders.webhook:Webhook"}
    monkeypatch.setattr(
        registry,
        "_points",
        lambda: {name: EntryPoint(name, value, registry.GROUP) for name, value in values.items()},
    )
    registry.find.cache_clear()
    yield values
    registry.find.cache_clear()


def test_own_forwarders() -> None:
    """Turnout's own forwarders are installed under their names."""
    assert {"file", "ga4", "webhook"} <= set(registry.names())
    assert registry.find("webhook") is Webhook


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("webhok", "no forwarder is called 'webhok' (did you mean 'webhook'?)"),
        ("zzz", "no forwarder is called 'zzz' (there are: webhook)"),
        ("gone", "the forwarder 'gone' cannot be loaded from no_such_module:Gone: No module named 'no_such_module'"),
        ("absent", "the forwarder 'absent' cannot be loaded from forwarders.webhook:Absent: module"),
        ("other", "the forwarder 'other', forwarders.webhook:WebhookSettings, is neither an HttpForwarder nor"),
        ("function", "the forwarder 'function', forwarders.ga4:legal, is neither an HttpForwarder nor"),
    ],
)
def test_unknown(only: dict[str, str], name: str, message: str) -> None:
    """A name that leads to no forwarder is refused: with the nearest name, or what is wrong with it."""
    if name not in ("webhok", "zzz"):
        only |= {
            "gone": "no_such_module:Gone",
            "absent": "forwarders.webhook:Absent",
            "other": "forwarders.webhook:WebhookSettings",
            "function": "forwarders.ga4:legal",
        }
    with pytest.raises(registry.UnknownForwarderError) as refused:
        registry.find(name)
    assert str(refused.value).startswith(message)


def test_package_of_ones_own(tmp_path: Path) -> None:
    """A package that declares a forwarder has only to be installed."""
    plugin_install.install(tmp_path / "site")
    script = dedent(
        """
        import json
        from forwarders import registry
        from forwarders.contract import Item

        acme = registry.find("acme")
        forwarder = acme(acme.contract.settings(token="s3cret"))
        payload = {"id": "m-1", "what": "Lead"}
        request = forwarder.request([Item("m-1", payload, "track", "Lead", "2026-01-02T03:04:05Z")])
        preset = acme.preset().read_text()
        print(json.dumps([registry.names(), preset, request.url, dict(request.headers), request.body]))
        """
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    names, preset, *request = json.loads(ran.stdout)
    assert {"acme", "webhook"} <= set(names)
    assert preset == (plugin_install.PLUGIN / "turnout_acme" / "presets" / "acme.yaml").read_text()
    assert request == [
        "https://api.acme.example/events",
        {"Authorization": "Bearer s3cret"},
        [{"id": "m-1", "what": "Lead"}],
    ]
