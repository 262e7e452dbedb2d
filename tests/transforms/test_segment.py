"""Generated rules give the same results as in Segment's own engine, except for the differences below.

Deliberately different, and so not made here:
- a plain string that looks like a path or template is one; theirs are only in `@path` and `@template`
- missing items leave a list; theirs leave a hole, which JSON writes as null (left out by engine.js)
- `else` may be false, 0, '' or null; theirs is then missing. So may a fixed value in `@case` and `@replace`
- `@merge` leaves a missing key as the other object has it; theirs takes it out
- `@merge` takes nothing from text and lists; theirs spread them
- `@replace` takes `$&` and `$1` as text; theirs fills them in
- a template is filled in once; theirs fills in `{{…}}` that a `{{{…}}}` brought
- text has no items and lists no `length`; theirs do
- `and` binds tighter than `or`, parentheses nest (also those of functions), `!(…)` negates, `match` takes `*` anywhere
- `f != 1` holds of all but the number 1; theirs is false of whatever is no number. `f != true` is false of true; theirs
  holds
- `..` and `*` are JSONPath's; an index is one of a list only; and what Segment reads otherwise than JSONPath is refused
- `type` and `event` compare with null and numbers; theirs compare with the words
"""

import json
import os
import subprocess

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support import fuzzing, npm
from tests.transforms.segment import HERE
from transforms import MISSING, RuleError, compile_condition, compile_mapping


@pytest.fixture(scope="session")
def segment():
    """Return a function that calls Segment's engine."""
    found = npm.command(HERE / "engine.js", HERE)
    if found is None and not os.environ.get("CI"):
        pytest.skip("Segment's engine needs node and npm")
    arguments, environment = found
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(**question):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


NAMES = st.sampled_from(["a", "b", "c d"])
TEXTS = st.text(alphabet="abXY -_.1éß", max_size=6)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6).filter(
    lambda each: each != int(each) and abs(each) > 1e-4
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from([0, ""])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=10
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "a": JSON,
        "b": JSON,
        "c d": JSON,
        "name": TEXTS,
        "list": st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=3),
        "event": st.sampled_from(["abc", "b", ""]),
        "type": st.sampled_from(["track", "page"]),
        "userId": TEXTS | st.none(),
        "properties": st.dictionaries(NAMES, SCALARS, max_size=3),
        "traits": st.dictionaries(NAMES, SCALARS, max_size=2),
        "context": st.dictionaries(NAMES, SCALARS, max_size=2),
    },
)
PATHS = st.sampled_from(
    [
        "$.a",
        "$.a.b",
        "$.a.b.a",
        "$.b",
        "b.a",
        "$.c d",
        "$.a.c d.b",
        "$.list",
        "$.list[0]",
        "$.list[1].a",
        "list.0.b",
        "$.",
        "",
        "$.properties.a",
    ]
)
READS = PATHS.map(lambda path: {"@path": path})
CONSTANTS = TEXTS | NUMBERS | st.just(True)


def _directives(inner):
    value = READS | inner.filter(lambda each: isinstance(each, dict) and any(key.startswith("@") for key in each))
    shape = st.dictionaries(NAMES, inner, min_size=1, max_size=2)
    objects = st.lists(st.dictionaries(NAMES, CONSTANTS, max_size=2), max_size=3)
    replaced = {"pattern2": st.sampled_from(["x", "b"]), "replacement2": TEXTS, "global": st.booleans()}
    replaced |= {"replacement": TEXTS, "ignorecase": st.booleans()}
    templates = ["x {{a}} y", "{{ a.b }}{{b}}", "{{{list.0.a}}}", "{{c d}} {{list}}", "plain", "{{a}}}"]
    options = st.fixed_dictionaries
    values = {
        "@if": options({"exists": value}, optional={"then": inner, "else": value})
        | options({"blank": value}, optional={"then": inner, "else": value}),
        "@case": options({"operator": st.sampled_from(["lower", "upper"]), "value": value}),
        "@replace": options(
            {"pattern": st.sampled_from(["a", "B", "-", ".", "ab"]), "value": value}, optional=replaced
        ),
        "@arrayPath": st.tuples(PATHS | value, shape).map(list) | st.tuples(PATHS).map(list),
        "@flatten": options(
            {"value": value, "separator": st.sampled_from([".", "_", "--"])}, optional={"omitArrays": st.booleans()}
        ),
        "@json": options({"mode": st.sampled_from(["encode", "decode"]), "value": value}),
        "@merge": options({"objects": objects, "direction": st.sampled_from(["left", "right"])}),
        "@transform": options({"apply": shape, "mapping": shape}),
        "@excludeWhenNull": inner,
        "@literal": inner,
        "@template": st.sampled_from(templates),
    }
    return st.one_of([strategy.map(lambda each, name=name: {name: each}) for name, strategy in values.items()])


