"""Names of classes."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("streams", "forwarders", "deploy", "transforms")

SHARED = {
    "Collector": "the destination of turnout-tracking, and the process that it sends to",
    "Kafka": "the destination of turnout-tracking, and the forwarder",
    "Settings": "the base of settings in either plug-in API",
}
"""Public names that two packages use for different things, each with both of them."""


def test_each_class_name_is_used_once():
    """A name leads to one class, whichever file a reader comes from."""
    places = defaultdict(list)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    repeated = {name: where for name, where in places.items() if len(where) > 1}
    assert repeated.keys() == SHARED.keys(), {name: repeated[name] for name in repeated.keys() - SHARED.keys()}
