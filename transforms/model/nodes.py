"""The tree that rules are parsed to: values with their locations, paths and conditions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms.documents import Location
from transforms.model.directive import Directive


@dataclass(frozen=True, slots=True)
class Key:
    """A member of an object, by its key."""

    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """An item of a list; a negative index counts from the end."""

    index: int


@dataclass(frozen=True, slots=True)
class Several:
    """Some members by key, or some items by index."""

    keys: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Items of a list as Python slices it."""

    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Children:
    """All members of an object or items of a list: the wildcard."""


@dataclass(frozen=True, slots=True)
class Descendants:
    """The value itself and all below it: `..`."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The children for which the test holds."""

    test: "Test"


@dataclass(frozen=True, slots=True)
class Function:
    """One of jsonpath-ng's functions in backquotes, by its name in `transforms.runtime`, with constant arguments."""

    name: str
    arguments: tuple[str | int | None, ...] = ()


Segment = Key | Index | Several | Slice | Children | Descendants | Filter | Function


@dataclass(frozen=True, slots=True)
class JsonPath:
    """Segments from the root of the event (or of an item); in a filter from the child that it tests."""

    segments: tuple[Segment, ...]
    from_root: bool = True

    @property
    def singular(self) -> bool:
        """Whether it can match one place only, and so gives that value and not a list."""
        return all(isinstance(segment, Key | Index | Function) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Exists:
    """A filter's test that a path matches something."""

    path: JsonPath


@dataclass(frozen=True, slots=True)
class Comparison:
    """A filter's comparison of a path with a constant or another path, as RFC 9535 defines it, and `=~`."""

    left: JsonPath
    operator: str
    right: "JsonPath | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Tests of a filter that must all hold."""

    tests: tuple["Test", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Tests of a filter, at least one of which must hold."""

    tests: tuple["Test", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A test of a filter that must not hold."""

    test: "Test"


Test = Exists | Comparison | AllOf | AnyOf | NoneOf


def join_tests(kind: type[AllOf] | type[AnyOf], tests: Iterable[Test]) -> Test:
    """Join tests by `and` or `or`; tests already joined by the same operator are merged."""
    flat: list[Test] = []
    for test in tests:
        flat += test.tests if isinstance(test, kind) else [test]
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the payload."""

    place: Location = field(compare=False)


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A string, number, boolean, null or MISSING."""

    value: Any


@dataclass(frozen=True, slots=True)
class PathNode(Node):
    """The value that a path finds in the event."""

    path: JsonPath


@dataclass(frozen=True, slots=True)
class Template(Node):
    """Text with paths in it."""

    parts: tuple[str | JsonPath, ...]


@dataclass(frozen=True, slots=True)
class ObjectNode(Node):
    """An object; entries whose value is missing are dropped."""

    entries: Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class ListNode(Node):
    """A list; items whose value is missing are dropped."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A directive with its arguments, each as its definition parsed it."""

    directive: Directive
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remove(Node):
    """`@remove: true`: removes an entry of the preset or of the file's common map."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A field of the event, perhaps through `length(…)`, `lowercase(…)` or `words(…)`."""

    path: JsonPath
    through: str | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of an operand with a constant: `=`, `!=`, `<`, `<=`, `>`, `>=`."""

    operand: Operand
    operator: str
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class OneOf:
    """An operand equal to one of several constants: `in [...]`."""

    operand: Operand
    values: tuple[str | int | float | bool | None, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """A test that a text contains another. Always false for values that are not text, also if `negated`."""

    operand: Operand
    text: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Matches:
    """A test that a text fits a pattern, given as its pieces between `*`. `negated` as in Contains."""

    operand: Operand
    pieces: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """A field that is neither missing nor null: `exists(f)`."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class And:
    """A conjunction: all of these conditions are true."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """A disjunction: at least one of these conditions is true."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a condition."""

    condition: "Condition"


Condition = Compare | OneOf | Contains | Matches | Present | And | Or | Not


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a file. `shape` is its map; None if it drops the event."""

    name: str
    place: Location
    condition: Condition | None
    shape: Node | None
