"""Read YAML files safely, with the position of each value.

Only values that JSON has are read, by YAML 1.2's core schema: `NO`, `12:30` and dates stay strings. Duplicate keys,
keys that are not strings, tags, `.nan` and `.inf` are refused. Size, depth, nodes and aliases are limited.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from transforms.documents.errors import RuleError

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_NODES = 50_000

LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML can be built without libyaml
_SURROGATE = re.compile("[\\ud800-\\udfff]")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as both parsers count lines

# The characters that YAML 1.2 (section 5.1) and both parsers refuse.
_NOT_PRINTABLE = re.compile("[^\\t\\n\\r -~\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_MAX_DIGITS = 300
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True)
class _Node:
    """A value with its position; `children` and `keys` have those of a collection, by key or index."""

    value: Any
    line: int
    column: int
    size: int = 1
    height: int = 0
    children: dict[str | int, "_Node"] = field(default_factory=dict)
    keys: dict[str | int, tuple[int, int]] = field(default_factory=dict)


class Document:
    """A YAML file: its plain `data`, the position of every value, and the `hash` (SHA-256, hex) of its content."""

    def __init__(self, path: str, text: str, content_hash: str, root: _Node) -> None:
        self.path = path
        self.text = text
        self.hash = content_hash
        self.data: Any = root.value
        self._root = root

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a file; raises RuleError if it cannot be read or is not valid."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RuleError(f"cannot read the file: {error.strerror or error}", path=str(path)) from None
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, text: str | bytes, path: str) -> "Document":
        """Read YAML from memory; `path` is the name for messages. Raises RuleError."""
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if len(content) > MAX_BYTES:
            raise RuleError(
                f"the file is too large: {len(content):,} bytes", f"at most {MAX_BYTES:,} are read", path=path
            )
        try:
            decoded = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise RuleError("the file is not UTF-8 text", "save it as UTF-8", line, 1, path) from None
        root = _DocumentReader(decoded, path).document()
        return cls(path, decoded, hashlib.sha256(content).hexdigest(), root)

    def where(self, *keys: str | int) -> tuple[int, int]:
        """Return line and column, from 1, of the value at these keys, or of its nearest existing ancestor."""
        node = self._nearest(keys)
        return node.line, node.column

    def where_key(self, *keys: str | int) -> tuple[int, int]:
        """Return line and column, from 1, of the last of these keys; of the value if it has no key."""
        parent = self._nearest(keys[:-1])
        return parent.keys.get(keys[-1], self.where(*keys)) if keys else self.where()

    def where_in(self, offset: int, *keys: str | int) -> tuple[int, int]:
        """Return line and column of a character in the text at these keys; of its start if it is escaped or folded."""
        node = self._nearest(keys)
        if offset and isinstance(node.value, str):
            rest = self.lines[node.line - 1][node.column - 1 :]
            quoted = rest[:1] in {"'", '"'}
            if rest[quoted:].startswith(node.value):
                return node.line, node.column + quoted + offset
            if rest[:1] == "|":
                before = node.value[:offset].split("\n")
                line = self.lines[node.line + len(before) - 1]
                indent = len(line) - len(line.lstrip(" "))
                return node.line + len(before), indent + len(before[-1]) + 1
        return node.line, node.column

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines."""
        return self.text.splitlines()

    def error(self, message: str, hint: str | None = None, *, at: tuple[str | int, ...] = ()) -> RuleError:
        """Return an error that points at the value at these keys."""
        return RuleError(message, hint, *self.where(*at), self.path)

    def _nearest(self, keys: tuple[str | int, ...]) -> _Node:
        node = self._root
        for key in keys:
            child = node.children.get(key)
            if child is None:
                break
            node = child
        return node


