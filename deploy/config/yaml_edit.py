"""Change single values of a YAML text by position, so that comments, order and quoting elsewhere are kept.

Each change is checked: the new text is parsed again, and everything but the changed value must be as before.
"""

import json
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import yaml

from deploy.config.diagnostics import Place
from transforms.documents import Document, RuleError
from transforms.documents.document import LOADER

WIDTH = 118
"""Characters up to which a collection may be on one line."""


class EditError(Exception):
    """A change that cannot be made by position; the message has the reason and an alternative."""


def replace_value(text: str, place: Place, value: Any, order: Sequence[str] = ()) -> str:
    """Return the text with the value at a place replaced or added; missing parent mappings are created.

    Args:
        text: YAML.
        place: The keys and indexes that lead to the value. An index may be one more than the last.
        value: JSON data.
        order: The usual order of the mapping's keys, which determines where a new key goes; by default at the end.

    Raises:
        EditError: The text cannot be changed there.

    """
    data, root = _read(text)
    existing = next((n for n in range(len(place)) if root.find(place[: n + 1]) is None), len(place))
    data = _with_value(data, place, value)
    if existing == len(place):
        for alias in root.aliases_of(place):
            data = _with_value(data, alias, value)
        return _checked(_Edit(text, root).replace(place, value, data), data)
    for step in reversed(place[existing + 1 :]):
        value = [value] if isinstance(step, int) else {step: value}
    return _checked(_Edit(text, root).add(place[: existing + 1], value, order), data)


def insert_item(text: str, place: Place, value: Any) -> str:
    """Return the text with an item inserted into a list, before the item at a place; raises EditError."""
    data, root = _read(text)
    *parent, index = place
    items = root.find(tuple(parent))
    if items is None or not items.children:
        return replace_value(text, tuple(parent), [value])
    if not items.is_list or not isinstance(index, int):
        raise EditError(f"{_dotted(tuple(parent))} is not a list")
    data = deepcopy(data)
    _at(data, parent).insert(index, value)
    return _checked(_Edit(text, root).insert(items, index, value), data)


def remove_value(text: str, place: Place) -> str:
    """Return the text without a key or an item; a collection that would be empty is removed too. Raises EditError."""
    data, root = _read(text)
    parent = root.find(place[:-1])
    if parent is None or place[-1] not in parent.children:
        raise EditError(f"no value at {_dotted(place)}")
    if len(parent.children) == 1:
        if len(place) == 1:
            raise EditError("the file would be empty")
        return remove_value(text, place[:-1])
    data = deepcopy(data)
    del _at(data, place[:-1])[place[-1]]
    return _checked(_Edit(text, root).remove(parent, place[-1]), data)


