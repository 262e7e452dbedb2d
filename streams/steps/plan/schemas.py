"""Find errors in the schemas of a plan, with their positions.

A plan supports less than JSON Schema: only keywords that validate, and references only to its own definitions.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jsonschema_rs import Draft202012Validator, ValidationError

from streams.steps.plan.step import Path, compile_schema

ONE = (
    *("items", "contains", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames"),
    *("not", "if", "then", "else"),
)
SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("properties", "patternProperties", "dependentSchemas")
PLAIN = (
    *("$ref", "type", "enum", "const", "format", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("required", "dependentRequired", "minProperties", "maxProperties"),
    *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains"),
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"),
)
KEYWORDS = (*PLAIN, *ONE, *SEVERAL, *NAMED)
"""The supported keywords, by their values: no schema, one schema, a list of schemas, or schemas by name."""

_REFERENCE = "#/definitions/"
_ELSEWHERE = {
    **dict.fromkeys(("$defs", "definitions"), "move it to `definitions` at the top of the plan"),
    **dict.fromkeys(("$schema", "$id", "$anchor", "$vocabulary"), "remove it: plans always use draft 2020-12"),
    **dict.fromkeys(("$dynamicRef", "$dynamicAnchor", "$recursiveRef"), "use `$ref: '#/definitions/NAME'`"),
    "dependencies": "use `dependentRequired` or `dependentSchemas`",
    "additionalItems": "use `prefixItems` and `items`",
}
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
FORMATS = (
    *(
        "date",
        "date-time",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uuid",
    ),
    *("uri", "uri-reference", "uri-template", "iri", "iri-reference", "json-pointer", "relative-json-pointer", "regex"),
)

_meta_schema = Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})


class SchemaIssue(NamedTuple):
    """An error at `place` in a schema, or in the key there.

    `hint` is the suggested fix; without one, `known` are the possible values instead of `given`.
    """

    place: Path
    message: str
    hint: str | None = None
    given: str = ""
    known: tuple[str, ...] = ()
    of_key: bool = False


def find_issues(schema: object, definitions: Mapping[str, object]) -> list[SchemaIssue]:
    """Return the errors in a schema, which may use these definitions."""
    shape = dict.fromkeys(map(_shape_issue, _meta_schema.iter_errors(schema)))
    return list(shape) or list(_walk(schema, (), definitions))


def _shape_issue(error: ValidationError) -> SchemaIssue:
    place = tuple(error.instance_path)
    if error.kind.name == "anyOf" and place[-1] == "type":
        return SchemaIssue(place, f"type: {error.instance!r} is not a JSON type", None, str(error.instance), TYPES)
    keyword = next((step for step in reversed(place) if isinstance(step, str)), "")
    return SchemaIssue(place, ": ".join(filter(None, (keyword, error.message))))


def _walk(schema: Any, place: Path, definitions: Mapping[str, object]) -> Iterator[SchemaIssue]:
    """Yield errors that the meta-schema does not detect, in a schema of the right shape."""
    if isinstance(schema, bool):
        return
    for key, value in schema.items():
        at = (*place, key)
        match key:
            case "$ref":
                yield from _check_reference(value, at, definitions)
            case "format" if value not in FORMATS:
                yield SchemaIssue(at, f"unknown format {value!r}", None, value, FORMATS)
            case "pattern":
                yield from _check_pattern(value, at)
            case "patternProperties":
                for pattern in value:
                    yield from _check_pattern(pattern, (*at, pattern), of_key=True)
            case _ if key not in KEYWORDS and not key.startswith("x-"):
                yield SchemaIssue(at, f"unknown keyword {key!r}", _ELSEWHERE.get(key), key, KEYWORDS, of_key=True)
        for part, steps in _parts(key, value):
            yield from _walk(part, (*at, *steps), definitions)


def _parts(key: str, value: Any) -> Iterator[tuple[Any, Path]]:
    """Yield the schemas in a keyword's value, each with the steps that lead to it."""
    if key in ONE:
        yield value, ()
    elif key in SEVERAL:
        yield from ((each, (index,)) for index, each in enumerate(value))
    elif key in NAMED:
        yield from ((each, (name,)) for name, each in value.items())


def _check_reference(value: str, at: Path, definitions: Mapping[str, object]) -> Iterator[SchemaIssue]:
    name = value.removeprefix(_REFERENCE)
    if not value.startswith(_REFERENCE) or "/" in name:
        yield SchemaIssue(at, f"$ref: {value!r} is not a definition of the plan", f"use '{_REFERENCE}NAME'")
    elif name not in definitions:
        yield SchemaIssue(at, f"$ref: the plan has no definition {name!r}", None, name, tuple(definitions))


def _check_pattern(pattern: str, at: Path, *, of_key: bool = False) -> Iterator[SchemaIssue]:
    try:
        compile_schema({"pattern": pattern})
    except ValidationError:
        hint = "patterns must run in linear time: no look-around, no backreferences, no huge counts"
        yield SchemaIssue(at, f"not a regular expression: {pattern!r}", hint, of_key=of_key)