MAPPINGS = st.dictionaries(
    NAMES,
    st.recursive(
        CONSTANTS | READS,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2) | _directives(inner),
        max_leaves=8,
    ),
    min_size=1,
    max_size=2,
)

TEXT_FIELDS = st.sampled_from(["type", "event", "name", "userId"])
FIELDS = st.sampled_from(["properties.a", "properties.b", "traits.a", "context.b", r"properties.c\ d"])
QUOTED = st.text(alphabet="abXY -1", max_size=4).map(lambda text: f'"{text}"')
NUMERALS = st.integers(-5, 5).map(str) | st.sampled_from(["1.5", "0.25"])
COMPARISONS = st.one_of(
    st.tuples(TEXT_FIELDS | FIELDS, st.sampled_from(["=", "!="]), QUOTED).map(" ".join),
    st.tuples(FIELDS, st.sampled_from(["=", "<", "<=", ">", ">="]), NUMERALS).map(" ".join),
    st.tuples(FIELDS, st.sampled_from(["= true", "= false", "= null", "!= null"])).map(" ".join),
)
CALLS = st.one_of(
    st.tuples(st.sampled_from(["", "!"]), FIELDS, QUOTED).map("{0[0]}contains({0[1]}, {0[2]})".format),
    st.tuples(st.sampled_from(["", "!"]), FIELDS, st.sampled_from(['"a*"', '"*b"'])).map(
        "{0[0]}match({0[1]}, {0[2]})".format
    ),
)
JOINERS = st.sampled_from([" and ", " or "])
GROUPS = st.tuples(JOINERS, st.lists(COMPARISONS, min_size=1, max_size=3)).map(lambda each: each[0].join(each[1]))
TESTS = COMPARISONS | CALLS | GROUPS.map("({})".format)
CONDITIONS = st.tuples(JOINERS, st.lists(TESTS, min_size=1, max_size=3)).map(lambda each: each[0].join(each[1]))
MANY = settings(
    max_examples=fuzzing.examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@MANY
@given(mapping=MAPPINGS, event=EVENTS)
def test_mappings(segment, mapping, event):
    """A mapping gives what Segment's kit gives."""
    theirs = segment(mapping=mapping, event=event)
    assume("error" not in theirs)
    ours = compile_mapping(mapping)(event)
    assert (ours if ours is not MISSING else None) == theirs.get("value")
    assert (ours is MISSING) == ("missing" in theirs)


PIECES = st.sampled_from(
    [
        *(
            "$",
            ".",
            "$.",
            "a",
            "b",
            "ö",
            "😀",
            "e\u0301",
            "1",
            "01",
            ",",
            " ",
            "\t",
            "-",
            "(",
            ")",
            "?",
            "@",
            "&",
            "'",
            '"',
            "/",
        ),
        *(
            ":",
            "#",
            "!",
            "=",
            "<",
            ">",
            "+",
            "%",
            "~",
            "^",
            ";",
            "$x",
            "a b",
            "Dub (Actions)",
            "\u00a0",
            "`",
            "|",
            "\\",
        ),
    ]
)


@MANY
@given(pieces=st.lists(PIECES, min_size=1, max_size=5), start=st.sampled_from(["", "$.", "a."]))
def test_names_in_a_path(segment, pieces, start):
    """A path of names separated by dots finds the same as with Segment's kit, or is refused."""
    path = start + "".join(pieces)
    assume(".." not in path)
    try:
        mapping = compile_mapping({"a": {"@path": path}})
    except RuleError:
        assume(False)
    names = [name for name in path.replace("$.", "", 1).split(".") if name]
    event = inner = {"b": 1}
    for name in names[:-1]:
        inner[name] = {"b": 1}
        inner = inner[name]
    inner[names[-1] if names else "b"] = "found"
    theirs = segment(mapping={"a": {"@path": path}}, event=event)
    if path not in {"$", "."}:
        assert mapping(event) == theirs["value"]


@MANY
@given(condition=CONDITIONS, event=EVENTS)
def test_conditions(segment, condition, event):
    """A condition holds where Segment's query language says so."""
    assert compile_condition(condition)(event) is segment(condition=condition, event=event)["value"]
