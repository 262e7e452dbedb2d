"""How rules came to their result: a slow walk over the compiler's tree, for people.

Each node is compiled on its own, so a node's value here is that of the compiled rules.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter, Expr
from transforms.model.nodes import (
    MISSING,
    And,
    Call,
    Compare,
    Condition,
    Contains,
    Items,
    Matches,
    Node,
    Not,
    OneOf,
    Operand,
    Or,
    Path,
    Present,
    Read,
    Shape,
    Template,
)
from transforms.rules import Rule, Rules
from transforms.runtime.shapes import blank

_FIRST = ("@default", "@coalesce")


@dataclass(frozen=True, slots=True)
class Trace:
    """A node and its value; `inputs` are the nodes that it was made of, by key, index or argument.

    `tests` are the conditions that chose between its inputs; `error` is the kind of exception it raised.
    """

    node: Node
    value: Any
    inputs: Mapping[str | int, "Trace"] = field(default_factory=dict)
    tests: tuple["ConditionTrace", ...] = ()
    error: str | None = None

    @property
    def reads(self) -> Iterator[tuple[Path, Any]]:
        """The paths that this node and those under it read, and what they found."""
        if isinstance(self.node, Read):
            yield self.node.path, self.value
        for each in self.inputs.values():
            yield from each.reads

    @property
    def failed(self) -> bool:
        """Whether a directive found a value, and could make nothing of it: a cast that failed."""
        given = self.inputs.get("value")
        there = given is not None and given.value is not MISSING and given.value is not None
        return isinstance(self.node, Call) and self.value is MISSING and there

    def walk(self) -> Iterator["Trace"]:
        """The trace and all under it."""
        yield self
        for each in self.inputs.values():
            yield from each.walk()

    @property
    def failed_within(self) -> bool:
        """Whether it or a value in it failed; a `@default` with a value has only the last that it tried."""
        inputs = list(self.inputs.values())
        if isinstance(self.node, Call) and self.node.directive.name in _FIRST and self.value is not MISSING:
            inputs = inputs[-1:]
        return self.failed or any(each.failed_within for each in inputs)


@dataclass(frozen=True, slots=True)
class ConditionTrace:
    """A condition and whether it held; `found` is what a test without parts read."""

    condition: Condition
    holds: bool
    parts: tuple["ConditionTrace", ...] = ()
    found: Any = MISSING

    def blame(self) -> Iterator["ConditionTrace"]:
        """The smallest parts that this came out as it did for."""
        decisive = [part for part in self.parts if isinstance(self.condition, Not) or part.holds is self.holds]
        if not self.parts:
            yield self
        for part in decisive:
            yield from part.blame()


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """A rule that was tried; `payload` is None where it did not match or drops the event."""

    rule: Rule
    condition: ConditionTrace | None
    matched: bool
    payload: Trace | None = None


class Tracer:
    """Traces one file's rules; what it compiles it keeps."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._compiled: dict[int, tuple[object, Callable[[Any], Any]]] = {}

    def trace(self, event: Any) -> list[RuleTrace]:
        """Each rule that was tried for an event, in order; `otherwise` last where no rule took it and it is a map."""
        tried: list[RuleTrace] = []
        for rule in self.rules.rules:
            tried.append(self._rule(rule, event))
            if tried[-1].matched and not self.rules.match_all:
                return tried
        if self.rules.otherwise and not any(each.matched for each in tried):
            tried.append(self._rule(self.rules.otherwise, event))
        return tried

    def _rule(self, rule: Rule, event: Any) -> RuleTrace:
        condition = self.condition(rule.condition, event) if rule.condition else None
        matched = condition is None or condition.holds
        return RuleTrace(rule, condition, matched, self.value(rule.shape, event) if matched and rule.shape else None)

    def value(self, node: Node, root: Any) -> Trace:
        """A node's value where paths begin at `root`."""
        match node:
            case Shape(entries=entries):
                traces: dict[str | int, Trace] = {key: self.value(each, root) for key, each in entries.items()}
                found = {key: each.value for key, each in traces.items() if each.value is not MISSING}
                return Trace(node, found, traces)
            case Items(items=items):
                listed = [self.value(each, root) for each in items]
                kept = [each.value for each in listed if each.value is not MISSING]
                return Trace(node, kept, dict(enumerate(listed)))
        value, error = self._run(node, root, lambda out: out.emit(node).code)
        if isinstance(node, Template):
            paths = [part for part in node.parts if isinstance(part, Path)]
            return Trace(node, value, {index: self._read(node, path, root) for index, path in enumerate(paths)})
        if not isinstance(node, Call) or error:
            return Trace(node, value, error=error)
        return self._call(node, value, root)

    def condition(self, condition: Condition, root: Any) -> ConditionTrace:
        """Whether a condition holds, and which of its parts do."""
        match condition:
            case And(conditions=inner) | Or(conditions=inner):
                parts = tuple(self.condition(each, root) for each in inner)
                every = isinstance(condition, And)
                return ConditionTrace(condition, (all if every else any)(part.holds for part in parts), parts)
            case Not(condition=each):
                part = self.condition(each, root)
                return ConditionTrace(condition, not part.holds, (part,))
        holds, _ = self._run(condition, root, lambda out: conditions.test(out, condition))
        operand = _operand(condition)
        found, _ = self._run(operand.path, root, lambda out: out.read(operand.path).code)
        return ConditionTrace(condition, holds is True, (), found)

    def _call(self, node: Call, value: Any, root: Any) -> Trace:
        name, arguments = node.directive.name, dict(node.arguments)
        tests = tuple(self.condition(each, root) for each in arguments.values() if isinstance(each, Condition))
        inputs: dict[str | int, Trace] = {}
        if node.directive.rooted and node.directive.gives == "array":
            rooted = arguments.pop(node.directive.rooted, None)
            ((source, items),) = self._nodes(arguments, root)
            inputs[source] = items
            shaped = isinstance(rooted, Node) and not (isinstance(rooted, Shape) and not rooted.entries)
            if shaped and isinstance(items.value, list | dict):
                each = items.value if isinstance(items.value, list) else [items.value]
                inputs.update({index: self.value(rooted, item) for index, item in enumerate(each)})
        elif name == "@transform":
            applied = inputs["apply"] = self.value(arguments["apply"], root)
            inputs["mapping"] = self.value(arguments["mapping"], applied.value)
        elif name == "@if":
            branches = {branch: arguments.pop(branch, None) for branch in ("then", "else")}
            inputs.update(self._nodes(arguments, root))
            branch = "then" if _holds(inputs, tests) else "else"
            inputs.update(self._nodes({branch: branches[branch]}, root))
        elif name in _FIRST:
            for argument, trace in self._nodes(arguments, root):
                inputs[argument] = trace
                if trace.value is not MISSING and trace.value is not None:
                    break
        else:
            inputs.update(self._nodes(arguments, root))
        return Trace(node, value, inputs, tests)

    def _read(self, node: Node, path: Path, root: Any) -> Trace:
        """What a path within a text finds."""
        value, _ = self._run(path, root, lambda out: out.read(path).code)
        return Trace(Read(node.place, path), value)

    def _nodes(self, arguments: Mapping[str, Any], root: Any) -> Iterator[tuple[str | int, Trace]]:
        """The arguments that are nodes, and those in lists by their index."""
        for name, argument in arguments.items():
            if isinstance(argument, Node):
                yield name, self.value(argument, root)
            elif isinstance(argument, tuple):
                for index, each in enumerate(argument):
                    if isinstance(each, Node):
                        yield index, self.value(each, root)

    def _run(self, key: object, root: Any, emit: Callable[[Emitter], str]) -> tuple[Any, str | None]:
        """What the code for a node gives, and the kind of exception that it raised."""
        if id(key) not in self._compiled:
            self._compiled[id(key)] = key, _function(emit)
        try:
            return self._compiled[id(key)][1](root), None
        except Exception as error:  # noqa: BLE001  # as the compiled rules do: a field that raises is a dead letter
            return MISSING, type(error).__name__


