"""The rules of a source."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events import EventError
from streams.steps.source_rules import DROPPED, SourceRulesStep, merge
from transforms import read_rules
from transforms.documents import Document

CASES = Document.read(Path("tests/cases/repairs.yaml").resolve()).data
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def no_note(reason, detail):
    raise AssertionError((reason, detail))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["does"]) for case in CASES])
def test_repair(case):
    """An event is repaired, unchanged, dropped or rejected, and the input is not changed."""
    rules, mistakes = read_rules(Document.parse(json.dumps(case["file"]), "web.yaml"))
    assert rules, mistakes
    repair = SourceRulesStep(rules, keep_unmatched="otherwise" not in case["file"])
    event = copy.deepcopy(case["event"])
    if "raises" in case:
        with pytest.raises(EventError) as caught:
            repair(event, no_note)
        assert (caught.value.code, str(caught.value)) == ("repair", case["raises"])
    else:
        assert repair(event, no_note) == (DROPPED if case.get("drops") else case["gives"])
    assert event == case["event"]


@given(OBJECTS, OBJECTS)
def test_merging_is_that_of_the_standard(event, patch):
    """A patch is merged as RFC 7396 (section 2) defines it, and neither side is changed."""

    def by_the_standard(target, patch):
        if not isinstance(patch, dict):
            return patch
        result = dict(target) if isinstance(target, dict) else {}
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = by_the_standard(result.get(key), value)
        return result

    before = copy.deepcopy((event, patch))
    assert merge(event, patch) == by_the_standard(event, patch)
    assert (event, patch) == before


def test_deep_patches_are_merged():
    """A patch may be as deep as an event."""
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert "a" in merge({"a": 1}, {"a": deep})["a"]
    while deep:
        deep = deep.pop("a")
