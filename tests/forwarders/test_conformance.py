"""Every forwarder has its cases, which the plug-in makes tests of; and the checks find what is wrong."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from deploy.cli import main
from deploy.conformance import checks
from deploy.conformance.golden import DESCRIPTION, Golden
from forwarders import registry
from forwarders.contract import Answer, Delivered, Request
from forwarders.reddit import Reddit
from tests.forwarders import golden


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

    def request(self, items: Any) -> Request:
        Shifting.count += 1
        items[0].payload["attempt"] = Shifting.count
        host = f"x.example{items[0].payload.get('metadata', {}).get('conversion_id', '')}"
        return Request("POST", f"https://{host}/", {"X-Attempt": str(Shifting.count)}, [dict(items[0].payload)])

    def read(self, answer: Answer, items: Any) -> Any:  # noqa: ARG002
        return [Delivered()]

    def group(self, payload: Any) -> Any:
        return id(payload)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (checks.contract_is_whole, "the forwarder's class has no docstring"),
        (checks.requests_are_pure, "two attempts are two different requests"),
        (checks.requests_are_pure, "request() changed the payload"),
        (checks.hosts_are_the_settings_own, "a value of the payload decides where the request goes"),
        (checks.groups_are_stable, "equal payloads have two groups"),
        (checks.answers_are_read, "answers, 2: wanted"),
        (checks.any_answer_is_read, "read() fails: AssertionError: 1 results for 2 deliveries"),
        (checks.poison_is_found, "a bad delivery at 0"),
    ],
)
def test_wrong_code_is_found(reddit: Golden, check: checks.Check, problem: str) -> None:
    """A forwarder whose functions break their promises does not pass."""
    reddit.forwarder = Shifting
    if check is checks.contract_is_whole:
        reddit.forwarder = type("Silent", (Reddit,), {"__doc__": None})
    if check is checks.poison_is_found:
        with pytest.raises(ValueError, match="zip"):
            list(check(reddit))
    else:
        assert any(problem in line for line in check(reddit)), list(check(reddit))


@pytest.mark.parametrize(
    ("key", "value", "check", "problem"),
    [
        ("accepted", [{"pixel_id": "a/b"}], checks.settings_are_accepted, "accepted, 2: "),
        ("refused", [{"settings": {"pixel_id": "a/b"}, "says": "no"}], checks.settings_are_refused, "and not 'no'"),
        ("most", {"items": 9, "bytes": 10}, checks.full_batch_keeps_the_limits, "1000 items, the vendor 9"),
        ("most", None, checks.full_batch_keeps_the_limits, "write the vendor's own limits"),
        ("answers", [], checks.answers_are_read, "answers: none is read as Delivered"),
        ("refused_payloads", [{"payload": {}, "says": "x"}], checks.payloads_are_refused, "refused_payloads, 1: says"),
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
    assert list(checks.secrets_are_masked(reddit)) == ["a secret shows in a repr: is it a SecretStr?"] * 2


def test_request_that_changed_is_shown(reddit: Golden) -> None:
    """What comes out otherwise than it is written is shown line by line."""
    case = next(case for case in reddit.cases if case.name == "lead-smallest")
    case.written["request"]["body"]["data"]["events"][0]["action_source"] = "APP"  # type: ignore[index]
    (problem,) = checks.check_case(reddit, case)
    assert "-      - event_at" not in problem
    assert "-        action_source: APP\n+        action_source: OTHER" in problem


def test_command(reddit: Golden) -> None:
    """`turnout conformance` says what is missing and exits with 1; --update writes what has no outcome yet."""
    (reddit.folder / "page.yaml").unlink()
    command = ["conformance", "reddit", "--cases", str(reddit.folder.parent)]
    missing = CliRunner().invoke(main, command)
    assert missing.exit_code == 1
    assert "usual events are covered: page.yaml has no smallest (--update writes it)" in missing.output
    whole = CliRunner().invoke(main, [*command, "--update"])
    assert (whole.exit_code, whole.output.splitlines()[-1].endswith(" passed, 0 failed")) == (0, True)
    assert (reddit.folder / "page.yaml").read_text() == (golden.FOLDER / "reddit" / "page.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["redit"], 2, "no forwarder is called 'redit' (did you mean 'reddit'?)"),
        (["reddit", "--cases", "nowhere"], 1, f"turnout: nowhere/reddit/{DESCRIPTION} is missing"),
    ],
)
def test_command_without_cases(arguments: list[str], code: int, says: str) -> None:
    """A name or a folder that is not there is said."""
    result = CliRunner().invoke(main, ["conformance", *arguments])
    assert result.exit_code == code
    assert says in result.output
