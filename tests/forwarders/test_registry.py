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
from forwarders.vendors.webhook.forwarder import Webhook
from tests.support import plugin_install


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Entry points of the test's own, as name and value."""
    values: dict[str, str] = {"webhook": "forwarders.vendors.webhook.forwarder:Webhook"}
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
        ("zzz", "no forwarder is called 'zzz' (known: webhook)"),
        ("gone", "the forwarder 'gone' cannot be loaded from no_such_module:Gone: No module named 'no_such_module'"),
        ("absent", "the forwarder 'absent' cannot be loaded from forwarders.vendors.webhook.forwarder:Absent: module"),
        ("other", "the forwarder 'other', forwarders.vendors.webhook.forwarder:WebhookSettings, is neither an "),
        (
            "function",
            "the forwarder 'function', forwarders.vendors.ga4.forwarder:legal, is neither an HttpForwarder nor",
        ),
    ],
)
def test_unknown(only: dict[str, str], name: str, message: str) -> None:
    """A name without a valid forwarder is refused, with the nearest name or the error."""
    if name not in ("webhok", "zzz"):
        only |= {
            "gone": "no_such_module:Gone",
            "absent": "forwarders.vendors.webhook.forwarder:Absent",
            "other": "forwarders.vendors.webhook.forwarder:WebhookSettings",
            "function": "forwarders.vendors.ga4.forwarder:legal",
        }
    with pytest.raises(registry.UnknownForwarderError) as refused:
        registry.find(name)
    assert str(refused.value).startswith(message)


OLD_MODULES = {
    "name": ("from forwarders.api.contract import Answer", "1: Answer was renamed to Response"),
    "field": (
        """
from forwarders.api.contract import Category, Contract, Settings
CONTRACT = Contract("a", "A", "https://a.example", category=Category.CRM, settings=Settings, dedupe_doubt="x")
""",
        "3: TypeError: Contract: dedupe_doubt was renamed to dedupe_caveat",
    ),
    "mistake": ("\nraise KeyError('x')", "2: KeyError: 'x'"),
}


@pytest.mark.parametrize("case", OLD_MODULES)
def test_module_with_old_names(
    only: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """A module that cannot be imported is rejected with its file and line, and with new names for old ones."""
    text, message = OLD_MODULES[case]
    path = tmp_path / f"turnout_old_{case}.py"
    path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    only["old"] = f"{path.stem}:Old"
    with pytest.raises(registry.UnknownForwarderError) as refused:
        registry.find("old")
    assert str(refused.value) == f"the forwarder 'old' cannot be loaded from {path.stem}:Old: {path}:{message}"


OLD_METHODS = """
from forwarders.api.contract import {base}

class Base({base}):
    def complaint(self, payload): ...

class Old(Base):
    {decorator}def {old}({arguments}): ...
"""


@pytest.mark.parametrize(
    ("base", "old", "arguments", "new"),
    [
        ("HttpForwarder", "request", "self, items", "build_request(items)"),
        ("HttpForwarder", "read", "self, answer, items", "parse_response(response, items)"),
        ("HttpForwarder", "group", "self, payload", "group_key(payload)"),
        ("HttpForwarder", "token_request", "self, now", "build_token_request(now)"),
        ("WriterForwarder", "libraries", "cls, settings", "required_modules(settings)"),
        ("ObjectForwarder", "cut", "self, offset, time", "rotation_key(offset, time)"),
        ("WriterForwarder", "read", "self", None),
    ],
)
def test_class_with_old_methods(
    only: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    old: str,
    arguments: str,
    new: str | None,
) -> None:
    """A class that defines methods by their old names is rejected, with the place and the new name of each.

    Other classes may use these names for helpers of their own.
    """
    path = tmp_path / f"turnout_old_{base}_{old}.py"
    decorator = "@classmethod\n    " if arguments.startswith("cls") else ""
    path.write_text(OLD_METHODS.format(base=base, old=old, arguments=arguments, decorator=decorator))
    monkeypatch.syspath_prepend(tmp_path)
    only["old"] = f"{path.stem}:Old"
    with pytest.raises(registry.UnknownForwarderError) as refused:
        registry.find("old")
    found = [f"{path}:8: Old.{old} was renamed to {new}"] if new else []
    found.append(f"{path}:5: Base.complaint was renamed to validate(payload)")
    assert str(refused.value) == f"the forwarder 'old' uses old names of the plug-in API: {'; '.join(found)}"


def test_package_of_ones_own(tmp_path: Path) -> None:
    """A package that declares a forwarder has only to be installed."""
    plugin_install.install(tmp_path / "site")
    script = dedent(
        """
        import json
        from forwarders import registry
        from forwarders.api.contract import Delivery

        acme = registry.find("acme")
        forwarder = acme(acme.contract.settings(token="s3cret"))
        payload = {"id": "m-1", "what": "Lead"}
        request = forwarder.build_request([Delivery("m-1", payload, "track", "Lead", "2026-01-02T03:04:05Z")])
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
