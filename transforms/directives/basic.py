"""Directives for paths, templates and constants."""

from transforms.codegen.emitter import Emitter
from transforms.codegen.writer import Expr
from transforms.directives.arguments import LITERAL, PATH, TEMPLATE
from transforms.directives.definition import directive
from transforms.model.nodes import Constant, Node, PathNode, Template
from transforms.runtime.access import read_dotted
from transforms.runtime.text import render


@directive(
    "@path",
    from_segment=("@path",),
    short="path",
    arguments={"path": PATH},
)
def read_path(out: Emitter, path: Node) -> Expr:
    """The value at a path in the event; the list of all values if the path can match several."""
    if isinstance(path, PathNode):  # a fixed path; any other value is a Call
        return out.emit(path)
    return out.call(read_dotted, out.root.code, out.emit(path).code)


@directive(
    "@template",
    gives="string",
    short="template",
    arguments={"template": TEMPLATE},
)
def fill_template(out: Emitter, template: Node) -> Expr:
    """Text with `{{path}}` in it, unescaped; missing and null give ''."""
    if isinstance(template, Template | Constant):
        return out.emit(template)
    return out.call(render, out.root.code, out.emit(template).code)


@directive(
    "@literal",
    branches=("value",),
    short="value",
    arguments={"value": LITERAL},
)
def keep(out: Emitter, value: Node) -> Expr:
    """The value unchanged, even if it looks like a path or template; directives in it still run."""
    return out.emit(value)
