"""Trace how rules came to their result, for people: a slow walk over the compiler's tree.

Each node is compiled on its own, so its value in the trace is the value that the compiled rules give.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms.codegen import conditions
from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.model.directive import Root
from transforms.model.nodes import (
    And,
    Call,
    Compare,
    Condition,
    Contains,
    JsonPath,
    ListNode,
    Matches,
    Node,
    Not,
    ObjectNode,
    OneOf,
    Operand,
    Or,
    PathNode,
    Present,
    Template,
)
from transforms.model.values import MISSING
from transforms.rules import Rule, Rules


@dataclass(frozen=True, slots=True)
class Trace:
    """A node and its value.

    Attributes:
        node: The node.
        value: Its value; MISSING if it has none.
        inputs: The traces of the nodes it was made of, by key, index or argument.
        tests: The conditions that selected one of the inputs.
        taken: The input that became the value unchanged, if a directive selected one or applied it to another value.
        error: The class name of the exception that the node raised.
    """

    node: Node
    value: Any
    inputs: Mapping[str | int, "Trace"] = field(default_factory=dict)
    tests: tuple["ConditionTrace", ...] = ()
    taken: "Trace | None" = None
    error: str | None = None

    @property
    def reads(self) -> Iterator[tuple[JsonPath, Any]]:
        """The paths that this node and the nodes below it read, with the values found."""
        if isinstance(self.node, PathNode):
            yield self.node.path, self.value
        for each in self.inputs.values():
            yield from each.reads

    @property
    def failed(self) -> bool:
        """Whether a directive could not use the value of its argument, such as a failed cast."""
        given = self.inputs.get("value")
        there = given is not None and given.value is not MISSING and given.value is not None
        return isinstance(self.node, Call) and self.value is MISSING and there

    def walk(self) -> Iterator["Trace"]:
        """Yield this trace and all traces below it."""
        yield self
        for each in self.inputs.values():
            yield from each.walk()

    @property
    def failed_within(self) -> bool:
        """Whether this node or one below it failed; branches before the one that `@default` took do not count."""
        inputs = list(self.inputs.values())
        if isinstance(self.node, Call) and self.node.directive.takes_first and self.value is not MISSING:
            inputs = inputs[-1:]
        return self.failed or any(each.failed_within for each in inputs)


@dataclass(frozen=True, slots=True)
class ConditionTrace:
    """A condition and whether it held; `found` is the value that a condition without parts read."""

    condition: Condition
    holds: bool
    parts: tuple["ConditionTrace", ...] = ()
    found: Any = MISSING

    def blame(self) -> Iterator["ConditionTrace"]:
        """Yield the smallest parts that decided the result."""
        decisive = [part for part in self.parts if isinstance(self.condition, Not) or part.holds is self.holds]
        if not self.parts:
            yield self
        for part in decisive:
            yield from part.blame()


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """A rule that was tried; `payload` is None if it did not match or drops the event."""

    rule: Rule
    condition: ConditionTrace | None
    matched: bool
    payload: Trace | None = None


class Tracer:
    """Trace the rules of one file. Compiled nodes are cached."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._compiled: dict[int, tuple[object, Callable[[Any], Any]]] = {}

    def trace(self, event: Any) -> list[RuleTrace]:
        """Trace each rule that was tried, in order; last `otherwise`, if no rule matched and it has a map."""
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
        """Trace a node whose paths start at `root`."""
        match node:
            case ObjectNode(entries=entries):
                traces: dict[str | int, Trace] = {key: self.value(each, root) for key, each in entries.items()}
                found = {key: each.value for key, each in traces.items() if each.value is not MISSING}
                return Trace(node, found, traces)
            case ListNode(items=items):
                listed = [self.value(each, root) for each in items]
                kept = [each.value for each in listed if each.value is not MISSING]
                return Trace(node, kept, dict(enumerate(listed)))
        value, error = self._run(node, root, lambda out: out.emit(node).code)
        if isinstance(node, Template):
            paths = [part for part in node.parts if isinstance(part, JsonPath)]
            return Trace(node, value, {index: self._read(node, path, root) for index, path in enumerate(paths)})
        if not isinstance(node, Call) or error:
            return Trace(node, value, error=error)
        return self._call(node, value, root)

    def condition(self, condition: Condition, root: Any) -> ConditionTrace:
        """Trace a condition and its parts."""
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
        directive, arguments = node.directive, node.arguments
        tests = tuple(self.condition(each, root) for each in arguments.values() if isinstance(each, Condition))
        if directive.root:
            return self._rooted(node, directive.root, value, root, tests)
        if directive.choose:
            return self._chosen(node, directive.choose, value, root, tests)
        inputs: dict[str | int, Trace] = {}
        for argument, trace in self._nodes(arguments, root):
            inputs[argument] = trace
            if directive.takes_first and trace.value is not MISSING and trace.value is not None:
                break
        return Trace(node, value, inputs, tests)

    def _rooted(self, node: Call, rooted: Root, value: Any, root: Any, tests: tuple[ConditionTrace, ...]) -> Trace:
        """Trace a directive with an argument whose paths start at the value of another, or at each of its items."""
        others = {name: each for name, each in node.arguments.items() if name != rooted.argument}
        inputs = dict(self._nodes(others, root))
        start = inputs[rooted.at].value
        shape: Node | None = node.arguments.get(rooted.argument)
        if shape is None:
            return Trace(node, value, inputs, tests)
        if not rooted.per_item:
            taken = inputs[rooted.argument] = self.value(shape, start)
            return Trace(node, value, inputs, tests, taken)
        is_empty = isinstance(shape, ObjectNode) and not shape.entries
        if not is_empty and isinstance(start, list | dict):
            items = start if isinstance(start, list) else [start]
            inputs |= {index: self.value(shape, item) for index, item in enumerate(items)}
        return Trace(node, value, inputs, tests)

    def _chosen(
        self,
        node: Call,
        choose: Callable[[Mapping[str, Any]], str],
        value: Any,
        root: Any,
        tests: tuple[ConditionTrace, ...],
    ) -> Trace:
        """Trace a directive that runs one of its branches."""
        arguments, branches = node.arguments, node.directive.branches
        inputs = dict(self._nodes({name: each for name, each in arguments.items() if name not in branches}, root))
        decided = {str(name): trace.value for name, trace in inputs.items()}
        conditions_ = [name for name, each in arguments.items() if isinstance(each, Condition)]
        branch = choose(decided | {name: test.holds for name, test in zip(conditions_, tests, strict=True)})
        inputs |= self._nodes({branch: arguments.get(branch)}, root)
        return Trace(node, value, inputs, tests, inputs.get(branch))

    def _read(self, node: Node, path: JsonPath, root: Any) -> Trace:
        """Trace a path within a template."""
        value, _ = self._run(path, root, lambda out: out.read(path).code)
        return Trace(PathNode(node.place, path), value)

    def _nodes(self, arguments: Mapping[str, Any], root: Any) -> Iterator[tuple[str | int, Trace]]:
        """Trace the arguments that are nodes, by name, and the nodes in lists, by index."""
        for name, argument in arguments.items():
            if isinstance(argument, Node):
                yield name, self.value(argument, root)
            elif isinstance(argument, tuple):
                for index, each in enumerate(argument):
                    if isinstance(each, Node):
                        yield index, self.value(each, root)

    def _run(self, key: object, root: Any, emit: Callable[[Emitter], str]) -> tuple[Any, str | None]:
        """Run the code of a node; return its value and the class name of the exception that it raised."""
        if id(key) not in self._compiled:
            self._compiled[id(key)] = key, _function(emit)
        try:
            return self._compiled[id(key)][1](root), None
        except Exception as error:  # noqa: BLE001  # as the compiled rules do: a field that raises is a dead letter
            return MISSING, type(error).__name__


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
    """Yield every directive in a tree."""
    match node:
        case ObjectNode(entries=entries):
            inner: Iterator[Any] = iter(entries.values())
        case ListNode(items=items):
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
