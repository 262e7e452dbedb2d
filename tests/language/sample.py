"""Print a random sample of the code's texts, to read as an editor: python -m tests.language.sample SEED [KIND [COUNT]].

Kinds: docstrings (80), settings (40: descriptions of settings), messages (40: texts of errors and of logs).
"""

import ast
import random
import sys
from collections.abc import Iterator

from tests.language.patterns import PACKAGES, ROOT

COUNTS = {"docstrings": 80, "settings": 40, "messages": 40}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each docstring of a module, its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def settings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each text below a field of a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    yield text.lineno, str(text.value.value)


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each text that is raised, logged or printed as an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call = node.exc
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS:
            call = node
        else:
            continue
        for argument in call.args:
            if isinstance(argument, ast.Constant | ast.JoinedStr) and " " in ast.unparse(argument):
                yield node.lineno, ast.unparse(argument)


KINDS = {"docstrings": docstrings, "settings": settings, "messages": messages}


def main() -> None:
    """Print the samples."""
    seed, *kinds = sys.argv[1:]
    for kind in kinds[:1] or KINDS:
        found = [
            (f"{path.relative_to(ROOT)}:{line}", text)
            for package in PACKAGES
            for path in sorted((ROOT / package).rglob("*.py"))
            for line, text in KINDS[kind](ast.parse(path.read_text()))
        ]
        count = min(int(kinds[1]) if len(kinds) > 1 else COUNTS[kind], len(found))
        print(f"{kind}: {count} of {len(found)}")
        for place, text in random.Random(seed).sample(found, count):
            print(f"{place}\n    " + "\n    ".join(text.splitlines()))


if __name__ == "__main__":
    main()
