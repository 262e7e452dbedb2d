"""Forms write the YAML that a person would write."""

import pytest

from deploy.editing.condition_rows import ConditionRow, read_rows, write_rows
from deploy.editing.conversions import CONVERSIONS, read_value, write_value
from deploy.editing.forms import FormError, apply_form, show_form
from transforms.documents import Document

TEXT = """\
# Our account.
integration: crm
forwarder: webhook
settings: {url: 'https://crm.example/in'}   # theirs

rules:
  # Only what counts.
  - name: purchase
    when: 'type = "track" and event = "Order Completed"'
    map:
      order: $.properties.order_id   # unique
      kind: 'order'
      total: {"@number": $.properties.total}
      who: {mail: {"@default": [$.email, $.traits.email]}}
"""
PRESET = Document.parse('rules: [{name: page, when: type = "page", map: {a: $.b}}]', "preset.yaml")
LIMITS = {"part": "limits", "known-web": "1", "known-app": "1", "percent": "100", "by": "userId", "how": "all"}


def given(**changes):
    """The fields of the first rule's form, as a browser sends them."""
    rule = show_form("integrations", TEXT)["rules"][0]
    fields = {"part": "rule", "index": "0", "title": rule["name"]}
    for number, row in enumerate(rule["rows"]):
        fields |= {f"field-{number}": row["field"], f"is-{number}": row["comparison"], f"with-{number}": row["value"]}
    for number, field in enumerate(rule["fields"]):
        if field["kind"]:
            fields |= {f"kind-{number}": field["kind"], f"value-{number}": field["value"]}
    return fields | {name.replace("_", "-"): value for name, value in changes.items()}


def changed(old, new):
    """The text with one line replaced; an empty `old` adds a line at the end."""
    assert old == "" or TEXT.count(old) == 1
    return TEXT.replace(old, new) if old else TEXT + new


def test_a_form_that_changes_nothing_writes_nothing():
    """An unchanged form leaves the text as it is, to the byte."""
    assert apply_form("integrations", TEXT, given()) == TEXT
    assert apply_form("integrations", TEXT, LIMITS | {"source-web": "on", "source-app": "on"}) == TEXT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"value_0": "$.properties.id"}, changed("$.properties.order_id", "$.properties.id")),
        ({"value_1": "sale"}, changed("'order'", "'sale'")),
        ({"kind_0": "text"}, changed("$.properties.order_id ", '{"@string": $.properties.order_id} ')),
        ({"kind_2": "comma"}, changed(
            "$.properties.total}", '{"@replace": {value: $.properties.total, pattern: ",", replacement: "."}}}')),
        ({"kind_2": "hash"}, changed('"@number": $.properties.total', '"@hash": $.properties.total')),
        ({"title": "sale"}, changed("name: purchase", "name: sale")),
        ({"with_1": "Paid"}, changed('"Order Completed"', '"Paid"')),
        ({"do": "remove-condition-0"}, changed('type = "track" and ', "")),
        ({"field_2": "properties.total", "is_2": ">=", "with_2": "100"}, changed(
            'Completed"', 'Completed" and properties.total >= 100')),
        ({"do": "remove-field-1"}, changed("      kind: 'order'\n", "")),
        ({"new_name": "who.name", "new_kind": "as_is", "new_value": "$.traits.name"}, changed(
            "$.traits.email]}}", "$.traits.email]}, name: $.traits.name}")),
        ({"new_name": "currency", "new_kind": "constant", "new_value": "EUR"}, changed("", "      currency: EUR\n")),
        ({"new_name": "tax", "new_kind": "constant", "new_value": "19"}, changed("", "      tax: 19\n")),
    ],
)  # fmt: skip
def test_a_rule_is_changed_where_it_differs(fields, expected):
    """One change of a form changes one place of the text, and keeps comments, quotes and order."""
    text = apply_form("integrations", TEXT, given(**fields))
    assert text == expected


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"source-web": "on"}, "sources: [web]"),
        (
            {"source-web": "on", "source-app": "on", "categories": "ads, mail", "how": "any"},
            "consent: {any: [ads, mail]}",
        ),
        ({"source-web": "on", "source-app": "on", "percent": "12,5"}, "sample: {rate: 0.125, by: userId}"),
    ],
)  # fmt: skip
def test_limits_are_written_before_the_rules(fields, line):
    """Sources, consent and sample get a line of their own at their usual place, and are removed without a trace."""
    text = apply_form("integrations", TEXT, LIMITS | fields)
    assert text == TEXT.replace("# theirs\n", f"# theirs\n{line}\n")
    assert apply_form("integrations", text, LIMITS | {"source-web": "on", "source-app": "on"}) == TEXT


