"""A directive as data: everything that the parser, the compiler, the checks, `explain` and the documentation need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms.documents import Location


@dataclass(frozen=True)
class Argument:
    """One argument of a directive.

    `kind` describes the accepted values in a few words. `parse(parser, data, location)` returns the value that the
    directive gets. `literal` is True if strings in it are plain text, never paths or templates.
    """

    kind: str
    parse: Callable[[Any, Any, Location], Any]
    required: bool = True
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """An argument whose paths start at the value of another argument, `at`; with `per_item` at each of its items."""

    argument: str
    at: str
    per_item: bool = False


@dataclass(frozen=True, kw_only=True)
class Directive:
    """A directive.

    Attributes:
        name: Its key in a mapping, with the `@`.
        summary: Its description in the documentation.
        arguments: Its arguments by name.
        emit: Writes the code; called with an Emitter and the parsed arguments, returns an Expr.
        short: The argument that a value without argument names stands for, or the arguments that a list gives in order.
        check: Returns an error message for an invalid combination of arguments, or None.
        gives: The JSON type of its value if known, or a function from the arguments to this type.
        gives_hints: For a JSON type that it does not give by default, the hint how to get it.
        branches: The arguments that may become its value as they are.
        decided_by: The arguments that select the value and are not part of it.
        choose: Returns the name of the branch for the values of `decided_by` (of a condition, whether it holds).
        takes_first: Whether its value is the first of its branches that is neither missing nor null.
        root: The argument whose paths do not start at the event.
        merges: The argument whose objects it merges into one.
        hash_algorithm: If its value is a hash, a function from the arguments to the name of the algorithm.
        casts: Whether its value is missing if it cannot use the value of its argument.
        from_segment: Whether its path has the meaning that Segment gives it.
    """

    name: str
    summary: str
    arguments: Mapping[str, Argument]
    emit: Callable[[Any, Mapping[str, Any]], Any]
    short: str | tuple[str, ...] | None = None
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    gives: str | Callable[[Mapping[str, Any]], str] | None = None
    gives_hints: Mapping[str, str] = field(default_factory=dict)
    branches: tuple[str, ...] = ()
    decided_by: tuple[str, ...] = ()
    choose: Callable[[Mapping[str, Any]], str] | None = None
    takes_first: bool = False
    root: Root | None = None
    merges: str | None = None
    hash_algorithm: Callable[[Mapping[str, Any]], str] | None = None
    casts: bool = False
    from_segment: bool = False

    def type_of(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the JSON type of the value that these arguments give; None if it depends on the event."""
        return self.gives(arguments) if callable(self.gives) else self.gives
