"""Every forwarder has cases, which the plug-in turns into tests; the checks find errors."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from deploy.cli.main import main
from deploy.conformance import checks
from deploy.conformance.golden import DESCRIPTION, Golden
from forwarders import registry
from forwarders.api.contract import Delivered, Request, Response
from forwarders.vendors.reddit.forwarder import Reddit
from tests.support import golden
from transforms import RuleError


def test_every_forwarder_has_cases(pytestconfig: pytest.Config) -> None:
    """No installed forwarder of Turnout's own goes without the plug-in's tests."""
    assert pytestconfig.pluginmanager.has_plugin("deploy.conformance.plugin")
    own = {name for name in registry.names() if registry.find(name).__module__.startswith("forwarders.")}
    assert own == set(golden.NAMES)


@pytest.fixture
def reddit(tmp_path: Path) -> Golden:
    return Golden(shutil.copytree(golden.FOLDER / "reddit", tmp_path / "reddit"))


class Shifting(Reddit):
    """A new request on each attempt, which also changes the payload, and fewer results than deliveries."""

    count = 0

    def build_request(self, items: Any) -> Request:
        Shifting.count += 1
        items[0].payload["attempt"] = Shifting.count
        host = f"x.example{items[0].payload.get('metadata', {}).get('conversion_id', '')}"
        return Request("POST", f"https://{host}/", {"X-Attempt": str(Shifting.count)}, [dict(items[0].payload)])

    def parse_response(self, answer: Response, items: Any) -> Any:  # noqa: ARG002
        return [Delivered()]

    def group_key(self, payload: Any) -> Any:
        return id(payload)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (checks.contract_is_complete, "the forwarder's class has no docstring"),
        (checks.requests_are_pure, "two attempts build different requests"),
        (checks.requests_are_pure, "build_request() changed the payload"),
        (checks.payload_cannot_change_host, "a value of the payload changes the host of the request"),
        (checks.group_keys_are_stable, "equal payloads have different group keys"),
        (checks.responses_are_parsed, "responses, 2: expected"),
        (checks.any_response_is_parsed, "parse_response() fails: AssertionError: 1 result for 2 deliveries"),
        (checks.poison_is_found, "an invalid delivery at 0"),
    ],
)
def test_wrong_code_is_found(reddit: Golden, check: checks.Check, problem: str) -> None:
    """A forwarder whose functions break their promises does not pass."""
    reddit.forwarder = Shifting
    if check is checks.contract_is_complete:
        reddit.forwarder = type("Silent", (Reddit,), {"__doc__": None})
    if check is checks.poison_is_found:
        with pytest.raises(ValueError, match="zip"):
            list(check(reddit))
    else:
        assert any(problem in line for line in check(reddit)), list(check(reddit))


@pytest.mark.parametrize(
    ("key", "value", "check", "problem"),
    [
        ("valid_settings", [{"pixel_id": "a/b"}], checks.settings_are_accepted, "valid_settings, 2: "),
        (
            "invalid_settings",
            [{"settings": {"pixel_id": "a/b"}, "error": "no"}],
            checks.settings_are_rejected,
            "expected 'no'",
        ),
        ("vendor_limits", {"items": 9, "bytes": 10}, checks.full_batch_keeps_the_limits, "1,000 items, the vendor 9"),
        ("vendor_limits", None, checks.full_batch_keeps_the_limits, "write the limits that the vendor documents"),
        ("responses", [], checks.responses_are_parsed, "responses: add a response that gives Delivered"),
        (
            "responses",
            [{"status": 401, "result": "Auth()"}],
            checks.responses_are_parsed,
            "responses, 1: Auth was renamed to AuthFailed",
        ),
        (
            "invalid_payloads",
            [{"payload": {}, "error": "x"}],
            checks.payloads_are_rejected,
            "invalid_payloads, 1: the error is",
        ),
    ],
)
def test_wrong_description_is_found(reddit: Golden, key: str, value: Any, check: checks.Check, problem: str) -> None:
    """A description that is wrong or not whole does not pass."""
    reddit.description = {**reddit.description, key: value}
    assert any(problem in line for line in check(reddit)), list(check(reddit))


def test_secret_that_shows_is_found(reddit: Golden) -> None:
    """A token in a plain text shows in reprs."""

    class Open(Reddit):
        def __init__(self, settings: Any) -> None:
            token = settings.access_token.get_secret_value()
            super().__init__(settings.model_copy(update={"test_id": token, "access_token": SecretStr("")}))

    reddit.forwarder = Open
    assert list(checks.secrets_are_masked(reddit)) == ["a repr shows a secret: declare it as SecretStr"] * 2


def test_request_that_changed_is_shown(reddit: Golden) -> None:
    """What comes out otherwise than it is written is shown line by line."""
    case = next(case for case in reddit.cases if case.name == "lead-smallest")
    case.written["request"]["body"]["data"]["events"][0]["action_source"] = "APP"  # type: ignore[index]
    (problem,) = checks.check_case(reddit, case)
    assert "-      - event_at" not in problem
    assert "-        action_source: APP\n+        action_source: OTHER" in problem


def test_command(reddit: Golden) -> None:
    """`turnout conformance` lists missing cases and exits with 1; --update writes missing outcomes."""
    (reddit.folder / "page.yaml").unlink()
    command = ["conformance", "reddit", "--cases", str(reddit.folder.parent)]
    missing = CliRunner().invoke(main, command)
    assert missing.exit_code == 1
    assert "usual events are covered: page.yaml has no smallest (--update writes it)" in missing.output
    whole = CliRunner().invoke(main, [*command, "--update"])
    assert (whole.exit_code, whole.output.splitlines()[-1].endswith(" passed, 0 failed")) == (0, True)
    assert (reddit.folder / "page.yaml").read_text() == (golden.FOLDER / "reddit" / "page.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("accepted", "valid_settings"),
        ("refused", "invalid_settings"),
        ("most", "vendor_limits"),
        ("refused_payloads", "invalid_payloads"),
        ("answers", "responses"),
    ],
)
def test_old_key_is_named(reddit: Golden, old: str, new: str) -> None:
    """A description with the old name of a key is rejected with its position and the new name."""
    path = reddit.folder / DESCRIPTION
    path.write_text(path.read_text().replace(f"\n{new}:", f"\n{old}:"))
    line = path.read_text().partition(f"\n{old}:")[0].count("\n") + 2
    with pytest.raises(RuleError) as caught:
        _ = reddit.description
    assert (caught.value.line, caught.value.column, caught.value.message) == (line, 1, f"{old} was renamed to {new}")


def test_old_key_of_a_row_is_named(reddit: Golden) -> None:
    """Also the old name of a key in a row is rejected."""
    path = reddit.folder / DESCRIPTION
    path.write_text(path.read_text().replace(" error: needs a click_id", " says: needs a click_id"))
    with pytest.raises(RuleError, match="says was renamed to error"):
        _ = reddit.description


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["redit"], 2, "no forwarder is called 'redit' (did you mean 'reddit'?)"),
        (["reddit", "--cases", "nowhere"], 2, f"nowhere/reddit/{DESCRIPTION} is missing: give its folder with --cases"),
    ],
)
def test_command_without_cases(arguments: list[str], code: int, says: str) -> None:
    """A missing name or folder is reported."""
    result = CliRunner().invoke(main, ["conformance", *arguments])
    assert result.exit_code == code
    assert says in result.output
