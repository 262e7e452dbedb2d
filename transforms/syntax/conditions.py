"""Parse conditions: Segment's filter query language; `deploy/docs/rules.md` lists the differences.

condition  = all {"or" all}
all        = one {"and" one}, in capitals too
one        = "!" one | "(" condition ")" | "exists" "(" operand ")" | test
test       = ("contains" | "match") "(" operand "," string ")" | operand comparison
comparison = ("=" | "!=" | "<" | "<=" | ">" | ">=") constant | "in" "[" constant {"," constant} "]"
operand    = field | ("length" | "lowercase" | "words") "(" operand ")"
field      = name {"." name} | JSONPath
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from transforms.documents import RuleError
from transforms.model.nodes import (
    And,
    Compare,
    Condition,
    Contains,
    JsonPath,
    Key,
    Matches,
    Not,
    OneOf,
    Operand,
    Or,
    Present,
)
from transforms.model.values import words
from transforms.syntax.paths import parse_path

MAX_CHARACTERS = 20_000
MAX_DEPTH = 32

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.]))
    |(?P<operator><=|>=|!=|==|=|<|>|!)
    |(?P<mark>[(),\[\]])
    |(?P<path>\$)
    |(?P<word>(?:[A-Za-z_0-9-]|\\.|[^\x00-\x7f\s])+(?:\.(?:[A-Za-z_0-9$-]|\\.|[^\x00-\x7f\s])+)*)""",
    re.VERBOSE | re.DOTALL,
)
_BRACKETS = {"[": "]", "(": ")"}
_CONSTANTS = {"true": True, "false": False, "null": None}
_WRAPPERS = {"length", "lowercase", "words"}
_TESTS = {"contains", "match", "exists"}
_FUNCTIONS = [*_WRAPPERS, *_TESTS]
_KEYWORDS = {"or", "in"}
_OR_HINT = 'write "or"; Segment reads OR in capitals as and, so write "and" to keep what it does'


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


def parse_condition(text: str, error: Callable[[str, str | None, int], RuleError] | None = None) -> Condition:
    """Parse a condition; raises the exception that `error(message, hint, offset)` returns."""
    return _ConditionParser(text, error or _in_text(text)).parse()


def _in_text(text: str) -> Callable[[str, str | None, int], RuleError]:
    def error(message: str, hint: str | None, offset: int) -> RuleError:
        before = text[:offset]
        return RuleError(message, hint, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)

    return error


