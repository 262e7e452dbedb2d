"""Offer the usual changes of a file as forms; `yaml_edit` keeps the rest of the file's YAML unchanged."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploy.config.diagnostics import Place
from deploy.config.models.integration import IntegrationFile
from deploy.config.models.source import SourceFile
from deploy.config.yaml_edit import EditError, insert_item, on_one_line, remove_value, replace_value
from deploy.editing.condition_rows import ConditionRow, read_rows, write_rows
from deploy.editing.conversions import CONSTANT, read_value, write_value
from transforms import RuleError
from transforms.documents import Document

RULE_KEYS = ("name", "when", "drop", "map")
MAX_ROWS = 500

Given = Mapping[str, str]
"""The fields of a form."""


class FormError(Exception):
    """The fields of a form are invalid; the message has the reason."""


def show_form(kind: str, text: str, preset: Document | None = None) -> dict[str, Any]:
    """Return the content of a file's forms as JSON data; `problem` is why a text has no forms.

    Args:
        kind: `integrations` or `sources`.
        text: The draft.
        preset: The preset that the file names.

    """
    try:
        data = Document.parse(text, "").data
    except RuleError as error:
        line = f" in line {error.line}" if error.line else ""
        return {"problem": f"The text is not valid{line}: {error.message}. Fix it under Text."}
    if not isinstance(data, dict):
        return {"problem": "The text is not a mapping. Fix it under Text."}
    rules = data.get("rules")
    own = [_shown_rule(rule, index) for index, rule in enumerate(rules if isinstance(rules, list) else [])]
    names = {rule["name"] for rule in own}
    return {
        "problem": None,
        "rules": own,
        "preset": [rule["name"] for rule in preset_rules(preset) if rule["name"] not in names],
        **(_shown_limits(data) if kind == "integrations" else {}),
    }


def preset_rules(preset: Document | None) -> list[dict[str, Any]]:
    """Return the data of a preset's rules that have names."""
    rules = preset.data.get("rules") if preset and isinstance(preset.data, dict) else None
    return [it for it in rules or () if isinstance(it, dict) and isinstance(it.get("name"), str)]


def apply_form(kind: str, text: str, given: Given, preset: Document | None = None) -> str:
    """Return the draft with a form's change; raises FormError.

    The field `part` selects the change: `limits`, `rule`, `new` or `preset`.
    """
    changes: dict[str, Callable[[], str]] = {
        "limits": lambda: _apply_limits(text, given),
        "rule": lambda: _apply_rule(text, _number(given, "index"), given),
        "new": lambda: _add_rule(kind, text, given),
        "preset": lambda: take_from_preset(text, given.get("rule", ""), preset),
    }
    change = changes.get(given.get("part", ""))
    if change is None:
        raise FormError("Unknown form.")
    try:
        return change()
    except RuleError as error:
        raise FormError(f"The text is not valid: {error.message}. Fix it under Text.") from error
    except (EditError, ValueError) as error:
        raise FormError(_sentence(str(error))) from error


def take_from_preset(text: str, name: str, preset: Document | None) -> str:
    """Return the draft with a copy of a preset's rule, which replaces it; raises EditError, ValueError."""
    rule = next((it for it in preset_rules(preset) if it["name"] == name), None)
    if rule is None:
        raise ValueError(f"the preset has no rule {name!r}")
    return _insert_rule(text, 0, rule)


def _shown_rule(rule: Any, index: int) -> dict[str, Any]:
    if not isinstance(rule, dict):
        return {"index": index, "name": f"rule {index + 1}", "odd": on_one_line(rule)}
    when = rule.get("when")
    rows = read_rows(when) if isinstance(when, str) else []
    fields = list(_fields(rule.get("map"), ())) if isinstance(rule.get("map"), dict) else []
    return {
        "index": index,
        "name": str(rule.get("name", "")),
        "when": "" if when is None else str(when),
        "rows": None if rows is None else [row._asdict() for row in rows],
        "drop": rule.get("drop") is True,
        "fields": fields[:MAX_ROWS],
        "odd": None,
    }


