"""What `turnout up` prints about events."""

from types import SimpleNamespace
from typing import Any

import pytest

from deploy.live.live_view import OutcomeRow, SeenEvent
from deploy.runtime.up_output import Terminal


def test_an_integration_that_was_added_since_the_start(capsys: pytest.CaptureFixture[str]):
    """Its outcomes are shown, although the terminal does not have its file."""
    configuration: Any = SimpleNamespace(integrations={}, source_files={})
    seen = SeenEvent("web", {"type": "track", "event": "Order", "userId": "u"})
    rows = [OutcomeRow("late", "", "filtered"), OutcomeRow("late", "", "draining")]
    Terminal(configuration).show_update((seen, rows, []))
    printed = capsys.readouterr().out
    assert "late  filtered    no rule matches" in printed
    assert "late  draining    the integration is draining and takes no new events" in printed
