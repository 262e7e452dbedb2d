"""Rules: the editor of rule files, its forms, saving, and the cure of a group of dead letters."""

import json
import re
import subprocess
import threading
import time
from itertools import pairwise

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from deploy.cli.main import main
from deploy.console.access.audit_log import AuditLog
from deploy.console.access.roles import Role
from deploy.console.app import ConsoleApp
from deploy.console.backend import Backend
from deploy.runtime.reload import Reloader
from deploy.terminal.failures import listen
from tests.deploy.console.browsing import card, overflow, tab, violations
from tests.deploy.console.conftest import shop_configuration
from tests.deploy.console.serving import ServedConsole, _serving
from tests.deploy.console.shop import HOSTILE, order

pytestmark = pytest.mark.browser

META, CRM = "integrations/meta.yaml", "integrations/crm.yaml"
COMMA = "needs custom_data.value"


def git(folder, *arguments):
    identity = ("-c", "user.name=Grace", "-c", "user.email=grace@shop.example")
    command = ["git", "-C", folder, *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def texts(shop):
    """The shop's files by their paths, as they are at the beginning and the end."""
    before = {path: path.read_text() for path in shop.folder.glob("*/*.yaml")}
    yield before
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture(scope="module")
def tracked(shop, texts):
    """The shop, whose folder is a git repository."""
    git(shop.folder, "init", "-q", "-b", "main")
    git(shop.folder, "add", "turnout.yaml", "integrations", "sources", "plans")
    git(shop.folder, "commit", "-qm", "Begin")
    return shop


@pytest.fixture(scope="module")
def editing(tracked):
    """Run a console for the shop that reloads changed files, like the process."""
    configuration = shop_configuration(tracked, int(tracked.ledger_port))
    reloader = Reloader(configuration, lambda: shop_configuration(tracked, int(tracked.ledger_port)))
    lock = threading.Lock()

    def current():
        with lock:
            reloader.poll()
        return reloader.current

    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        backend = Backend(current, AuditLog(None, b"key"))
        app = ConsoleApp(backend, port, lambda _: None)
        with _serving(app, listener):
            yield ServedConsole(f"http://127.0.0.1:{port}", app, backend, [])
        app.close()


@pytest.fixture
def unchanged(tracked, texts):
    """The shop with the rules of the beginning."""
    for name in (META, CRM):
        (tracked.folder / name).write_text(texts[tracked.folder / name])
    return tracked


def draft(page):
    """The text of the draft, as it would be saved."""
    return page.locator("[name=text]").input_value()


def type_at(page, line, text):
    """Type at the end of a line of the text."""
    page.locator("#editor .cm-line", has_text=line).click()
    expect(page.locator("#editor .cm-activeLine")).to_contain_text(line)
    page.keyboard.press("End")
    page.keyboard.type(text)


def save(page, button="Save live", message="A test"):
    """Save, by the dialog."""
    page.get_by_role("button", name=re.compile(f"^{button}.*…")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What changed").fill(message)
    dialog.get_by_role("button", name=button).click()


def test_request_follows_the_draft(chromium, unchanged, editing):
    """Beside the draft are a real event and its request, as in `explain`; keys and clicks edit the draft."""
    with tab(chromium, editing, Role.EDITOR) as page:
        page.goto(f"/rules/{CRM}")
        page.get_by_role("button", name="Paste…").click()
        page.get_by_label("The event as JSON").fill(json.dumps(order(1, 120)))
        page.get_by_role("button", name="Use this event").click()
        expect(page.locator("#request")).to_contain_text("/hooks/crm")
        expect(page.locator("#request")).to_contain_text('contact: "lena1@nordlicht.example"')
        type_at(page, "total: {", "\ncity: ")
        page.locator("#event [data-path='$.context.page.url']").click()
        assert "      city: $.context.page.url\n" in draft(page)
        expect(page.locator("#request")).to_contain_text('city: "https://nordlicht.example/checkout/thanks"')
        expect(page.get_by_text("unsaved change")).to_be_visible()
        expect(page.locator("#recent-result")).to_contain_text("sent with more fields")
        assert not violations(page)
        page.keyboard.press("Control+s")
        expect(page.get_by_role("dialog")).to_contain_text("would be sent with more fields")
        page.get_by_role("button", name="Keep editing").click()
        page.locator("#editor .cm-content").click()
        page.keyboard.press("Control+End")
        page.keyboard.type("oops: 1")
        expect(page.locator("#valid")).to_have_text("errors")
        page.get_by_role("tab", name="Checks: 1 error").click()
        expect(page.locator("#checks")).to_contain_text("unknown key 'oops'")
        expect(page.locator("#editor .cm-lint-marker-error")).to_have_count(1)
        page.get_by_role("button", name=re.compile("crm.yaml:[0-9]+")).click()
        expect(page.locator("#editor .cm-content")).to_be_focused()
        assert not violations(page)


def test_forms_and_text_edit_the_same_file(chromium, unchanged, editing):
    """A rule can be changed by a form without writing YAML; the text beside it is what a person would write."""
    before = (unchanged.folder / CRM).read_text()
    with tab(chromium, editing, Role.EDITOR) as page:
        page.goto(f"/rules/{CRM}")
        page.get_by_role("tab", name="Form").click()
        rule = page.get_by_role("region", name="Rule big order")
        rule.get_by_label("Value", exact=True).nth(2).fill("50")
        rule.get_by_label("Value", exact=True).nth(2).press("Tab")
        expect(page.locator("[name=text]")).to_have_value(before.replace(">= 100", ">= 50"))
        rule.get_by_label("New field", exact=True).fill("mail")
        rule.get_by_label("Conversion of the new field").select_option("hash of email")
        rule.get_by_label("Path or constant").focus()
        page.locator("#event [data-path='$.userId']").click()
        line = '      mail: {"@hash": {value: $.userId, normalize: email}}\n'
        expect(page.locator("[name=text]")).to_have_value(re.compile(re.escape(line)))
        page.get_by_label("server", exact=True).uncheck()
        expect(page.locator("[name=text]")).to_have_value(re.compile("\nsources: .web.\n"))
        page.get_by_label("New rule for").fill("Heartbeat")
        page.get_by_label("What to do").select_option("drop it")
        page.get_by_role("button", name="Add rule").click()
        expect(page.get_by_role("region", name="Rule drop Heartbeat")).to_be_visible()
        assert not violations(page)
        page.get_by_role("tab", name="Text").click()
        expect(page.locator("#editor .cm-content")).to_contain_text("normalize: email")
        page.locator("#editor .cm-content").click()
        page.keyboard.press("Control+z")
        expect(page.locator("[name=text]")).not_to_have_value(re.compile("Heartbeat"))


def test_saving_live_and_as_a_proposal(chromium, unchanged, editing):
    """Live writes the file and commits it as the user; a proposal is a branch and leaves the folder as it is."""
    file = unchanged.folder / CRM
    with tab(chromium, editing, Role.EDITOR) as page:
        page.goto(f"/rules/{CRM}?line=7")
        expect(page.locator("#editor .cm-activeLine")).to_contain_text("map:")
        type_at(page, "name: big order", " 2")
        expect(page.get_by_role("button", name="Save live on main…")).to_be_visible()
        save(page, "Propose on a branch", "crm: name it")
        expect(page.locator("#saved-now")).to_contain_text("on the branch")
        branch = page.locator("#saved-now code").first.inner_text()
        assert "big order 2" not in file.read_text()
        assert "big order 2" in git(unchanged.folder, "show", f"{branch}:{CRM}")
        save(page, "Save live", "crm: name it")
        expect(page.locator("#saved-now")).to_contain_text("on main")
        expect(page.get_by_text("unsaved change")).to_be_hidden()
        assert "big order 2" in file.read_text()
        assert git(unchanged.folder, "log", "-1", "--format=%an: %s") == "Jonas Kern: crm: name it"
        file.write_text(file.read_text().replace("big order 2", "other"))
        type_at(page, "name: big order 2", "3")
        save(page)
        expect(page.get_by_role("alert")).to_contain_text("changed since you opened it. Nothing was overwritten.")
        expect(page.get_by_label("From the file to your draft")).to_contain_text("+  - name: big order 23")
        assert "other" in file.read_text()
        assert not violations(page)
    entries = [it for it in editing.backend.audit_log.recent if it["action"].startswith("save")]
    assert [it["action"] for it in entries[:3]] == ["save refused", "save", "save"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_editors_change_rules(chromium, unchanged, editing, role):
    """Viewers and operators see the rules, their messages and the request; they can neither try nor save a draft."""
    before = (unchanged.folder / CRM).read_text()
    with tab(chromium, editing, role) as page:
        page.goto(f"/rules/{CRM}")
        expect(page.locator("#editor .cm-content")).to_contain_text("big order")
        expect(page.get_by_role("button", name="Save live on main…")).to_be_disabled()
        expect(page.get_by_text("Saving needs the role editor.")).to_be_visible()
        page.locator("#editor .cm-content").click()
        page.keyboard.type("x")
        assert draft(page) == before
        page.get_by_role("tab", name="Form").click()
        expect(page.get_by_label("Rule", exact=True).first).to_be_disabled()
        assert not violations(page)
        if role is Role.VIEWER:
            assert "lena" not in page.content()
    client = editing.session(role)
    for path in ("try", "event", "form", "changes", "save"):
        fields = {"csrf": editing.csrf(client), "file": CRM, "text": "x", "mode": "live", "opened": ""}
        assert client.post(f"{editing.url}/rules/draft/{path}", fields, timeout=60).status_code == 403
    editor = editing.session(Role.EDITOR)
    forged = {"csrf": "guess", "file": CRM, "text": "x", "mode": "live"}
    assert editor.post(f"{editing.url}/rules/draft/save", forged, timeout=60).status_code == 403
    assert (unchanged.folder / CRM).read_text() == before


@pytest.mark.parametrize(
    "name", ["../turnout.yaml", "turnout.yaml", "..%2fturnout.yaml", "integrations/none.yaml", "<b>"]
)
def test_other_files_cannot_be_opened(unchanged, editing, name):
    """Only files of the configuration's own list are opened and saved."""
    assert editing.get(f"/rules/{name}", role=Role.EDITOR).status_code == 404
    client = editing.session(Role.EDITOR)
    fields = {"csrf": editing.csrf(client), "file": name, "text": "a: 1", "mode": "live", "opened": ""}
    assert client.post(f"{editing.url}/rules/draft/save", fields, timeout=60).status_code == 404


def test_hostile_events_are_harmless_beside_rules(chromium, unchanged, editing):
    """Markup and control characters of an event are text, also where its fields are buttons."""
    event = {"type": "track", "event": HOSTILE, "userId": HOSTILE, "properties": {HOSTILE: HOSTILE, "a'b": [HOSTILE]}}
    with tab(chromium, editing, Role.EDITOR, width=390) as page:
        page.goto(f"/rules/{CRM}")
        page.get_by_role("button", name="Paste…").click()
        page.get_by_label("The event as JSON").fill(json.dumps(event))
        page.get_by_role("button", name="Use this event").click()
        expect(page.locator("#event pre")).to_contain_text("alert(1)")
        assert page.locator("main img, #event script").count() == 0
        assert not {it for it in "\x1b\u202e" if it in page.locator("#event pre").inner_html()}
        assert overflow(page) == 0
        assert not violations(page)


def test_dead_letters_are_cured(chromium, unchanged, editing, capsys):
    """From a group of dead letters to its rule, comparison, save, replay and delivery, without typing YAML."""
    marks = [("begin", time.monotonic())]

    def mark(name):
        marks.append((name, time.monotonic()))

    # Other tests of this shop leave dead letters in the group that this rule cannot cure.
    drop = ["dead", "drop", "--integration", "meta", "--yes", "--config", str(unchanged.folder)]
    assert CliRunner().invoke(main, drop).exit_code == 0
    numbers = range(7000, 7006)
    unchanged.send(*(order(number, f"{number - 6900},90") for number in numbers))
    unchanged.until_settled()
    found = {}

    def is_grouped():
        groups = editing.get("/issues.json", role=Role.EDITOR).json()["groups"]
        found.update(next((each for each in groups if COMMA in each["message"]), {}))
        return found.get("open", 0) == len(numbers)

    unchanged.until(is_grouped)
    with tab(chromium, editing, Role.EDITOR) as page:
        page.goto("/issues")
        page.get_by_role("link", name=re.compile(COMMA)).first.click()
        page.get_by_role("link", name="Edit the rule").click()
        expect(page.get_by_text("unsaved change")).to_be_visible()
        expect(page.locator("#request")).to_contain_text("needs custom_data.value")
        mark("rule opened")
        page.get_by_role("tab", name="Form").click()
        rule = page.get_by_role("region", name="Rule Order Completed")
        rule.get_by_label("New field", exact=True).fill("custom_data.value")
        rule.get_by_label("Conversion of the new field").select_option("number, decimal comma")
        rule.get_by_label("Path or constant").focus()
        page.locator("#event [data-path='$.properties.total']").click()
        expect(page.locator("#valid")).to_have_text("valid")
        expect(page.locator("#request .o").first).to_have_text("would be sent")
        mark("rule changed")
        page.get_by_role("button", name=re.compile("^Compare with")).click()
        expect(page.locator("#group-result")).to_contain_text(f"{found['open']} of {found['open']} dead letters")
        expect(page.locator("#recent-result")).not_to_contain_text("no longer sent")
        mark("compared")
        save(page, "Save live", "meta: read totals with a decimal comma")
        expect(page.locator("#saved-now")).to_contain_text("The console uses the rules")
        mark("saved")
        page.get_by_role("link", name="Replay the group").click()
        page.get_by_role("button", name=f"Replay {found['open']} dead letters").click()
        page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        expect(page.locator("#job .msg.g")).to_contain_text(f"{found['open']} replayed")
        expect(page.locator("#job .o.delivered")).to_have_text(f"{found['open']} delivered")
        mark("delivered")
        page.goto(f"/?q=m-{numbers[0]}")
        expect(card(page, "meta").locator("summary .o")).to_have_text("delivered")
    sent = json.dumps([each for each in unchanged.at_vendors() if "/events" in each["path"]])
    assert "100.9" in sent
    assert git(unchanged.folder, "log", "-1", "--format=%s") == "meta: read totals with a decimal comma"
    with capsys.disabled():
        for (_, before), (name, at) in pairwise(marks):
            print(f"\n  {name}: {at - before:.1f} s", end="")


def test_rules_can_be_edited_while_kafka_is_away(console):
    """Without Kafka there is no event to choose and nothing to compare with, but the file can be edited."""
    page = console.get(f"/rules/{META.replace('meta', 'webhook')}", role=Role.EDITOR)
    assert page.status_code == 200
    assert "cannot reach Kafka" in page.text
    assert 'name="text"' in page.text
