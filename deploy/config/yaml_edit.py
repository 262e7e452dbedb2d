"""Change one value in a YAML text, keeping everything else, including comments."""

import json
from typing import Any

import yaml

from deploy.config.diagnostics import Place
from transforms.documents.document import LOADER


def replace_value(text: str, place: Place, value: Any) -> str:
    """Return the text with the value at a place replaced or added; the mapping that contains it must exist."""
    *path, key = place
    mapping: Any = yaml.compose(text, Loader=LOADER)
    for step in path:
        mapping = _child(mapping, step)
    inline = bool(mapping.flow_style)
    for name, old in mapping.value:
        if name.value == key:
            new = _text(key, value, name.start_mark.column, inline=inline)
            return text[: name.start_mark.index] + new + text[_end(text, old) :]
    if inline:
        end = mapping.end_mark.index - 1
        return f"{text[:end].rstrip()}, {_text(key, value, 0, inline=True)}{text[end:]}"
    first, _ = mapping.value[0]
    end, column = _end(text, mapping), first.start_mark.column
    return f"{text[:end]}\n{' ' * column}{_text(key, value, column, inline=False)}{text[end:]}"


def _child(node: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return node.value[step]
    return next(value for key, value in node.value if key.value == step)


def _end(text: str, node: Any) -> int:
    """Return the end of a value, without the blanks and comments that the end mark of a block includes."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        node = node.value[-1][1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    return len(text[: node.end_mark.index].rstrip())


def _text(key: str | int, value: Any, column: int, *, inline: bool) -> str:
    if inline:
        return f"{key}: {json.dumps(value, ensure_ascii=False)}"
    written = yaml.dump({key: value}, Dumper=_YamlDumper, sort_keys=False, allow_unicode=True, width=118 - column)
    return written.rstrip("\n").replace("\n", f"\n{' ' * column}")


def on_one_line(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)
    return text.removesuffix("...\n").rstrip("\n")


class _Plain(yaml.SafeDumper):
    """Writes no aliases, and quotes text that could be read as a number."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        quote = data[:1] in set("+-.0123456789") or "\n" in data
        return self.represent_scalar("tag:yaml.org,2002:str", data, '"' if quote else None)


_Plain.add_representer(str, _Plain.represent_str)


class _YamlDumper(_Plain):
    """Writes short collections on one line."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = _is_short(mapping)
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = _is_short(sequence)
        return node


def _is_short(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return not any(isinstance(each, dict | list) and each for each in inner) and len(json.dumps(value)) < 80
