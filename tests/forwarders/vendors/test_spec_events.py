"""The standard events of the event spec at every vendor."""

from typing import Any

import pytest

from tests.support import golden, spec_events

WITH_MODEL = [name for name in golden.NAMES if golden.of(name).forwarder.contract.payload]


@pytest.mark.parametrize("name", WITH_MODEL)
def test_standard_events_are_valid(name: str) -> None:
    """No standard event or call becomes a dead letter, whether its sender knows the user, the visitor or both."""
    forwarder, problems = golden.of(name).make(), {}
    for event in (*spec_events.TRACKS, *spec_events.CALLS):
        for identity in spec_events.IDENTITIES:
            given: dict[str, Any] = spec_events.event(event, identity)
            if event == "alias" and "userId" not in given:
                continue
            for _, payload in spec_events.made(golden.of(name), given):
                if isinstance(payload, dict) and (error := forwarder.validate(payload)):
                    problems[event, identity] = error
    assert not problems
