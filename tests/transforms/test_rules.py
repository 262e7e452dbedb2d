"""The rules of an integration's file."""

import json
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest

from transforms import DROP, Failure, compile_condition, compile_mapping, read_rules
from transforms.directives import calls
from transforms.documents import Document

CASES = Path(__file__).parents[1] / "cases" / "rules"


@pytest.mark.parametrize("path", sorted((CASES / "invalid").glob("*.yaml")), ids=lambda path: path.stem)
def test_mistakes(path):
    """All of a file's mistakes come at once, each with its place and exact text, in the order of their lines."""
    rules, errors = read_rules(Document.parse(path.read_bytes(), path.name))
    assert rules is None
    assert "".join(f"{error}\n" for error in errors) == path.with_suffix(".txt").read_text()


def _read(data, name, preset=None):
    rules, errors = read_rules(Document.parse(_yaml(data), name), preset=preset)
    assert errors == []
    return rules


def _yaml(data):
    return json.dumps(data, ensure_ascii=False)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["does"]) for case in Document.read(CASES / "merges.yaml").data]
)
def test_rules(case):
    """A file's rules, over a preset's where there is one, give these payloads."""
    preset = Document.parse(_yaml(case["preset"]), "preset.yaml") if "preset" in case else None
    rules = _read(case["file"], "file.yaml", preset)
    if "names" in case:
        assert list(rules.names) == case["names"]
    for event, name in case.get("many", []):
        assert [found for found, _ in rules.apply(event)] == [name]
    if "gives" in case:
        results = [[name, "DROP" if payload is DROP else payload] for name, payload in rules.apply(case["event"])]
        assert results == case["gives"]


def test_a_mistake_in_a_preset_names_its_file():
    """Mistakes in either file are found, each with its own path."""
    document = Document.parse("rules: [{name: a, map: {x: '$.['}}]", "own.yaml")
    preset = Document.parse("rules: [{name: b, wen: x, map: {}}]", "preset.yaml")
    _, errors = read_rules(document, preset=preset)
    assert [(error.path, error.line) for error in errors] == [("own.yaml", 1), ("preset.yaml", 1)]


@pytest.fixture
def function(monkeypatch):
    """A function that another package registered."""
    raised = []

    def fail(value):
        raised.append(value)
        raise ValueError(f"secret {value}")

    functions = {"fail": fail, "double": lambda value: value and value * 2}
    entries = {name: SimpleNamespace(load=lambda each=each: each) for name, each in functions.items()}
    monkeypatch.setattr(calls, "_installed", lambda: entries)
    return raised


def test_a_function_of_another_package(function):
    """@call returns the result of a registered function, with null for missing arguments."""
    rules = _read(
        {"rules": [{"name": "r", "map": {"a": {"@call": {"function": "double", "arguments": ["$.n"]}}}}]}, "f.yaml"
    )
    assert rules.apply({"n": 4}) == (("r", {"a": 8}),)
    assert rules.apply({}) == (("r", {"a": None}),)


def test_a_mapping_that_raises_names_its_line_and_no_value(function):
    """A field that raises makes a Failure with rule, line and column, without data of the event or error."""
    text = """
rules:
  - name: bad
    map:
      fine: 1
      broken:
        "@call": {function: fail, arguments: [$.email]}
"""
    rules, _ = read_rules(Document.parse(text, "ga4.yaml"))
    ((name, failure),) = rules.apply({"email": "ada@example.com"})
    assert name == "bad"
    assert failure == Failure("bad", 7, 18, "ga4.yaml", "the mapping raised ValueError")
    assert function == ["ada@example.com"]


def test_a_map_that_gives_no_object():
    """A rule's map that is a directive and gives no object makes a Failure."""
    rules = _read({"rules": [{"name": "r", "map": {"@path": "$.properties"}}]}, "f.yaml")
    assert rules.apply({"properties": {"a": 1}}) == (("r", {"a": 1}),)
    assert rules.apply({"properties": [1]})[0][1].error == "the map gave a list, not an object"
    assert rules.apply({})[0][1].error == "the map gave nothing, not an object"


@pytest.mark.parametrize("event", [None, 5, "x", []])
def test_an_event_that_is_no_object_breaks_nothing(event):
    """What is not an event makes a Failure of no rule."""
    for when, match in (('event = "x" and n > 1', "first"), ("n = null", "all")):
        rules = _read({"match": match, "rules": [{"name": "r", "when": when, "map": {"a": "$.a"}}]}, "f.yaml")
        ((name, failure),) = rules.apply(event)
        assert name == ""
        assert failure.error.startswith("the event is ")


def test_the_generated_code_reads_like_a_persons():
    """Golden: the compiler's output for a small file."""
    document = Document.read(CASES / "generated.yaml")
    rules, _ = read_rules(Document.parse(document.text, "generated.yaml"))
    assert rules.source == (CASES / "generated.py.txt").read_text()


def test_a_traceback_shows_the_generated_line(function):
    """Generated lines are in linecache, so that tracebacks show them."""
    mapping = compile_mapping({"a": {"@call": {"function": "fail", "arguments": ["$.x"]}}})
    with pytest.raises(ValueError, match="secret") as caught:
        mapping({"x": 1})
    assert "FUNCTION_1" in "".join(traceback.format_exception(caught.value))