class _ConditionParser:
    def __init__(self, text: str, error: Callable[[str, str | None, int], RuleError]) -> None:
        self._text = text
        self._error = error
        self._tokens: list[_Token] = []
        self._at = 0
        self._depth = 0

    def parse(self) -> Condition:
        if len(self._text) > MAX_CHARACTERS:
            raise self._error(f"the condition is longer than {MAX_CHARACTERS:,} characters", "split the rule", 0)
        self._tokens = self._tokenize()
        condition = self._any()
        token = self._token
        if token.kind != "end":
            raise self._unexpected('"and", "or" or the end')
        return condition

    def _tokenize(self) -> list[_Token]:
        tokens = []
        offset = 0
        while offset < len(self._text):
            match = _TOKEN.match(self._text, offset)
            if match is None:
                character = self._text[offset]
                if character in "\"'":
                    raise self._error("the text has no closing quote", f"end it with {character}", offset)
                hint = {"&": 'write "and"', "|": 'write "or"'}.get(character)
                raise self._error(f"unexpected {character!r} in the condition", hint, offset)
            kind = match.lastgroup or ""
            end = self._path_end(offset) if kind == "path" else match.end()
            if kind != "space":
                tokens.append(_Token(kind, self._text[offset:end], offset))
            offset = end
        tokens.append(_Token("end", "", len(self._text)))
        return tokens

    def _path_end(self, start: int) -> int:
        """Return where a JSONPath ends: at a space, comma, bracket or operator outside its own brackets and quotes."""
        closing: list[str] = []
        quote = ""
        at = start + 1
        while at < len(self._text):
            character = self._text[at]
            if quote:
                at += character == "\\"
                quote = "" if character == quote else quote
            elif character in "'\"`":
                quote = character
            elif character in _BRACKETS:
                closing.append(_BRACKETS[character])
            elif closing and character == closing[-1]:
                closing.pop()
            elif not closing and (character.isspace() or character in ",)]=!<>"):
                break
            at += 1
        return min(at, len(self._text))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> bool:
        """Consume the next token if it is one of these words or signs."""
        if self._token.text in texts and self._token.kind in {"word", "mark", "operator"}:
            self._at += 1
            return True
        return False

    def _take_and(self) -> bool:
        """Consume an `and` in any case, as Segment does."""
        taken = self._token.kind == "word" and self._token.text.lower() == "and"
        self._at += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected(f'"{text}"')

    def _unexpected(self, wanted: str) -> RuleError:
        token = self._token
        what = repr(token.text) if token.kind != "end" else "the end of the condition"
        hint = {"&&": 'write "and"', "==": 'write "="'}.get(token.text)
        if token.kind == "word" and token.text != token.text.lower() and token.text.lower() in _KEYWORDS:
            hint = _OR_HINT if token.text.lower() == "or" else f'write "{token.text.lower()}"'
        return self._error(f"{wanted} is expected here, not {what}", hint, token.offset)

    def _any(self) -> Condition:
        found = [self._all()]
        while self._take("or"):
            found.append(self._all())
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _all(self) -> Condition:
        found = [self._one()]
        while self._take_and():
            found.append(self._one())
        return found[0] if len(found) == 1 else And(tuple(found))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"the condition is nested more than {MAX_DEPTH} levels deep", None, self._token.offset)
        try:
            if self._take("!"):
                return self._negated()
            if self._take("("):
                condition = self._any()
                self._expect(")")
                return condition
            return self._test()
        finally:
            self._depth -= 1

    def _negated(self) -> Condition:
        """Parse the condition after `!`; as in Segment, `!contains(…)` and `!match(…)` are false unless given text."""
        if self._token.kind == "word" and self._token.text in {"contains", "match"} and self._is_call():
            test = self._test()
            if isinstance(test, Contains):
                return Contains(test.operand, test.text, negated=True)
            if isinstance(test, Matches):
                return Matches(test.operand, test.pieces, negated=True)
        return Not(self._one())

    def _is_call(self) -> bool:
        return self._tokens[self._at + 1].text == "("

    def _test(self) -> Condition:
        token = self._token
        if token.kind == "word" and token.text in _TESTS and self._is_call():
            self._at += 2
            operand = self._operand()
            test: Condition
            if token.text == "exists":
                test = Present(operand)
            else:
                self._singular(operand, token)
                self._expect(",")
                text = self._string()
                self._check_words(operand, [text], token)
                test = Contains(operand, text) if token.text == "contains" else Matches(operand, tuple(text.split("*")))
            self._expect(")")
            return test
        operand = self._operand()
        if operand.through != "length":
            self._singular(operand, token)
        return self._comparison(operand, token)

    def _singular(self, operand: Operand, token: _Token) -> None:
        if not operand.path.singular and operand.through != "length":
            raise self._error(
                "a path that can match several places cannot be compared",
                "use exists(…) or length(…), or a path that matches one place",
                token.offset,
            )

    def _comparison(self, operand: Operand, first: _Token) -> Condition:
        if self._take("in"):
            self._expect("[")
            values = [self._constant()]
            while self._take(","):
                values.append(self._constant())
            self._expect("]")
            self._check_words(operand, values, first)
            return OneOf(operand, tuple(values))
        operator = self._token
        if not self._take("=", "!=", "<", "<=", ">", ">="):
            plain = operand.through is None and operator.text.lower() not in _KEYWORDS
            if operator.text != "==" and plain and operator.kind in {"end", "word", "mark"}:
                raise self._error(
                    "a comparison is expected after the field",
                    f"{first.text} = …, or exists({first.text})",
                    operator.offset,
                )
            raise self._unexpected("one of =, !=, <, <=, >, >=, in")
        value_token = self._token
        value = self._constant()
        if operator.text in {"<", "<=", ">", ">="} and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self._error(f"{operator.text} compares numbers only", "write a number", value_token.offset)
        self._check_words(operand, [value], value_token)
        return Compare(operand, operator.text, value)

    def _check_words(self, operand: Operand, values: Sequence[object], token: _Token) -> None:
        if operand.through == "words" and not all(isinstance(value, str) and words(value) for value in values):
            raise self._error(
                "compare words(…) with text that contains words", 'write it such as "Order Completed"', token.offset
            )

    def _operand(self) -> Operand:
        token = self._token
        if token.kind == "path":
            self._at += 1
            try:
                return Operand(parse_path(token.text))
            except RuleError as error:
                raise self._error(error.message, error.hint, token.offset) from None
        if token.kind != "word":
            raise self._unexpected("a field")
        if self._is_call():
            return self._wrapped()
        if token.text in {"and", "or", "in", *_CONSTANTS}:
            raise self._unexpected("a field")
        self._at += 1
        return Operand(JsonPath(tuple(Key(name) for name in _names(token.text))))

    def _wrapped(self) -> Operand:
        token = self._token
        if token.text not in _WRAPPERS:
            close = get_close_matches(token.text, _FUNCTIONS, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(_FUNCTIONS))}"
            if token.text in _TESTS:
                hint = f"{token.text}(…) is a condition by itself"
            raise self._error(f"{token.text}() is not a function of a field", hint, token.offset)
        self._at += 2
        operand = self._operand()
        if operand.through:
            raise self._error(f"{token.text}() of {operand.through}() is not supported", "use one", token.offset)
        if token.text in {"lowercase", "words"}:
            self._singular(operand, token)
        self._expect(")")
        return Operand(operand.path, token.text)

    def _string(self) -> str:
        token = self._token
        if token.kind != "string":
            raise self._unexpected("a text in quotes")
        self._at += 1
        return _unquote(token.text)

    def _constant(self) -> str | int | float | bool | None:
        token = self._token
        if token.kind == "string":
            return self._string()
        if token.kind == "number":
            self._at += 1
            number = float(token.text)
            if number in (float("inf"), float("-inf")) or len(token.text) > 300:
                raise self._error("the number is out of range", None, token.offset)
            return number if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "word" and token.text in _CONSTANTS:
            self._at += 1
            return _CONSTANTS[token.text]
        if token.kind == "word":
            lower = token.text.lower()
            hint = f"write {lower}" if lower in _CONSTANTS else f'quote it: "{token.text}"'
            raise self._error(f"a value is expected here, not {token.text!r}", hint, token.offset)
        raise self._unexpected("a value")


def _names(word: str) -> list[str]:
    """Split a dotted field into names; a backslash escapes the next character."""
    return [re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL) for name in re.findall(r"(?:[^.\\]|\\.)+", word, re.DOTALL)]


def _unquote(text: str) -> str:
    return re.sub(r"""\\(["'\\])""", r"\1", text[1:-1])
