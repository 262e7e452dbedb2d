"""A directive is defined in one place: everything that uses directives follows from its definition."""

import json
from typing import Literal

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from deploy.cli.main import main
from deploy.config.schema import integration_schema
from deploy.config.shape_check import ShapeCheck, find_reads
from deploy.docsgen import reference
from transforms import read_rules
from transforms.codegen.writer import Expr
from transforms.directives import DIRECTIVES
from transforms.directives.arguments import VALUE, choice, optional
from transforms.directives.definition import directive
from transforms.documents import Document
from transforms.syntax.unparse import path_text
from transforms.tracing import Tracer

PAYLOAD = {"@weekend": {"day": "$.properties.day", "yes": {"rest": "$.userId"}, "no": {"@shout": "$.event"}}}
EVENT = {"type": "track", "event": "hello", "userId": "u-1", "messageId": "m-1", "properties": {"day": "Sunday"}}
MONDAY = EVENT | {"properties": {"day": "Monday"}}


@pytest.fixture(autouse=True)
def _made_up_directives():
    """Two directives that the language does not have: one that chooses a branch, and one that casts."""
    before = dict(DIRECTIVES)

    @directive(
        "@weekend",
        branches=("yes", "no"),
        decided_by=("day",),
        choose=lambda decided: "yes" if decided["day"] == "Sunday" else "no",
        arguments={"day": VALUE, "yes": VALUE, "no": optional(VALUE)},
    )
    def weekend(out, day, yes, no=None):
        """`yes` on a Sunday, else `no`."""
        value, name = out.variable(day), out.name("chosen")
        with out.block(f"if {value.code} == 'Sunday':"):
            out.assign(out.emit(yes), name)
        with out.block("else:"):
            out.assign(out.emit(no) if no else Expr("MISSING"), name)
        return Expr(name, atom=True)

    def shouted(value):
        return f"{value.upper()}!"

    @directive(
        "@shout",
        gives="string",
        gives_hints={"integer": "whisper"},
        casts=True,
        short="value",
        arguments={"value": VALUE, "volume": optional(choice("loud", "louder"))},
    )
    def shout(out, value, volume="loud"):
        """Text in capitals."""
        return out.call(shouted, out.emit(value).code)

    yield
    DIRECTIVES.clear()
    DIRECTIVES.update(before)


def read(mapping):
    return read_rules(Document.parse(json.dumps({"rules": [{"name": "r", "map": mapping}]}), "rules.yaml"))


def rules_of(mapping):
    rules, errors = read(mapping)
    assert rules is not None, errors
    return rules


def test_it_compiles():
    """Its code runs in the compiled rules."""
    apply = rules_of({"a": PAYLOAD}).apply
    assert apply(EVENT) == (("r", {"a": {"rest": "u-1"}}),)
    assert apply(MONDAY) == (("r", {"a": "HELLO!"}),)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"@weekend": {"day": 1}}, "@weekend needs 'yes' (add yes: value)"),
        ({"@shout": {"value": 1, "volume": "lound"}}, "'lound' is not one of loud, louder (did you mean loud?)"),
        ({"@shuot": 1}, "'@shuot' is not a directive (did you mean @shout?)"),
    ],
)
def test_its_arguments_are_checked(mapping, message):
    """Wrong arguments and a misspelled name are reported as with any directive."""
    rules, errors = read({"a": mapping})
    assert rules is None
    assert [str(error).partition(": ")[2] for error in errors] == [message]


def test_it_is_traced():
    """A trace has the deciding argument and the branch that ran, and only these."""
    for event, branch, paths in (
        (EVENT, "yes", ["$.properties.day", "$.userId"]),
        (MONDAY, "no", ["$.properties.day", "$.event"]),
    ):
        traced = Tracer(rules_of({"a": PAYLOAD})).trace(event)[0].payload.inputs["a"]
        assert list(traced.inputs) == ["day", branch]
        assert traced.taken is traced.inputs[branch]
        assert [path_text(path) for path, _ in traced.reads] == paths


class Rest(BaseModel):
    rest: int


class Payload(BaseModel):
    number: int
    kind: Literal["a", "b"] | None = None
    deep: Rest | None = None


def test_its_shape_is_checked():
    """Its branches are compared with the field's type, and so is the type that it gives."""
    check = ShapeCheck("The vendor")
    wrong = {"@weekend": {"day": "$.event", "yes": "x", "no": {"@shout": "$.event"}}}
    deep = {"@weekend": {"day": 5, "yes": {"rest": "x"}}}
    check.check(rules_of({"number": wrong, "kind": {"@shout": "$.event"}, "deep": deep}).rules[0], Payload)
    assert sorted(error.message for error in check.errors) == [
        "'deep.rest' does not accept \"x\": input should be a valid integer",
        "'number' does not accept \"x\": input should be a valid integer",
        "'number' must be a whole number, but @shout gives text",
    ]
    assert [it.hint for it in check.errors if "@shout" in it.message] == ["whisper"]


def test_what_decides_is_not_sent():
    """A path in a deciding argument is not among those whose values are sent."""
    shape = rules_of({"a": PAYLOAD}).rules[0].shape
    assert [path_text(read.path) for read, _ in find_reads(shape, hashed=False)] == ["$.userId", "$.event"]


def test_it_is_in_the_schema():
    """Editors complete it, with its documentation and arguments."""
    schema = integration_schema()["definitions"]["directive"]["properties"]
    assert schema["@weekend"]["description"] == "`yes` on a Sunday, else `no`."
    assert list(schema["@weekend"]["properties"]) == ["day", "yes", "no"]


def test_it_is_documented():
    """The table of directives has a row for it."""
    assert "| `@shout` | `value`: value (or alone); `volume`: loud or louder, optional | Text in capitals. |" in (
        reference.rules()
    )


def test_it_is_explained(tmp_path, monkeypatch):
    """`turnout explain` shows the fields of the branch that ran, with the directive and the paths that were read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "integrations").mkdir()
    (tmp_path / "turnout.yaml").write_text("broker: {bootstrap: 'localhost:1'}\n")
    hook = {"integration": "hook", "forwarder": "webhook", "settings": {"url": "https://a.example/"}}
    rules = {"rules": [{"name": "r", "map": {"a": PAYLOAD}}]}
    (tmp_path / "integrations" / "hook.yaml").write_text(json.dumps(hook | rules))
    for event, field, directive_, path in (
        (EVENT, "a.rest", "path", "$.userId"),
        (MONDAY, "a", "@shout", "$.event"),
    ):
        result = CliRunner().invoke(main, ["explain", "--event", "-", "--json", "hook"], input=json.dumps(event))
        assert result.exit_code == 0, result.output
        (delivery,) = json.loads(result.output)["integrations"][0]["deliveries"]
        (row,) = delivery["fields"]
        assert (row["field"], row["directive"], row["reads"][0]["path"]) == (field, directive_, path)