def test_a_table_in_a_file_beside(tmp_path):
    """@lookup reads a table from a file beside the rules, and from nowhere else."""
    (tmp_path / "countries.yaml").write_text("de: Germany\n")
    (tmp_path / "rules.yaml").write_text("rules: [{name: r, map: {a: {'@lookup': {table: countries.yaml, key: $.c}}}}]")
    rules, errors = read_rules(Document.read(tmp_path / "rules.yaml"))
    assert errors == []
    assert rules.apply({"c": "de"}) == (("r", {"a": "Germany"}),)


def test_rules_that_share_tests_are_looked_up():
    """Of 200 rules on type and event, an event meets only those in question."""
    data = [
        {"name": f"r{n}", "when": f'type = "track" and event = "e{n}" and n > {n}', "map": {"n": n}} for n in range(200)
    ]
    rules = _read({"rules": data}, "f.yaml")
    met = []

    def meet(frame, kind, _):
        if kind == "call" and frame.f_code.co_name.startswith("rule_"):
            met.append(frame.f_code.co_name)

    sys.setprofile(meet)
    try:
        rules.apply({"type": "track", "event": "e199", "n": 500})
    finally:
        sys.setprofile(None)
    assert met == ["rule_200"]


def test_too_many_rules():
    """A file of more than a thousand rules is refused, and quickly."""
    text = "rules:\n" + "".join(f"- {{when: 'event = \"{n}\"', drop: true}}\n" for n in range(1001))
    _, errors = read_rules(Document.parse(text, "f.yaml"))
    assert [str(error) for error in errors] == [
        "f.yaml:2:1: there are more than 1,000 rules (use @lookup, or split the file)"
    ]


@pytest.mark.parametrize("value", ["a" * 30 + "b", "a" * 100_000 + "b"])
def test_regular_expressions_are_linear(value):
    """A pattern that takes others exponential time takes this one none to speak of."""
    mapping = compile_mapping(
        {"a": {"@match": {"value": "$.x", "pattern": "(a+)+$"}}, "b": "$[?(@ =~ '^(a+)+$')]", "c": "$.x"}
    )
    start = time.process_time()
    assert mapping({"x": value}) == {"b": [], "c": value}
    assert time.process_time() - start < 5


def test_globs_are_linear():
    """`match` with many stars takes linear time."""
    condition = compile_condition(f'match(x, "{"*a" * 200}*b")')
    start = time.process_time()
    assert condition({"x": "a" * 100_000}) is False
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["{" * 100_000, "{{a" * 30_000, "{{" + "a" * 100_000])
def test_templates_are_linear(text):
    """A template that comes from the event takes linear time, whatever its braces."""
    mapping = compile_mapping({"@template": {"@path": "$.x"}})
    start = time.process_time()
    assert mapping({"x": text}) == text
    assert time.process_time() - start < 5


SPELLED = """
rules:
  - {name: exact, when: 'type = "track" and event = "order_completed"', map: {a: 1}}
  - {name: order, when: 'type = "track" and words(event) = "Order Completed"', map: {a: 2}}
  - {name: lead, when: 'words(event) in ["Lead", "Lead Generated"]', map: {a: 3}}
  - {name: both, when: 'words(event) = "signed up" and event = "Signed_Up"', map: {a: 4}}
  - {name: either, when: 'words(event) = "cart" or event = "Basket"', map: {a: 5}}
  - {name: large, when: 'words(event) = "big order" and properties.n > 1', map: {a: 6}}
otherwise: drop
"""


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ("order_completed", "exact"),
        ("Order Completed", "order"),
        ("ORDER-COMPLETED", "order"),
        ("orderCompleted", "order"),
        ("lead", "lead"),
        ("LEAD_GENERATED", "lead"),
        ("Signed_Up", "both"),
        ("Signed Up", ""),
        ("CART", "either"),
        ("Basket", "either"),
        ("basket", ""),
        ("big_order", "large"),
        ("Big Order", "large"),
        ("order completed twice", ""),
        ("x" * 5000, ""),
        (None, ""),
        (5, ""),
        ([], ""),
    ],
)
def test_names_in_words_are_found_in_any_spelling(event: object, rule: str):
    """The lookup by type and name finds the rules whose conditions hold, exact ones and those in words."""
    rules, mistakes = read_rules(Document.parse(SPELLED, "spelled.yaml"))
    assert rules, mistakes
    assert [name for name, _ in rules.apply({"type": "track", "event": event, "properties": {"n": 2}})] == [rule]


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ('words(event) = "Order Completed"', 'event = "order_completed"', True),
        ('words(event) = "Order Completed"', 'words(event) = "order_completed"', True),
        ('event = "order_completed"', 'words(event) = "Order Completed"', False),
        ('words(event) = "a" and words(event) = "A"', 'event = "b"', False),
    ],
)
def test_a_rule_behind_one_in_words_can_be_unreachable(first: str, second: str, never: bool):
    """A rule is refused if an earlier one takes every spelling that it names."""
    text = f"rules: [{{name: one, when: '{first}', drop: true}}, {{name: two, when: '{second}', drop: true}}]"
    rules, mistakes = read_rules(Document.parse(text, "rules.yaml"))
    assert (rules is None) is never
    assert ["never match" in str(mistake) for mistake in mistakes] == ([True] if never else [])


@pytest.mark.parametrize(
    "condition", ["words(event) = 5", "words(event) = null", 'words(event) = " - "', "words(event) > 1"]
)
def test_words_are_compared_with_words(condition: str):
    """A constant without words is refused."""
    _, mistakes = read_rules(Document.parse(f"rules: [{{name: one, when: '{condition}', drop: true}}]", "rules.yaml"))
    assert mistakes
