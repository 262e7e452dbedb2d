"""What holds of any rules and any event."""

import copy
import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import fuzzing
from transforms import DROP, Failure, RuleError, compile_condition, compile_mapping, read_rules
from transforms.directives import DIRECTIVES
from transforms.documents import Document

NAMES = st.sampled_from(["a", "b", "a b", "", "type", "event", "$", "0", "__class__", "'", '"', "\\", "{{", "\n", "é"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=3)
)
EVENTS = st.dictionaries(NAMES, JSON, max_size=4)
PATHS = st.sampled_from(
    [
        "$",
        "$.a",
        "$.a.b",
        "$.b[0]",
        "$.a[-1].b",
        "$.a[*].b",
        "$..a",
        "$.a[1:]",
        "$.a[?(@.b>1)]",
        "$['a','b']",
        "$.a[?(@.a=='x')].b",
        "$.a.`len`",
        "$.a..b[0]",
        "$.a[?(@.a == $.b)]",
        "$.a[?(!@.b)]",
        "$.a[?@.b =~ 'x']",
        "$[?(@.a)]",
        "$.b[0,1]",
        "$.a[?(@.b == null || @.a)]",
    ]
)
CONDITIONS = st.sampled_from(
    [
        "a = 1",
        'a.b != "x"',
        "a > 1 or b = null",
        'contains(a, "x")',
        '!match(a.b, "a*b")',
        'a in [1, "x", null]',
        "length(a) > 1",
        'lowercase(event) = "x"',
        'type = "track" and event = "x"',
        "!(exists($.a[*].b))",
        "$.a[0] = 1",
    ]
)


@st.composite
def _directives(draw, inner):
    """A directive with arguments of the kinds that it takes."""
    definition = DIRECTIVES[draw(st.sampled_from(sorted(set(DIRECTIVES) - {"@call"})))]
    kinds = {
        "path": PATHS,
        "template": st.sampled_from(["{{a}}", "x{{a.b}}{{{b}}}", "plain"]),
        "text": st.sampled_from(["a", ",", "1"]),
        "true or false": st.booleans(),
        "whole number": st.integers(0, 5),
        "condition": CONDITIONS,
        "value": inner,
        "list of values": st.lists(inner, max_size=3),
        "object": st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
        "list of objects": st.lists(PATHS | st.dictionaries(NAMES, inner, max_size=2), max_size=3),
        "regular expression": st.sampled_from(["a", "(.)(x)?", "^$"]),
        "object, or the name of a file beside": st.just({"a": [1], "1": {}}),
    }
    arguments = {}
    for name, argument in definition.arguments.items():
        if argument.required or draw(st.booleans()):
            words = st.sampled_from([*argument.kind.replace(",", "").split(" or "), "iso", "%Y", "49"])
            arguments[name] = draw(kinds.get(argument.kind, words))
    if isinstance(definition.short, tuple):
        return {definition.name: list(arguments.values())}
    return {definition.name: next(iter(arguments.values())) if len(definition.arguments) == 1 else arguments}


@st.composite
def _wild_directives(draw, inner):
    """Any directive with anything for its value."""
    name = draw(st.sampled_from(sorted(DIRECTIVES)))
    options = st.dictionaries(st.sampled_from(sorted(DIRECTIVES[name].arguments)), inner, max_size=4)
    return {name: draw(inner | options | st.lists(inner, max_size=3))}


MAPPINGS = st.recursive(
    SCALARS | PATHS | st.sampled_from(["{{a}}", "x {{a.b}} y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3) | _directives(inner),
    max_leaves=12,
)
WILD = st.recursive(
    SCALARS | PATHS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text(), inner) | _wild_directives(inner),
    max_leaves=12,
)
FEW = settings(max_examples=fuzzing.examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(MAPPINGS, st.lists(EVENTS, min_size=1, max_size=4))
def test_a_compiled_mapping_never_raises_and_changes_nothing(mapping, events):
    """A mapping that compiles gives the same for the same event, whatever the event, and leaves it as it was."""
    try:
        function = compile_mapping(mapping)
    except RuleError:
        return
    for event in events:
        before = copy.deepcopy(event)
        first = function(event)
        assert repr(function(event)) == repr(first)
        assert event == before


@FEW
@given(WILD)
def test_any_data_compiles_or_is_refused(data):
    """Compiling any data gives a function or a RuleError."""
    with suppress(RuleError):
        compile_mapping(data)({"a": {"b": [1, "x"]}})


@FEW
@given(
    st.text() | CONDITIONS.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at] + "(" + text[at:]))
)
def test_any_text_is_a_condition_or_refused(text):
    """A condition compiles or is refused with a place in it."""
    mistake = None
    try:
        assert compile_condition(text)({}) in {True, False}
    except RuleError as error:
        mistake = error
    assert mistake is None or (mistake.line >= 1 and 1 <= mistake.column <= len(text) + 1)


