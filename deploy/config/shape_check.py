"""Compare what a map makes with a pydantic model: missing fields, unknown fields and wrong types.

Most values depend on the event, so only values that are wrong for every event are errors.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from deploy.config.diagnostics import Place as Keys
from deploy.config.diagnostics import hint_at
from deploy.config.json_diff import dotted, shown
from forwarders.api.fields import Sha256
from transforms import RuleError
from transforms.directives import DIRECTIVES
from transforms.documents import Location
from transforms.model.nodes import Call, Constant, JsonPath, ListNode, Node, ObjectNode, PathNode, Rule, Template
from transforms.model.values import MISSING


class ShapeCheck:
    """Collect the errors of maps in `errors`, and the locations of data that must be hashed in `unhashed`.

    `title` names the owner of the model in messages.
    """

    def __init__(self, title: str) -> None:
        self.errors: list[RuleError] = []
        self.unhashed: set[Location] = set()
        self._title = title

    def check(self, rule: Rule, model: type[BaseModel], *, whole: bool = True) -> None:
        """Compare the map of a rule with a model; with `whole`, it must have every required field."""
        if rule.shape is None:
            return
        if whole and isinstance(rule.shape, ObjectNode):
            self._required(rule, rule.shape, model)
        self._value(rule.shape, model, ())

    def _required(self, rule: Rule, shape: ObjectNode, model: type[BaseModel]) -> None:
        for name, info in _fields(model).items():
            if info.is_required() and name not in shape.entries:
                self._wrong(
                    rule.place,
                    f"the rule {rule.name!r} does not fill {name!r}, which {self._title} requires",
                    f"add {name}: … to its map",
                )

    def _value(self, node: Node, annotation: Any, at: Keys) -> None:
        """Compare a value with the type of its field."""
        match node:
            case ObjectNode(entries=entries):
                self._object(node, entries, annotation, at, whole=bool(at))
            case ListNode(items=items):
                inner = _item_type(annotation) if self._is(node, "array", annotation, at) else Any
                for index, item in enumerate(items):
                    self._value(item, inner, (*at, index))
            case Constant(value=value) if value is not MISSING and value is not None:
                self._constant(node, value, annotation, at)
            case Template():
                self._is(node, "string", annotation, at)
            case PathNode(path=path) if not path.singular:
                self._is(node, "array", annotation, at)
            case Call():
                self._call(node, annotation, at)
        if isinstance(node, PathNode | Template):
            self._hash(node, annotation, at)

    def _object(self, node: ObjectNode, entries: Mapping[str, Node], annotation: Any, at: Keys, *, whole: bool) -> None:
        """Compare an object with its model; with `whole`, it must have every required field."""
        models = _models(annotation)
        if not models and self._is(node, "object", annotation, at):
            for key, each in entries.items():
                self._value(each, _item_type(annotation), (*at, key))
        if len(models) != 1:
            return
        fields = _fields(models[0])
        closed = models[0].model_config.get("extra") == "forbid"
        for key, each in entries.items():
            if key in fields:
                self._value(each, _type(fields[key]), (*at, key))
            elif closed:
                name = dotted((*at, key))
                self._wrong(
                    entry_of(each), f"{self._title} has no field {name!r}", hint_at(key, list(fields)), key=True
                )
        for name, info in fields.items() if whole else ():
            if info.is_required() and name not in entries:
                message = f"{dotted(at)!r} has no {name!r}, which {self._title} requires"
                self._wrong(node.place, message, f"add {name}: …")

    def _call(self, node: Call, annotation: Any, at: Keys) -> None:
        directive, arguments = node.directive, node.arguments
        if directive.branches:
            for value in _nodes(arguments.get(branch) for branch in directive.branches):
                self._value(value, annotation, at)
        elif directive.root and directive.gives == "array":
            shape = arguments.get(directive.root.argument)
            if self._is(node, "array", annotation, at) and isinstance(shape, Node):
                self._value(shape, _item_type(annotation), (*at, 0))
        elif directive.merges:
            if self._is(node, "object", annotation, at):
                self._merged(arguments[directive.merges], annotation, at)
        elif directive.hash_algorithm and _is_sha256(annotation):
            if directive.hash_algorithm(arguments) != "sha256":
                self._wrong(entry_of(node), f"{dotted(at)!r} must be a SHA-256 hash", "algorithm: sha256")
        elif kind := directive.type_of(arguments):
            self._is(node, kind, annotation, at)
            self._hash(node, annotation, at)

    def _merged(self, objects: Iterable[Node], annotation: Any, at: Keys) -> None:
        for each in objects:
            if isinstance(each, ObjectNode):
                self._object(each, each.entries, annotation, at, whole=False)
            elif isinstance(each, Call) and each.directive.merges:
                self._call(each, annotation, at)

    def _is(self, node: Node, kind: str, annotation: Any, at: Keys) -> bool:
        """Return whether the field accepts a value of this JSON type; report an error if not."""
        kinds = _kinds(annotation)
        if kinds is None or kind in kinds or (kind in _NUMBERS and kinds & _NUMBERS):
            return True
        accepted = sorted(kinds - {"null"})
        gives = f"{node.directive.name} gives" if isinstance(node, Call) else "this is"
        message = f"{dotted(at)!r} must be {' or '.join(_WORDS[each] for each in accepted)}, but {gives} {_WORDS[kind]}"
        hint = None if kind in {"array", "object"} else _cast_hint(accepted[0])
        if isinstance(node, Call):
            hint = next((text for to, text in node.directive.gives_hints.items() if to in kinds), hint)
        self._wrong(entry_of(node), message, hint)
        return False

    def _constant(self, node: Constant, value: Any, annotation: Any, at: Keys) -> None:
        try:
            _adapter(annotation).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
            reason = reason[0].lower() + reason[1:] if reason[1:2].islower() else reason
            self._wrong(node.place, f"{dotted(at)!r} does not accept {shown(value, 40)}: {reason}")

    def _hash(self, node: Node, annotation: Any, at: Keys) -> None:
        if _is_sha256(annotation):
            self.unhashed.update(read.place for read, _ in find_reads(node, hashed=False))
            message = f"{dotted(at)!r} must be a hash; {self._title} must not get the data itself"
            self._wrong(entry_of(node), message, '{"@hash": {value: …, normalize: …}}')

    def _wrong(self, place: Location, message: str, hint: str | None = None, *, key: bool = False) -> None:
        self.errors.append(place.error(message, hint, key=key))


_NUMBERS = frozenset({"number", "integer"})
_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def _cast_hint(kind: str) -> str | None:
    """Return a hint with the directive that casts to this JSON type."""
    casts = (it.name for it in DIRECTIVES.values() if it.casts and it.gives == kind and not it.hash_algorithm)
    return next((f"use {name}" for name in casts), None)


def entry_of(node: Node) -> Location:
    """Return the location of a value within its object; the location of a directive is that of its argument."""
    place = node.place
    if isinstance(node, Call) and place.keys[-1:] == (node.directive.name,):
        return Location(place.document, place.keys[:-1])
    return place


def _nodes(arguments: Iterable[Any]) -> Iterator[Node]:
    """Yield the arguments that are nodes, and the nodes in lists."""
    for argument in arguments:
        values = argument if isinstance(argument, tuple) else (argument,)
        yield from (each for each in values if isinstance(each, Node))


def find_reads(node: Node, *, hashed: bool) -> Iterator[tuple[PathNode, bool]]:
    """Yield every path that starts at the event and whose value is sent, and whether the value is hashed."""
    match node:
        case PathNode():
            yield node, hashed
        case Template(parts=parts):
            yield from ((PathNode(node.place, part), hashed) for part in parts if isinstance(part, JsonPath))
        case ObjectNode(entries=entries):
            for each in entries.values():
                yield from find_reads(each, hashed=hashed)
        case ListNode(items=items):
            for each in items:
                yield from find_reads(each, hashed=hashed)
        case Call(directive=directive, arguments=arguments):
            left_out = {*directive.decided_by, directive.root and directive.root.argument}
            for each in _nodes(argument for name, argument in arguments.items() if name not in left_out):
                yield from find_reads(each, hashed=hashed or directive.hash_algorithm is not None)


# Types


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _type(info: FieldInfo) -> Any:
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _options(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, without their annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _options(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _options(argument)
    else:
        yield annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [it for it in _options(annotation) if isinstance(it, type) and issubclass(it, BaseModel)]


def _item_type(annotation: Any) -> Any:
    """Return the type of a list's items, or of an object's values."""
    items = [get_args(it)[-1] for it in _options(annotation) if get_origin(it) in (list, dict, tuple) and get_args(it)]
    return items[0] if len(items) == 1 else Any


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


@cache
def _kinds(annotation: Any) -> frozenset[str] | None:
    """Return the JSON types that a field accepts; None for any."""
    if annotation is Any:
        return None
    schema = _adapter(annotation).json_schema()
    found: set[str] = set()
    for option in schema.get("anyOf", [schema]):
        resolved = schema["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option
        types = resolved.get("type")
        if types is None:
            return None
        found.update([types] if isinstance(types, str) else types)
    return frozenset(found)


@cache
def _is_sha256(annotation: Any) -> bool:
    """Return whether a field accepts only SHA-256 hashes."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    required = [it for it in parts if it is not type(None)]
    return bool(required) and all(it in (Sha256, list[Sha256]) for it in required)