@dataclass(slots=True)
class _Part:
    """A value with its place in the text: `start` includes its anchor, `begin` is the start of its content.

    `children` are the values of a collection by key or index, and `keys` the places of a mapping's keys.
    """

    start: int
    begin: int
    end: int
    style: str | None = None
    is_inline: bool = False
    is_alias: bool = False
    anchor: str | None = None
    is_list: bool = False
    children: dict[str | int, "_Part"] = field(default_factory=dict)
    keys: dict[str | int, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_scalar(self) -> bool:
        return self.style is not None

    def find(self, place: Place) -> "_Part | None":
        part = self
        for step in place:
            if step not in part.children:
                return None
            part = part.children[step]
        return part

    def aliases_of(self, place: Place) -> list[Place]:
        """Return the places of aliases of the scalar at a place."""
        part = self.find(place)
        return list(self._aliases(part.anchor, ())) if part and part.is_scalar and part.anchor else []

    def _aliases(self, anchor: str, at: Place) -> Iterator[Place]:
        if self.is_alias and self.anchor == anchor:
            yield at
        for step, child in self.children.items():
            yield from child._aliases(anchor, (*at, step))  # noqa: SLF001  # of the same class


class _Edit:
    """Changes a text; the results are not checked.

    Args:
        text: YAML.
        root: The places of its values.

    """

    def __init__(self, text: str, root: _Part) -> None:
        self._text, self._root = text, root

    def replace(self, place: Place, value: Any, data: Any) -> str:
        """Return the text with another value at a place; `data` is the expected parsed result."""
        text, old, parent = self._text, self._root.find(place), self._root.find(place[:-1])
        if old is None or parent is None or not place:
            raise EditError("the whole file cannot be replaced")
        is_inline = any(part.is_inline for n in range(len(place)) if (part := self._root.find(place[:n])))
        if not isinstance(value, dict | list):
            if (
                old.is_scalar
                and "\n" in text[old.begin : old.end]
                and (edited := self._replace_words(old, place, data))
            ):
                return edited
            if old.begin < old.end and (old.is_scalar or old.is_alias):
                return text[: old.begin] + _scalar(value, old.style or "", is_inline=is_inline) + text[old.end :]
        if text[old.start : old.begin].strip():
            raise EditError(f"{_dotted(place)} has an anchor; edit the text")
        if parent.is_list:
            new = on_one_line(value) if is_inline else _block(value, _column(text, old.begin))
            return text[: old.begin] + new + text[old.end :]
        start, end = parent.keys[place[-1]]
        colon = text.index(":", end) + 1
        new = " " + on_one_line(value) if is_inline else _after_key(value, _column(text, start))
        return text[:colon] + new + text[max(old.end, colon) :]

    def _replace_words(self, old: _Part, place: Place, data: Any) -> str | None:
        """Return the text with only the differing words replaced; None if that is not possible."""
        text, before, value = self._text, _at(_read(self._text)[0], place), _at(data, place)
        if not isinstance(before, str) or not isinstance(value, str):
            return None
        one, other = re.split(r"(\s+)", before), re.split(r"(\s+)", value)
        shorter = min(len(one), len(other))
        first = next((n for n in range(shorter) if one[n] != other[n]), shorter)
        last = next((n for n in range(shorter - first) if one[-1 - n] != other[-1 - n]), shorter - first)
        while first and not "".join(one[first : len(one) - last]).strip():
            first -= 1  # words that are only added are found by the one before them
        gone, new = ("".join(words[first : len(words) - last]) for words in (one, other))
        at = text.find(gone, old.begin, old.end) if gone else -1
        while at >= 0:
            edited = text[:at] + new + text[at + len(gone) :]
            if _means(edited, data):
                return edited
            at = text.find(gone, at + 1, old.end)
        return None

    def add(self, place: Place, value: Any, order: Sequence[str]) -> str:
        """Return the text with a new key in an existing mapping, or a new item at the end of a list."""
        text, parent, key = self._text, self._root.find(place[:-1]), place[-1]
        if parent is None or parent.is_alias:
            raise EditError(f"{_dotted(place[:-1])} is an alias; edit the text")
        if isinstance(key, int) and parent.is_list:
            return self.insert(parent, key, value)
        if parent.is_scalar or isinstance(key, int):
            if len(place) == 1:
                newline = "" if not text or text.endswith("\n") else "\n"
                return text + newline + _entry(key, value, 0) + "\n"
            return self.replace(place[:-1], [value] if isinstance(key, int) else {key: value}, None)
        following = self._following(parent, key, order)
        keys = list(parent.keys)
        if parent.is_inline:
            return self._add_inline(parent, f"{on_one_line(key)}: {on_one_line(value)}", following)
        start, _ = parent.keys[keys[0]]
        column = _column(text, start)
        if following == keys[0]:
            return text[:start] + _entry(key, value, column) + "\n" + " " * column + text[start:]
        previous = keys[-1] if following is None else keys[keys.index(following) - 1]
        return self._add_line(
            max(parent.keys[previous][1], parent.children[previous].end), _entry(key, value, column), column
        )

    def _following(self, parent: _Part, key: str | int, order: Sequence[str]) -> str | int | None:
        """Return the first existing key that a new one usually precedes."""
        if key not in order:
            return None
        later = set(order[order.index(str(key)) + 1 :])
        keys = list(parent.keys)
        earlier = [n for n, each in enumerate(keys) if each in order and each not in later]
        return next((each for each in keys[max(earlier, default=-1) + 1 :] if each in later), None)

    def _add_inline(self, parent: _Part, entry: str, following: str | int | None) -> str:
        text = self._text
        if not parent.keys:
            return text[: parent.begin] + "{" + entry + "}" + text[parent.end :]
        if following is not None:
            start, _ = parent.keys[following]
            return text[:start] + entry + ", " + text[start:]
        end = list(parent.children.values())[-1].end
        return text[:end] + ", " + entry + text[end:]

    def _add_line(self, after: int, written: str, column: int) -> str:
        """Return the text with lines below the line of a position."""
        text, end = self._text, _line_end(self._text, after)
        return text[:end] + "\n" + " " * column + written + text[end:]

    def insert(self, items: _Part, index: int, value: Any) -> str:
        """Return the text with an item before the one at an index, or at the end."""
        text = self._text
        if items.is_inline:
            if not items.children:
                return text[: items.begin] + f"[{on_one_line(value)}]" + text[items.end :]
            if index < len(items.children):
                start = items.children[index].start
                return text[:start] + on_one_line(value) + ", " + text[start:]
            end = items.children[len(items.children) - 1].end
            return text[:end] + ", " + on_one_line(value) + text[end:]
        column = _column(text, items.begin)
        item = "- " + _block(value, column + 2)
        if index == 0:
            return text[: items.begin] + item + "\n" + " " * column + text[items.begin :]
        return self._add_line(items.children[min(index, len(items.children)) - 1].end, item, column)

    def remove(self, parent: _Part, key: str | int) -> str:
        """Return the text without one of several entries of a collection."""
        text, names = self._text, list(parent.children)
        index, end = names.index(key), parent.children[key].end
        if parent.is_inline:
            if index + 1 < len(names):
                return text[: self._start(parent, key)] + text[self._start(parent, names[index + 1]) :]
            return text[: parent.children[names[index - 1]].end] + text[end:]
        start = self._start(parent, key)
        line = text.rfind("\n", 0, start) + 1
        if text[line:start].strip():  # the first entry is behind the dash of an outer list
            return text[:start] + text[self._start(parent, names[index + 1]) :]
        rest = _line_end(text, max(end, start)) + 1
        return text[:line] + text[rest:]

    def _start(self, parent: _Part, key: str | int) -> int:
        """Return where an entry begins: its key, or its dash."""
        if not parent.is_list:
            return parent.keys[key][0]
        start = parent.children[key].start
        return start if parent.is_inline else self._text.rindex("-", 0, start)


@lru_cache(maxsize=2)
def _read(text: str) -> tuple[Any, _Part]:
    """Return the data and the places of all values, both read-only; raises EditError if the YAML is invalid."""
    try:
        data = Document.parse(text, "").data
    except RuleError as error:
        where = f" in line {error.line}" if error.line else ""
        raise EditError(f"the text is not valid{where}: {error.message}") from None
    events: Iterator[Any] = (
        event
        for event in yaml.parse(text, Loader=LOADER)
        if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent)
    )
    event = next(events)
    if isinstance(event, yaml.StreamEndEvent):
        return data, _Part(len(text), len(text), len(text), "")
    return data, _part(text, event, events)


