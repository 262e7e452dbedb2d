"""Every action is refused without its role: the control is disabled and says why, and the request is refused too."""

import pytest
from playwright.sync_api import expect
from starlette.routing import Route

from deploy.console.access.roles import Role
from tests.deploy.console.browsing import tab

GROUP = "0123456789ab"
ACTIONS = {
    "/event/replay": Role.OPERATOR,
    f"/issues/{GROUP}/replay": Role.OPERATOR,
    f"/issues/{GROUP}/drop": Role.OPERATOR,
    "/integrations/meta/pause": Role.OPERATOR,
    "/integrations/meta/resume": Role.OPERATOR,
    "/integrations/meta/probe": Role.OPERATOR,
    "/integrations/meta/test": Role.OPERATOR,
    "/integrations/meta/turn-on": Role.EDITOR,
    "/integrations/meta/shadow": Role.EDITOR,
    "/integrations/meta/drain": Role.EDITOR,
    "/integrations/meta/take-new": Role.EDITOR,
    "/integrations/-/new": Role.EDITOR,
    "/catalog/plan": Role.EDITOR,
    "/rules/draft/try": Role.EDITOR,
    "/rules/draft/event": Role.EDITOR,
    "/rules/draft/form": Role.EDITOR,
    "/rules/draft/changes": Role.EDITOR,
    "/rules/draft/save": Role.EDITOR,
    "/privacy/suppress": Role.EDITOR,
    "/privacy/lift": Role.EDITOR,
}
"""The path of each action, and the role that it needs."""

SEND = """async ([path, token]) => {
  const answer = await fetch(path, {method: 'POST', headers: {'x-csrf-token': token, accept: 'application/json'}});
  return [answer.status, (await answer.json()).error];
}"""


def test_every_action_is_listed(console):
    """The list above has every action of the console, so that none is left untested."""
    screens = (route for screen in console.app._screens for route in screen.routes())
    paths = {route.path for route in screens if isinstance(route, Route) and "POST" in (route.methods or ())}
    listed = {path.replace(GROUP, "{group}").replace("/meta/", "/{name}/") for path in ACTIONS}
    assert paths == listed


@pytest.mark.browser
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_requests_without_the_role_are_refused(chromium, console, role):
    """A request that a user sends past the disabled control is refused, and the answer names both roles."""
    refused = {path: needed for path, needed in ACTIONS.items() if not role.may(needed)}
    assert refused
    with tab(chromium, console, role, expected="403") as page:
        page.goto("/integrations")
        token = page.evaluate("JSON.parse(document.body.getAttribute('hx-headers:inherited'))['X-CSRF-Token']")
        for path, needed in refused.items():
            status, error = page.evaluate(SEND, [path, token])
            assert (status, f"needs the role {needed}, and you are {role}" in error) == (403, True), path


@pytest.mark.browser
@pytest.mark.parametrize(
    ("path", "role", "controls", "reason"),
    [
        ("/integrations", Role.VIEWER, ["Add an integration…"], "Needs the role editor"),
        ("/integrations", Role.OPERATOR, ["Add an integration…"], "Needs the role editor"),
        ("/integrations/ga4", Role.VIEWER, ["Pause", "Test with the simulator"], "need the role operator"),
        ("/integrations/ga4", Role.OPERATOR, ["Put in shadow…", "Drain and turn off…"], "needs the role editor"),
    ],
)
def test_controls_without_the_role_are_disabled(chromium, console, path, role, controls, reason):
    """A control that needs another role is there, disabled, and described by the role that it needs."""
    with tab(chromium, console, role) as page:
        page.goto(path)
        for name in controls:
            control = page.get_by_role("button", name=name, exact=True)
            expect(control).to_be_disabled()
            expect(page.locator(f"#{control.get_attribute('aria-describedby')}")).to_contain_text(reason)


@pytest.mark.browser
def test_refusal_is_a_toast(chromium, console):
    """If a control is enabled by hand, its click shows why it is refused."""
    with tab(chromium, console, Role.VIEWER, expected="403") as page:
        page.goto("/integrations/ga4")
        page.evaluate("document.querySelectorAll(':disabled').forEach(it => { it.disabled = false; })")
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.locator(".toast")).to_contain_text("This needs the role operator, and you are viewer.")
