"""Issues: groups of dead letters, what their events have in common, and replay of a group."""

import json
import re
import time
from itertools import pairwise

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from deploy.cli.main import main
from deploy.console.access.roles import Role
from tests.deploy.console.browsing import card, overflow, tab, violations
from tests.deploy.console.shop import POISON, hostile, order

pytestmark = pytest.mark.browser

COMMA = "needs custom_data.value"
REFUSED = "Invalid parameter"


def groups(console, query="", role=Role.OPERATOR):
    """The groups that the page shows."""
    answer = console.get(f"/issues.json{query}", role=role)
    assert answer.status_code == 200, answer.text
    return answer.json()["groups"]


def group(console, text):
    """Return the group whose message contains a text; None if no group does."""
    return next((each for each in groups(console) if text in each["message"]), None)


def purchases(first, number, total, poison=""):
    """Orders of different customers with a new version of the app."""
    events = []
    for each in range(first, first + number):
        event = order(each, total)
        event["properties"]["order_id"] = f"A-{poison or 'x'}-{each}"
        event["context"]["app"] = {"version": "2026.48.0"}
        events.append(event)
    return events


@pytest.fixture(scope="module")
def issues(shop, shop_console):
    """The shop with 12 purchases that cannot be mapped, 5 that Meta refuses, and 20 that it takes."""
    shop.simulate({"path": "/v", "poison": POISON, "times": None})
    shop.send(*purchases(6000, 12, "149,90"), *purchases(6020, 5, 12.5, POISON), *(order(6100 + n) for n in range(20)))
    shop.until_settled()
    shop.until(lambda: (group(shop_console, COMMA) or {"open": 0})["open"] >= 12)
    shop.until(lambda: (group(shop_console, REFUSED) or {"open": 0})["open"] >= 5)
    return shop


def test_groups_are_those_of_the_command(chromium, issues, shop_console):
    """The list has the groups, numbers and lines of `turnout dead groups --json`."""
    variables = {"TURNOUT_LEDGER__PORT": issues.ledger_port}
    ran = CliRunner().invoke(main, ["dead", "groups", "--config", str(issues.folder), "--json"], env=variables)
    assert ran.exit_code == 0, ran.output
    expected = json.loads(ran.stdout)["groups"]
    shown = groups(shop_console)
    for name in ("id", "open", "total", "first", "last", "hours", "integration", "rule", "status"):
        assert [each[name] for each in shown] == [each[name] for each in expected], name
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/issues")
        expect(page.locator("[data-rows] tr")).to_have_count(len(expected))
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"/issues/{expected[0]['id']}$"))
        page.goto("/issues?integration=crm")
        expect(page.get_by_role("heading", name="No open dead letters")).to_be_visible()
    assert shop_console.get("/issues?sort=<b>", role=Role.VIEWER).status_code == 400


def test_cause_is_named(chromium, issues, shop_console):
    """A group says which field differs from delivered events of the same rule, with examples of both."""
    found = group(shop_console, COMMA)
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto(f"/issues/{found['id']}")
        row = page.locator("[aria-labelledby=common] tbody tr").first
        expect(row.locator("th")).to_have_text("properties.total")
        expect(row).to_contain_text(re.compile("text with a comma, 1[0-9] of 1[0-9]"))
        expect(row).to_contain_text('"149,90"')
        expect(row).to_contain_text(re.compile(r"number, (\d+) of \1"))
        expect(page.locator("#fix ~ p").first).to_contain_text("preset")
        examples = page.locator("[aria-labelledby=examples] tbody tr")
        expect(examples.first).to_contain_text('"149,90"')
        examples.first.get_by_role("link").click()
        expect(card(page, "meta").locator("summary .o")).to_have_text("dead")


