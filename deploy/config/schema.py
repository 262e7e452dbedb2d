"""JSON Schema of the configuration files, with which editors complete keys and underline errors."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from deploy.config.environment import REFERENCE
from deploy.config.models.integration import IntegrationFile
from deploy.config.models.source import SourceFile
from deploy.config.settings import TurnoutSettings
from forwarders import registry
from forwarders.api.contract import Contract
from streams.steps.enrichment import registry as enrichments
from streams.steps.plan import Plan, schemas
from streams.steps.plan.model import PARTS
from transforms.directives import DIRECTIVES
from transforms.model.directive import Directive

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = {"type": "string", "pattern": f"^{REFERENCE.pattern}$", "description": "From the environment or a file."}
_SCALARS = ("string", "integer", "number", "boolean")
_DIRECTIVE = {"$ref": "#/definitions/directive"}
_REMOVE = {"type": "object", "properties": {"@remove": {"const": True}}, "required": ["@remove"]}
_CONDITION = {
    "type": "string",
    "description": 'Which events the rule matches: `type = "track" and event in ["A", "B"] and exists(userId)`.',
}


def integration_schema() -> Schema:
    """Return the schema of integrations/*.yaml; `forwarder` selects the settings and payload fields."""
    schema = _of_model(IntegrationFile)
    contracts = [registry.find(name).contract for name in registry.names()]
    for contract in contracts:
        schema["definitions"] |= _definitions(contract)
    schema["definitions"]["directive"] = _directive_schema()
    properties = schema["properties"]
    properties["forwarder"]["enum"] = [contract.name for contract in contracts]
    properties |= _rule_properties({"$ref": "#/definitions/map"})
    schema["definitions"]["map"] = {"type": "object"}
    schema["allOf"] = [_branch(contract) for contract in contracts]
    return schema


def source_schema() -> Schema:
    """Return the schema of sources/*.yaml."""
    schema = _of_model(SourceFile)
    found = [enrichments.find(name) for name in enrichments.names()]
    for enrichment in found:
        schema["definitions"] |= _settings(f"enrich.{enrichment.name}", enrichment.settings)
    options = {
        it.name: {"anyOf": [{"$ref": f"#/definitions/enrich.{it.name}.settings"}, {"type": "null"}]} for it in found
    }
    schema["properties"]["enrich"] |= {"properties": options, "additionalProperties": False}
    return schema


def plan_schema() -> Schema:
    """Return the schema of plans/*.yaml."""
    schema = _of_model(Plan)
    schema["definitions"]["schema"] = _json_schema()
    inner = {"$ref": "#/definitions/schema"}
    schema["properties"]["definitions"]["additionalProperties"] = inner
    for part in PARTS:
        written = schema["definitions"]["PlannedEvent"]["properties"][part]
        schema["definitions"]["PlannedEvent"]["properties"][part] = written | {"anyOf": [inner, {"type": "null"}]}
    return schema


def turnout_schema() -> Schema:
    """Return the schema of turnout.yaml."""
    return _of_model(TurnoutSettings)


SCHEMAS: Mapping[str, Callable[[], Schema]] = {
    "integration": integration_schema,
    "source": source_schema,
    "plan": plan_schema,
    "turnout": turnout_schema,
}


def _json_schema() -> Schema:
    """Return the schema of the JSON Schemas in a plan."""
    inner = {"$ref": "#/definitions/schema"}
    types = {"enum": list(schemas.TYPES)}
    properties: Schema = dict.fromkeys(schemas.PLAIN, True)
    properties |= dict.fromkeys(schemas.ONE, inner)
    properties |= {key: {"type": "array", "items": inner} for key in schemas.SEVERAL}
    properties |= {key: {"type": "object", "additionalProperties": inner} for key in schemas.NAMED}
    properties["type"] = {"anyOf": [types, {"type": "array", "items": types}]}
    properties["format"] = {"enum": list(schemas.FORMATS)}
    return {
        "type": ["object", "boolean"],
        "description": "JSON Schema, draft 2020-12.",
        "properties": properties,
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
    }


def _of_model(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(ref_template="#/definitions/{model}")
    schema["definitions"] = schema.pop("$defs", {})
    return {"$schema": _DIALECT, **_with_references(schema, everywhere=False)}


def _branch(contract: Contract) -> Schema:
    """Return the part of the schema that applies to this forwarder."""
    payload = {"$ref": f"#/definitions/{contract.name}.map"} if contract.payload else {"type": "object"}
    properties: Schema = {"settings": {"$ref": f"#/definitions/{contract.name}.settings"}}
    properties |= _rule_properties(payload)
    description = f"{contract.title}: {contract.documentation}"
    properties["preset"] = {"const": contract.name, "description": f"The rules that come with {contract.title}."}
    return {
        "if": {"properties": {"forwarder": {"const": contract.name}}, "required": ["forwarder"]},
        "then": {"description": description, "properties": properties},
    }


def _rule_properties(payload: Schema) -> Schema:
    rule = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "Names the rule in outcomes and metrics."},
            "when": _CONDITION,
            "map": payload | {"description": "The payload to send."},
            "drop": {"type": "boolean", "description": "Send nothing."},
        },
    }
    return {
        "match": {
            "enum": ["first", "all"],
            "description": "`first`: only the first matching rule applies; `all`: every matching rule does.",
        },
        "map": payload | {"description": "Fields of the payload of every rule."},
        "rules": {"type": "array", "items": rule, "description": "The rules, in the order in which they are tried."},
        "otherwise": {
            "anyOf": [{"const": "drop"}, payload],
            "description": "`drop`, or a map for events that match no rule.",
        },
    }


def _definitions(contract: Contract) -> Schema:
    """Return the schemas of a forwarder's settings and payload map, with its name as prefix."""
    found = _settings(contract.name, contract.settings)
    if contract.payload:
        template = f"#/definitions/{contract.name}.{{model}}"
        payload = contract.payload.model_json_schema(ref_template=template)
        for name, each in payload.pop("$defs", {}).items():
            found[f"{contract.name}.{name}"] = _mapped(each)
        found[f"{contract.name}.map"] = _mapped(payload)
    return found


def _settings(prefix: str, model: type[BaseModel]) -> Schema:
    """Return the schemas of settings and of the models within them, with a prefix."""
    settings = model.model_json_schema(ref_template=f"#/definitions/{prefix}.{{model}}")
    written = {**settings.pop("$defs", {}), "settings": settings}
    return {f"{prefix}.{name}": _with_references(it, everywhere=True) for name, it in written.items()}


def _with_references(schema: Any, *, everywhere: bool) -> Any:
    """Return the schema of a file: secrets are references; with `everywhere`, any scalar may be one."""
    if isinstance(schema, list):
        return [_with_references(each, everywhere=everywhere) for each in schema]
    if not isinstance(schema, dict):
        return schema
    annotations = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    if schema.get("writeOnly"):
        return annotations | _REFERENCE
    if everywhere and schema.get("type") in _SCALARS and "const" not in schema:
        return annotations | {"anyOf": [{key: schema[key] for key in schema.keys() - annotations.keys()}, _REFERENCE]}
    return {key: _with_references(value, everywhere=everywhere) for key, value in schema.items()}


def _mapped(schema: Schema) -> Schema:
    """Return the schema of a map that makes this payload; a path, template or directive is allowed for any value."""
    if "$ref" in schema:
        return schema
    annotations: Schema = {key: schema[key] for key in ("title", "description") if key in schema}
    other: list[Schema] = [_DIRECTIVE, _REMOVE, {"type": ["string", "null"]}]
    if "properties" in schema:
        inner = {key: _mapped(value) for key, value in schema["properties"].items()}
        more = schema.get("additionalProperties", True)
        return annotations | {"anyOf": [{"type": "object", "properties": inner, "additionalProperties": more}, *other]}
    if schema.get("type") == "array":
        return annotations | {"anyOf": [{"type": "array", "items": _mapped(schema.get("items", {}))}, *other]}
    options = schema.get("anyOf", [])
    mapped = [_mapped(option) for option in options if option.get("type") != "null"]
    if any("anyOf" in option or "$ref" in option for option in mapped):
        return annotations | {"anyOf": [*mapped, *other]}
    if not {schema.get("type"), *(option.get("type") for option in options)} & {*_SCALARS}:
        return annotations
    values = next((option["enum"] for option in (schema, *options) if "enum" in option), None)
    scalar: Schema = {"type": [*_SCALARS, "null"]} | ({"examples": values} if values else {})
    return annotations | {"anyOf": [scalar, _DIRECTIVE, _REMOVE]}


def _directive_schema() -> Schema:
    return {
        "type": "object",
        "properties": {name: _directive(directive) for name, directive in DIRECTIVES.items()},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _directive(directive: Directive) -> Schema:
    arguments = {name: {"description": argument.kind} for name, argument in directive.arguments.items()}
    return {"description": directive.summary, "properties": arguments}