class _DocumentReader:
    """Build nodes from the parser's events, so that limits apply before anything large is created."""

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._events: Iterator[yaml.Event] = iter(())
        self._anchors: dict[str, _Node | None] = {}
        self._nodes = 0

    def document(self) -> _Node:
        """Read the only document of the text."""
        self._events = self._parse()
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return _Node(None, 1, 1)
        root = self._node(event, 0)
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, "a second document in the file", "use one document per file: remove the `---`")
        return root

    def _parse(self) -> Iterator[yaml.Event]:
        """Yield the parser's events; raises RuleError for whatever the parser raises."""
        if found := _NOT_PRINTABLE.search(self._text):
            line, column = _position(self._text, found.start())
            code = ord(found[0])
            escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
            hint = f"remove it, or write {escape} in double quotes"
            raise RuleError(f"not YAML: the character U+{code:04X}", hint, line, column, self._path)
        place = (1, 1)
        try:
            for event in yaml.parse(self._text, Loader=LOADER):
                place = (event.end_mark.line + 1, event.end_mark.column + 1) if event.end_mark else place
                yield event
        except yaml.MarkedYAMLError as error:
            if mark := error.problem_mark or error.context_mark:
                # libyaml reads ahead up to a depth limit of its own, before it yields what comes first.
                if deep := self._find_too_deep(self._text[: mark.index]):
                    raise self._too_deep(deep) from None
                place = (mark.line + 1, mark.column + 1)
            problem = " ".join(part for part in (error.context, error.problem) if part)
            raise RuleError(f"not YAML: {problem}", _yaml_hint(self._text, place), *place, self._path) from None
        except Exception as error:  # noqa: BLE001 - a parser may raise anything, as RecursionError and MemoryError
            problem = str(error).partition("\n")[0] or type(error).__name__
            raise RuleError(f"not YAML: {problem}", _yaml_hint(self._text, place), *place, self._path) from None

    def _find_too_deep(self, text: str) -> yaml.Event | None:
        """Find the first collection that is nested too deep, in a text that may end anywhere."""
        depth = 0
        with suppress(Exception):
            for event in yaml.parse(text, Loader=LOADER):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > MAX_DEPTH:
                    return event
        return None

    def _next(self) -> yaml.Event:
        """Return the next event that carries content."""
        for event in self._events:
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                return event
        raise RuleError("not YAML: the file ends too early", path=self._path)

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(event, f"the file has more than {MAX_NODES:,} values", "split it")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if not isinstance(event, yaml.NodeEvent):
            raise self._error(event, "not YAML: a value is expected", "write one")
        if (tag := getattr(event, "tag", None)) is not None:
            raise self._error(event, f"a tag: {tag}", "quote the value if it begins with `!`")
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(self._scalar(event), *_place(event))
            self._anchor(event, node)
            return node
        if depth >= MAX_DEPTH:
            raise self._too_deep(event)
        self._anchor(event, None)
        node = self._mapping(event, depth) if isinstance(event, yaml.MappingStartEvent) else self._list(event, depth)
        node.size += sum(child.size for child in node.children.values())
        node.height = 1 + max((child.height for child in node.children.values()), default=0)
        self._anchor(event, node)
        return node

    def _mapping(self, start: yaml.Event, depth: int) -> _Node:
        value: dict[str, Any] = {}
        node = _Node(value, *_place(start))
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key.value, str):
                braces = isinstance(event, yaml.MappingStartEvent)
                hint = "quote a value that holds `{{…}}`" if braces else "quote it"
                raise self._error(event, "a key that is not a string", hint)
            if key.value == "<<" and not getattr(event, "style", None):
                raise self._error(event, "a merge key, which YAML 1.2 does not have", "write the keys out, or quote it")
            if key.value in value:
                first = node.keys[key.value][0]
                raise self._error(
                    event,
                    f"the key {key.value!r} is defined twice, on lines {first} and {key.line}",
                    "keep one of them",
                )
            child = self._node(self._next(), depth + 1)
            value[key.value] = child.value
            node.children[key.value] = child
            node.keys[key.value] = (key.line, key.column)
        return node

    def _list(self, start: yaml.Event, depth: int) -> _Node:
        value: list[Any] = []
        node = _Node(value, *_place(start))
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            child = self._node(event, depth + 1)
            node.children[len(value)] = child
            value.append(child.value)
        return node

    def _alias(self, event: yaml.AliasEvent, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias *{event.anchor} has no anchor before it", f"write &{event.anchor}")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._error(event, f"the alias *{event.anchor} contains itself", "write the value out")
        if depth + node.height > MAX_DEPTH:
            raise self._too_deep(event)
        self._nodes += node.size
        if self._nodes > MAX_NODES:
            raise self._error(event, f"aliases unfold to more than {MAX_NODES:,} values", "write the values out")
        return node

    def _anchor(self, event: yaml.NodeEvent, node: _Node | None) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if not text.isascii() and (found := _SURROGATE.search(text)):  # PyYAML without libyaml takes its escape
            message = f"the escape of U+{ord(found[0]):04X}, which is half a character"
            raise self._error(event, message, "write the character itself")
        if event.style:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "-+.0123456789":
            return text
        if _INTEGER.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise self._error(event, f"the number {text[:40]}… is out of range", "quote it if it is text")
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise self._error(event, f"the number {text[:40]} is out of range", "quote it if it is text")
            return number
        if _NOT_JSON.fullmatch(text):
            raise self._error(event, f"{text} is a number that JSON does not have", "quote it if it is text")
        return text

    def _too_deep(self, event: yaml.Event) -> RuleError:
        return self._error(event, f"nested more than {MAX_DEPTH} levels deep", "flatten it")

    def _error(self, event: yaml.Event, message: str, hint: str) -> RuleError:
        return RuleError(message, hint, *_place(event), self._path)


def _position(text: str, index: int) -> tuple[int, int]:
    before = _LINE_BREAK.split(text[:index])
    return len(before), len(before[-1]) + 1


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _yaml_hint(text: str, place: tuple[int, int]) -> str | None:
    """Return a hint about the usual cause of a parse error on this line."""
    lines = text.splitlines()
    line = lines[place[0] - 1] if place[0] <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not tabs"
    if "{{" in line or "${" in line:
        return "quote a value that holds `{{…}}` or `${…}`"
    if "when:" in line or "$" in line or "@" in line:
        return "quote a condition, a path with `[`, and a key that begins with `@`"
    return None
