"""Find the features that failed events have and delivered events do not have.

Each event is reduced to the features of its fields: whether a field exists, its type, its form and its value. A feature
of most failed and few delivered events separates them; the best feature of each field is reported.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

MAX_DIFFERENCES = 8
MIN_SCORE = 0.5
"""The share of failed events with a feature, minus that of delivered ones, from which the feature is reported."""

MAX_DEPTH, MAX_FIELDS, MAX_ITEMS = 8, 500, 10
"""Bounds for the fields of one event."""

MAX_PATH_CHARACTERS, MAX_VALUE_CHARACTERS = 200, 120
MIN_LENGTH_RATIO = 2
"""How much longer or shorter all texts must be; ids differ a little by chance."""

MAX_FORM_CHARACTERS = 200
"""Longer texts have no form."""

MIN_SAME_VALUE = 3
"""Failed events that must share a value; fewer have one in common by chance."""

MAX_EXAMPLES = 3

FORMS: Sequence[tuple[str, re.Pattern[str]]] = (
    ("empty text", re.compile(r"")),
    ("blank text", re.compile(r"\s+")),
    ("text with a comma", re.compile(r"\s*[-+]?[\d.' ]*\d,\d+\s*", re.ASCII)),
    ("number as text", re.compile(r"\s*[-+]?\d+(\.\d+)?\s*", re.ASCII)),
    ("number with a unit", re.compile(r"\s*(?:[A-Z]{3}|[$€£])\s*[\d.,]+\s*|\s*[\d.,]+\s*(?:[A-Z]{3}|[$€£%])\s*")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII)),
    ("e-mail address", re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")),
    ("URL", re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)),
    ("UUID", re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)),
    ("text that means nothing", re.compile(r"null|undefined|none|nan|n/a", re.IGNORECASE)),
    ("text with spaces around it", re.compile(r"\s.*|.*\s", re.DOTALL)),
)
"""Forms of texts, the first that matches whole; other texts are just `text`."""

MISSING, PRESENT, FORM, TYPE, RANGE, LENGTH, VALUE = "missing", "present", "form", "type", "range", "length", "value"
GENERAL_FIRST = (MISSING, PRESENT, FORM, TYPE, RANGE, LENGTH, VALUE)
"""Of features that separate equally well, the first says most."""


class FieldDifference(NamedTuple):
    """A feature of a field that separates failed from delivered events.

    `kind` is one of GENERAL_FIRST. `feature` names a form or type; it is empty for the other kinds. `bounds` are the
    least and greatest number or length of failed events, `usual_bounds` those of delivered ones. `usual` is the most
    frequent form in delivered events, and `usual_count` its number.
    """

    path: str
    kind: str
    feature: str
    failed: int
    failed_of: int
    delivered: int
    delivered_of: int
    values: Sequence[Any]
    usual: str
    usual_count: int
    usual_values: Sequence[Any]
    bounds: tuple[float, float] | None = None
    usual_bounds: tuple[float, float] | None = None

    @property
    def score(self) -> float:
        """How well the feature separates: 1 if all failed and no delivered events have it."""
        return self.failed / self.failed_of - self.delivered / self.delivered_of


class _Field:
    """One field in several events."""

    def __init__(self) -> None:
        self.present = 0
        self.forms, self.types, self.values = Counter[str](), Counter[str](), Counter[bytes]()
        self.numbers: list[float] = []
        self.lengths: list[float] = []
        self.examples: dict[bytes, Any] = {}

    def add(self, values: Sequence[Any]) -> None:
        """Add the values that one event has in this field."""
        self.present += 1
        self.forms.update({form_of(value) for value in values})
        self.types.update({type_of(value) for value in values})
        keys = {}
        for value in values:
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.numbers.append(value)
            elif isinstance(value, str):
                self.lengths.append(len(value))
            if not isinstance(value, Mapping | list) and form_of(value) != "date":
                shown = value[:MAX_VALUE_CHARACTERS] if isinstance(value, str) else value
                keys[orjson.dumps(str(shown) if isinstance(shown, int) and abs(shown) >> 63 else shown)] = shown
        self.values.update(keys.keys())
        if len(self.examples) < 100 * MAX_EXAMPLES:
            self.examples.update(keys)

    def top(self) -> list[Any]:
        """Return the most frequent values."""
        return [self.examples[key] for key, _ in self.values.most_common(MAX_EXAMPLES) if key in self.examples]


def find_differences(
    failed: Sequence[Mapping[str, Any]], delivered: Sequence[Mapping[str, Any]]
) -> list[FieldDifference]:
    """Return the features that separate failed from delivered events, the best first; empty if either is empty."""
    if not failed or not delivered:
        return []
    of_failed, of_delivered = _fields(failed), _fields(delivered)
    nothing = _Field()
    best = {}
    for path in of_failed.keys() | of_delivered.keys():
        bad, good = of_failed.get(path, nothing), of_delivered.get(path, nothing)
        found = [
            FieldDifference(
                path, kind, feature, count, len(failed), other, len(delivered), bad.top(),
                *_usual(good, len(delivered)), good.top(), *_bounds(kind, bad, good),
            )
            for kind, feature, count, other in _candidates(bad, good, len(failed), len(delivered))
        ]  # fmt: skip
        best[path] = max(found, key=lambda it: (round(it.score, 2), -GENERAL_FIRST.index(it.kind)))
    clear = [it for it in best.values() if it.score >= MIN_SCORE and not _follows(it, best)]
    clear.sort(key=lambda it: (-round(it.score, 2), GENERAL_FIRST.index(it.kind), it.path.count("."), it.path))
    return clear[:MAX_DIFFERENCES]


def form_of(value: Any) -> str:
    """Return the form of a value in words, such as `text with a comma`."""
    if isinstance(value, str):
        if len(value) > MAX_FORM_CHARACTERS:
            return "text"
        return next((name for name, pattern in FORMS if pattern.fullmatch(value)), "text")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "zero" if value == 0 else "negative number" if value < 0 else "number"
    if isinstance(value, Mapping | list) and not value:
        return f"empty {type_of(value)}"
    return type_of(value)


def type_of(value: Any) -> str:
    """Return the JSON type of a value in words."""
    if isinstance(value, bool):
        return "true or false"
    for known, name in ((str, "text"), (int | float, "number"), (Mapping, "object"), (list, "list")):
        if isinstance(value, known):
            return name
    return "null"


def _candidates(bad: _Field, good: _Field, failed: int, delivered: int) -> Iterator[tuple[str, str, int, int]]:
    """Yield features of a field: kind, name, and how many failed and delivered events have it."""
    yield MISSING, "", failed - bad.present, delivered - good.present
    yield PRESENT, "", bad.present, good.present
    for form, count in bad.forms.items():
        yield FORM, form, count, good.forms[form]
    for name, count in bad.types.items():
        yield TYPE, name, count, good.types[name]
    if bad.values:
        key, count = bad.values.most_common(1)[0]
        if count >= MIN_SAME_VALUE:
            yield VALUE, "", count, good.values[key]
    for kind, ours, theirs, ratio in (
        (RANGE, bad.numbers, good.numbers, 1),
        (LENGTH, bad.lengths, good.lengths, MIN_LENGTH_RATIO),
    ):
        if len(ours) < MIN_SAME_VALUE or not theirs:
            continue
        if min(ours) > max(theirs) * ratio or max(ours) * ratio < min(theirs):
            yield kind, "", min(len(ours), bad.present), 0


def _usual(good: _Field, delivered: int) -> tuple[str, int]:
    missing = delivered - good.present
    form, count = good.forms.most_common(1)[0] if good.forms else ("", 0)
    return (MISSING, missing) if missing > count else (form, count)


def _bounds(kind: str, bad: _Field, good: _Field) -> Iterator[tuple[float, float] | None]:
    for field in (bad, good):
        numbers = {RANGE: field.numbers, LENGTH: field.lengths}.get(kind)
        yield (min(numbers), max(numbers)) if numbers else None


def _follows(difference: FieldDifference, best: Mapping[str, FieldDifference]) -> bool:
    """Return whether a difference only follows from its parent's, such as for a field of a missing object."""
    path = difference.path
    while (end := max(path.rfind("."), path.rfind("[]"))) > 0:
        path = path[:end]
        around = best.get(path)
        if around and around.score >= difference.score and around.kind in (MISSING, PRESENT, FORM, TYPE):
            return True
    return False


def _fields(events: Sequence[Mapping[str, Any]]) -> dict[str, _Field]:
    """Return the fields of events by their paths; items of lists share the path of their list with `[]`."""
    fields: dict[str, _Field] = defaultdict(_Field)
    for event in events:
        values: dict[str, list[Any]] = defaultdict(list)
        for path, value in _leaves(event, "", 0):
            if path not in values and len(values) >= MAX_FIELDS:
                break
            values[path].append(value)
        for path, found in values.items():
            fields[path].add(found)
    return dict(fields)


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, value
    if depth >= MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}"[-MAX_PATH_CHARACTERS:] if path else name, depth + 1)
    elif isinstance(value, list):
        for inner in value[:MAX_ITEMS]:
            yield from _leaves(inner, f"{path}[]", depth + 1)
