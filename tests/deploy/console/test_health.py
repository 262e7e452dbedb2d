"""Health: `turnout status` as a page, and who changed what."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from deploy.cli.main import main
from deploy.config.history import has_changes, read_history
from deploy.console.access.roles import Role
from tests.deploy.console.browsing import tab


def git(folder, *arguments):
    author = ["-c", "user.name=Ada & L", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", "-C", folder, *author, *arguments], check=True, capture_output=True)


def test_history_is_that_of_the_folder(tmp_path):
    """Changes of the folder are listed with author, subject and files; those of other folders are not."""
    folder = tmp_path / "config"
    folder.mkdir()
    assert read_history(folder) is None
    git(tmp_path, "init", "-q")
    assert not read_history(folder)
    for name, subject in (
        ("config/meta.yaml", "Read totals"),
        ("other.txt", "Something else"),
        ("config/ü.yaml", "Ü\x1b[31m"),
    ):
        (tmp_path / name).write_text(subject)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", subject)
    newest, first = read_history(folder)
    assert (newest.who, newest.subject, newest.files) == ("Ada & L", "Ü\x1b[31m", ("ü.yaml",))
    assert first.files == ("meta.yaml",)
    assert not has_changes(folder)
    (folder / "meta.yaml").write_text("changed")
    assert has_changes(folder)


@pytest.mark.browser
def test_page_is_that_of_status(shop, shop_console):
    """The page's JSON has what `turnout status --json` prints."""
    page = shop_console.get("/health.json", role=Role.VIEWER).json()
    ran = CliRunner().invoke(main, ["status", "--config", str(shop.folder), "--json"])
    status = json.loads(ran.stdout)
    assert page["problems"] == status["problems"]
    for name in ("processes", "integrations"):
        ids = [{each.get("id") or each["name"] for each in data[name]} for data in (page, status)]
        assert ids[0] == ids[1]
    assert {process["kind"] for process in page["processes"]} >= {"collector", "router", "forwarder"}


@pytest.mark.browser
def test_paused_integration_comes_first(chromium, shop, shop_console):
    """An integration that is paused comes first, with who paused it, until it is resumed."""
    run = CliRunner()
    assert run.invoke(main, ["pause", "webhook", "--config", str(shop.folder)]).exit_code == 0
    try:
        with tab(chromium, shop_console, Role.VIEWER) as page:
            page.goto("/health")
            first = page.locator("section", has=page.locator("#hi")).locator("tbody tr").first
            expect(first).to_contain_text("webhook")
            expect(first).to_contain_text("paused")
            expect(first).to_contain_text("by ")
    finally:
        assert run.invoke(main, ["resume", "webhook", "--config", str(shop.folder)]).exit_code == 0


@pytest.mark.browser
def test_page_renews_itself(chromium, shop_console):
    """The page is loaded again while it is open, without losing the focus."""
    with tab(chromium, shop_console, Role.VIEWER) as page:
        page.goto("/health")
        before = page.locator("h1 + p time").get_attribute("datetime")
        page.get_by_role("link", name="As JSON").focus()
        expect(page.locator("h1 + p time")).not_to_have_attribute("datetime", before)
        expect(page.get_by_role("link", name="As JSON")).to_be_focused()
