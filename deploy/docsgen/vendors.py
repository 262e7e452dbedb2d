"""Write a page for each of Turnout's forwarders from its contract: python -m deploy.docsgen.vendors."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deploy.conformance.golden import EVENTS
from deploy.docsgen.site import REPOSITORY
from deploy.terminal.durations import humanize
from forwarders import registry
from forwarders.api.contract import (
    AuthMethod,
    BatchFailure,
    Contract,
    Forwarder,
    HttpForwarder,
    Rate,
)
from streams.events import normalize
from transforms import DROP, Rules, read_rules
from transforms.documents import Document

ALIAS = {"type": "alias", "previousId": "a-1", "userId": "u-42", "timestamp": "2026-01-02T03:04:05.678Z"}
CLICK_IDS = {"google_ads": {"gclid": "g-1"}, "linkedin": {"li_fat_id": "f-1"}, "reddit": {"click_id": "c-1"}}
CAPABILITIES: Mapping[str, str] = {
    "page": "page views",
    "screen": "screen views",
    "identify": "identify calls",
    "group": "group calls",
    "alias": "alias calls",
    "products-searched": "Products Searched",
    "product-viewed": "Product Viewed",
    "product-added": "Product Added",
    "checkout-started": "Checkout Started",
    "order-completed": "Order Completed",
    "order-refunded": "Order Refunded",
    "signed-up": "Signed Up",
    "lead": "Lead Generated",
    "custom": "other events",
}
"""The usual events of the conformance checks, and an alias call, each with its title."""

FOLDER = Path(__file__).parents[1] / "docs" / "vendors"

NOTICE = "<!-- Written by `python -m deploy.docsgen.vendors`; change the forwarder. -->"

FAILURES: Mapping[BatchFailure, str] = {
    BatchFailure.WHOLE: "rejected as a whole; delivery bisects it to find the invalid delivery",
    BatchFailure.LISTED: "accepted except for the invalid deliveries, which the response lists",
    BatchFailure.SILENT: "not reported by the vendor",
}

AUTH_METHODS: Mapping[AuthMethod, str] = {
    "static": "credentials in the settings",
    "oauth_refresh": "a refresh token (`auth: {type: oauth_refresh, …}`)",
    "service_account": "a service account (`auth: {type: service_account, …}`)",
}

BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters or less",
    "minItems": "{} items or more",
    "maxItems": "{} items or less",
    "pattern": "`{}`",
}


def own() -> list[str]:
    """Return the names of the built-in forwarders."""
    return [name for name in registry.names() if registry.find(name).__module__.startswith("forwarders.")]


def page(name: str) -> str:
    """Return the text of a forwarder's page."""
    forwarder = registry.find(name)
    contract = forwarder.contract
    about = " ".join((forwarder.__doc__ or "").split("\n\n")[0].split())
    more = [" ".join(part.split()) for part in (forwarder.__doc__ or "").split("\n\n")[1:]]
    lines = [NOTICE, f"# {contract.title}: `forwarder: {name}`", "", about]
    lines += [line for part in more if part for line in ("", part)]
    lines += ["", f"The vendor's documentation: <{contract.documentation}>", "", "| | |", "| --- | --- |"]
    lines += [f"| {title} | {text} |" for title, text in _facts(forwarder)]
    lines += ["", "## Settings", "", "| key | value | default | |", "| --- | --- | --- | --- |"]
    lines += dict.fromkeys(
        f"| `{key}` | {_word(schema)} | {_default(schema, required)} | {_description(schema)} |"
        for key, schema, required in _fields(contract.settings)
    )
    lines += ["", "## Payload", ""]
    if contract.payload is None:
        lines.append("Any JSON object.")
    else:
        lines += ["| field | value | |", "| --- | --- | --- |"]
        lines += dict.fromkeys(
            f"| `{key}` | {_word(schema)} | {'required' if required else ''} |"
            for key, schema, required in _fields(contract.payload)
        )
    if forwarder.preset():
        lines += [
            "",
            "## Preset",
            "",
            f"`preset: {name}` has the rules that `turnout explain` shows merged with yours.",
            "",
            "| event | rule |",
            "| --- | --- |",
            *(f"| {title} | {f'`{rule}`' if rule else 'not sent'} |" for title, rule in _capabilities(forwarder)),
        ]
    lines += _readme(forwarder)
    return "\n".join(lines) + "\n"


