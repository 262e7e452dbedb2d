"""Text to paths: JSONPath by jsonpath-ng's extended parser, whose tree is then ours; and Segment's dotted form."""

import re
import warnings
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import re2
from jsonpath_ng import JSONPath
from jsonpath_ng.ext.parser import ExtendedJsonPathParser

from transforms.errors import RuleError
from transforms.tree import (
    AllOf,
    AnyOf,
    Children,
    Comparison,
    Descendants,
    Exists,
    Filter,
    Function,
    Index,
    Name,
    NoneOf,
    Path,
    Segment,
    Several,
    Slice,
    Test,
)

MAX_LENGTH = 1_000
MAX_SEGMENTS = 64
MAX_FILTER_DEPTH = 8

# Nearly every path is this plain, and jsonpath-ng takes 0.2 ms for it.
_PLAIN = re.compile(
    r"\$((\.[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*|\[(?:0|[1-9][0-9]{0,8})\]|\['[^'\\]*'\])*)"
)
_PLAIN_SEGMENT = re.compile(r"\.([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)|\[([0-9]+)\]|\['([^'\\]*)'\]")
_DOTTED_NAME = r"[\w$][\w \-$:/]*"
_DOTTED = re.compile(rf"{_DOTTED_NAME}(\.{_DOTTED_NAME}|\[[0-9]{{1,9}}\])*")
_DOTTED_SEGMENT = re.compile(rf"\[([0-9]{{1,9}})\]|\.?({_DOTTED_NAME})")
_SPECIAL_NAMES = {"where", "wherenot"}
_QUIET = re2.Options()
_QUIET.log_errors = False


