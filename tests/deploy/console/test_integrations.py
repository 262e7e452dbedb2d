"""Integrations: the states, pausing, changing the mode, and adding one."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from deploy.config.configuration import read_configuration
from deploy.config.models.console import ConsoleSettings, SaveMode
from deploy.console.access.roles import Role
from deploy.console.screens.integrations import SWITCHES
from streams.kafka.settings import Broker
from streams.ledger.settings import LedgerSettings
from tests.deploy.console.browsing import overflow, tab, violations
from tests.deploy.console.serving import EXAMPLE, NOWHERE, ServedConsole, serving_console
from tests.deploy.console.shop import order

META = {
    "vendor": "meta",
    "name": "meta-ch",
    "preset": "yes",
    "f-pixel_id": "1048",
    "f-access_token": "${META_CH_ACCESS_TOKEN}",
    "source-web": "yes",
    "consent": "advertising",
}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@shop.example")
    ran = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example in a repository of its own."""
    copied = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    git(copied, "init", "-q", "-b", "main")
    git(copied, "add", ".")
    git(copied, "commit", "-q", "-m", "Begin")
    return copied


def console_for(folder: Path, file: Path | None = None, save: SaveMode = SaveMode.LIVE):
    """A console for a folder, without Kafka and without a ledger."""
    read = read_configuration(folder)
    changes = {
        "broker": Broker(bootstrap=NOWHERE),
        "ledger": LedgerSettings(port=1),
        "console": ConsoleSettings(save=save),
    }
    return serving_console(replace(read, settings=read.settings.model_copy(update=changes)), file)


@pytest.fixture
def console(folder: Path, tmp_path: Path):
    """The console above, saving live."""
    with console_for(folder, tmp_path / "audit") as served:
        yield served


def post(console: ServedConsole, role: Role, path: str, **fields: str):
    """Send a form, and request JSON."""
    client = console.session(role)
    form = {"csrf": console.csrf(client), **fields}
    return client.post(f"{console.url}{path}", form, headers={"accept": "application/json"}, timeout=60)


def test_page_without_kafka_and_ledger(console):
    """Without Kafka, no state is invented; the page says why, and lists the integrations."""
    page = console.get("/integrations.json", role=Role.VIEWER).json()
    assert {row["integration"]: row["state"] for row in page["integrations"]} == dict.fromkeys(
        ("file", "ga4", "webhook"), "unknown"
    )
    assert (NOWHERE in page["problem"], page["counted"]) == (True, False)
    one = console.get("/integrations/ga4.json", role=Role.VIEWER).json()
    assert {it["setting"]: it["is"] for it in one["settings"]}["api_secret"] == "${GA4_API_SECRET}"
    assert console.get("/integrations/nobody", role=Role.VIEWER).status_code == 404


@pytest.mark.parametrize("action", ["pause", "resume", "probe", "test", *SWITCHES])
def test_missing_roles_are_refused(console, folder, action):
    """A viewer does nothing, an operator changes no file."""
    for role in [Role.VIEWER] + ([Role.OPERATOR] if action in SWITCHES else []):
        answer = post(console, role, f"/integrations/ga4/{action}")
        assert (answer.status_code, f"you are {role}" in answer.json()["error"]) == (403, True)
    assert git(folder, "status", "--porcelain") == ""


def test_adding_needs_the_role_editor(console, folder):
    """Neither the form nor its answer is for viewers and operators."""
    for role in (Role.VIEWER, Role.OPERATOR):
        assert console.get("/integrations/-/new?vendor=meta", role=role).status_code == 403
        assert post(console, role, "/integrations/-/new", add="yes", **META).status_code == 403
    assert not (folder / "integrations" / "meta-ch.yaml").exists()


