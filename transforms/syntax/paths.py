"""Parse paths: JSONPath as read by jsonpath-ng, with some of its extensions, and Segment's dotted form.

path      = "$" {segment}
segment   = "." name | "." "*" | ".." (name | "*" | bracket) | bracket | "." function
bracket   = "[" ("*" | "?" test | slice | index {"," index} | quoted {"," quoted}) "]"
test      = all {"||" all}
all       = one {"&&" one}
one       = "(" test ")" | "!" operand | operand [operator (constant | operand)]
operand   = ("@" | "$") {segment}
function  = "`len`" | "`keys`" | "`str()`" | "`split(…)`"

Spaces are allowed where RFC 9535 allows them: between segments and inside brackets. Anything else is refused.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import NoReturn

from transforms.documents import RuleError
from transforms.model.nodes import (
    AllOf,
    AnyOf,
    Children,
    Comparison,
    Descendants,
    Exists,
    Filter,
    Function,
    Index,
    JsonPath,
    Key,
    NoneOf,
    Segment,
    Several,
    Slice,
    Test,
    join_tests,
)
from transforms.syntax.jsonpath import NotReadError, read_path
from transforms.syntax.regular_expressions import find_problem

MAX_CHARACTERS = 1_000
MAX_SEGMENTS = 64
MAX_FILTER_DEPTH = 8
MAX_PARENTHESES = 32
MAX_INDEX = 2**53 - 1
"""RFC 9535, 2.1."""

_BLANK = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(
    r"(?:[A-Za-z_]|@(?=[A-Za-z_])|[^\x00-\x7f\s])(?:[A-Za-z0-9_@-]|[^\x00-\x7f\s])*|[0-9]+(?![A-Za-z_@])"
)
_QUOTED = re.compile(r"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)\"""", re.DOTALL)
_DIGITS = re.compile(r"-?[0-9]+")
_FRACTION = re.compile(r"\.[0-9]+")
_WORD = re.compile(r"\w+")
_BARE = re.compile(r"[^\W\d]\w*")
_OPERATOR = re.compile(r"==|!=|<=|>=|=~|=|<|>")
_SPLIT = re.compile(r"split\((.),\s+([0-9]+|\*),\s+([0-9]+|-1)\)")
_FUNCTIONS = {"len": "path_length", "keys": "path_keys", "str()": "path_text"}
_CONSTANTS = {"true": True, "false": False, "null": None}
_RFC_FUNCTIONS = {"length", "count", "match", "search", "value"}

# A name in Segment's form is any text between dots and brackets, except what JSONPath, JavaScript and template
# languages read as something else.
_DOTTED_NAME = r"(?![\s#^!>&/|=~<%?+,;:)-])(?:[^.\[\]*|`'\"\\{}\x00-\x1f$]|(?<![\s(])\$(?!\.|\[|$))+(?<!\s)"
_DOTTED_INDEX = r"\[(?:0|[1-9][0-9]{0,15})\]"
_DOTTED = re.compile(rf"{_DOTTED_NAME}(?:\.{_DOTTED_NAME}|{_DOTTED_INDEX})*")
_DOTTED_SEGMENT = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")
_EXPRESSION = re.compile(r"^@$|\s(?:[?=<>!+|]+|&&|where|wherenot)\s|\b(?:length|count|match|search|value)\(")


@lru_cache(maxsize=20_000)
def parse_path(text: str) -> JsonPath:
    """Parse a JSONPath that begins with `$`; raises RuleError."""
    return _confirmed(text, _PathParser(text).path())


@lru_cache(maxsize=20_000)
def parse_loose_path(text: str) -> JsonPath:
    """Parse a JSONPath with or without `$.`, or Segment's dotted form, whose names may have spaces and signs."""
    if text in {"", ".", "$", "$."}:
        return JsonPath(())
    dotted = text.removeprefix("$.")
    if len(text) <= MAX_CHARACTERS and _DOTTED.fullmatch(dotted):
        found = _DOTTED_SEGMENT.findall(dotted)
        if len(found) <= MAX_SEGMENTS and not any(_EXPRESSION.search(name) for _, name in found):
            return JsonPath(tuple(Index(int(index)) if index else Key(name) for index, name in found))
    return _confirmed(text, _PathParser(text, loose=True).path())