def test_request_and_answer_are_shown(chromium, issues, shop_console):
    """A group that the vendor refused has the request and the answer of its newest dead letter."""
    found = group(shop_console, REFUSED)
    with tab(chromium, shop_console, Role.OPERATOR) as page:
        page.goto(f"/issues/{found['id']}")
        expect(page.get_by_label("Answer of the newest dead letter")).to_contain_text("OAuthException")
        page.get_by_role("tab", name="Request").click()
        expect(page.get_by_label("Request of the newest dead letter")).to_contain_text("/1048/events")


def test_viewers_see_no_personal_data_and_cannot_replay(chromium, issues, shop_console):
    """Personal data is masked for viewers in the page and in JSON; replay and drop need a role and the token."""
    found = group(shop_console, COMMA)
    for path in (f"/issues/{found['id']}", f"/issues/{found['id']}.json"):
        text = shop_console.get(path, role=Role.VIEWER).text
        assert not re.search(r"u-8160|lena60|84\.17\.40\.9", text), path
        assert "lena60" in shop_console.get(path, role=Role.OPERATOR).text
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto(f"/issues/{found['id']}")
        expect(page.get_by_role("button", name=re.compile("^Replay"))).to_be_disabled()
        expect(page.get_by_role("button", name=re.compile("^Drop"))).to_be_disabled()
        expect(page.get_by_text("Replay and drop need the role operator.")).to_be_visible()
    for name in ("replay", "drop"):
        url = f"{shop_console.url}/issues/{found['id']}/{name}"
        viewer, operator = shop_console.session(Role.VIEWER), shop_console.session(Role.OPERATOR)
        assert viewer.post(url, {"csrf": shop_console.csrf(viewer)}, timeout=60).status_code == 403
        assert operator.post(url, {"csrf": "guess"}, timeout=60).status_code == 403
        unknown = f"{shop_console.url}/issues/{'0' * 12}/{name}"
        assert operator.post(unknown, {"csrf": shop_console.csrf(operator)}, timeout=60).status_code == 404
    assert group(shop_console, COMMA)["open"] == found["open"]


@pytest.mark.parametrize(
    "path", ["/issues/..%2f..%2fetc", "/issues/<b>", f"/issues/{'0' * 12}", f"/issues/{'0' * 12}/job"]
)
def test_unknown_groups(issues, shop_console, path):
    """A path without a group is 404."""
    assert shop_console.get(path, role=Role.VIEWER).status_code == 404


def test_missing_purchases_are_found_replayed_and_delivered(chromium, issues, shop_console, capsys):
    """Purchases are missing at Meta: Find says why, Issues replays all of their group, and they are delivered."""
    marks = [("begin", time.monotonic())]

    def mark(name):
        marks.append((name, time.monotonic()))

    with tab(chromium, shop_console, Role.OPERATOR) as page:
        page.goto("/")
        page.get_by_label("Message ID, user or coordinates").fill("m-6021")
        page.get_by_role("button", name="Find").click()
        expect(card(page, "meta").locator("summary .o")).to_have_text("dead")
        mark("found by messageId")
        expect(card(page, "meta").locator(".msg").first).to_contain_text("refused it. 400")
        page.get_by_role("link", name="Issues").click()
        page.get_by_role("link", name=re.compile(REFUSED)).click()
        expect(page.get_by_label("Answer of the newest dead letter")).to_contain_text("OAuthException")
        mark("reason of the group")
        issues.forgive()
        number = group(shop_console, REFUSED)["open"]
        page.get_by_role("button", name=f"Replay {number} dead letters").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("heading")).to_have_text(f"Replay {number} dead letters to meta?")
        dialog.get_by_role("button", name=f"Replay {number} dead letters").click()
        expect(page.locator(".toast")).to_have_text(f"Replaying {number} dead letters.")
        expect(page.locator("#job .msg.g")).to_contain_text(f"{number} replayed")
        mark("replayed")
        expect(page.locator("#job .o.delivered")).to_have_text(f"{number} delivered")
        mark("delivered")
        assert not violations(page)
        page.goto("/?q=m-6021")
        expect(card(page, "meta").locator("summary .o")).to_have_text("delivered")
        mark("delivered in Find")
    issues.until(lambda: group(shop_console, REFUSED) is None)
    sent = json.dumps([each for each in issues.at_vendors() if "/events" in each["path"]])
    assert all(f"A-{POISON}-{each}" in sent for each in range(6020, 6025))
    entries = [each for each in shop_console.backend.audit_log.recent if "group" in each]
    assert [each["action"] for each in entries[:2]] == ["replay group finished", "replay group"]
    assert entries[0]["result"] == {"replayed": number}
    assert "m-6021" not in json.dumps(entries)
    with capsys.disabled():
        for (_, before), (name, at) in pairwise(marks):
            print(f"\n  {name}: {at - before:.1f} s", end="")