def test_new_rules():
    """An event is dropped before all other rules, sent after them, or renamed in a source's file."""
    text = apply_form("integrations", TEXT, {"part": "new", "event": "Heartbeat", "what": "drop"})
    assert [it["name"] for it in Document.parse(text, "").data["rules"]] == ["drop Heartbeat", "purchase"]
    text = apply_form("integrations", TEXT, {"part": "new", "event": 'Say "hi"', "what": "send"})
    assert Document.parse(text, "").data["rules"][1]["when"] == r'event = "Say \"hi\""'
    source = "source: web\nwrite_keys: ['${KEY}']\n"
    text = apply_form(
        "sources", source, {"part": "new", "event": "order_done", "what": "rename", "to": "Order Completed"}
    )
    assert text.startswith(source)
    [rule] = Document.parse(text, "").data["rules"]
    assert rule == {
        "name": "rename order_done", "when": 'event = "order_done"', "map": {"event": "Order Completed"},
    }  # fmt: skip


def test_a_rule_of_the_preset_is_copied():
    """A rule copied from the preset is the first of the file, and is no longer offered."""
    assert show_form("integrations", TEXT, PRESET)["preset"] == ["page"]
    text = apply_form("integrations", TEXT, {"part": "preset", "rule": "page"}, PRESET)
    assert Document.parse(text, "").data["rules"][0] == PRESET.data["rules"][0]
    assert show_form("integrations", text, PRESET)["preset"] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind_1": "number"}, "'order' is not a path"),
        ({"with_0": "x", "is_0": "~"}, "a comparison"),
        ({"field_2": "a b", "is_2": "=", "with_2": "1"}, "not valid"),
        ({"index": "7"}, "was removed"),
        ({"part": "other"}, "Unknown form"),
        ({"index": "-1"}, "not complete"),
    ],
)
def test_what_cannot_be_written_is_refused(fields, message):
    """An invalid path, an invalid condition and a deleted rule are refused with a message."""
    with pytest.raises(FormError, match=message):
        apply_form("integrations", TEXT, given(**fields))


def test_a_text_that_is_not_valid_has_no_form():
    """Invalid YAML has no forms until it is fixed as text."""
    assert "line 2" in show_form("integrations", "a: 1\nb: c: d")["problem"]
    with pytest.raises(FormError):
        apply_form("integrations", "a: 1\nb: c: d", LIMITS)


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_conversions_are_read_as_they_are_written(conversion):
    """What a conversion writes is shown as the same conversion and path again."""
    value = "text" if conversion == "constant" else "$.properties.total"
    assert read_value(write_value(conversion, value)) == (conversion, value)


@pytest.mark.parametrize("text", ["$.a", "{{a}}", " $.a"])
def test_a_constant_that_looks_like_a_path_stays_text(text):
    """Text that rules would read as a path or template is written as a literal."""
    assert write_value("constant", text) == {"@literal": text}


@pytest.mark.parametrize(
    "text",
    [
        'event = "a" and properties.total >= 10 and properties.code != "10"',
        'event in ["a", "b, c"] and exists(userId) and !exists(properties.x)',
        'contains(name, "x") and !match(context.page.path, "/shop/*")',
        'length(properties.products) > 2 and $.properties["odd name"] = true',
    ],
)
def test_conditions_survive_as_rows(text):
    """A condition that rows can show is written back with the same meaning."""
    rows = read_rows(text)
    assert rows
    assert read_rows(write_rows(rows)) == rows
    if "odd" not in text and "b, c" not in text:
        assert write_rows(rows) == text


@pytest.mark.parametrize("text", ["a = 1 or b = 2", "!(a = 1)", "a = 1 and (b = 2 or c = 3)", "a ="])
def test_other_conditions_stay_text(text):
    """A condition with `or` or a negation is not shown as rows."""
    assert read_rows(text) is None


def test_rows_of_a_list():
    """The values of a list are separated by commas."""
    assert write_rows([ConditionRow("event", "in", "a, b")]) == 'event in ["a", "b"]'
