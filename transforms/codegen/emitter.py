"""Generate code for values and paths: the statements that a value needs, and an expression for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transforms.codegen import paths
from transforms.codegen.writer import Expr, Writer
from transforms.model.nodes import (
    Call,
    Constant,
    Function,
    Index,
    JsonPath,
    Key,
    ListNode,
    Node,
    ObjectNode,
    PathNode,
    Remove,
    Segment,
    Template,
)
from transforms.model.values import MISSING
from transforms.runtime.access import NOTHING, at, members
from transforms.runtime.text import text

# Names of the event spec that variables may have. No other text of a rule becomes a variable name.
_KNOWN_NAMES = {
    name: name
    for name in (
        *("address", "app", "campaign", "context", "device", "integrations", "items", "library", "location", "network"),
        *("os", "page", "products", "properties", "referrer", "screen", "traits", "user"),
    )
} | {"event": "event_name", "type": "event_type", "name": "name", "userId": "user_id", "anonymousId": "anonymous_id"}
_MAX_LINE_CHARACTERS = 100


class Emitter(Writer):
    """Write the body of a function. Each path of the event is read once."""

    def __init__(self) -> None:
        super().__init__()
        self.namespace["NOTHING"] = NOTHING
        self._found = "found"
        self._objects: dict[tuple[str, tuple[Segment, ...]], str] = {}
        self._values: dict[tuple[str, JsonPath, str], Expr] = {}
        self._calls: dict[str, Expr] = {}

    @contextmanager
    def function_body(self, header: str) -> Iterator[None]:
        """Write a function of an event, which is an object."""
        self.forget_names()
        self.name("event")
        self._found = self.name("found")
        self._objects = {("event", ()): "event"}
        self._values, self._calls = {}, {}
        with self.indented(header):
            yield

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write a block that may not run; values read in it are not reused after it."""
        objects, values, calls = self._objects, self._values, self._calls
        self._objects, self._values, self._calls = dict(objects), dict(values), dict(calls)
        with self.indented(header):
            yield
        self._objects, self._values, self._calls = objects, values, calls

    @contextmanager
    def rooted(self, root: Expr) -> Iterator[None]:
        """Write code whose paths start at another value."""
        before, self.root = self.root, root
        yield
        self.root = before

    def emit(self, node: Node, absent: str = "MISSING") -> Expr:
        """Return the expression for a node; `absent` may replace MISSING if null and missing mean the same."""
        before, self.place = self.place, node.place
        try:
            match node:
                case Constant(value=value):
                    return Expr(absent if value is MISSING else self.constant(value), value is MISSING, atom=True)
                case PathNode(path=path):
                    return self.read(path, absent)
                case Remove():
                    return Expr(absent, atom=True)
                case Call(directive=directive, arguments=arguments):
                    expr: Expr = directive.emit(self, arguments)
                    return expr
                case ObjectNode(entries=entries):
                    return self._shape(entries)
                case ListNode(items=items):
                    return self._items(items)
                case Template(parts=parts):
                    return self._template(parts)
            raise TypeError(f"no code for {type(node).__name__}")
        finally:
            self.place = before

    def call(self, function: Callable[..., Any], *arguments: str, missing: bool = True) -> Expr:
        """Return a call of a runtime function with these expressions as arguments."""
        return Expr(f"{self.function(function)}({', '.join(arguments)})", missing)

    def call_once(self, function: Callable[..., Any], *arguments: Expr) -> Expr:
        """Return a variable with the result of a runtime function of variables, which later calls reuse."""
        call = self.call(function, *(self.bind(each).code for each in arguments))
        if call.code not in self._calls:
            self._calls[call.code] = self.bind(call)
        return self._calls[call.code]

    def call_if_given(self, function: Callable[..., Any], value: Expr, *arguments: str) -> Expr:
        """Return a call of a runtime function, skipped for a variable that is MISSING, as many are."""
        call = self.call(function, value.code, *arguments)
        return Expr(f"({call.code} if {value.code} is not MISSING else MISSING)") if value.missing else call

    def bind(self, expr: Expr, hint: str = "value") -> Expr:
        """Assign the value to a variable unless it is already one, so that it can be used more than once."""
        if expr.atom:
            return expr
        return self.assign(expr, self.name(hint))

    def assign(self, expr: Expr, name: str) -> Expr:
        """Assign the value to this variable, which may be assigned again."""
        if expr.code != name:
            self.line(f"{name} = {expr.code}")
        return Expr(name, expr.missing, atom=True)

    def variable(self, node: Node, hint: str = "value", absent: str = "MISSING") -> Expr:
        """Assign the value of a node to a new variable."""
        expr = self.emit(node, absent)
        return self.assign(expr, self.name(hint))

    def value(self, node: Node) -> Expr:
        """Return the value of a node as a variable or a constant."""
        return self.bind(self.emit(node))

    def read(self, path: JsonPath, absent: str = "MISSING") -> Expr:
        """Return the expression for a path: the value if it is singular, else the list of all matches."""
        if not path.segments:
            return self.root
        if known := self._values.get((self.root.code, path, absent)) or self._values.get(
            (self.root.code, path, "MISSING")
        ):
            return known
        if not path.singular:
            head, tail = paths.split(path.segments)
            return Expr(paths.matches(self, self._raw(head).code, tail), missing=False)
        *prefix, last = path.segments
        return self._step(tuple(prefix), last, absent)

    def named(self, path: JsonPath, absent: str = "MISSING") -> Expr:
        """Return the value of a path as a variable that later reads reuse."""
        key = (self.root.code, path, absent)
        if key not in self._values:
            self._values[key] = self.bind(self.read(path, absent), _hint(path.segments))
        return self._values[key]

    def _step(self, prefix: tuple[Segment, ...], segment: Segment, absent: str = "MISSING") -> Expr:
        match segment:
            case Key(name=name):
                member = self._object(prefix), self.constant(name)
                if absent == "None":
                    return Expr(f"{member[0]}.get({member[1]})", missing=False)
                return Expr(f"{member[0]}.get({member[1]}, {absent})", member=member)
            case Index(index=index):
                return self.call(at, self._raw(prefix).code, repr(index))
            case Function(name=name, arguments=arguments):
                return self.call(
                    paths.FUNCTIONS[name], self._raw(prefix).code, *(self.constant(each) for each in arguments)
                )
        raise TypeError(f"no code for {type(segment).__name__}")

    def _raw(self, prefix: tuple[Segment, ...]) -> Expr:
        """Return the value at a prefix as a variable."""
        return self.named(JsonPath(prefix))

    def _object(self, prefix: tuple[Segment, ...]) -> str:
        """Return a variable with an object's `get` for the value at a prefix, whatever its type."""
        key = (self.root.code, prefix)
        if key not in self._objects:
            if prefix and (self.root.code, JsonPath(prefix), "MISSING") not in self._values:
                name = self.assign(self._step(prefix[:-1], prefix[-1], "NOTHING"), self.name(_hint(prefix))).code
            else:
                name = self.assign(self._raw(prefix), self.name(_hint(prefix, "fields"))).code
            with self.indented(f"if type({name}) is not dict:"):
                self.line(f"{name} = {self.function(members)}({name})")
            self._objects[key] = name
        return self._objects[key]

    def _shape(self, entries: Mapping[str, Node]) -> Expr:
        """Build an object: a literal up to the first entry that may be missing, then entry by entry."""
        known: list[str] = []
        name = ""
        for key, node in entries.items():
            expr = self.emit(node)
            if expr.code == "MISSING":
                continue
            before, self.place = self.place, node.place
            item = self.constant(key)
            if not expr.missing and not name:
                known.append(f"{item}: {expr.code}")
            else:
                name = name or self._open("{", known, "}", "payload")
                self._put(expr, f"{name}[{item}] = ")
            self.place = before
        if name:
            return Expr(name, missing=False, atom=True)
        if sum(map(len, known)) < _MAX_LINE_CHARACTERS:
            return Expr(f"{{{', '.join(known)}}}", missing=False)
        return Expr(self._open("{", known, "}", "payload"), missing=False, atom=True)

    def _items(self, nodes: tuple[Node, ...]) -> Expr:
        known: list[str] = []
        name = ""
        for node in nodes:
            expr = self.emit(node)
            if not expr.missing and not name:
                known.append(expr.code)
            else:
                name = name or self._open("[", known, "]", "items")
                self.append(name, expr)
        if name:
            return Expr(name, missing=False, atom=True)
        if sum(map(len, known)) < _MAX_LINE_CHARACTERS:
            return Expr(f"[{', '.join(known)}]", missing=False)
        return Expr(self._open("[", known, "]", "items"), missing=False, atom=True)

    def append(self, items: str, expr: Expr) -> None:
        """Append a value to a list unless it is missing."""
        self._put(expr, f"{items}.append(", ")")

    def _open(self, start: str, known: list[str], end: str, hint: str) -> str:
        name = self.name(hint)
        if sum(map(len, known)) < _MAX_LINE_CHARACTERS:
            self.line(f"{name} = {start}{', '.join(known)}{end}")
        else:
            with self.indented(f"{name} = {start}"):
                for entry in known:
                    self.line(f"{entry},")
            self.line(end)
        return name

    def _put(self, expr: Expr, before: str, after: str = "") -> None:
        """Write a statement around a value; skip it if the value is missing."""
        if not expr.missing:
            self.line(f"{before}{expr.code}{after}")
            return
        if expr.member:
            name, key = expr.member
            with self.indented(f"if {key} in {name}:"):
                self.line(f"{before}{name}[{key}]{after}")
            return
        code = expr.code
        test = code if expr.atom else f"({(code := self._found)} := {expr.code})"
        with self.indented(f"if {test} is not MISSING:"):
            self.line(f"{before}{code}{after}")

    def _template(self, parts: tuple[str | JsonPath, ...]) -> Expr:
        codes = []
        for part in parts:
            if isinstance(part, str):
                codes.append(self.constant(part))
            else:
                codes.append(self.call(text, self.read(part, "None").code).code)
        return Expr(f"({' + '.join(codes)})" if len(codes) > 1 else codes[0], missing=False)


def _hint(prefix: tuple[Segment, ...], default: str = "value") -> str:
    last = prefix[-1] if prefix else None
    return _KNOWN_NAMES.get(last.name, default) if isinstance(last, Key) else default
