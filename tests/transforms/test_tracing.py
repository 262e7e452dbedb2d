"""What a trace says of a result, held against the compiled rules."""

import json

import pytest
from hypothesis import example, given

from tests.transforms.test_properties import CONDITIONS, EVENTS, FEW, MAPPINGS, PATHS
from transforms import MISSING, Failure, RuleError, compile_condition, read_rules
from transforms.documents import Document
from transforms.model.nodes import Call
from transforms.rules import DROP
from transforms.syntax.conditions import parse_condition
from transforms.syntax.paths import parse_path
from transforms.syntax.unparse import condition_text, path_text
from transforms.tracing import Tracer, calls


def read(text):
    rules, errors = read_rules(Document.parse(text, "rules.yaml"))
    assert rules is not None, errors
    return rules


def trace(text, event):
    return Tracer(read(text)).trace(event)


@FEW
@given(MAPPINGS, CONDITIONS, EVENTS)
@example({"@arrayPath": ["$", {}]}, "a = 1", {})
def test_a_trace_agrees_with_the_compiled_rules(mapping, when, event):
    """Whatever the rules and the event, the traced payload is the one that the compiled function gives."""
    try:
        rules, _ = read_rules(
            Document.parse(
                json.dumps({"rules": [{"when": when, "map": mapping}], "otherwise": {"a": mapping}}), "r.yaml"
            )
        )
    except RuleError:  # YAML has no pairs of surrogates
        return
    if rules is None:
        return
    ((name, payload),) = rules.apply(event)
    last = Tracer(rules).trace(event)[-1]
    assert last.rule.name == name
    if isinstance(payload, Failure):
        return
    assert repr(last.payload.value) == repr(payload)
    for each in last.payload.walk():
        agrees_with_its_inputs(each)


def agrees_with_its_inputs(traced):
    """A directive's traced parts give the directive's result."""
    if not isinstance(traced.node, Call):
        return
    name, inputs = traced.node.directive.name, traced.inputs
    if name in {"@each", "@arrayPath", "@pluck"} and any(isinstance(key, int) for key in inputs):
        kept = [each.value for key, each in inputs.items() if isinstance(key, int) and each.value is not MISSING]
        assert repr(kept) == repr(traced.value)
    elif name == "@transform":
        assert repr(inputs["mapping"].value) == repr(traced.value)
    elif name == "@if":
        taken = inputs.get("then") or inputs.get("else")
        assert repr(taken.value if taken else MISSING) == repr(traced.value)
    elif name in {"@default", "@coalesce"} and inputs:
        last = list(inputs.values())[-1].value
        assert repr(MISSING if last is None else last) == repr(traced.value)


@FEW
@given(CONDITIONS, EVENTS)
def test_a_traced_condition_agrees_with_the_compiled_one(when, event):
    """The trace of a condition agrees with the compiled one, and names parts that explain a failure."""
    traced = trace(json.dumps({"rules": [{"when": when, "map": {"a": 1}}]}), event)[0].condition
    assert traced.holds is compile_condition(when)(event)
    assert list(traced.blame())


@FEW
@given(PATHS)
def test_a_path_reads_back(text):
    """A path's text parses to the path again."""
    path = parse_path(text)
    assert parse_path(path_text(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        'type = "track" and (event = "a" or event in ["b", 1, null])',
        "(a = 1 or b = 2) and !(c = 3 and d = 4)",
        '!contains(properties.x, "y\\"") and !match(a, "x*y") and lowercase($[\'a b\'][0]) = "c"',
        "!exists(traits.email) and length($..products) >= 2.5",
    ],
)
def test_a_condition_reads_back(text):
    """A condition's text parses to the condition again, and a well-written one is that text."""
    condition = parse_condition(text)
    assert parse_condition(condition_text(condition)) == condition
    assert condition_text(condition) == text


RULES = """
rules:
  - name: first
    when: type = "track" and (event = "A" or event = "B") and exists(properties.plan)
    map: {a: 1}
  - name: second
    when: type = "track"
    map:
      total: {"@number": $.properties.total}
      name: {"@default": [$.properties.first, $.properties.last, $.never]}
      lines: {"@each": [$.properties.lines, {sku: $.sku}]}
  - {name: third, map: {b: 1}}
"""
EVENT = {"type": "track", "event": "B", "properties": {"total": "much", "last": "L", "lines": [{"sku": 1}, {}]}}


def test_the_parts_that_were_false():
    """A rule that did not match blames the test that failed and not those that held."""
    first = trace(RULES, EVENT)[0]
    assert not first.matched
    assert [condition_text(part.condition) for part in first.condition.blame()] == ["exists(properties.plan)"]


def test_rules_after_the_first_match_are_not_tried():
    """With first match the trace ends at the rule that took the event."""
    assert [each.rule.name for each in trace(RULES, EVENT)] == ["first", "second"]


def test_all_rules_are_tried_where_all_may_match():
    """With `match: all` the trace has every rule."""
    assert [each.matched for each in trace("match: all" + RULES, EVENT)] == [False, True, True]


def test_a_cast_that_failed():
    """A directive that got a value and gave none says so; one that had none to begin with does not."""
    fields = trace(RULES, EVENT)[1].payload.inputs
    assert fields["total"].failed
    assert not fields["name"].failed
    without = trace(RULES, {**EVENT, "properties": {}})[1].payload.inputs
    assert not without["total"].failed


def test_what_a_field_read():
    """A field names the paths that were read for it, up to the one that was taken."""
    fields = trace(RULES, EVENT)[1].payload.inputs
    assert [(path_text(path), value) for path, value in fields["name"].reads] == [
        ("$.properties.first", MISSING),
        ("$.properties.last", "L"),
    ]


def test_each_item_has_a_trace():
    """The items of `@each` are traced one by one."""
    lines = trace(RULES, EVENT)[1].payload.inputs["lines"]
    assert [lines.inputs[index].value for index in (0, 1)] == [{"sku": 1}, {}]


def test_a_rule_that_drops_has_no_payload():
    """A rule that drops matched, and has nothing to show; otherwise that drops is no rule."""
    (only,) = trace("rules: [{name: x, drop: true}]", {})
    assert (only.matched, only.payload) == (True, None)
    assert read("rules: []").apply({}) == (("", DROP),)
    assert trace("rules: []", {}) == []


def test_every_directive_of_a_tree():
    """`calls` finds directives at any depth."""
    rule = read('rules: [{map: {a: [{"@number": {"@default": [{"@string": $.a}]}}]}}]').rules[0]
    assert [call.directive.name for call in calls(rule.shape)] == ["@number", "@default", "@string"]
