"""Compile the rules of all integrations to one function per kind of event, which computes shared parts once.

`Rules.apply` maps an event for one integration. With many integrations, most of the work is done again and again: 25
presets read the same fields, hash the same email address and cast the same prices. `JointRules` does it once.

How it works
------------

1.  Events are of the same kind if the same rules are candidates for them: those with the same `type` and the same event
    name, if a rule names it. The number of kinds is bounded by the rules, whatever events contain.
2.  The first `COMPILE_AFTER` events of a kind use the single functions, so that rare kinds cost no compilation. Then
one function is generated for the kind:

        def joint(event, wanted):
            made = [(), (), …]                      # the result of each integration, as `Rules.apply` returns it
            context = event.get('context', NOTHING) # parts that two integrations or more need
            …
            hash = hashed(…)
            if wanted[0]:                           # a section per integration: its candidates, in order
                payload = {…}
                made[0] = (('rule', payload),)
            …
            return made

3.  Shared parts are found by generating the sections twice. The first time, every path, directive, object and list that
    a section always needs is recorded under a key that is the same for equal parts of different files. The second time,
    parts recorded by two sections or more come first, and the sections use their variables. Loops over the same list
    become one loop, which reads the fields of each item once.

Why the results are the same
----------------------------

The sections are written by the same emitter as the single functions. Parts of rules are pure, so it does not matter
where, or how often, they run. If anything raises, the result is discarded and the caller uses the single functions,
which report the failure of each rule. `explain` and `turnout test` always use those; a property test compares both for
all presets.

Payloads of several integrations may share parts, and parts of the event: they must not be changed.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.codegen.rule_index import derive_selector
from transforms.codegen.writer import Expr
from transforms.directives.lists import write_loop
from transforms.model.directive import Root
from transforms.model.nodes import (
    And,
    Call,
    Compare,
    Constant,
    Contains,
    JsonPath,
    ListNode,
    Matches,
    Node,
    Not,
    ObjectNode,
    OneOf,
    Or,
    PathNode,
    Present,
    Rule,
    Segment,
    Template,
)
from transforms.model.values import words
from transforms.rules import DROP, Rules

COMPILE_AFTER = 200
"""Events of a kind that are mapped by the single functions before its joint function is compiled."""

MAX_CANDIDATES = 20
"""Rules of one integration that a joint function tries; an integration with more is left to its single function."""

Candidate = tuple[str, Rule | None]
"""A rule that may take an event, with the name in its results; no rule if `otherwise` drops."""

Results = Sequence[tuple[str, Any]]
"""The result of `Rules.apply`: rule name and payload of each rule that takes the event."""

Joint = Callable[[Any, Sequence[bool]], Sequence[Results]]
"""Maps an event for the integrations that are wanted; the others have no results."""


class _Kind:
    """A kind of event: its count so far, and its function once compiled."""

    __slots__ = ("count", "function")

    def __init__(self) -> None:
        self.count = 0
        self.function: Joint | None = None


class JointRules:
    """The rules of all integrations.

    Args:
        rules: The rules of each integration.

    """

    def __init__(self, rules: Sequence[Rules]) -> None:
        self._rules = tuple(rules)
        self._kinds: dict[tuple[Any, Any], _Kind] = {}

    @cached_property
    def _known(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """The types, the names, and the normalized names in the rules."""
        selectors = [derive_selector(rule.condition) for rules in self._rules for rule in rules.rules]
        return (
            frozenset[str]().union(*(each.types or () for each in selectors)),
            frozenset[str]().union(*((each.events or frozenset()) | each.spellings for each in selectors)),
            frozenset[str]().union(*(each.words or () for each in selectors)),
        )

    def apply(self, event: Mapping[str, Any], wanted: Sequence[bool]) -> Sequence[Results] | None:
        """Map an event for the wanted integrations.

        Returns:
            The results of each integration, empty for unwanted ones; None if the caller must apply each integration's
            rules itself.

        """
        try:
            kind = self._kinds.get((event.get("type"), event.get("event"))) or self._find(event)
        except TypeError:  # a type or name that is a list or an object
            return None
        if kind.function is None:
            kind.count += 1
            if kind.count != COMPILE_AFTER:
                return None
            kind.function = self.compile(event)
        try:
            return kind.function(event, wanted)
        except Exception:  # noqa: BLE001  # the single functions report it
            return None

    @property
    def kinds(self) -> int:
        """The number of kinds of events so far."""
        return len(self._kinds)

    def is_compiled(self, event: Mapping[str, Any]) -> bool:
        """Return whether the function for the event's kind is compiled."""
        return self._find(event).function is not None

    def _find(self, event: Mapping[str, Any]) -> _Kind:
        """Find the kind of an event whose type or name no rule has, or whose name is spelled differently."""
        types, names, names_in_words = self._known
        kind, name = event.get("type"), event.get("event")
        key: tuple[Any, Any] = (kind if kind in types else None, None)
        if name in names:
            key = (key[0], name)
        elif (in_words := words(name)) in names_in_words:
            key = (key[0], (in_words,))
        found = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = _Kind()
        return found

    def compile(self, event: Mapping[str, Any]) -> Joint:
        """Compile the function for all events that are of the same kind as this one."""
        candidates = [rules.candidates(event) for rules in self._rules]
        counting = _JointEmitter({})
        self._write(counting, candidates)
        out = _JointEmitter(counting.shared())
        self._write(out, candidates)
        function: Joint = out.compile("joint").namespace["joint"]
        return function

    def _write(self, out: "_JointEmitter", candidates: Sequence[Sequence[Candidate]]) -> None:
        with out.function_body("def joint(event, wanted):"):
            out.line(f"made = [()] * {len(candidates)}")
            out.write_shared()
            for index, (rules, its_candidates) in enumerate(zip(self._rules, candidates, strict=True)):
                with out.section(index):
                    _write_section(out, f"made[{index}]", rules, its_candidates)
            out.line("return made")


