"""Changes of a YAML text by position."""

import difflib
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.config.yaml_edit import EditError, insert_item, remove_value, replace_value
from forwarders import registry
from transforms.documents import Document

ROOT = Path(__file__).parents[3]
FILES = sorted(
    {
        *(ROOT / "deploy/example").rglob("*.yaml"),
        *(ROOT / "deploy/scaffold").rglob("*.yaml"),
        *(preset for name in registry.names() if (preset := registry.find(name).preset()) is not None),
    }
)

RULES = """\
# An account.
integration: meta
forwarder: meta   # the vendor

rules:
  # Purchases alone.
  - name: purchase
    when: 'event = "Order Completed"'  # as the shop sends it
    map:
      value: $.properties.total
      items: {sku: $.sku, qty: 1}

  - {name: noise, drop: true}
# The end.
"""


def scalars(text):
    """Yield the place and value of each scalar that is written in a text; aliases are not followed."""
    data, seen = Document.parse(text, "").data, set()

    def walk(node, data, at):
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from walk(value, data[key.value], (*at, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from walk(value, data[index], (*at, index))
        else:
            yield at, data

    yield from walk(yaml.compose(text, Loader=yaml.CSafeLoader), data, ())


def another(value):
    match value:
        case bool():
            return not value
        case None:
            return "something"
        case str():
            return value + " changed"
    return value + 1


def changed_lines(before, after):
    """Return what `git diff --numstat` says: lines added, and lines removed."""
    marks = [line[0] for line in difflib.unified_diff(before.splitlines(), after.splitlines(), "a", "b", n=0)][2:]
    return marks.count("+"), marks.count("-")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_scalar_of_each_file_can_be_changed_alone(path):
    """A changed scalar changes one line, whatever the file's comments, order and quoting."""
    text = path.read_text(encoding="utf-8")
    places = list(scalars(text))
    assert places
    for place, value in places:
        assert changed_lines(text, replace_value(text, place, another(value))) == (1, 1), place


def test_git_says_one_line_changed(tmp_path):
    """Git itself counts one line added and one removed for a changed scalar, in files of each kind."""
    chosen = [ROOT / "deploy/example/integrations/ga4.yaml", registry.find("meta").preset()]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for path in chosen:
        text = path.read_text(encoding="utf-8")
        file = tmp_path / path.name
        file.write_text(text)
        subprocess.run(["git", "-C", tmp_path, "add", path.name], check=True)
        place, value = list(scalars(text))[-1]
        file.write_text(replace_value(text, place, another(value)))
    ran = subprocess.run(["git", "-C", tmp_path, "diff", "--numstat"], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [f"1\t1\t{path.name}" for path in sorted(chosen, key=lambda it: it.name)]


def test_a_key_is_added_where_a_person_would_write_it():
    """A new key is inserted at its usual place, and comments stay with the entries they describe."""
    order = ("integration", "forwarder", "sources", "consent", "rules")
    text = replace_value(RULES, ("consent", "all"), ["advertising"], order)
    assert text == RULES.replace("# the vendor\n", "# the vendor\nconsent: {all: [advertising]}\n")
    text = replace_value(text, ("sources",), ["web"], order)
    assert "# the vendor\nsources: [web]\nconsent:" in text
    assert replace_value(RULES, ("rules", 0, "map", "currency"), "EUR") == RULES.replace(
        "qty: 1}\n", "qty: 1}\n      currency: EUR\n"
    )
    assert "{sku: $.sku, qty: 1, name: $.name}" in replace_value(RULES, ("rules", 0, "map", "items", "name"), "$.name")


def test_a_value_keeps_its_quotes_and_comment():
    """A changed text stays in the quotes that it had, and keeps the comment behind it."""
    text = replace_value(RULES, ("rules", 0, "when"), "event = 'Paid'")
    assert text == RULES.replace("""'event = "Order Completed"'""", "'event = ''Paid'''")


def test_an_item_is_inserted_and_removed():
    """A rule can be inserted first, in the middle and last, and removed again without a trace."""
    rule = {"name": "refund", "when": 'event = "Refund"', "map": {"value": {"@number": "$.properties.total"}}}
    for index in (0, 1, 2):
        text = insert_item(RULES, ("rules", index), rule)
        assert Document.parse(text, "").data["rules"][index] == rule
        assert changed_lines(RULES, text)[1] == 0
        assert remove_value(text, ("rules", index)) == RULES
    assert "- name: refund\n    when:" in insert_item(RULES, ("rules", 1), rule)


@pytest.mark.parametrize(
    ("place", "gone"),
    [
        (("forwarder",), "forwarder: meta   # the vendor\n"),
        (("rules", 0, "when"), """    when: 'event = "Order Completed"'  # as the shop sends it\n"""),
        (("rules", 0, "map", "items", "sku"), "sku: $.sku, "),
        (("rules", 0, "map", "items", "qty"), ", qty: 1"),
        (("rules", 1), "  - {name: noise, drop: true}\n"),
        (("rules", 0, "map"), "    map:\n      value: $.properties.total\n      items: {sku: $.sku, qty: 1}\n"),
    ],
)
def test_a_value_is_removed_with_its_line(place, gone):
    """A removed key or item takes its own line along and no other text."""
    assert remove_value(RULES, place) == RULES.replace(gone, "")


def test_the_last_key_is_removed_with_its_mapping():
    """A mapping without keys is removed, because an empty one often means something else."""
    assert remove_value("a: 1\nb: {c: {d: 1}}\n", ("b", "c", "d")) == "a: 1\n"


@pytest.mark.parametrize(
    ("before", "place", "value", "after"),
    [
        ("a:\nb: 1\n", ("a",), "x", "a: x\nb: 1\n"),
        ("a: &x 1\nb: 2\n", ("a",), 3, "a: &x 3\nb: 2\n"),
        ("a: &x 1\nb: *x\n", ("b",), 3, "a: &x 1\nb: 3\n"),
        ("a: &x 1\nb: *x\n", ("a",), 3, "a: &x 3\nb: *x\n"),
        ("a: &x {c: 1}\nb: *x\n", ("a", "c"), 3, "a: &x {c: 3}\nb: *x\n"),
        ("a: 1\r\nb: 2\r\n", ("b",), 3, "a: 1\r\nb: 3\r\n"),
        ("a: ü # ß\nb: {c: '€'}\n", ("b", "c"), "ö", "a: ü # ß\nb: {c: 'ö'}\n"),
        ("a: [one, two]\n", ("a", 1), "x, y", 'a: [one, "x, y"]\n'),
        ("a: x\n", ("a",), "12", 'a: "12"\n'),
        ("a: x\n", ("a",), "yes: no", "a: 'yes: no'\n"),
        ("a: |\n  one\n  two\nb: 1\n", ("a",), "one\n2\n", "a: |\n  one\n  2\nb: 1\n"),
        ("a: >\n  one two\n  three\n", ("a",), "one two four\n", "a: >\n  one two\n  four\n"),
        ("a: {}\n", ("a", "b"), 1, "a: {b: 1}\n"),
        ("a: []\n", ("a", 0), 1, "a: [1]\n"),
        ("# only a comment\n", ("a",), 1, "# only a comment\na: 1\n"),
        ("", ("a", "b"), 1, "a: {b: 1}\n"),
        ("a: b", ("c",), 1, "a: b\nc: 1"),
        ("a:\n- b\n- c # d\n", ("a", 2), "e", "a:\n- b\n- c # d\n- e\n"),
    ],
)
def test_difficult_texts(before, place, value, after):
    """Empty values, anchors, line ends, other alphabets, blocks and quotes are changed in place."""
    assert replace_value(before, place, value) == after


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: &x {c: 1}\nb: *x\n", ("b", "c")),
        ("a: {b: 1", ("a",)),
        ("a: b: c\n", ("a",)),
    ],
)
def test_a_change_that_touches_other_values_is_refused(text, place):
    """A change that cannot be made at one place alone is refused, so that nothing else changes unseen."""
    with pytest.raises(EditError):
        replace_value(text, place, 2)
