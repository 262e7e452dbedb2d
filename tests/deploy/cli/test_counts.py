"""`turnout counts --funnel`."""

from deploy.cli.count_tables import funnel_rows


def row(source: str, integration: str, outcome: str, count: int) -> dict[str, object]:
    return {"source": source, "integration": integration, "outcome": outcome, "count": count}


def test_a_funnel_adds_up():
    """Each outcome is in one column, so that they add up to all outcomes of a source and integration."""
    outcomes = [
        "forwarded", "delivered", "filtered", "opted_out", "consent", "sampled", "suppressed", "duplicate",
        "quarantined", "expired", "dead", "lost",
    ]  # fmt: skip
    rows = [row("web", "crm", outcome, 2**index) for index, outcome in enumerate(outcomes)]
    rows += [row("app", "crm", "delivered", 7), row("web", "", "rejected", 9)]
    app, web = funnel_rows(rows)
    assert (app["source"], app["delivered"], app["outcomes"]) == ("app", 7, 7)
    assert web == {
        "source": "web", "integration": "crm", "outcomes": 2**12 - 1, "not_sent": sum(2**n for n in range(2, 9)),
        "waiting": 1, "expired": 2**9, "dead": 2**10, "lost": 2**11, "delivered": 2,
    }  # fmt: skip
    columns = ("not_sent", "waiting", "expired", "dead", "lost", "delivered")
    assert sum(web[name] for name in columns) == web["outcomes"]