def index() -> str:
    """Return the text of the list of all pages."""
    lines = [
        NOTICE,
        "# Vendors",
        "",
        "The events that each preset sends, and whether the vendor recognizes duplicates.",
        "",
    ]
    titles = [CAPABILITIES[key] for key in INDEXED]
    lines += [f"| forwarder | | category | {' | '.join(titles)} | duplicates |", "| --- " * (len(titles) + 4) + "|"]
    for name in own():
        forwarder = registry.find(name)
        contract = forwarder.contract
        sent = dict(_capabilities(forwarder)) if forwarder.preset() else {}
        cells = ["yes" if sent.get(title) else "no" for title in titles]
        known = "recognized" if contract.dedupe_field and not contract.dedupe_caveat else "may count twice"
        link = f"[`{name}`]({name}.md)"
        lines.append(f"| {link} | {contract.title} | {contract.category.value} | {' | '.join(cells)} | {known} |")
    lines += [
        "",
        "How events are delivered to each vendor.",
        "",
        f"| forwarder | {' | '.join(DELIVERY)} |",
        "| --- " * (len(DELIVERY) + 1) + "|",
    ]
    for name in own():
        forwarder = registry.find(name)
        values = [value(forwarder) for value in DELIVERY.values()]
        lines.append(f"| [`{name}`]({name}.md) | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _yes(answer: object) -> str:
    return "yes" if answer else ""


DELIVERY: Mapping[str, Callable[[type[Forwarder[Any]]], str]] = {
    "preset": lambda forwarder: _yes(forwarder.preset()),
    "batches of": lambda forwarder: f"{forwarder.contract.limits.items:,}",
    "names invalid deliveries": lambda forwarder: _yes(forwarder.contract.batch_failure is BatchFailure.LISTED),
    "recognizes duplicates": lambda forwarder: _yes(forwarder.contract.dedupe_field),
    "maximum age": lambda forwarder: (
        humanize(forwarder.contract.max_event_age) if forwarder.contract.max_event_age else ""
    ),
    "OAuth": lambda forwarder: _yes(set(forwarder.contract.auth_methods) - {"static"}),
    "validates without recording": lambda forwarder: _yes(forwarder.contract.validation_setting),
}
"""The columns of the table about delivery."""


INDEXED = ("page", "screen", "identify", "group", "alias", "order-completed", "custom")
"""The capabilities that the list of all forwarders shows."""


def _capabilities(forwarder: type[Forwarder[Any]]) -> Iterator[tuple[str, str | None]]:
    """Yield the title of each capability, and the preset's rule that sends such events, None without one."""
    preset = forwarder.preset()
    assert preset is not None
    rules, errors = read_rules(Document.parse(preset.read_bytes(), preset.name))
    if rules is None:
        raise errors[0]
    for key, title in CAPABILITIES.items():
        yield title, _rule(rules, ALIAS if key == "alias" else EVENTS[key]["everything"])


def _rule(rules: Rules, event: Mapping[str, Any]) -> str | None:
    """Return the rule that sends an event; every vendor's click ID is added, since some vendors require one."""
    outcome = rules.apply(normalize(deepcopy({**event, "integrations": CLICK_IDS})))
    return next((rule for rule, payload in outcome if payload is not DROP), None)


def _readme(forwarder: type[Forwarder[Any]]) -> Iterator[str]:
    """Yield the README beside the forwarder without its title."""
    file = files(forwarder.__module__.rpartition(".")[0]) / "README.md"
    if file.is_file():
        text = file.read_text().replace("](../", f"]({REPOSITORY}/blob/main/forwarders/vendors/")
        yield from ("", *text.rstrip().splitlines()[2:])


def _facts(forwarder: type[Forwarder[Any]]) -> Iterator[tuple[str, str]]:
    contract = forwarder.contract
    limits = contract.limits
    yield "category", contract.category.value
    unit = "request" if issubclass(forwarder, HttpForwarder) else "write"
    yield (
        f"limits of a {unit}",
        f"{_deliveries(limits.items)}, {_bytes(limits.bytes)}; {_bytes(limits.item_bytes)} per delivery",
    )
    if contract.rates:
        yield "rate limits", "; ".join(map(_rate, contract.rates))
    if limits.items > 1:
        yield "a batch with an invalid delivery is", FAILURES[contract.batch_failure]
    yield "order", "deliveries of a user are sent in order" if contract.ordered else "not guaranteed"
    yield "maximum age of events", humanize(contract.max_event_age) if contract.max_event_age else "unlimited"
    yield "duplicates", _duplicates(contract)
    yield "authentication", " or ".join(AUTH_METHODS[method] for method in contract.auth_methods)
    yield "names in `integrations`", ", ".join(f"`{name}`" for name in contract.names)
    if contract.validation_setting:
        yield "validation", f"`turnout verify` sets `{contract.validation_setting}`"
    if contract.versions:
        yield "versions of the API", "; ".join(_version(contract))


def _deliveries(count: int) -> str:
    return "1 delivery" if count == 1 else f"{count:,} deliveries"


def _duplicates(contract: Contract) -> str:
    if contract.dedupe_field is None:
        return "count twice: `turnout replay` requires `--force`"
    within = f" within {humanize(contract.dedupe_window)}" if contract.dedupe_window else ""
    caveat = f"; {contract.dedupe_caveat}: `turnout replay` requires `--force`" if contract.dedupe_caveat else ""
    return f"recognized by `{contract.dedupe_field}`{within}{caveat}"


def _version(contract: Contract) -> Iterator[str]:
    for version in contract.versions:
        yield version.name + (f" (until {version.sunset:%d %B %Y})" if version.sunset else "")


def _rate(rate: Rate) -> str:
    per = {1.0: "second", 60: "minute", 3600: "hour", 86_400: "day"}.get(rate.seconds, f"{rate.seconds:g} seconds")
    return f"{rate.count:,} {rate.of} per {per} and {rate.per}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:g} MB" if count >= 1e6 else f"{count / 1e3:g} KB"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield each field of a model and its nested models: path, schema, and whether it is required."""
    schema = model.model_json_schema(by_alias=True)
    yield from _walk(schema, schema.get("$defs", {}), "")


def _walk(schema: dict[str, Any], models: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}{name}", field, name in schema.get("required", ())
        for reference, inside in dict(_references(field)).items():
            yield from _walk(models[reference.rpartition("/")[2]], models, f"{prefix}{name}{inside}.")


def _references(schema: dict[str, Any], inside: str = "") -> Iterator[tuple[str, str]]:
    """Yield references to the models of a value, each with `[]` if it is in a list."""
    if "$ref" in schema:
        yield schema["$ref"], inside
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _references(option, inside)
    if isinstance(schema.get("items"), dict):
        yield from _references(schema["items"], f"{inside}[]")


def _word(schema: dict[str, Any]) -> str:
    """Describe the type of a value."""
    options = [each for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())) if each.get("type") != "null"]
    if options:
        return " or ".join(dict.fromkeys(map(_word, options)))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("writeOnly"):
        return "secret"
    match schema.get("type"):
        case "array":
            base = f"list, each {_word(schema.get('items', {}))}"
        case "string":
            base = "text"
        case "integer":
            base = "whole number"
        case "number":
            base = "number"
        case "boolean":
            base = "`true` or `false`"
        case "object":
            base = "mapping"
        case _:
            base = "mapping" if "$ref" in schema else "any JSON"
    bounds = [
        "not empty"
        if key.startswith("min") and key != "minimum" and schema[key] == 1
        else words.format(_shown(schema[key]))
        for key, words in BOUNDS.items()
        if key in schema
    ]
    return ", ".join([base, *bounds])


def _description(schema: dict[str, Any]) -> str:
    return " ".join(schema.get("description", "").split())


def _shown(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else str(bound).replace("|", "\\|")


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value in (None, [], {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "index.md").write_text(index())
    for own_name in own():
        (FOLDER / f"{own_name}.md").write_text(page(own_name))
