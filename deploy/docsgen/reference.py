"""Write the reference pages from the declarations in the code: python -m deploy.docsgen.reference."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from deploy.cli.main import COMMANDS, main
from deploy.config.models.integration import IntegrationFile
from deploy.config.models.source import SourceFile
from deploy.config.settings import TurnoutSettings
from streams.collector import api
from streams.collector.errors import REFUSALS
from streams.collector.protocol import HEAD_BYTES
from streams.collector.settings import CollectorSettings
from streams.observability import metrics as declared
from streams.records.outcomes import Outcome
from streams.steps.enrichment.registry import BUILT_IN
from streams.steps.plan.model import Plan, Schema
from transforms.directives import DIRECTIVES
from transforms.documents import Document
from transforms.model.directive import Directive

DOCS = Path(__file__).parents[1] / "docs"
CASES = Path(__file__).parents[2] / "tests" / "cases"
PATHS = CASES / "rules" / "jsonpath.yaml"
CLIENTS = CASES / "sdks.yaml"

NOTICE = "<!-- Written by `python -m deploy.docsgen.reference`; change the descriptions in the code. -->"

CONFIGURATION = f"""{NOTICE}
# Configuration

A configuration folder has one file for the process settings, and one per source, integration and tracking plan:

```
turnout.yaml                 # Kafka, collector, retention, consent
sources/shop.yaml            # where events come from
integrations/ga4.yaml        # where events go, with the rules
plans/checkout.yaml          # which events are valid
```

Check a folder before you deploy it:

```sh
turnout check --config DIR
```

`turnout check` prints every error with file, line and column. The other commands check the folder first, and refuse to
start with an invalid one. `deploy/example` is a folder that runs as it is.

## Secrets and variables

Secrets do not belong in the files. Refer to an environment variable, or to a file as Docker and Kubernetes mount it:

```yaml
settings:
  api_secret: '${{GA4_API_SECRET}}'
  password: '${{file:/run/secrets/password}}'
```

- A reference must be the whole value. It is allowed for any secret, and for every setting of a forwarder or enrichment.
- The path of a file must be absolute. The line break at the end of the file is removed.
- A process needs only the variables and files of its own configuration: collector and router those of the sources, a
  forwarder those of its integrations. It does not start if one of them is missing; `turnout check` lists all that are
  missing.
- A file that is empty, larger than 64 KB, not UTF-8 or not readable is an error in every command.
- Restart a process to apply a changed secret.
"""

TURNOUT = """
## turnout.yaml

Environment variables override the file: `TURNOUT_PARTITIONS` sets `partitions`, and `TURNOUT_BROKER__BOOTSTRAP` sets
`broker.bootstrap`. Changes need a restart.
"""

SOURCE = """
## sources/NAME.yaml

See [sources](sources.md) for examples.
"""

INTEGRATION = """
## integrations/NAME.yaml

The `settings` of each forwarder are in [its page](vendors/index.md). See [rules](rules.md) for `map` and `rules`.
"""

PLAN = """
## plans/NAME.yaml

See [tracking plans](plans.md) for examples.
"""

COMMANDS_TITLE = f"""{NOTICE}
# Commands

```sh
turnout up                                       # run everything on this machine and show each event
turnout check --config deploy/example            # find errors in a configuration folder
turnout test --config deploy/example             # run the tests of the rules
turnout explain ga4 --event event.json           # show what happens to an event, and why
turnout dead list --since 12h                    # list deliveries that vendors refused
```

**Configuration folder**: pass `--config DIR`, or set `TURNOUT_CONFIG`. The default is the current folder. `turnout
diff` compares two folders and takes them as arguments.

**Times** (`--since`, `--until`, `--from`, `--to`): relative to now (`90s`, `30m`, `12h`, `7d` or `2w` ago), or absolute
(`2026-05-01`, `2026-05-01T12:00Z`). A time without a zone is UTC.

**Exit codes**: 0 done, 1 the work failed, 2 usage or configuration error. If Kafka does not respond within 3 seconds,
commands that need it print its address and exit with 1.

**Shell completion** for bash (4.4 or newer), zsh and fish:

```sh
eval "$(_TURNOUT_COMPLETE=bash_source turnout)"                                    # in ~/.bashrc
eval "$(_TURNOUT_COMPLETE=zsh_source turnout)"                                     # in ~/.zshrc
_TURNOUT_COMPLETE=fish_source turnout > ~/.config/fish/completions/turnout.fish    # once
```
"""


_LIMITS = ("event_bytes", "body_bytes", "batch_events", "held_bytes", "read_timeout", "confirm_timeout", "keep_alive")


def http_api() -> str:
    """Return the text of http-api.md with its tables of paths, headers, codes and limits."""
    text = (DOCS / "http-api.md").read_text()
    for name, lines in (
        ("paths", _paths_of_api()),
        ("headers", _headers()),
        ("codes", _codes()),
        ("limits", _limits()),
    ):
        text = _with_section(text, name, lines)
    return text


def _paths_of_api() -> Iterator[str]:
    yield from ("| path | methods | |", "| --- | --- | --- |")
    for endpoint in api.ENDPOINTS:
        paths = "<br>".join(f"`{path.replace('{write_key}', 'WRITE_KEY')}`" for path in endpoint.paths)
        yield f"| {paths} | {', '.join(endpoint.methods)} | {endpoint.about} |"


def _headers() -> Iterator[str]:
    yield from ("| header | |", "| --- | --- |")
    for name, about in api.REQUEST_HEADERS.items():
        yield f"| `{name}` | {about} |"


def _codes() -> Iterator[str]:
    yield from ("| code | status | meaning |", "| --- | --- | --- |")
    for code, refusal in REFUSALS.items():
        yield f"| `{code}` | {refusal.status} | {refusal.meaning} |"


def _limits() -> Iterator[str]:
    yield from ("| limit | default | |", "| --- | --- | --- |")
    for name in _LIMITS:
        field = CollectorSettings.model_fields[name]
        yield f"| `collector.{name}` | {field.default:,} | {' '.join((field.description or '').split())} |"
    yield f"| | {HEAD_BYTES:,} | Bytes of a request's line and headers, and of its trailers. |"


def architecture() -> str:
    """Return the text of architecture.md with its table of outcomes."""
    return _with_section((DOCS / "architecture.md").read_text(), "outcomes", _outcomes())


def _outcomes() -> Iterator[str]:
    yield from ("| outcome | recorded by | meaning |", "| --- | --- | --- |")
    for outcome in Outcome:
        yield f"| `{outcome}` | {' or '.join(outcome.stages)} | {outcome.meaning} |"


def sources() -> str:
    """Return the text of sources.md with its table of clients."""
    return _with_section((DOCS / "sources.md").read_text(), "clients", _clients())


def _clients() -> Iterator[str]:
    yield from ("| client | version | | paths |", "| --- | --- | --- | --- |")
    for client in Document.read(CLIENTS).data:
        requests = [request.get("post") or request["get"] for request in client["requests"]]
        paths = ", ".join(f"`{path}`" for path in dict.fromkeys(request.partition("?")[0] for request in requests))
        yield f"| {client['sdk']} | {client['version']} | {'run' if 'run' in client else 'read'} | {paths} |"


def configuration() -> str:
    """Return the text of configuration.md."""
    parts = [CONFIGURATION]
    for title, model in (
        (TURNOUT, TurnoutSettings),
        (SOURCE, SourceFile),
        (INTEGRATION, IntegrationFile),
        (PLAN, Plan),
    ):
        parts += [title, "| key | value | default | |", "| --- | --- | --- | --- |", *_rows(model)]
    return "\n".join(parts) + "\n"


def commands() -> str:
    """Return the text of commands.md."""
    group = main.make_context("turnout", [], terminal_width=100, resilient_parsing=True)
    parts = [COMMANDS_TITLE, *_help(group)]
    for name in COMMANDS:
        command = main.get_command(group, name)
        if command is not None:
            parts += _command(name, command, group)
    return "\n".join(parts) + "\n"


def _command(name: str, command: click.Command, parent: click.Context) -> list[str]:
    context = command.make_context(name, [], parent, resilient_parsing=True)
    parts = ["", f"## {context.command_path}", "", *_help(context)]
    for inner, each in (command.commands if isinstance(command, click.Group) else {}).items():
        parts += _command(inner, each, context)
    return parts


def rules() -> str:
    """Return the text of rules.md with its tables of directives and of JSONPath features."""
    text = (DOCS / "rules.md").read_text()
    return _with_section(_with_section(text, "directives", _directives()), "jsonpath", _paths())


def enrichment() -> str:
    """Return the text of enrichment.md with its tables of settings."""
    text = (DOCS / "enrichment.md").read_text()
    for each in BUILT_IN:
        if rows := list(_rows(each.settings)):
            text = _with_section(text, each.name, ["| key | value | default | |", "| --- | --- | --- | --- |", *rows])
    return text


def metrics() -> str:
    """Return the text of metrics.md with its table of metrics."""
    return _with_section((DOCS / "metrics.md").read_text(), "metrics", _metrics())


def _metrics() -> Iterator[str]:
    yield from ("| metric | kind | labels | |", "| --- | --- | --- | --- |")
    for metric in vars(declared).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001  # prometheus_client has no public attribute
            yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


def _with_section(text: str, name: str, lines: Iterable[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    return text[: text.index(begin) + len(begin)] + "\n".join([*lines, ""]) + text[text.index(end) :]


def _directives() -> Iterator[str]:
    yield from ("| directive | arguments | result |", "| --- | --- | --- |")
    by_emit: dict[str, list[Directive]] = {}
    for directive in DIRECTIVES.values():
        by_emit.setdefault(directive.summary, []).append(directive)
    for same in by_emit.values():
        first = same[0]
        names = ", ".join(f"`{each.name}`" for each in same)
        summary = " ".join(first.summary.split()).replace("|", "\\|")
        yield f"| {names} | {'; '.join(_arguments(first))} | {summary} |"


def _arguments(directive: Directive) -> Iterator[str]:
    short = directive.short
    if isinstance(short, tuple):
        yield f"a list of {' and '.join(short)}"
    for name, argument in directive.arguments.items():
        kind = argument.kind if argument.required else f"{argument.kind}, optional"
        alone = " (or alone)" if name == short and len(directive.arguments) > 1 else ""
        if len(directive.arguments) == 1 and name == short:
            yield kind
        elif not isinstance(short, tuple):
            yield f"`{name}`: {kind}{alone}"


def _paths() -> Iterator[str]:
    yield from ("| | path | of | |", "| --- | --- | --- | --- |")
    for row in Document.read(PATHS).data:
        feature, path = row["feature"].replace("|", "\\|"), row["path"].replace("|", "\\|")
        verdict = "✓" if "finds" in row else f"refused: {row['refused']}"
        yield f"| {feature} | ``{path}`` | {row['of']} | {verdict} |"


def _help(context: click.Context) -> list[str]:
    return ["```", context.get_help(), "```"]


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        description = field.description and " ".join(field.description.split())
        nested = _model(field.annotation)
        if nested is None:
            yield f"| `{key}` | {_type(field)} | {_default(field)} | {description} |"
        else:
            yield f"| `{key}` | mapping | {'' if field.default is None else 'as below'} | {description} |"
            named = get_origin(field.annotation) in (dict, Mapping)
            yield from _rows(nested, f"{key}.NAME." if named else f"{key}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


_WORDS = {
    bool: "`true` or `false`",
    dict: "mapping",
    float: "number",
    int: "whole number",
    Path: "path",
    SecretStr: "secret",
    str: "text",
}

_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def _type(field: FieldInfo) -> str:
    bounds = [
        words.format(f"{bound:,}")
        for each in field.metadata
        for name, words in _BOUNDS.items()
        if (bound := getattr(each, name, None)) is not None
    ]
    return ", ".join([_word(field.annotation), *bounds])


def _word(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == Schema:
        return "JSON Schema"
    if origin is Annotated:
        return _word(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_word(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        return f"list, each {_word(arguments[0])}"
    return _WORDS.get(origin or annotation, "as in the rules")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value in (None, (), {}) else f"`{json.dumps(value, default=str)}`"


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    (DOCS / "configuration.md").write_text(configuration())
    (DOCS / "commands.md").write_text(commands())
    (DOCS / "rules.md").write_text(rules())
    (DOCS / "enrichment.md").write_text(enrichment())
    (DOCS / "metrics.md").write_text(metrics())
    (DOCS / "http-api.md").write_text(http_api())
    (DOCS / "sources.md").write_text(sources())
    (DOCS / "architecture.md").write_text(architecture())