def _holds(inputs: Mapping[str | int, Trace], tests: tuple[ConditionTrace, ...]) -> bool:
    """Whether the test of an `@if` does."""
    if tests:
        return tests[0].holds
    if "blank" in inputs:
        return not blank(inputs["blank"].value)
    return inputs["exists"].value is not MISSING and inputs["exists"].value is not None


def _function(emit: Callable[[Emitter], str]) -> Callable[[Any], Any]:
    out = Emitter()
    with out.function_body("def value(event):"):
        root = out.assign(Expr("event", missing=False), out.name("item"))
        with out.rooted(root):
            out.line(f"return {emit(out)}")
    function: Callable[[Any], Any] = out.compile("trace").namespace["value"]
    return function


def _operand(condition: Condition) -> Operand:
    assert isinstance(condition, Compare | OneOf | Contains | Matches | Present)
    return condition.operand


def calls(node: Node | None) -> Iterator[Call]:
    """Every directive in a tree."""
    match node:
        case Shape(entries=entries):
            inner: Iterator[Any] = iter(entries.values())
        case Items(items=items):
            inner = iter(items)
        case Call(arguments=arguments):
            yield node
            values = arguments.values()
            inner = (each for value in values for each in (value if isinstance(value, tuple) else (value,)))
        case _:
            return
    for each in inner:
        if isinstance(each, Node):
            yield from calls(each)
