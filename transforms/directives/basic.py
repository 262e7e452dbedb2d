"""Where values come from: paths, templates, constants, functions."""

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
    """What a path finds in the event; of several places the list of all."""
    if isinstance(path, PathNode):  # its text; a directive is a Call
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
    """The value as it stands, also where it looks like a path or template; directives in it still resolve."""
    return out.emit(value)