def test_mode_and_state_are_changed_in_the_file(console, folder, tmp_path):
    """Each switch changes one line of the file, commits it as the user, and can be taken back."""
    file = folder / "integrations" / "ga4.yaml"
    before = file.read_text()
    for name, line in (("shadow", "mode: shadow"), ("drain", "state: draining")):
        done = post(console, Role.EDITOR, f"/integrations/ga4/{name}")
        assert done.status_code == 200, done.text
        assert line in file.read_text().splitlines()
        assert git(folder, "show", "--numstat", "--format=", "HEAD").split() == ["1", "0", "integrations/ga4.yaml"]
    assert git(folder, "log", "-1", "--format=%an %s") == "Jonas Kern Drain ga4"
    for name in ("turn-on", "take-new"):
        assert post(console, Role.EDITOR, f"/integrations/ga4/{name}").status_code == 200
    assert file.read_text() == before
    entries = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(it["action"], it["user"], it["message"]) for it in entries][:2] == [
        ("save", "Jonas Kern", "Put ga4 in shadow"),
        ("save", "Jonas Kern", "Drain ga4"),
    ]


def test_proposal_leaves_the_folder(folder):
    """With `console.save: proposal`, the change is a commit on a new branch only."""
    with console_for(folder, save=SaveMode.PROPOSAL) as console:
        answer = post(console, Role.EDITOR, "/integrations/ga4/drain").json()
        assert "Nothing changes until it is merged." in answer["message"]
        added = post(console, Role.EDITOR, "/integrations/-/new", add="yes", **META).json()
        assert added["proposal"] is True
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "show", "--stat", "--format=", answer["branch"]).startswith("integrations/ga4.yaml")
    assert len(git(folder, "branch", "--list", "console/*").split()) == 2


def test_integration_is_added_in_shadow(console, folder):
    """The form is checked, shown, and saved with a commit; the file is valid and has no secret."""
    looked = post(console, Role.EDITOR, "/integrations/-/new", **META).json()
    assert "mode: shadow" in looked["preview"]["text"]
    assert looked["preview"]["unset"] == ["META_CH_ACCESS_TOKEN"]
    assert NOWHERE in looked["preview"]["trial"]["problem"]
    assert git(folder, "status", "--porcelain") == ""
    added = post(console, Role.EDITOR, "/integrations/-/new", add="yes", **META).json()
    assert (added["file"], added["proposal"]) == ("integrations/meta-ch.yaml", False)
    assert read_configuration(folder).integrations["meta-ch"].mode == "shadow"
    assert git(folder, "log", "-1", "--format=%an %s") == "Jonas Kern Add meta-ch in shadow"
    again = post(console, Role.EDITOR, "/integrations/-/new", add="yes", **META)
    assert (again.status_code, again.json()["problem"]) == (400, "integrations/meta-ch.yaml exists already")


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"f-pixel_id": "C4-9"}, "pixel_id", "does not match ^[0-9]+$"),
        ({"f-access_token": "EAABsecret"}, "access_token", "a secret must not be in the file"),
    ],
)
def test_bad_settings_are_named_at_their_field(console, folder, changes, field, problem):
    """What `check` says of a setting is at its field; a secret that was entered is neither kept nor shown again."""
    answer = post(console, Role.EDITOR, "/integrations/-/new", **{**META, **changes})
    assert answer.status_code == 400
    assert problem in {it["name"]: it["problem"] for it in answer.json()["fields"]}[field]
    assert post(console, Role.EDITOR, "/integrations/-/new", add="yes", **{**META, **changes}).status_code in (400, 409)
    assert "EAABsecret" not in answer.text
    assert not (folder / "integrations" / "meta-ch.yaml").exists()


@pytest.mark.parametrize("name", ["", "../ga4", "GA4", "ga4", "x" * 80])
def test_bad_names_are_refused(console, folder, name):
    """A name that is not one, or is taken, writes nothing."""
    answer = post(console, Role.EDITOR, "/integrations/-/new", **{**META, "name": name, "add": "yes"})
    assert (answer.status_code, bool(answer.json()["problem"])) == (400, True)
    assert git(folder, "status", "--porcelain") == ""


