"""Flow shows deliveries and events that Kafka's retention removed before they were read."""

import time
from pathlib import Path

from deploy.console.access.roles import Role
from streams.ledger.sqlite_store import SqliteStore
from streams.records.outcomes import OutcomeInterval
from tests.deploy.console.flow_numbers import check_flow, counts
from tests.deploy.console.serving import EXAMPLE, LEDGER_KEY, example, serving_console, serving_ledger
from tests.streams.ledger.making import Records, feed


def test_losses_have_their_own_column(tmp_path: Path):
    """Lost deliveries are a column of their integration, lost events a line; the sums are those of `turnout counts`."""
    records, now = Records(), int(time.time() * 1000) - 600_000
    records.run(0, range(20), [OutcomeInterval("ga4", "r", "forwarded", 0, 19)], at=now)
    records.outcomes(0, [OutcomeInterval("ga4", "r", "delivered", 0, 11)], at=now)
    records.lost_deliveries(0, "ga4", 0, 20, [("r", [(18, 19)])], at=now)
    records.lost_events(0, 20, 49, at=now)
    store = SqliteStore(tmp_path, LEDGER_KEY, 7)
    feed(store, records.made)
    with serving_ledger(tmp_path) as port, serving_console(example(port)) as console:
        whole = console.get("/flow.json", role=Role.VIEWER).json()
        data = console.get("/flow.json?integration=ga4", role=Role.VIEWER).json()
        page = console.get("/flow?integration=ga4", role=Role.VIEWER).text
        counted = counts(EXAMPLE, port)
    store.close()
    check_flow(whole, counted)
    (row,) = [row for row in data["integrations"] if row["name"] == "ga4"]
    assert (row["delivered"], row["lost"], row["waiting"], row["differs"]) == (12, 6, 2, 0)
    assert (data["unread"], counted["lost"], data["accepted"]) == (30, 30, 20)
    assert "30 events were lost." in page
    assert 'data-l="lost">6<' in page
    assert any((each["outcome"], each["reason"], each["count"]) == ("lost", "retention", 6) for each in data["detail"])
