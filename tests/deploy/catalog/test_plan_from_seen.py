"""A plan made from seen events is valid, accepts the usual events, and notes the unusual ones."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.catalog.plan_from_seen import NothingSeenError, plan_from_seen
from deploy.config.plan_check import check_plan
from streams.steps.plan import Plan, PlanStep
from tests.deploy.catalog.seen import seen_events, track
from transforms.documents import Document

ORDER = {"id": "A-1", "total": 1.5, "coupon": None, "products": [{"sku": "B"}], "address": {"city": "Ulm"}}


def planned(*events) -> Plan:
    """The plan that is made from these events."""
    document = Document.parse(plan_from_seen("shop", seen_events(*events)).encode(), "plans/shop.yaml")
    plan = Plan.model_validate(document.data)
    assert not list(check_plan(document, plan))
    return plan


def notes(plan: Plan, event: dict) -> list[str]:
    """Return the plan's notes about an event."""
    found: list[str] = []
    PlanStep(plan)(event, lambda _, detail: found.append(detail))
    return found


def test_usual_events_fit_and_others_are_noted():
    """Seen types, names and required properties are planned; a rare type counts as a mistake."""
    usual = [track("Order", **ORDER) for _ in range(29)]
    plan = planned(*usual, track("Order", **{**ORDER, "total": "1,50"}))
    assert notes(plan, usual[0][1]) == []
    (noted,) = notes(plan, track("Order", **{**ORDER, "total": "1,50"})[1])
    assert noted == "shop: Order: $.properties.total type"
    (noted,) = notes(plan, track("Order", **{**ORDER, "products": [{"sku": 3}]})[1])
    assert noted == "shop: Order: $.properties.products[0].sku type"
    (noted,) = notes(plan, track("Order", id="A-1")[1])
    assert {"$.properties.total required", "$.properties.address required"} <= set(noted[13:].split(", "))
    # Only null was seen, so any value may come.
    assert notes(plan, track("Order", **{**ORDER, "coupon": "WELCOME"})[1]) == []
    assert notes(plan, track("Oder")[1]) == ["shop: track: unplanned_event"]


def test_few_events_require_nothing():
    """What a handful of events have in common is not required."""
    plan = planned(track("Order", **ORDER), track("Order", **ORDER))
    assert notes(plan, track("Order")[1]) == []


def test_traits_and_pages_are_planned():
    """Identify and group calls have traits, pages and screens have properties."""
    plan = planned(
        ("web", {"type": "identify", "traits": {"plan": "pro"}}), ("web", {"type": "page", "properties": {"path": "/"}})
    )
    assert {it.label: list(it.schemas) for it in plan.events} == {"identify": ["traits"], "page": ["properties"]}


def test_names_that_stand_for_several_are_left_out():
    """Neither an event nor a property is planned whose name the catalog does not keep."""
    plan = planned(track("Order", user_4711=1, total=2), track("mail to a@b.example", total=1))
    assert [it.label for it in plan.events] == ["Order"]
    assert set(plan.events[0].properties["properties"]) == {"total"}
    with pytest.raises(NothingSeenError):
        planned(track("mail to a@b.example"))


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=20),
            st.dictionaries(
                st.text(min_size=1, max_size=12),
                st.recursive(
                    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
                    max_leaves=4,
                ),
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_events_give_a_valid_plan(events):
    """Whatever names and values events have, the plan is valid, and has no value."""
    with suppress(NothingSeenError):
        planned(*(("web", {"type": "track", "event": name, "properties": properties}) for name, properties in events))


def test_command_writes_the_plan(tmp_path: Path):
    """`turnout new plan --seen` queries the ledger, and reports an error if it is unreachable."""
    from click.testing import CliRunner

    from deploy.cli.main import main
    from tests.deploy.catalog.seen import write_catalog
    from tests.deploy.console.serving import serving_ledger

    (tmp_path / "config").mkdir()
    (tmp_path / "ledger").mkdir()
    write_catalog(tmp_path / "ledger", track("Order", **ORDER), ("app", {"type": "track", "event": "Opened"}))
    folder = tmp_path / "config"
    run = ["new", "plan", "seen", "--seen", "--config", str(folder)]
    with serving_ledger(tmp_path / "ledger") as port:
        (folder / "turnout.yaml").write_text(f"ledger: {{port: {port}}}\n")
        ran = CliRunner().invoke(main, run)
        assert ran.exit_code == 0, ran.output
        assert {it["event"] for it in Document.read(folder / "plans" / "seen.yaml").data["events"]} == {
            "Order",
            "Opened",
        }
        assert CliRunner().invoke(main, [*run, "--source", "shop"]).exit_code == 2
    (folder / "plans" / "seen.yaml").unlink()
    ran = CliRunner().invoke(main, run)
    assert ran.exit_code == 1
    assert "no ledger answers" in ran.output
