"""Find stiff phrases in the texts of the code: docstrings, help, descriptions, log and error messages.

Each pattern is a habit to avoid, with what to write instead.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "transforms", "forwarders", "deploy")

_UNITS = (
    "second|minute|hour|day|line|item|event|record|batch|request|integration|partition|row|vendor|user|process|topic"
)
_COUNTED = "one|two|three|results?|ids?|requests?|events?|times?|bytes?|records?|rows?|once|twice|lines?|each|[0-9]+"
_VERBS = "is|are|was|were|has|had|comes|came|waits|follows|stands|lies|cannot|may"
_CONDITIONS = (
    "there|nothing|nobody|none|no|"
    "it (?:may|must|can|could|cannot|has|is|was|does)|they (?:may|must|can|cannot|have|are|do)"
)

PATTERNS: dict[str, tuple[str, str]] = {
    "is none": (
        r"\b(?:is|are|was) none\b|\bthat (?:is|are) no\b|\b(?:is|are|was) no (?:valid )?[a-z]",
        "is not a …, invalid …",
    ),
    "what": (
        rf"(?:^|[.:;] )What [^?]*[.]|\bwhat (?:{_VERBS}) (?![^.]*\?)",
        "name the thing: invalid events, the remaining records",
    ),
    "where for if": (
        rf"\b(?:None|False|True|empty|\w+Error|raised?|counted|sent|dropped|or) where\b|\bwhere (?:{_CONDITIONS})\b",
        "if, when",
    ),
    "a for per": (rf"\b(?:{_COUNTED}) an? (?:{_UNITS})\b", "per"),
    "so many": (r"\bso many\b|\bso much\b|\bfor so long\b|\bso often\b", "name the argument: `seconds`"),
    "held against": (r"\b(?:held|declared|checked|looked at) against\b", "compared with"),
    "stand, lie": (
        r"\b(?:stand|stands|stood|lie|lies|lay) (?:in|at|on|before|behind|beside|below|above|there|once)\b",
        "is in",
    ),
    "mend": (r"\bmend(?:s|ed|ing)?\b", "fix, repair"),
    "hear, tell, say": (r"\b(?:hear|hears|heard|told|tells)\b", "is called, report, receive"),
    "too, besides": (r", too[.,;:)]|, too$|\bbesides\b|\ball the same\b", "also"),
    "fragment": (r"^As [`A-Z][\w.`]*\.$|^Forget (?:all|it)\.$", "Implements `…`."),
    "others'": (r"\bothers'|\bof others\b|\bof one's own\b", "other, external, your own"),
    "German": (
        r"\bfor want of\b|\bcomes? to (?:its|an) end\b|\bmistakes?\b|\bbelongs? to nobody\b|\bgot by\b|\bby and by\b",
        "missing, ends, errors",
    ),
}
_COMPILED = {name: re.compile(pattern) for name, (pattern, _) in PATTERNS.items()}


class Finding(NamedTuple):
    """A sentence that matches a pattern; `place` is `file:line`."""

    pattern: str
    sentence: str
    place: str


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield each text of a module that people read, with its line: string constants of at least two words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            text = "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield node.lineno, text


def findings(source: str, name: str) -> Iterator[Finding]:
    """Yield every sentence of a module that matches a pattern, once per pattern."""
    for line, text in texts(source):
        for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
            plain = " ".join(sentence.split())
            for pattern, regular in _COMPILED.items():
                if regular.search(plain):
                    yield Finding(pattern, plain[:160], f"{name}:{line}")


def all_findings() -> list[Finding]:
    """Return the findings in all packages, in the order of their files."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [finding for path in paths for finding in findings(path.read_text(), str(path.relative_to(ROOT)))]