@lru_cache(maxsize=20_000)
def parse_path(text: str) -> Path:
    """A JSONPath; raises RuleError with the place in the text as `column`."""
    if plain := _PLAIN.fullmatch(text):
        return Path(tuple(_plain_segments(plain[1])))
    if len(text) > MAX_LENGTH:
        raise RuleError(f"the path is longer than {MAX_LENGTH:,} characters", "shorten it")
    _refuse_what_is_misread(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            tree = _parser().parse(text)
    except Exception as error:  # noqa: BLE001 - its productions raise what they like
        raise RuleError(f"{text!r} is not a JSONPath: {_reason(error)}", _hint(text)) from None
    path = Path(tuple(_segments(tree, text, 0)))
    if len(path.segments) > MAX_SEGMENTS:
        raise RuleError(f"the path has more than {MAX_SEGMENTS} segments", "shorten it")
    return path


@lru_cache(maxsize=20_000)
def parse_loose_path(text: str) -> Path:
    """A JSONPath with or without `$.`, else Segment's dotted form, in which names may hold spaces."""
    if text in {"", ".", "$", "$."}:
        return Path(())
    dotted = text.removeprefix("$.")
    if _DOTTED.fullmatch(dotted) and not _SPECIAL_NAMES & set(dotted.split()):
        return Path(tuple(_dotted_segments(dotted)))
    return parse_path(text)


@cache
def _parser() -> Any:
    return ExtendedJsonPathParser()


def _plain_segments(text: str) -> Iterator[Segment]:
    for name, index, quoted in _PLAIN_SEGMENT.findall(text):
        yield Index(int(index)) if index else Name(name or quoted)


def _dotted_segments(text: str) -> Iterator[Segment]:
    for index, name in _DOTTED_SEGMENT.findall(text):
        yield Index(int(index)) if index else Name(name.strip())


def _refuse_what_is_misread(text: str) -> None:
    """What jsonpath-ng would take for something else than RFC 9535 says, without a word."""
    if escape := re.search(r"""\\[^\\'"/]""", text):
        raise RuleError(
            f"{text!r} is not a JSONPath that is supported: the escape {escape[0]} in a name",
            "write the character itself",
        )
    unquoted = re.sub(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*"|`[^`]*`""", "''", text)
    if call := re.search(r"\b(length|count|match|search|value)\s*\(", unquoted):
        raise RuleError(
            f"{text!r} is not a JSONPath that is supported: the function {call[1]}()",
            "jsonpath-ng has `len` in backquotes, and =~ for match() and search()",
        )
    if number := re.search(r"(?<![\w.])-?0[0-9]|(?<![\w.])-0(?![\w.])|[0-9]{16,}", unquoted):
        raise RuleError(f"{text!r} is not a JSONPath: the number {number[0]}", "write it without leading zeros")
    if unquoted.count("?") > MAX_FILTER_DEPTH:
        raise RuleError(f"the path has more than {MAX_FILTER_DEPTH} filters", "shorten it")


def _reason(error: Exception) -> str:
    message = str(error)
    if "union" in message:
        return "a union of paths"
    if "unquoted word" in message:
        return "text without quotes in a filter"
    if "`&`" in message:
        return "a single `&`"
    if "end of string" in message or "Unexpected EOF" in message:
        return "it ends too early"
    if token := re.search(r"at \d+:(\d+) near token (.*) \(", message, re.DOTALL):
        return f"unexpected {token[2]!r} at character {int(token[1]) + 1}"
    if character := re.search(r"col (\d+).*: (.) ?$", message, re.DOTALL):
        return f"unexpected {character[2]!r} at character {int(character[1]) + 1}"
    return message.splitlines()[0] if message else type(error).__name__


def _hint(text: str) -> str:
    if "|" in text and "||" not in text:
        return "use @default to take the first of several paths"
    if "&" in text and "&&" not in text:
        return "write && in a filter"
    if "?" in text:
        return "a filter is written [?(@.price > 10)], with text in quotes"
    return "write $.name.other, and ['a name'] for a name with other characters"


def _segments(tree: Any, text: str, depth: int) -> Iterator[Segment]:
    """Our segments of a tree of jsonpath-ng's, without the root; a chain of segments leans to the left in it."""
    if depth > MAX_SEGMENTS:
        raise RuleError(f"the path is nested more than {MAX_SEGMENTS} levels deep", "shorten it")
    chain = []
    while type(tree).__name__ in {"Child", "Descendants"}:
        chain.append(tree)
        tree = tree.left
    if depth or type(tree).__name__ not in {"Root", "This"}:
        yield _segment(tree, text)
    for link in reversed(chain):
        if type(link).__name__ == "Descendants":
            yield Descendants()
        yield from _segments(link.right, text, depth + 1)


def _segment(tree: Any, text: str) -> Segment:
    match type(tree).__name__:
        case "Fields":
            return Name(tree.fields[0]) if len(tree.fields) == 1 else Several(tuple(tree.fields))
        case "Index":
            return Index(tree.indices[0]) if len(tree.indices) == 1 else Several(tuple(tree.indices))
        case "Slice":
            return Slice(tree.start, tree.end, tree.step)
        case "Wildcard":
            return Children()
        case "Filter":
            return Filter(_all([_test(expression, text) for expression in tree.expressions]))
        case "Len":
            return Function("path_length")
        case "Keys":
            return Function("path_keys")
        case "Str":
            return Function("path_text")
        case "Split":
            return Function("path_split", (tree.chars, tree.segment, tree.max_split))
        case kind:
            what, hint = {
                "Root": ("a `$` within the path", "quote a name: ['$name']"),
                "This": ("an `@` outside a filter", "begin with `$`"),
                "Operation": ("arithmetic", "use @sum"),
                "SortedThis": ("sorting", "leave the order to the sender"),
                "Sub": ("`sub(…)`", "use @replace"),
            }.get(kind, (f"`{kind.strip('_').lower()}`", "use a directive"))
            raise RuleError(f"{text!r} is not a JSONPath that is supported: {what}", hint)


def _all(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else AllOf(tuple(tests))


def _test(tree: Any, text: str) -> Test:
    match type(tree).__name__:
        case "And":
            return AllOf(tuple(_test(operand, text) for operand in tree.operands))
        case "Or":
            return AnyOf(tuple(_test(operand, text) for operand in tree.operands))
        case "Expression" if tree.op is None:
            return Exists(_operand(tree.target, text))
        case "Expression" if tree.op == "!":
            return NoneOf(Exists(_operand(tree.target, text)))
        case "Expression":
            return _comparison(tree, text)
        case _:
            return Exists(_operand(tree, text))


def _comparison(tree: Any, text: str) -> Comparison:
    left = _operand(tree.target, text)
    if not left.singular:
        raise RuleError(f"{text!r} compares a path that can match several places", "compare one that matches one place")
    if tree.op == "=~":
        try:
            re2.compile(str(tree.value), _QUIET)
        except re2.error as error:
            raise RuleError(
                f"{text!r} has a wrong regular expression: {_re2_reason(error)}", "write it as RE2 does"
            ) from None
    right = _operand(tree.value, text) if isinstance(tree.value, JSONPath) else tree.value
    return Comparison(left, "==" if tree.op == "=" else tree.op, right)


def _re2_reason(error: re2.error) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _operand(tree: Any, text: str) -> Path:
    from_root = type(_leftmost(tree)).__name__ == "Root"
    if not from_root and type(_leftmost(tree)).__name__ != "This":
        raise RuleError(f"{text!r} has a name without `@` in a filter", "write @.name")
    return Path(tuple(_segments(tree, text, 0)), from_root=from_root)


def _leftmost(tree: Any) -> Any:
    while hasattr(tree, "left"):
        tree = tree.left
    return tree