@FEW
@given(CONDITIONS, EVENTS)
def test_a_condition_never_raises(text, event):
    """A condition holds or does not, whatever the event."""
    assert compile_condition(text)(event) in {True, False}


@FEW
@given(st.text(), st.text())
def test_what_stands_in_rules_is_only_ever_a_constant(key, value):
    """No key or value becomes code: both come out as they went in."""
    assert compile_mapping({f"k{key}": {"@literal": value}})({}) == {f"k{key}": value}
    if not set("'\\") & set(key):
        assert compile_mapping({"a": f"$['{key}']"})({key: value}) == {"a": value}


@pytest.mark.parametrize(
    "text",
    [
        "'); raise SystemExit #",
        '"""',
        "\\",
        "{__import__('os')}",
        "\n    raise SystemExit",
        "{{__import__('os').system('x')}}",
        "\x00",
        "\u2028",
        "\ud800",
        "ᵢf",
    ],
)
def test_hostile_text_is_data(text):
    """Text that tries to leave its quotes does not, as key, value, name in a path, template or condition."""
    mapping = {text: {"@literal": text}, "n": {"@lookup": {"table": {text: text}, "key": {"@literal": text}}}}
    assert compile_mapping(mapping)({}) == {text: text, "n": text}
    replaced = {"@replace": {"pattern": text, "replacement": text, "value": {"@literal": text}}}
    assert compile_mapping(replaced)({}) == text
    if '"' not in text and "\\" not in text:
        assert compile_condition(f'x = "{text}"')({"x": text}) is True
    if "'" not in text and "\\" not in text:
        assert compile_mapping(f"$['{text}']")({text: 1}) == 1


DEEP = 100_000


@pytest.mark.parametrize("directive", sorted(set(DIRECTIVES) - {"@call", "@transform", "@if", "@lookup"}))
@pytest.mark.parametrize("kind", [list, dict])
def test_a_deep_event_breaks_no_directive(directive, kind):
    """Events nested deeper than Python's stack go through every directive that takes a value."""
    value = _deep(kind)
    definition = DIRECTIVES[directive]
    arguments = {
        "part": "os.name", "hints": "$.x",
        "operator": "lower", "pattern": "a", "separator": "_", "mode": "encode", "objects": ["$.x"], "length": 3,
        "values": ["$.x"], "value": "$.x", "path": "$.x", "shape": {"a": "$.a"}, "template": "{{x}}",
    }  # fmt: skip
    given_arguments = {name: arguments[name] for name in definition.arguments if name in arguments}
    if isinstance(definition.short, tuple) or len(definition.arguments) == 1:
        values = list(given_arguments.values())
        function = compile_mapping({directive: values if isinstance(definition.short, tuple) else values[0]})
    else:
        function = compile_mapping({directive: given_arguments})
    function({"x": value})
    _dismantle(value)


@pytest.mark.parametrize("kind", [list, dict])
def test_a_deep_event_breaks_no_condition_and_no_path(kind):
    """Events nested deeper than Python's stack go through comparisons, filters and descendants."""
    value = _deep(kind)
    assert compile_condition('x = "a" or x = 1 or x = null or contains(x, "a")')({"x": value}) is False
    compile_mapping({"a": "$..b", "b": "$.x[?(@.a == $.x)]", "c": "$.x[?(@ == $.x)]"})({"x": value})
    _dismantle(value)


def _deep(kind):
    value = 1
    for _ in range(DEEP):
        value = [value] if kind is list else {"a": value}
    return value


def _dismantle(value):
    """Take the nesting apart, so that freeing it needs no deep stack."""
    while isinstance(value, list | dict):
        value = value.pop() if isinstance(value, list) else value.pop("a")


@FEW
@given(MAPPINGS, EVENTS)
@example({"@path": "$.a"}, {"a": 1})
def test_rules_give_an_object_or_say_why_not(mapping, event):
    """`apply` never raises: each payload is an object, DROP or a Failure."""
    text = json.dumps({"rules": [{"map": mapping, "when": "type = null or type != null"}]})
    try:
        document = Document.parse(text, "rules.yaml")
    except RuleError:  # YAML has no pairs of surrogates
        return
    rules, errors = read_rules(document)
    if rules is None:
        assert all(error.line and error.column and error.path for error in errors)
        return
    for _, payload in rules.apply(event):
        assert isinstance(payload, dict | Failure) or payload is DROP