def _write_section(out: "_JointEmitter", target: str, rules: Rules, candidates: Sequence[Candidate]) -> None:
    """Write the code that sets the results of one integration."""
    shapes = [rule.shape for _, rule in candidates if rule and rule.shape]
    is_mapped = all(isinstance(shape, ObjectNode) for shape in shapes)  # any other map may fail, see NoObjectError
    if rules.match_all or not is_mapped or len(candidates) > MAX_CANDIDATES:
        out.line(f"{target} = {out.constant(rules.apply, 'APPLY')}(event)")
    else:
        _write_candidates(out, target, candidates)


def _write_candidates(out: "_JointEmitter", target: str, candidates: Sequence[Candidate]) -> None:
    """Write the code that applies the first rule whose condition holds; the last, `otherwise`, has no condition."""
    (name, rule), *others = candidates
    condition = derive_selector(rule.condition).rest if rule else None
    if condition is None:
        _write_rule(out, target, name, rule)
        return
    with out.branch(f"if {conditions.test(out, condition)}:"):
        _write_rule(out, target, name, rule)
    with out.branch("else:"):
        _write_candidates(out, target, others)


def _write_rule(out: "_JointEmitter", target: str, name: str, rule: Rule | None) -> None:
    payload = out.emit(rule.shape).code if rule and rule.shape else out.constant(DROP, "DROP")
    out.line(f"{target} = (({out.constant(name)}, {payload}),)")


class _SharedPart(NamedTuple):
    """A part that sections may share: how to write it, and the sections or loops that always need it."""

    write: Callable[["_JointEmitter"], object]
    users: set[Hashable]


class _JointEmitter(Emitter):
    """Write a joint function.

    Args:
        shared: The parts that sections share, by key. Without them, the emitter notes which parts each section needs,
            for `shared()`.

    """

    def __init__(self, shared: Mapping[Hashable, _SharedPart]) -> None:
        super().__init__()
        self._shared = shared
        self._parts: dict[Hashable, _SharedPart] = {}
        self._section: int | None = None
        self._is_certain = True
        self._computed: dict[Hashable, Expr] = {}
        self._loops: dict[Hashable, dict[Hashable, Node]] = {}
        self._keys = _Keys()

    def shared(self) -> Mapping[Hashable, _SharedPart]:
        """Return the parts that are needed more than once: objects, the values in them, loops, then the rest."""
        found = {key: part for key, part in self._parts.items() if len(part.users) > 1}
        return dict(sorted(found.items(), key=lambda item: _ORDER.get(item[0][0], len(_ORDER))))  # type: ignore[index]

    def write_shared(self) -> None:
        """Write the parts that sections share."""
        for part in self._shared.values():
            part.write(self)

    @contextmanager
    def section(self, index: int) -> Iterator[None]:
        """Write the section of an integration. Sections use the same variable names, so that the frame stays small."""
        used, self._section = dict(self._used), index
        with self.branch(f"if wanted[{index}]:"):
            yield
        self._used, self._section = used, None

    @contextmanager
    def branch(self, header: str) -> Iterator[None]:
        """Write a block whose parts may be shared: a section, or a rule whose condition is tested first."""
        computed = dict(self._computed)
        with super().block(header):
            yield
        self._computed = computed

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write a block that few events may need, so that its parts are not shared."""
        before, self._is_certain = self._is_certain, False
        with self.branch(header):
            yield
        self._is_certain = before

    def emit(self, node: Node, absent: str = "MISSING") -> Expr:
        """Return the expression for a node, which is computed once."""
        if not isinstance(node, Call | ObjectNode | ListNode):
            return super().emit(node, absent)
        key = self.root.code, self._keys.of(node)
        if key in self._computed:
            return self._computed[key]
        self._note(key, lambda out: out.emit(node))
        if isinstance(node, Call) and node.directive.root and node.directive.root.per_item:
            self._note_loop(node, node.directive.root)
        expr = super().emit(node, absent)
        if isinstance(node, Call) or key in self._shared:
            expr = self._computed[key] = self.bind(expr)
        return expr

    def read(self, path: JsonPath, absent: str = "MISSING") -> Expr:
        """Return the expression for a path, which is read once."""
        if path.singular and path.segments:
            self._note(("path", repr(path)), lambda out: out.named(path))
        return super().read(path, absent)

    def _object(self, prefix: tuple[Segment, ...]) -> str:
        if prefix:
            self._note(("object", repr(prefix)), lambda out: out._object(prefix))  # noqa: SLF001  # the other emitter
        return super()._object(prefix)

    def _note(self, key: Hashable, write: Callable[["_JointEmitter"], object], user: Hashable = None) -> None:
        """Record that the section always needs a part."""
        if self._section is not None and self._is_certain and self.root.code == "event":
            self._parts.setdefault(key, _SharedPart(write, set())).users.add(user or self._section)

    def _note_loop(self, node: Call, root: Root) -> None:
        """Record a loop: loops over the same list become one, which reads and casts each item's fields once."""
        source, shape = node.arguments[root.at], node.arguments.get(root.argument)
        if shape is None or (isinstance(shape, ObjectNode) and not shape.entries):
            return
        key = self._keys.of(node)
        loops = self._loops.setdefault(self._keys.of(source), {})
        self._note(("loop", self._keys.of(source)), lambda out: out.write_loops(source, loops), key)
        loops[key] = shape

    def write_loops(self, source: Node, loops: Mapping[Hashable, Node]) -> None:
        """Write loops over the same list as one."""
        lists = write_loop(self, source, list(loops.values()))
        self._computed |= {("event", key): items for key, items in zip(loops, lists, strict=True)}


_ORDER = {"object": 0, "path": 1, "loop": 2}


class _Keys:
    """The keys of nodes: equal nodes have equal keys, in whatever file they are."""

    def __init__(self) -> None:
        self._found: dict[int, Hashable] = {}

    def of(self, value: Any) -> Hashable:
        """Return the key of a node, or of an argument of a directive."""
        found = self._found.get(id(value))
        if found is None:
            found = self._found[id(value)] = self._make(value)
        return found

    def _make(self, value: Any) -> Hashable:
        match value:
            case Constant(value=constant):
                return "constant", type(constant), repr(constant)
            case PathNode(path=path):
                return "value", repr(path)
            case Template(parts=parts):
                return "template", repr(parts)
            case ObjectNode(entries=entries):
                return "fields", *((key, self.of(each)) for key, each in entries.items())
            case ListNode(items=items):
                return "items", *map(self.of, items)
            case Call(directive=directive, arguments=arguments):
                return directive.name, *((key, self.of(each)) for key, each in arguments.items())
            case tuple():
                return "several", *map(self.of, value)
            case None | bool() | int() | float() | str() | Compare() | OneOf() | Contains() | Matches() | Present():
                return "constant", type(value), repr(value)
            case And() | Or() | Not():
                return "condition", repr(value)
        return "identity", id(value)