def _confirmed(text: str, path: JsonPath) -> JsonPath:
    """Return the path if jsonpath-ng reads the same path or cannot read it; raises RuleError if they differ.

    A path that two parsers read differently must not be accepted silently. Plain names and indexes are not compared:
    jsonpath-ng takes 0.2 ms per path, and reads the name 01 as 1.
    """
    if all(isinstance(segment, Key | Index) for segment in path.segments):
        return path
    try:
        other = read_path(text)
    except NotReadError:
        return path  # such as names that are not ASCII
    if other.segments != path.segments:
        raise RuleError(
            f"{text!r} is ambiguous: jsonpath-ng reads another path in it",
            "quote names with other characters: ['a name']",
        )
    return path


class _PathParser:
    """Parse one path; with `loose`, it may lack the `$` and be in Segment's form."""

    def __init__(self, text: str, *, loose: bool = False) -> None:
        self._text = text
        self._at = 0
        self._loose = loose
        self._filters = 0
        self._depth = 0
        self._parentheses = 0
        self._segments = 0

    def path(self) -> JsonPath:
        if len(self._text) > MAX_CHARACTERS:
            raise RuleError(f"the path is longer than {MAX_CHARACTERS:,} characters", "shorten it")
        first: list[Segment] = []
        if not self._take("$"):
            if not self._loose:
                self._refuse_character()
            if not self._next(".") and not self._next("["):
                first = [self._member()]
        segments = (*first, *self._chain())
        if self._at < len(self._text):
            self._refuse_character()
        return JsonPath(segments)

    # Segments

    def _chain(self) -> tuple[Segment, ...]:
        """Parse all segments that follow, with the spaces between them."""
        found: list[Segment] = []
        while True:
            before = self._at
            self._skip()
            if self._at > before and self._loose and not self._depth and (self._next(".") or self._next("[")):
                self._at = before
                self._refuse_character("remove the space, or write ['name '] for a name that ends with one")
            if self._next("["):
                found.append(self._bracket())
            elif self._take(".."):
                found += [Descendants(), self._bracket() if self._next("[") else self._member()]
            elif self._take("."):
                found.append(self._member())
            else:
                if self._at == len(self._text):
                    self._at = before  # trailing blanks are not part of a path
                return tuple(found)
            self._segments += 1
            if self._segments > MAX_SEGMENTS:
                raise RuleError(f"the path has more than {MAX_SEGMENTS} segments", "shorten it")

    def _member(self) -> Segment:
        """Parse the segment after a dot."""
        if self._take("*"):
            return Children()
        if self._next("`"):
            return self._function()
        if self._next("$"):
            self._refuse("a `$` within the path", "quote a name: ['$name']")
        if not (name := _NAME.match(self._text, self._at)):
            self._refuse_character()
        self._at = name.end()
        return Key(name[0])

    def _bracket(self) -> Segment:
        self._expect("[")
        self._skip()
        if self._take("*"):
            segment: Segment = Children()
        elif self._take("?"):
            self._filters += 1
            if self._filters > MAX_FILTER_DEPTH:
                raise RuleError(f"the path has more than {MAX_FILTER_DEPTH} filters", "shorten it")
            self._depth += 1
            segment = Filter(self._test())
            self._depth -= 1
        elif self._next("/") or self._next("\\"):
            self._refuse("sorting", "leave the order to the sender")
        elif self._next("'") or self._next('"'):
            names = self._listed(self._quoted)
            segment = Key(names[0]) if len(names) == 1 else Several(tuple(names))
        else:
            segment = self._items()
        self._skip()
        self._expect("]")
        return segment

    def _items(self) -> Segment:
        """Parse indexes or a slice."""
        if word := _BARE.match(self._text, self._at):
            if word.end() == len(self._text):
                self._refuse_end()
            self._refuse_character(f"quote a name: ['{word[0]}']; the last item is [-1]")
        start = None if self._next(":") else self._index()
        self._skip()
        if self._next(":"):
            return self._slice(start)
        indexes = [start] if start is not None else []
        while self._take(","):
            self._skip()
            indexes.append(self._index())
            self._skip()
        return Index(indexes[0]) if len(indexes) == 1 else Several(tuple(indexes))

    def _slice(self, start: int | None) -> Slice:
        ends: list[int | None] = [start]
        while len(ends) < 3 and self._take(":"):
            self._skip()
            ends.append(self._index() if _DIGITS.match(self._text, self._at) else None)
            self._skip()
        return Slice(ends[0], ends[1], ends[2] if len(ends) > 2 else None)

    def _listed(self, item: Callable[[], str]) -> list[str]:
        """Parse a list separated by commas."""
        items = [item()]
        while True:
            before = self._at
            self._skip()
            if not self._take(","):
                self._at = before
                return items
            self._skip()
            items.append(item())

    def _function(self) -> Function:
        """Parse one of jsonpath-ng's functions in backquotes."""
        end = self._text.find("`", self._at + 1)
        if end < 0:
            self._refuse_end()
        function = self._text[self._at + 1 : end]
        if function in _FUNCTIONS:
            self._at = end + 1
            return Function(_FUNCTIONS[function])
        if split := _SPLIT.fullmatch(function):
            self._at = end + 1
            return Function("path_split", (split[1], split[2], int(split[3])))
        what, hint = {
            "sub": ("`sub(…)`", "use @replace"),
            "sorted": ("sorting", "leave the order to the sender"),
            "parent": ("`parent`", "use a directive"),
        }.get(
            function.partition("(")[0],
            (f"the function `{function}`", "there are `len`, `keys`, `str()` and `split(…)`"),
        )
        return self._refuse(what, hint)

    # Filters

    def _test(self) -> Test:
        self._skip()
        tests = [self._all()]
        while self._take("||"):
            tests.append(self._all())
        return join_tests(AnyOf, tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._take("&&"):
            tests.append(self._one())
        return join_tests(AllOf, tests)

    def _one(self) -> Test:
        """Parse one test, with the spaces around it."""
        self._skip()
        if self._take("("):
            self._parentheses += 1
            if self._parentheses > MAX_PARENTHESES:
                raise RuleError(f"the path has more than {MAX_PARENTHESES} parentheses", "shorten it")
            test = self._test()
            self._expect(")")
        elif self._take("!"):
            self._skip()
            test = NoneOf(Exists(self._operand()))
        else:
            test = self._comparison()
        self._skip()
        return test

    def _comparison(self) -> Test:
        left = self._operand()
        self._skip()
        if not (operator := _OPERATOR.match(self._text, self._at)):
            return Exists(left)
        self._at = operator.end()
        self._skip()
        is_path = self._next("@") or self._next("$")
        right = self._operand() if is_path else self._constant()
        for side in (left, right):
            if isinstance(side, JsonPath) and not side.singular:
                raise RuleError(
                    f"{self._text!r} compares a path that can match several places",
                    "compare one that matches one place",
                )
        if operator[0] == "=~":
            self._check_expression(right)
        return Comparison(left, "==" if operator[0] == "=" else operator[0], right)

    def _check_expression(self, expression: object) -> None:
        reason = find_problem(expression) if isinstance(expression, str) else "it is not a text"
        if reason:
            raise RuleError(f"{self._text!r} has an invalid regular expression: {reason}", "write it as RE2 does")

    def _operand(self) -> JsonPath:
        from_root = self._next("$")
        if not from_root and not self._next("@"):
            word = _WORD.match(self._text, self._at)
            if word and word[0] in _RFC_FUNCTIONS and self._text[word.end() :].lstrip().startswith("("):
                hint = "jsonpath-ng has `len` in backquotes, and =~ for match() and search()"
                self._refuse(f"the function {word[0]}()", hint)
            if not word and not self._next("'") and not self._next('"') and not self._next("-"):
                self._refuse_character()
            raise RuleError(f"{self._text!r} has a name without `@` in a filter", "write @.name")
        self._at += 1
        return JsonPath(self._chain(), from_root=from_root)

    def _constant(self) -> str | int | float | bool | None:
        if self._next("'") or self._next('"'):
            return self._quoted()
        if _DIGITS.match(self._text, self._at):
            return self._number()
        word = _WORD.match(self._text, self._at)
        if word and word[0] in _CONSTANTS:
            self._at = word.end()
            return _CONSTANTS[word[0]]
        if word:
            self._refuse("text without quotes in a filter", supported=None)
        return self._refuse_character()

    # Tokens

    def _number(self) -> int | float:
        start = self._at
        whole = self._whole()
        if not (fraction := _FRACTION.match(self._text, self._at)):
            if whole == "-0":
                self._refuse("the number -0", "write it without leading zeros", supported=None)
            return int(whole)
        self._at = fraction.end()
        number = float(self._text[start : self._at])
        if not isfinite(number):
            self._refuse("a number out of range", supported=None)
        return number

    def _whole(self) -> str:
        """Parse digits without leading zeros."""
        digits = _DIGITS.match(self._text, self._at)
        if not digits:
            self._refuse_character()
        if len(digits[0].lstrip("-")) > 1 and digits[0].lstrip("-")[0] == "0":
            self._refuse(f"the number {digits[0]}", "write it without leading zeros", supported=None)
        self._at = digits.end()
        return digits[0]

    def _index(self) -> int:
        digits = self._whole()
        if digits == "-0":
            self._refuse("the number -0", "write it without leading zeros", supported=None)
        if abs(int(digits)) > MAX_INDEX:
            self._refuse(f"the number {digits}", f"at most {MAX_INDEX}", supported=None)
        return int(digits)

    def _quoted(self) -> str:
        if not (self._next("'") or self._next('"')):
            self._refuse_character()
        if not (quoted := _QUOTED.match(self._text, self._at)):
            self._refuse_end()
        inner: str = quoted[1] if quoted[1] is not None else quoted[2]
        if escape := re.search(r"""\\[^\\'"/]""", re.sub(r"\\\\", "", inner)):
            self._refuse(f"the escape {escape[0]} in a name", "write the character itself")
        self._at = quoted.end()
        return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)

    def _skip(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        assert blank
        self._at = blank.end()

    def _next(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _take(self, sign: str) -> bool:
        """Consume a sign if it comes next."""
        taken = self._text.startswith(sign, self._at)
        self._at += len(sign) * taken
        return taken

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._refuse_character()

    # Errors

    def _refuse(self, what: str, hint: str | None = None, *, supported: str | None = " that is supported") -> NoReturn:
        raise RuleError(f"{self._text!r} is not a JSONPath{supported or ''}: {what}", hint or self._hint())

    def _refuse_end(self) -> NoReturn:
        self._refuse("it ends too early", supported=None)

    def _refuse_character(self, hint: str | None = None) -> NoReturn:
        """Refuse the next character, with a message about its probable meaning."""
        rest = self._text[self._at :]
        if not rest:
            self._refuse_end()
        if not rest.strip() or (not self._at and rest[0].isspace()):
            self._refuse("a space at its end" if self._at else "a space before it", "remove the space", supported=None)
        if rest.startswith("|") and not rest.startswith("||"):
            self._refuse("a union of paths", supported=None)
        if rest.startswith("&") and not rest.startswith("&&"):
            self._refuse("a single `&`", supported=None)
        if rest[0] in "+-*/" and not self._filters and self._at and "]" not in rest.partition("[")[0]:
            self._refuse("arithmetic", "use @sum")
        if word := re.match(r"where(not)?\b", rest):
            self._refuse(f"`{word[0]}`", "use a directive")
        self._refuse(f"unexpected {rest[0]!r} at character {self._at + 1}", hint, supported=None)

    def _hint(self) -> str:
        rest = self._text[self._at :]
        if rest.startswith("|") and not rest.startswith("||"):
            return "use @default to take the first of several paths"
        if rest.startswith("&") and not rest.startswith("&&"):
            return "write && in a filter"
        if self._filters:
            return "a filter is written [?(@.price > 10)], with text in quotes"
        return "write $.name.other, and ['a name'] for a name with other characters"
