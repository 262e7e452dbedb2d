"""Create forwarders with masked settings, for previews, tests and explanations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from deploy.config.diagnostics import find_models, find_secrets
from deploy.config.environment import UNSET, fill, find_texts, is_reference
from deploy.config.integrations import Integration
from forwarders.api.contract import Forwarder, HttpForwarder, WriterForwarder

M = TypeVar("M", bound=BaseModel)
AnyForwarder = HttpForwarder[Any] | WriterForwarder[Any]


def make_masked_forwarder(integration: Integration) -> AnyForwarder:
    """Create an integration's forwarder with `***` in place of every secret, set or not."""
    return make_forwarder(integration.forwarder, integration.document.data.get("settings", {}), masked=True)


def mask_references(data: Any, integration: Integration) -> Any:
    """Return JSON data with `***` for every value that the integration's settings refer to, and not only for secrets.

    The settings of a draft may name any variable or file.
    """
    texts = [text for _, text in find_texts(integration.document.data.get("settings")) if is_reference(text)]
    values = {str(fill(text, {})) for text in texts} - {"", UNSET}
    return _without(data, sorted(values, key=len, reverse=True))


def _without(data: Any, values: Sequence[str]) -> Any:
    if isinstance(data, Mapping):
        return {_without(key, values): _without(value, values) for key, value in data.items()}
    if isinstance(data, list):
        return [_without(value, values) for value in data]
    if isinstance(data, str):
        for value in values:
            data = data.replace(value, UNSET)
        return data
    return UNSET if str(data) in values else data


def make_forwarder(kind: type[Forwarder[Any]], data: Mapping[str, Any], *, masked: bool) -> AnyForwarder:
    """Create a forwarder with the settings of a file; unset variables, and with `masked` all secrets, become `***`.

    Raises ValidationError if the settings are invalid for any values of the variables.
    """
    model = kind.contract.settings
    filled = fill(data, {})
    if masked:
        for place in find_secrets(model, filled):
            _mask(filled, place)
    try:
        settings = model.model_validate(filled)
    except ValidationError:
        if UNSET not in _texts(filled):
            raise
        settings = _construct(model, filled)
    forwarder = kind(settings)
    assert isinstance(forwarder, HttpForwarder | WriterForwarder)
    return forwarder


def _mask(data: Any, place: tuple[str | int, ...]) -> None:
    *path, last = place
    for step in path:
        data = data[step]
    data[last] = UNSET


def _texts(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _texts(value)
    else:
        yield data


def _construct(model: type[M], data: Mapping[str, Any]) -> M:
    """Construct settings that contain `***` for unset variables, where the model would reject it."""
    values: dict[str, Any] = {}
    for name, value in data.items():
        field = model.model_fields[name]
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        try:
            values[name] = TypeAdapter(annotation).validate_python(value)
        except ValidationError:
            values[name] = _construct_value(field.annotation, value)
    return model.model_construct(**values)


def _construct_value(annotation: Any, value: Any) -> Any:
    if isinstance(value, dict):
        fitting = (it for it in find_models(annotation) if value.keys() <= it.model_fields.keys())
        model = next((it for it in fitting if _fits_literals(it, value)), None)
        return _construct(model, value) if model else value
    return SecretStr(value) if () in find_secrets(annotation, value) else value


def _fits_literals(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Return whether the literal fields, which distinguish the models of a union, are those of this model."""
    literals = {name: get_args(it.annotation) for name, it in model.model_fields.items() if _is_literal(it.annotation)}
    return all(value[name] in options for name, options in literals.items() if name in value)


def _is_literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal
