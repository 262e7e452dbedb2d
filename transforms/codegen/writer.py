"""Write Python source: lines with their locations in the rule file, variable names and constants."""

import hashlib
import linecache
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

from transforms.documents import Location, RuleError
from transforms.model.values import MISSING

_BUILTINS = (bool, dict, float, int, len, list, str, type)
_MAX_LITERAL_CHARACTERS = 200


class Expr(NamedTuple):
    """An expression that gives a value.

    `missing` is True if the value may be MISSING. `atom` is True for a name or constant, which may be repeated.
    `member` is the object and key that it reads from, if testing for the key first is cheaper than reading.
    """

    code: str
    missing: bool = True
    atom: bool = False
    member: tuple[str, str] | None = None


class Writer:
    """Collect the source of one module.

    Text of rules reaches the source only through `constant`: as a `repr`, or bound to a generated name.
    """

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__builtins__": {}, "MISSING": MISSING}
        self.namespace.update((builtin.__name__, builtin) for builtin in _BUILTINS)
        self.place: Location | None = None
        self.root = Expr("event", missing=False, atom=True)
        """The value at which paths start."""
        self._lines: list[str] = []
        self._places: list[Location | None] = []
        self._indent = 0
        self._used: dict[str, int] = {}
        self._constants: Counter[str] = Counter()

    def line(self, code: str = "") -> None:
        """Write a line at the current indentation; an error in it is reported at the current location."""
        self._lines.append("    " * self._indent + code if code else "")
        self._places.append(self.place)

    @contextmanager
    def indented(self, header: str) -> Iterator[None]:
        """Write a header line and indent the lines in the block."""
        self.line(header)
        self._indent += 1
        yield
        self._indent -= 1

    def name(self, hint: str) -> str:
        """Return a new variable name. The hint must never be text of a rule."""
        count = self._used.get(hint, 0) + 1
        self._used[hint] = count
        name = hint if count == 1 else f"{hint}_{count}"
        return self.name(hint) if name in self.namespace else name

    def forget_names(self) -> None:
        """Make all names available again at the start of a function."""
        self._used.clear()

    def constant(self, value: Any, hint: str = "CONSTANT") -> str:
        """Return code for a constant of a rule: short plain values as literals, others bound to a name."""
        if (
            value is None
            or isinstance(value, bool | int | float)
            or (isinstance(value, str) and len(value) <= _MAX_LITERAL_CHARACTERS)
        ):
            return repr(value)
        self._constants[hint] += 1
        name = f"{hint}_{self._constants[hint]}"
        self.namespace[name] = value
        return name

    def function(self, function: Callable[..., object]) -> str:
        """Return the name by which the source calls this function."""
        name: str = function.__name__
        while name in self._used or self.namespace.get(name, function) is not function:
            name += "_"
        self.namespace[name] = function
        return name

    @property
    def source(self) -> str:
        """The source so far."""
        return "\n".join(self._lines) + "\n"

    def compile(self, title: str) -> "Module":
        """Run the source; tracebacks show its lines under a file name made from the title."""
        source = self.source
        digest = hashlib.sha256(source.encode("utf-8", "backslashreplace")).hexdigest()[:8]
        filename = f"<rules {title} {digest}>"
        try:
            code: CodeType = compile(source, filename, "exec", dont_inherit=True)
        except (SyntaxError, RecursionError, MemoryError, OverflowError, ValueError) as error:
            raise RuleError(
                f"the rules are too deep or too large to compile: {error}", "flatten or split them"
            ) from None
        exec(code, self.namespace)  # noqa: S102 - our own code; it contains texts of rules only as constants
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        return Module(filename, source, self.namespace, tuple(self._places))


class Module:
    """A compiled module: its functions by name, and the location in the rule file of each line."""

    def __init__(
        self, filename: str, source: str, namespace: dict[str, Any], places: tuple[Location | None, ...]
    ) -> None:
        self.filename = filename
        self.source = source
        self.namespace = namespace
        self._places = places

    def place(self, error: BaseException) -> Location | None:
        """Return the location in the rules that raised an exception."""
        found = None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.filename:
                found = self._places[trace.tb_lineno - 1]
            trace = trace.tb_next
        return found
