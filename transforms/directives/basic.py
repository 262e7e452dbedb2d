"""Where values come from: paths, templates, constants, functions."""

from transforms.codegen.emitter import Emitter, Expr
from transforms.directives.definition import Literal, PathText, TemplateText, directive
from transforms.runtime.access import read_dotted
from transforms.runtime.text import render
from transforms.tree import Constant, Node, Read, Template


@directive(
    "@path", summary="What a path finds in the event; of several places the list of all.", short="path", path=PathText()
)
def read_path(out: Emitter, path: Node) -> Expr:
    if isinstance(path, Read):  # its text; a directive is a Call
        return out.emit(path)
    return out.call(read_dotted, out.root.code, out.emit(path).code)


@directive(
    "@template",
    summary="Text with `{{path}}` in it, unescaped; missing and null give ''.",
    short="template",
    template=TemplateText(),
)
def fill_template(out: Emitter, template: Node) -> Expr:
    if isinstance(template, Template | Constant):
        return out.emit(template)
    return out.call(render, out.root.code, out.emit(template).code)


@directive(
    "@literal",
    summary="The value as it stands, also where it looks like a path or template; directives in it still resolve.",
    short="value",
    value=Literal(),
)
def keep(out: Emitter, value: Node) -> Expr:
    return out.emit(value)
