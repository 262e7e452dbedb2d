"""Catalog: events beside plans and rules, and plans made from seen events."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from deploy.config.configuration import read_configuration
from deploy.console.access.roles import Role
from streams.kafka.settings import Broker
from streams.ledger.settings import LedgerSettings
from tests.deploy.catalog.seen import track, write_catalog
from tests.deploy.console.browsing import overflow, tab, violations
from tests.deploy.console.serving import EXAMPLE, NOWHERE, ServedConsole, serving_console, serving_ledger
from tests.deploy.console.shop import order

ORDER = {"order_id": "A-1", "total": 1.5, "currency": "EUR", "products": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "config"))


@pytest.fixture
def catalog_console(folder: Path, tmp_path: Path):
    """A console with a catalog and without Kafka."""
    write_catalog(tmp_path / "ledger", track("Order Completed", **ORDER), track("Order Completed", totl=2))
    with serving_ledger(tmp_path / "ledger") as port, serving_console(at(folder, port), tmp_path / "audit") as served:
        yield served


def at(folder: Path, port: int):
    """The configuration of a folder with its ledger at a port, and nobody at Kafka's address."""
    read = read_configuration(folder)
    changes = {"broker": Broker(bootstrap=NOWHERE), "ledger": LedgerSettings(port=port)}
    return replace(read, settings=read.settings.model_copy(update=changes))


def write_plan(console: ServedConsole, role: Role, **fields: str):
    """Have the console write a plan."""
    client = console.session(role)
    return client.post(
        f"{console.url}/catalog/plan",
        {"csrf": console.csrf(client), **fields},
        headers={"accept": "application/json"},
        timeout=60,
    )


def test_page_without_kafka_has_everything_but_examples(catalog_console):
    """Without Kafka there are events, properties, plans and rules, and a sentence about the examples."""
    page = catalog_console.get("/catalog.json", role=Role.VIEWER).json()
    assert [(it["event"], it["sampled"], it["chosen"]) for it in page["events"]] == [("Order Completed", 2, True)]
    chosen = page["chosen"]
    assert NOWHERE in chosen["problem"]
    rows = {row["path"]: row for row in chosen["properties"]}
    assert (rows["properties.total"]["share"], rows["properties.total"]["plan"]) == (0.5, "missing")
    assert rows["properties.totl"]["plan"] == "not in plan"
    assert {it["path"] for it in chosen["ignored"]} == {"properties.totl"}
    assert "webhook" in {it["reader"] for it in rows["properties.order_id"]["read_by"] if not it["whole"]}
    assert rows["properties.email"]["number"] == 0
    assert {it["path"] for it in chosen["lacking"] if not it["preset"]} >= {"properties.email"}


def test_rules_for_events_that_never_come_are_named(folder, tmp_path):
    """A rule of the folder's own files for an event that nobody sends is named with its line."""
    rules = "rules:\n  - {name: typo, when: 'event = \"Order Compleeted\"', map: {id: $.properties.order_id}}\n"
    (folder / "integrations" / "crm.yaml").write_text(
        f"integration: crm\nforwarder: webhook\nsettings: {{url: 'http://127.0.0.1:1'}}\n{rules}"
    )
    write_catalog(tmp_path / "ledger", track("Order Completed", **ORDER))
    with serving_ledger(tmp_path / "ledger") as port, serving_console(at(folder, port)) as console:
        waiting = console.get("/catalog.json", role=Role.VIEWER).json()["waiting"]
    assert {
        "reader": "crm",
        "rule": "typo",
        "where": "integrations/crm.yaml:5",
        "events": "Order Compleeted",
    } in waiting


def test_plan_is_written_once_and_is_valid(catalog_console, folder, tmp_path):
    """An editor writes a plan that `turnout check` accepts; a file is not overwritten; the audit log has it."""
    done = write_plan(catalog_console, Role.EDITOR, name="seen", source="web")
    assert (done.status_code, done.json()["file"]) == (200, "plans/seen.yaml")
    source = folder / "sources" / "web.yaml"
    source.write_text(source.read_text().replace("plan: shop", "plan: seen"))
    assert read_configuration(folder).source_files["web"].plan == "seen"
    before = (folder / "plans" / "seen.yaml").read_text()
    assert write_plan(catalog_console, Role.EDITOR, name="seen").status_code == 409
    assert (folder / "plans" / "seen.yaml").read_text() == before
    assert '"files":["plans/seen.yaml"],"mode":"live"' in (tmp_path / "audit").read_text()


