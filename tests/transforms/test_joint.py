"""Joint functions give the same results as each integration's single functions."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.events import EventError, normalize, read
from tests.streams.test_any_record import USUAL
from tests.streams.test_any_record import events as odd_events
from tests.support import fuzzing, golden
from transforms import DROP, Failure, Rules, read_rules
from transforms.documents import Document
from transforms.joint import COMPILE_AFTER, MAX_CANDIDATES, JointRules


def read_all(*texts: str) -> list[Rules]:
    found = []
    for text in texts:
        rules, errors = read_rules(Document.parse(text, "rules.yaml"))
        assert rules, errors
        found.append(rules)
    return found


class Joined:
    """Joint rules that compile the function of each kind at its first event."""

    def __init__(self, rules: Sequence[Rules]) -> None:
        self.rules, self.joint = rules, JointRules(rules)

    def check(self, event: Any, wanted: Sequence[bool] | None = None) -> Any:
        """Compare the results with those of the single functions, also their types and the order of their keys."""
        wanted = wanted or [True] * len(self.rules)
        while not self.joint.is_compiled(event):
            self.joint.apply(event, wanted)
        results = self.joint.apply(event, wanted)
        single = [rules.apply(event) if is_wanted else () for rules, is_wanted in zip(self.rules, wanted, strict=True)]
        if results is None:
            assert any(isinstance(payload, Failure) for made in single for _, payload in made)
        else:
            assert repr([list(made) for made in results]) == repr([list(made) for made in single])
        return results


@pytest.fixture(scope="module")
def presets() -> Joined:
    return Joined([golden.of(name).preset for name in golden.NAMES])


@pytest.mark.parametrize("event", USUAL, ids=lambda event: f"{event['type']} {event.get('event', '')}")
def test_all_presets_give_the_same_for_usual_events(presets: Joined, event: Any):
    """Every event of the conformance suite, with as few fields as possible and with all."""
    assert presets.check(normalize(dict(event))) is not None


@settings(
    max_examples=fuzzing.examples(60),
    deadline=None,
    derandomize=not fuzzing.LONG,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(text=odd_events(), seed=st.integers(0, 2**32))
def test_all_presets_give_the_same_for_any_event(presets: Joined, text: bytes, seed: int):
    """Events with values of other types, missing objects and deep nesting; for all integrations, or some of them."""
    try:
        event = normalize(read(text))
    except EventError:
        return
    presets.check(event)
    presets.check(event, [bool(seed >> number & 1) for number in range(len(presets.rules))])


RULES = """
map:
  id: $.messageId
  email: {"@hash": $.context.traits.email}
rules:
  - name: large
    when: type = "track" and event = "A" and properties.n > 10
    map: {size: large}
  - name: small
    when: type = "track" and event in ["A", "B"]
    map: {size: {"@number": $.properties.n}, text: 'it''s "{event}"'}
  - name: noise
    when: words(event) = "page viewed"
    drop: true
"""
OTHERS = """
map:
  email: {"@hash": $.context.traits.email}
  items: {"@each": [$.properties.products, {id: $.id, n: {"@number": $.n}}]}
rules:
  - name: any
    when: exists(context.traits.email)
    map: {list: {"@each": [$.properties.products, {n: {"@number": $.n}}]}}
otherwise: {type: $.type}
"""
SEVERAL = """
match: all
rules:
  - {name: one, map: {a: 1}}
  - {name: two, when: event = "A", map: {b: 2}}
"""


NAMES: list[Any] = ["A", "B", "C", "Page Viewed", "page_viewed", "", None, 7, True, [], {}, "type"]


@pytest.mark.parametrize("kind", ["track", "page", None, 7, []])
def test_rules_with_conditions_give_the_same(kind: Any):
    """Of first match, of all matches, with names in words, drops and `otherwise`; for any type and name."""
    joined = Joined(read_all(RULES, OTHERS, SEVERAL, "rules: []"))
    for name, n, traits in product(NAMES, [1, "11.5", 12, None], [{}, {"email": "ada@example.com"}, None]):
        products = [{"id": "p", "n": n}, {"n": True}, 3, None]
        properties = {"n": n, "products": products}
        event = {"type": kind, "event": name, "messageId": "m", "properties": properties, "context": {"traits": traits}}
        if isinstance(kind, list) or isinstance(name, list | dict):
            assert joined.joint.apply(event, [True] * 4) is None
        else:
            assert joined.check(event) is not None


def test_a_map_that_raises_is_left_to_the_single_functions(monkeypatch: pytest.MonkeyPatch):
    """They report which rule failed; the other integrations get their payloads from theirs."""

    def fail() -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("transforms.directives.calls._installed", lambda: {"fail": Entry(fail)})
    failing, fine = read_all('rules: [{name: r, map: {a: {"@call": fail}}}]', "rules: [{name: s, map: {b: 1}}]")
    joined = Joined([failing, fine])
    assert joined.check({"type": "track"}) is None
    assert joined.check({"type": "track"}, [False, True]) == [(), (("s", {"b": 1}),)]


class Entry:
    """An entry point of a function."""

    value = "tests:fail"

    def __init__(self, function: Any) -> None:
        self._function = function

    def load(self) -> Any:
        return self._function


def test_a_kind_is_compiled_once_it_is_frequent():
    """A rare name, and one that no rule has, costs no compilation, and takes no memory."""
    joint = JointRules(read_all(RULES))
    for number in range(1, COMPILE_AFTER):
        assert joint.apply({"type": "track", "event": "A"}, [True]) is None, number
    ((_, payload),) = joint.apply({"type": "track", "event": "A", "messageId": "m"}, [True])[0]
    assert payload == {"id": "m", "text": 'it\'s "{event}"'}
    assert joint.apply({"type": "track", "event": "B"}, [True]) is None
    for number in range(COMPILE_AFTER):
        joint.apply({"type": "track", "event": f"made-up {number}"}, [True])
    assert joint.kinds == 3
    assert joint.apply({"type": "track", "event": "another"}, [True]) == [(("", DROP),)]


def test_an_integration_with_many_candidates_gives_the_same():
    """More than one function should try."""
    rules = [f"{{name: r{n}, when: properties.n = {n}, map: {{n: {n}}}}}" for n in range(MAX_CANDIDATES + 5)]
    joined = Joined(read_all(f"rules: [{', '.join(rules)}]", RULES))
    for n in (0, MAX_CANDIDATES + 2, 99):
        assert joined.check({"type": "track", "event": "A", "properties": {"n": n}}) is not None


def test_equal_numbers_of_other_types_stay_apart():
    """1, 1.0, true and "1" are equal keys in Python, but other values in a payload."""
    texts = [f"rules: [{{name: r, map: {{a: {{b: {value}}}, c: [{value}]}}}}]" for value in ("1", "1.0", "true", '"1"')]
    tests = [
        f'rules: [{{name: r, map: {{a: {{"@if": {{when: n = {value}, then: x}}}}}}}}]' for value in ("1", "1.0", "true")
    ]
    joined = Joined(read_all(*texts, *tests))
    for n in (1, 1.0, True):
        assert joined.check({"type": "track", "n": n}) is not None