def _part(text: str, event: Any, events: Iterator[Any]) -> _Part:
    start, end = _index(event.start_mark), _index(event.end_mark)
    if isinstance(event, yaml.AliasEvent):
        return _Part(start, start, end, is_alias=True, anchor=event.anchor)
    begin = start
    if event.anchor is not None:
        begin = start + 1 + len(event.anchor)
        begin += len(text[begin:end]) - len(text[begin:end].lstrip(" "))
    if isinstance(event, yaml.ScalarEvent):
        return _Part(
            start, begin, max(begin, start + len(text[start:end].rstrip())), event.style or "", anchor=event.anchor
        )
    part = _Part(
        start, begin, end, is_inline=bool(event.flow_style), is_list=isinstance(event, yaml.SequenceStartEvent)
    )
    for key in events:
        if isinstance(key, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            part.end = _index(key.end_mark)
            break
        if part.is_list:
            part.children[len(part.children)] = _part(text, key, events)
        else:
            part.keys[key.value] = _index(key.start_mark), _index(key.end_mark)
            part.children[key.value] = _part(text, next(events), events)
    if not part.is_inline and part.children:
        # The mark of a block is behind the blanks and comments that follow it.
        part.end = list(part.children.values())[-1].end
    return part


def _index(mark: Any) -> int:
    return int(mark.index)


def _checked(text: str, data: Any) -> str:
    """Return the text if it parses to the data; raises EditError otherwise."""
    if not _means(text, data):
        raise EditError("the change would touch other values; edit the text")
    return text


def _means(text: str, data: Any) -> bool:
    try:
        return _equal(Document.parse(text, "").data, data)
    except RuleError:
        return False


def _equal(one: Any, other: Any) -> bool:
    """Compare JSON data; unlike for `==`, `1` is not `true`. The order of keys is free."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)


def _at(data: Any, place: Sequence[str | int]) -> Any:
    for step in place:
        data = data[step]
    return data


def _with_value(data: Any, place: Place, value: Any) -> Any:
    """Return the data with another value at a place, also changed in every alias of its collection."""
    if not place:
        return value
    data = deepcopy(data) if data is not None else _empty_for(place[0])  # a copy keeps what aliases share
    inner = data
    for step, following in pairwise(place):
        if isinstance(inner, list) and step == len(inner):
            inner.append(_empty_for(following))
        elif isinstance(inner, dict) and inner.get(step) is None:
            inner[step] = _empty_for(following)
        inner = inner[step]
    if isinstance(inner, list) and place[-1] == len(inner):
        inner.append(value)
    else:
        inner[place[-1]] = value
    return data


def _empty_for(step: str | int) -> Any:
    return [] if isinstance(step, int) else {}


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _column(text: str, index: int) -> int:
    return index - text.rfind("\n", 0, index) - 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" else end


def _scalar(value: Any, style: str, *, is_inline: bool) -> str:
    """Return a scalar in the style of the old one if possible."""
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style == '"':
        return json.dumps(value, ensure_ascii=False)
    for written in (value, on_one_line(value)):
        if _means(f"[{written}]" if is_inline else f"- {written}", [value]):
            return written
    return json.dumps(value, ensure_ascii=False)


def _entry(key: str | int, value: Any, column: int) -> str:
    """Return a key with its value as lines indented to a column."""
    return f"{on_one_line(key)}:{_after_key(value, column)}"


def _after_key(value: Any, column: int) -> str:
    """Return a value as text to follow a key that begins in a column."""
    if not isinstance(value, dict | list) or _is_short(value):
        return f" {on_one_line(value)}"
    inner = column + 2
    return f"\n{' ' * inner}{_block(value, inner)}"


def _block(value: Any, column: int) -> str:
    """Return a value as lines indented to a column."""
    if not isinstance(value, dict | list):
        return on_one_line(value)
    width = max(WIDTH - column, 40)
    written = yaml.dump(value, Dumper=_YamlDumper, sort_keys=False, allow_unicode=True, width=width)
    return written.rstrip("\n").replace("\n", f"\n{' ' * column}")


def on_one_line(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)
    return text.removesuffix("...\n").rstrip("\n")


class _Plain(yaml.SafeDumper):
    """Writes no aliases; quotes text that could be read as a number, and directives in the usual style."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        quote = data[:1] in set("+-.0123456789@,") or "\n" in data
        return self.represent_scalar("tag:yaml.org,2002:str", data, '"' if quote else None)


_Plain.add_representer(str, _Plain.represent_str)


class _YamlDumper(_Plain):
    """Writes short collections on one line, and indents lists, in the usual style."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = _is_short(mapping)
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = _is_short(sequence)
        return node

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _is_short(value: Any) -> bool:
    """Return whether a collection fits on one line: a directive, or scalars and, in a mapping, lists of them."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("@"):
        return len(json.dumps(value)) < 100
    inner = value.values() if isinstance(value, dict) else value
    flat = not any(
        (isinstance(each, dict) and each) or (isinstance(each, list) and not _is_flat(each)) for each in inner
    )
    return flat and len(json.dumps(value)) < 80


def _is_flat(items: Any) -> bool:
    return not any(isinstance(each, dict | list) for each in items)