def test_variables_of_others_are_not_shown(console, monkeypatch):
    """A draft that refers to any variable does not show its value, because drafts are not on record."""
    from deploy.dryrun import taken_event
    from deploy.dryrun.recorded_events import RecordedEvent
    from tests.deploy.catalog.seen import track

    _, event = track("Order Completed", order_id="A-1")
    recorded = RecordedEvent("t:0:0", json.dumps({**event, "userId": "u-1"}).encode(), "web", 0)
    monkeypatch.setenv("OF_ANOTHER", "https://very-secret.example/hook")
    monkeypatch.setattr(taken_event, "read_newest", lambda *_: [recorded])
    form = {"vendor": "webhook", "name": "hook", "preset": "yes", "f-url": "${OF_ANOTHER}"}
    answer = post(console, Role.EDITOR, "/integrations/-/new", **form)
    assert answer.json()["preview"]["trial"]["event"]["request"]["url"] == "***"
    assert "very-secret" not in answer.text


@pytest.mark.browser
def test_pause_and_resume(chromium, shop, shop_console):
    """An operator pauses with the switch, sees who did it, and resumes; a viewer cannot."""
    shop.send(order(60))
    with tab(chromium, shop_console, Role.VIEWER, width=390) as page:
        page.goto("/integrations")
        expect(page.get_by_label("Send to webhook")).to_be_disabled()
        expect(page.get_by_text("Pausing needs the role operator.")).to_be_visible()
    with tab(chromium, shop_console, Role.OPERATOR) as page:
        page.goto("/integrations")
        row = page.locator("tr", has=page.get_by_label("Send to webhook"))
        expect(row.locator(".o")).to_have_text("on")
        page.get_by_label("Send to webhook").uncheck()
        expect(page.locator(".toast")).to_contain_text("webhook is paused; 1 forwarder confirmed it.")
        expect(row.locator(".o")).to_have_text("paused")
        expect(row).to_contain_text("by Mira Vogt")
        assert not violations(page)
        row.get_by_role("link", name="webhook").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(".toast")).to_contain_text("webhook is resumed")
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        expect(page.get_by_role("button", name="Put in shadow…")).to_be_disabled()
        expect(page.get_by_text("Changing the file needs the role editor.")).to_be_visible()


@pytest.mark.browser
def test_integration_is_added_tested_and_turned_on(chromium, shop, shop_console):
    """An editor chooses a vendor, fills in the form, sees the request, adds it in shadow, tests it, and turns it on."""
    from tests.deploy.console.conftest import shop_configuration

    shop.send(order(61))
    shop.until_settled()
    file = shop.folder / "integrations" / "tiktok.yaml"
    try:
        with tab(chromium, shop_console, Role.EDITOR, expected="400") as page:
            page.goto("/integrations")
            page.get_by_role("link", name="Add an integration…").click()
            page.get_by_role("link", name="TikTok Events API").click()
            page.get_by_label("access_token").fill("oh-no-the-token-itself")
            page.get_by_role("button", name="Look at it").click()
            expect(page.locator("#f-access_token-e")).to_contain_text("a secret must not be in the file")
            expect(page.get_by_label("access_token")).to_have_value("")
            assert not violations(page)
            page.get_by_label("access_token").fill("${TIKTOK_ACCESS_TOKEN}")
            page.get_by_label("event_source_id").fill("C4EXAMPLE")
            page.get_by_role("button", name="Look at it").click()
            expect(page.get_by_label("What the vendor would get")).to_contain_text("/open_api/")
            expect(page.get_by_text("Set TIKTOK_ACCESS_TOKEN where the forwarders run.")).to_be_visible()
            assert not violations(page)
            assert not overflow(page)
            page.get_by_role("button", name="Add tiktok in shadow").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("tiktok is added, in shadow")
            assert "mode: shadow" in file.read_text()
        with (
            serving_console(shop_configuration(shop, int(shop.ledger_port))) as console,
            tab(chromium, console, Role.EDITOR) as page,
        ):
            page.goto("/integrations/tiktok")
            page.get_by_role("button", name="Test with the simulator").click()
            expect(page.locator("h2 .o")).to_have_text("accepted")
            page.get_by_role("link", name="Back to tiktok").click()
            page.get_by_role("button", name="Turn on…").click()
            page.get_by_role("dialog").get_by_role("button", name="Turn on").click()
            expect(page.locator(".toast")).to_contain_text("Saved.")
            assert "mode:" not in file.read_text()
    finally:
        file.unlink(missing_ok=True)
