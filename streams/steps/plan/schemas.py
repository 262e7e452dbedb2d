"""What is wrong with the schemas of a plan, each with its place.

A plan takes less than JSON Schema does: only keywords that check something, and references only to its own definitions.
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
"""The keywords that a schema may have; their values hold no schema, one, a list of them, or some by name."""

_REFERENCE = "#/definitions/"
_ELSEWHERE = {
    **dict.fromkeys(("$defs", "definitions"), "write it at the top of the plan, as `definitions`"),
    **dict.fromkeys(("$schema", "$id", "$anchor", "$vocabulary"), "leave it out: plans are of draft 2020-12"),
    **dict.fromkeys(("$dynamicRef", "$dynamicAnchor", "$recursiveRef"), "write `$ref: '#/definitions/NAME'`"),
    "dependencies": "write `dependentRequired` or `dependentSchemas`",
    "additionalItems": "write `prefixItems` and `items`",
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


class Mistake(NamedTuple):
    """Something wrong at `place` of a schema, or with the key there.

    `hint` says what to write, else `known` what could be meant by what was `given`.
    """

    place: Path
    message: str
    hint: str | None = None
    given: str = ""
    known: tuple[str, ...] = ()
    of_key: bool = False


def find_mistakes(schema: object, definitions: Mapping[str, object]) -> list[Mistake]:
    """What is wrong with one schema, which may use these definitions."""
    shape = dict.fromkeys(map(_of_shape, _meta_schema.iter_errors(schema)))
    return list(shape) or list(_walk(schema, (), definitions))


def _of_shape(error: ValidationError) -> Mistake:
    place = tuple(error.instance_path)
    if error.kind.name == "anyOf" and place[-1] == "type":
        return Mistake(place, f"type: {error.instance!r} is no type of JSON", None, str(error.instance), TYPES)
    keyword = next((step for step in reversed(place) if isinstance(step, str)), "")
    return Mistake(place, ": ".join(filter(None, (keyword, error.message))))


def _walk(schema: Any, place: Path, definitions: Mapping[str, object]) -> Iterator[Mistake]:
    """Check a valid schema for errors that the meta schema does not find."""
    if isinstance(schema, bool):
        return
    for key, value in schema.items():
        at = (*place, key)
        match key:
            case "$ref":
                yield from _check_reference(value, at, definitions)
            case "format" if value not in FORMATS:
                yield Mistake(at, f"format: {value!r} is not known", None, value, FORMATS)
            case "pattern":
                yield from _check_pattern(value, at)
            case "patternProperties":
                for pattern in value:
                    yield from _check_pattern(pattern, (*at, pattern), of_key=True)
            case _ if key not in KEYWORDS and not key.startswith("x-"):
                yield Mistake(at, f"unknown keyword {key!r}", _ELSEWHERE.get(key), key, KEYWORDS, of_key=True)
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


def _check_reference(value: str, at: Path, definitions: Mapping[str, object]) -> Iterator[Mistake]:
    name = value.removeprefix(_REFERENCE)
    if not value.startswith(_REFERENCE) or "/" in name:
        yield Mistake(at, f"$ref: {value!r} is not a definition of the plan", f"write '{_REFERENCE}NAME'")
    elif name not in definitions:
        yield Mistake(at, f"$ref: the plan has no definition {name!r}", None, name, tuple(definitions))


def _check_pattern(pattern: str, at: Path, *, of_key: bool = False) -> Iterator[Mistake]:
    try:
        compile_schema({"pattern": pattern})
    except ValidationError:
        hint = "it must run in linear time: no look-around, no backreferences, no huge counts"
        yield Mistake(at, f"not a regular expression: {pattern!r}", hint, of_key=of_key)
