"""Privacy: the account of one user, and who may suppress."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import overflow, tab, violations
from tests.deploy.console.serving import ServedConsole, serving_console
from tests.deploy.console.shop import order

USER = "u-privacy-1"
ANONYMOUS = "a-privacy-1"


def change(console: ServedConsole, role: Role, name: str, **fields: str):
    """Send the form of a change, and request JSON."""
    client = console.session(role)
    form = {"csrf": console.csrf(client), **fields}
    headers = {"accept": "application/json"}
    return client.post(f"{console.url}/privacy/{name}", form, headers=headers, timeout=120)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize("name", ["suppress", "lift"])
def test_only_editors_change_the_list(console, role, name):
    """Viewers and operators are refused before anything is read or written."""
    answer = change(console, role, name, user="u-1")
    assert (answer.status_code, f"you are {role}" in answer.json()["error"]) == (403, True)


@pytest.mark.parametrize("fields", [{}, {"user": " "}, {"user": "x" * 1_001}])
def test_bad_ids_are_refused(console, fields):
    """Without an ID, or with one that is too long, nothing is written."""
    assert change(console, Role.EDITOR, "suppress", **fields).status_code == 400


def test_page_without_kafka(console):
    """Without Kafka, the page says so, and does not say that the user is not suppressed."""
    assert console.get("/privacy?user=u-1", role=Role.VIEWER).status_code == 503
    assert console.get("/privacy", role=Role.VIEWER).status_code == 503


@pytest.fixture(scope="module")
def user_events(shop) -> None:
    """Two events of a user: one with consent, one without; the ledger has their outcomes."""
    denied = {**order(70)["context"], "consent": {"categoryPreferences": {"advertising": False, "analytics": True}}}
    shop.send(
        order(70, userId=USER, anonymousId=ANONYMOUS, messageId="m-privacy-1"),
        order(71, userId=USER, anonymousId=ANONYMOUS, messageId="m-privacy-2", context=denied),
    )
    shop.until_settled()


@pytest.mark.browser
def test_account_of_a_user(user_events, shop_console):
    """For each integration: how many events were sent, under which consent, and with which personal data."""
    page = shop_console.get(f"/privacy.json?user={USER}", role=Role.OPERATOR).json()
    account = page["account"]
    assert (page["since"], account["found"], account["consent"]["denied"]) == (None, 2, ["advertising"])
    assert account["ids"] == [{"path": "anonymousId", "value": ANONYMOUS, "events": 2}]
    rows = {it["integration"]: it for it in account["integrations"]}
    meta = rows["meta"]
    assert (meta["delivered"], meta["others"], meta["needs"]) == (1, {"consent": 1}, ["advertising"])
    assert meta["grants"] == ["grants advertising, analytics"]
    assert {"data": "email", "hashed": True} in meta["personal"]
    assert {"data": "ip", "hashed": False} in meta["personal"]
    assert {"data": "email", "hashed": False} in rows["crm"]["personal"]
    assert (rows["file"]["delivered"], rows["file"]["personal"]) == (2, [{"data": "the whole event", "hashed": False}])
    viewed = shop_console.get(f"/privacy.json?user={USER}", role=Role.VIEWER).text
    assert ANONYMOUS not in viewed


@pytest.mark.browser
def test_suppress_and_lift(chromium, user_events, shop, configuration, tmp_path: Path):
    """An editor suppresses a user with all IDs after a confirmation; events stop; the lift lets them through again."""
    file = tmp_path / "audit"
    with serving_console(configuration, file) as console:
        with tab(chromium, console, Role.OPERATOR, width=390) as page:
            page.goto(f"/privacy?user={USER}")
            expect(page.get_by_role("button", name="Suppress…")).to_be_disabled()
            expect(page.get_by_text("Needs the role editor")).to_be_visible()
            assert not violations(page)
            assert not overflow(page)
        with tab(chromium, console, Role.EDITOR) as page:
            page.goto("/privacy")
            page.get_by_role("searchbox", name="userId or anonymousId").fill(USER)
            page.get_by_role("button", name="Show").click()
            page.get_by_role("button", name="Suppress…").click()
            page.get_by_label("Reason, for the audit log").fill("ticket 5512")
            assert not violations(page)
            page.get_by_role("dialog").get_by_role("button", name="Suppress").click()
            expect(page.locator(".toast")).to_have_text("2 IDs are suppressed, from the next event on.")
            expect(page.get_by_role("button", name="Lift the suppression…")).to_be_visible()
            shop.send(order(72, userId=USER, anonymousId=ANONYMOUS, messageId="m-privacy-3"))
            shop.until_settled()
            rows = console.get("/find.json?q=m-privacy-3", role=Role.EDITOR).json()["events"][0]["integrations"]
            assert {it["outcome"] for it in rows} == {"suppressed"}
            page.reload()
            page.get_by_role("button", name="Lift the suppression…").click()
            page.get_by_role("dialog").get_by_role("button", name="Lift the suppression").click()
            expect(page.locator(".toast")).to_contain_text("no longer suppressed")
            expect(page.get_by_role("button", name="Suppress…")).to_be_visible()
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(it["action"], it["reason"], len(it["ids"])) for it in entries] == [
        ("suppress", "ticket 5512", 2),
        ("lift suppression", "", 2),
    ]
    assert USER not in file.read_text()