@pytest.mark.parametrize(
    ("role", "fields", "status"),
    [
        (Role.VIEWER, {"name": "seen"}, 403),
        (Role.OPERATOR, {"name": "seen"}, 403),
        (Role.EDITOR, {"name": "../turnout"}, 400),
        (Role.EDITOR, {"name": "seen", "source": "nowhere"}, 400),
        (Role.EDITOR, {"name": "seen", "source": "server"}, 409),
    ],
)
def test_plan_is_refused(catalog_console, folder, role, fields, status):
    """Without the role editor, with a bad name, or if nothing was seen, no file is written."""
    assert write_plan(catalog_console, role, **fields).status_code == status
    assert {path.name for path in (folder / "plans").iterdir()} == {"shop.yaml"}


def test_unknown_event_and_empty_catalog(catalog_console, folder, tmp_path):
    """An event that is not in the catalog is a 404; an empty catalog says what to do."""
    assert catalog_console.get("/catalog?type=track&event=None", role=Role.VIEWER).status_code == 404
    write_catalog(tmp_path / "empty")
    with serving_ledger(tmp_path / "empty") as port, serving_console(at(folder, port)) as console:
        assert "Send an event; it is here a few seconds later." in console.get("/catalog", role=Role.VIEWER).text


@pytest.mark.browser
def test_examples_are_masked_for_viewers(chromium, shop, shop_console):
    """An operator sees values, a viewer masked ones; a field links to its plan and rules."""
    path = "/catalog?type=track&event=Order+Completed"

    def has_examples() -> bool:
        shop.send(order(50))
        answer = shop_console.get(path.replace("?", ".json?"), role=Role.OPERATOR)
        return answer.status_code == 200 and bool(answer.json()["chosen"]["samples"])

    shop.until(has_examples)
    shop.until_settled()
    for role, shown in ((Role.OPERATOR, True), (Role.VIEWER, False)):
        answer = shop_console.get(path.replace("?", ".json?"), role=role).text
        assert ("lena50@nordlicht.example" in answer) is shown
        assert ("84.17.40.9" in answer) is shown
        with tab(chromium, shop_console, role) as page:
            page.goto(path)
            row = page.locator("tr", has_text="context.traits.email")
            expect(row).to_contain_text("lena" if shown else "•••")
            expect(row).to_contain_text("hashed")
            expect(page.locator("tr", has_text="properties.total")).to_contain_text("meta")


@pytest.mark.browser
def test_tracking_plan_is_made_in_the_browser(chromium, catalog_console, folder):
    """An editor names the plan, reads it, and writes it; others see a disabled button, and the role that it needs."""
    with tab(chromium, catalog_console, Role.OPERATOR) as page:
        page.goto("/catalog")
        expect(page.get_by_role("button", name="Make a tracking plan…")).to_be_disabled()
        expect(page.get_by_text("Needs the role editor")).to_be_visible()
    with tab(chromium, catalog_console, Role.OPERATOR, expected="403") as page:
        page.goto("/catalog/plan")
        expect(page.get_by_role("main")).to_contain_text("This needs the role editor, and you are operator.")
    for width in (1280, 390):
        with tab(chromium, catalog_console, Role.EDITOR, width=width) as page:
            page.goto("/catalog")
            page.get_by_role("link", name="Make a tracking plan…").click()
            page.get_by_label("Name").fill(f"seen-{width}")
            page.get_by_role("button", name="Show the plan").click()
            expect(page.get_by_label("Text of the plan")).to_contain_text("- event: Order Completed")
            assert not violations(page)
            assert not overflow(page)
            page.get_by_role("button", name=f"Write plans/seen-{width}.yaml").click()
            expect(page.locator(".toast")).to_contain_text(f"Name the plan in a source's file: plan: seen-{width}")
        assert (folder / "plans" / f"seen-{width}.yaml").exists()