def test_replay_that_fails_again_says_so(issues, shop_console):
    """Dead letters that today's rules cannot map either are not sent, stay open, and the result says why."""
    found, client = group(shop_console, COMMA), shop_console.session(Role.OPERATOR)
    url = f"{shop_console.url}/issues/{found['id']}"
    answer = client.post(
        f"{url}/replay", {"csrf": shop_console.csrf(client)}, headers={"Accept": "application/json"}, timeout=60
    )
    assert answer.json()["job"]["total"] == found["open"]
    issues.until(lambda: client.get(f"{url}/job.json", timeout=60).json()["job"]["finished"])
    job = client.get(f"{url}/job.json", timeout=60).json()["job"]
    assert sum(job["report"].values()) == found["open"]
    assert job["error"] is None


def test_group_is_dropped(chromium, issues, shop_console):
    """A dropped group is no longer open, and nothing is sent; it is listed with the handled ones."""
    issues.simulate({"path": "/v", "poison": POISON, "times": None})
    issues.send(*purchases(6200, 3, 12.5, POISON))
    issues.until_settled()
    issues.until(lambda: (group(shop_console, REFUSED) or {"open": 0})["open"] >= 3)
    found = group(shop_console, REFUSED)
    sent = len(issues.at_vendors())
    with tab(chromium, shop_console, Role.OPERATOR) as page:
        page.goto(f"/issues/{found['id']}")
        page.get_by_role("button", name="Drop 3 dead letters").click()
        page.get_by_role("dialog").get_by_role("button", name="Drop 3 dead letters").click()
        expect(page.locator("#job .msg.g")).to_contain_text("3 dropped")
        issues.until(lambda: group(shop_console, REFUSED) is None)
        page.goto("/issues?all=1")
        expect(page.get_by_role("link", name=re.compile(REFUSED))).to_be_visible()
        page.goto(f"/issues/{found['id']}")
        expect(page.get_by_text("All dead letters of this group are handled.")).to_be_visible()
    assert len(issues.at_vendors()) == sent


def test_hostile_dead_letters_are_harmless(chromium, issues, shop_console):
    """Markup and control characters in every field of a failed event are text in its group."""
    event = hostile(6300)
    event |= {
        "event": "Order Completed",
        "context": {**event["context"], "consent": order(1)["context"]["consent"]},
    }
    issues.send(event)
    issues.until_settled()
    issues.until(lambda: group(shop_console, COMMA)["last"] and any(
        "6300" in json.dumps(shop_console.get(f"/issues/{each['id']}.json", role=Role.EDITOR).json()["newest"])
        for each in groups(shop_console)
    ))  # fmt: skip
    for each in groups(shop_console):
        with tab(chromium, shop_console, Role.EDITOR, width=390) as page:
            page.goto(f"/issues/{each['id']}")
            page.evaluate("document.querySelectorAll('[hidden]').forEach(it => { it.hidden = false; })")
            assert page.locator("main script, main img, main a[href^='javascript']").count() == 0
            assert not {character for character in "\x1b\u202e" if character in page.content()}
            assert overflow(page) == 0
