from copy import deepcopy
from typing import Any

import pytest

from streams.events import EventError
from streams.steps.context import DefaultContext
from streams.steps.kinds import Kinds
from streams.steps.step import run_steps


def no_note(_reason: str, _detail: str) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("own", "context"),
    [
        ({}, {"app": {"name": "shop", "version": "2"}, "tags": ["a"]}),
        ({"context": None}, {"app": {"name": "shop", "version": "2"}, "tags": ["a"]}),
        (
            {"context": {"app": {"version": "3"}, "tags": [], "x": 1}},
            {"app": {"version": "3", "name": "shop"}, "tags": [], "x": 1},
        ),
        ({"context": {"app": None, "tags": None}}, {"app": None, "tags": None}),
        ({"context": {"app": "text"}}, {"app": "text", "tags": ["a"]}),
    ],
)
def test_a_default_context_goes_under_the_events(own: dict[str, Any], context: dict[str, Any]):
    """Defaults are filled in at any depth, only for keys that the event lacks; null counts as present."""
    step = DefaultContext({"app": {"name": "shop", "version": "2"}, "tags": ["a"]})
    taken = run_steps([step], {"type": "page", "userId": "u", **own}, no_note)
    assert taken == {"type": "page", "userId": "u", "context": context}


def test_a_default_context_is_each_events_own():
    """What a later step changes in one event is in no other, and not in the setting."""
    setting = {"app": {"name": "shop"}, "tags": [{"a": 1}]}
    step = DefaultContext(deepcopy(setting))
    first, second = (step({"type": "page", "userId": "u"}, no_note) for _ in range(2))
    first["context"]["app"]["name"] = "other"
    first["context"]["tags"][0]["a"] = 2
    assert second["context"] == step.context == setting


def test_kinds_reject_what_is_none_of_them():
    """The reason names the type, which is one of the spec's six."""
    step = Kinds(frozenset({"page"}))
    assert run_steps([step], {"type": "page", "userId": "u"}, no_note) == {"type": "page", "userId": "u"}
    with pytest.raises(EventError, match="type: the source does not accept track events") as refused:
        run_steps([step], {"type": "track", "event": "e", "userId": "u"}, no_note)
    assert refused.value.code == "kind"