def _fields(data: Any, at: Place) -> Any:
    for key, value in data.items():
        place = (*at, key)
        if isinstance(value, dict) and value and not any(str(each).startswith("@") for each in value):
            yield from _fields(value, place)
            continue
        known = read_value(value)
        yield {
            "place": json.dumps(place),
            "name": ".".join(map(str, place)),
            "kind": known[0] if known else None,
            "value": known[1] if known else None,
            "text": None if known else on_one_line(value),
        }


def _shown_limits(data: Mapping[str, Any]) -> dict[str, Any]:
    consent, sample = data.get("consent"), data.get("sample")
    consent = consent if isinstance(consent, dict) else {}
    how = "any" if "any" in consent else "all"
    categories = consent.get(how)
    rate = sample.get("rate") if isinstance(sample, dict) else 1
    return {
        "sources": data["sources"] if isinstance(data.get("sources"), list) else None,
        "consent": {
            "categories": ", ".join(map(str, categories)) if isinstance(categories, list) else "",
            "how": how,
        },
        "sample": {
            "percent": f"{rate * 100:g}" if isinstance(rate, int | float) else "",
            "by": sample.get("by", "userId") if isinstance(sample, dict) else "userId",
        },
    }


def _apply_limits(text: str, given: Given) -> str:
    """Write the sources, the consent and the sample if they changed."""
    data = Document.parse(text, "").data
    before, order = _shown_limits(data), tuple(IntegrationFile.model_fields)
    known = [name.removeprefix("known-") for name in given if name.startswith("known-")]
    chosen = [name for name in known if f"source-{name}" in given]
    if known and not chosen:
        raise ValueError("Choose at least one source, or all.")
    if known and set(chosen) != set(before["sources"] or known):
        text = _set(text, ("sources",), None if set(chosen) == set(known) else chosen, order)
    categories = [each.strip() for each in given.get("categories", "").split(",") if each.strip()]
    how = given.get("how", "all")
    if how not in ("all", "any"):
        raise ValueError("Consent needs all or any of the categories.")
    if {"categories": ", ".join(categories), "how": how} != before["consent"]:
        if not categories:
            text = _set(text, ("consent",), None, order)
        else:
            other = "any" if how == "all" else "all"
            if other in (data.get("consent") or {}):
                text = remove_value(text, ("consent", other))
            text = _set(text, ("consent", how), categories, order)
    percent, by = given.get("percent", "").strip() or "100", given.get("by", "").strip() or "userId"
    if {"percent": percent, "by": by} != before["sample"]:
        rate = float(percent.removesuffix("%").replace(",", ".")) / 100
        if not 0 <= rate <= 1:
            raise ValueError("A sample has 0 to 100 %.")
        rate = round(rate, 6)
        if rate == 1:
            text = _set(text, ("sample",), None, order)
        elif isinstance(data.get("sample"), dict):
            text = _set(text, ("sample", "rate"), rate, order)
            text = _set(text, ("sample", "by"), by, order) if by != before["sample"]["by"] else text
        else:
            text = _set(text, ("sample",), {"rate": rate, "by": by}, order)
    return text


def _apply_rule(text: str, index: int, given: Given) -> str:
    """Write the changes of a rule, or perform the action of one of its buttons."""
    rules = Document.parse(text, "").data.get("rules")
    if not isinstance(rules, list) or index >= len(rules) or not isinstance(rules[index], dict):
        raise ValueError("The rule was removed; look at the text.")
    at: Place = ("rules", index)
    shown, button = _shown_rule(rules[index], index), given.get("do", "")
    if button == "remove":
        return remove_value(text, at)
    if given.get("title", "").strip() and given["title"].strip() != shown["name"]:
        text = replace_value(text, (*at, "name"), given["title"].strip(), RULE_KEYS)
    text = _apply_condition(text, at, shown, given, button)
    for number, field in enumerate(shown["fields"]):
        text = _apply_field(text, at, number, field, given, button)
    if given.get("new-name", "").strip() and given.get("new-value", "").strip():
        place = (*at, "map", *given["new-name"].strip().split("."))
        value = write_value(given.get("new-kind", CONSTANT), given["new-value"].strip())
        text = replace_value(text, place, value, RULE_KEYS)
    return text


