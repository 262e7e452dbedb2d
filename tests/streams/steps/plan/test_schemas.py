"""What a plan's schemas may say. What is wrong with one is in tests/cases/configuration/plans."""

import pytest

from streams.steps.plan.schemas import FORMATS, KEYWORDS, find_issues
from streams.steps.plan.step import compile_schema

USES = {
    "$ref": "#/definitions/other",
    "type": "string",
    "enum": [1],
    "const": 1,
    "format": "date",
    "pattern": "a",
    "required": ["a"],
    "dependentRequired": {"a": ["b"]},
    "uniqueItems": True,
    "multipleOf": 2,
    "$comment": "c",
    **dict.fromkeys(("title", "description"), "text"),
    **dict.fromkeys(("deprecated", "readOnly", "writeOnly"), True),
    **{key: [{}] for key in ("allOf", "anyOf", "oneOf", "prefixItems", "examples")},
    **{key: {"a": {}} for key in ("properties", "patternProperties", "dependentSchemas")},
}


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_keyword_may_be_used(keyword):
    """The keyword is valid and the validator compiles it; unknown keywords in its value are found."""
    numeric = keyword.lower().startswith(("min", "max", "exclusive"))
    schema = {keyword: USES.get(keyword, 1 if numeric else {})}
    assert find_issues(schema, {"other": {}}) == []
    compile_schema({"definitions": {"other": {}}, "allOf": [schema]})


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_checked(format_):
    """The validator knows it, and some text is not of it."""
    assert find_issues({"format": format_}, {}) == []
    assert not compile_schema({"format": format_}).is_valid("(\n{%")