def _apply_condition(text: str, at: Place, shown: Mapping[str, Any], given: Given, button: str) -> str:
    if "when" in given:
        condition = given["when"].strip()
    elif shown["rows"] is None:
        return text
    else:
        rows = [
            ConditionRow(given.get(f"field-{n}", ""), given.get(f"is-{n}", "="), given.get(f"with-{n}", ""))
            for n in range(min(MAX_ROWS, len(shown["rows"]) + 1))
            if given.get(f"field-{n}", "").strip() and button != f"remove-condition-{n}"
        ]
        if [row._asdict() for row in rows] == shown["rows"]:
            return text
        condition = write_rows(rows) if rows else ""
    return text if condition == shown["when"] else _set(text, (*at, "when"), condition or None, RULE_KEYS)


def _apply_field(text: str, at: Place, number: int, field: Mapping[str, Any], given: Given, button: str) -> str:
    place = (*at, "map", *json.loads(field["place"]))
    if button == f"remove-field-{number}":
        return remove_value(text, place)
    kind, value = given.get(f"kind-{number}"), given.get(f"value-{number}")
    if field["kind"] is None or kind is None or value is None or (kind, value) == (field["kind"], field["value"]):
        return text
    before = Document.parse(text, "").data
    for step in place:
        before = before[step]
    return replace_value(text, place, write_value(kind, value.strip(), before))


def _add_rule(kind: str, text: str, given: Given) -> str:
    """Add a rule for an event: send it, rename it, set a field of it, or drop it."""
    event, what, to = (given.get(name, "").strip() for name in ("event", "what", "to"))
    if not event:
        raise ValueError("Name the event.")
    when = write_rows([ConditionRow("event", "=", json.dumps(event))])
    rule: dict[str, Any] = {"name": event, "when": when}
    match what:
        case "drop":
            rule |= {"name": f"drop {event}", "drop": True}
        case "rename" if to:
            rule |= {"name": f"rename {event}", "map": {"event": write_value(CONSTANT, to)}}
        case "rename":
            raise ValueError("Say what the event is called from now on.")
        case "send" if kind == "integrations":
            rule["map"] = {"event": "$.event"}
        case _:
            raise ValueError("Choose what to do with the event.")
    data = Document.parse(text, "").data or {}
    names = {it.get("name") for it in data.get("rules") or () if isinstance(it, dict)}
    if rule["name"] in names:
        rule["name"] = next(name for n in range(2, 1000) if (name := f"{rule['name']} {n}") not in names)
    # A rule that drops comes first, because the first that matches decides.
    index = 0 if what == "drop" else len(data.get("rules") or ())
    return _insert_rule(text, index, rule)


def _insert_rule(text: str, index: int, rule: Mapping[str, Any]) -> str:
    data = Document.parse(text, "").data or {}
    if data.get("rules"):
        return insert_item(text, ("rules", index), dict(rule))
    fields = IntegrationFile.model_fields if "integration" in data else SourceFile.model_fields
    return replace_value(text, ("rules",), [dict(rule)], tuple(fields))


def _set(text: str, place: Place, value: Any, order: Sequence[str]) -> str:
    """Write a value, or remove it if it is None."""
    if value is not None:
        return replace_value(text, place, value, order)
    data = Document.parse(text, "").data
    for step in place[:-1]:
        data = data[step]
    return remove_value(text, place) if place[-1] in data else text


def _number(given: Given, name: str) -> int:
    text = given.get(name, "")
    if not text.isdecimal():
        raise FormError("The form is not complete.")
    return int(text)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
