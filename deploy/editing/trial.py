"""Try a draft of a file with `check`, `explain` and `test`; nothing is sent or saved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.config.configuration import Configuration, ConfigurationError
from deploy.config.json_diff import ABSENT
from deploy.dryrun.explanation import explain
from deploy.dryrun.likely_source import find_likely_source
from deploy.dryrun.masked import mask_references
from deploy.dryrun.rule_test_runner import Result
from deploy.dryrun.rule_test_suite import SUFFIX, RuleTestSuite
from deploy.editing.config_files import ConfigFiles
from deploy.editing.drafts import check_drafts
from transforms import RuleError

MAX_TESTS = 500
"""Tests of a file that are run while it is edited."""


@dataclass(frozen=True, slots=True)
class TryEvent:
    """An event to try a draft on: its text, and the source in its record."""

    text: bytes
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a draft; `configuration` is None if it has errors.

    `messages` are those of `check`, with this file's first. `explanation` is that of `explain`, None without an event.
    """

    configuration: Configuration | None
    messages: Sequence[dict[str, Any]]
    explanation: dict[str, Any] | None = None
    tests: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def data(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "valid": self.configuration is not None,
            "messages": list(self.messages),
            "explanation": self.explanation,
            "tests": list(self.tests),
        }


def try_draft(folder: Path, name: str, text: str, event: TryEvent | None = None) -> Trial:
    """Try a text for a file; raises UnknownFileError."""
    path = ConfigFiles(folder).path(name, new=True)
    checked = check_drafts(folder, {path: text}, only_of(path))
    found = [*((it, "error") for it in checked.errors), *((it, "warning") for it in checked.warnings)]
    messages = [_message(folder, it, kind) for it, kind in found]
    messages.sort(key=lambda it: (it["file"] != name, it["kind"] != "error"))
    configuration = checked.configuration
    if configuration is None:
        return Trial(None, messages)
    explanation = _explain(configuration, name, event) if event else None
    return Trial(configuration, messages, explanation, _run_tests(configuration, path))


def only_of(path: Path) -> Path | None:
    """Return the file of the only integration that a draft needs; None if it needs all."""
    is_integration = path.parent.name == "integrations" and not path.name.endswith(SUFFIX)
    return path if is_integration else None


def integrations_of(configuration: Configuration, name: str) -> list[str]:
    """Return the integrations that a file affects: its own, or all for a source or plan."""
    kind, _, file = name.partition("/")
    stem = file.removesuffix(".yaml").removesuffix(".test")
    return [stem] if kind == "integrations" and stem in configuration.integrations else list(configuration.integrations)


def _message(folder: Path, error: RuleError, kind: str) -> dict[str, Any]:
    path = Path(error.path or "")
    file = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return {
        "kind": kind,
        "file": file,
        "line": error.line,
        "column": error.column,
        "message": error.message,
        "hint": error.hint,
    }


def _explain(configuration: Configuration, name: str, event: TryEvent) -> dict[str, Any]:
    source = event.source if event.source in configuration.source_files else None
    chosen = integrations_of(configuration, name)
    if source is None:
        source = find_likely_source(configuration, event.text, chosen[0] if len(chosen) == 1 else None).name
    explained = explain(configuration, event.text, integrations=chosen, source=source)
    data = explained.data()
    data["event"] = explained.event
    for account in data["integrations"]:
        integration = configuration.integrations[account["integration"]]
        for delivery in account["deliveries"]:
            del delivery["router"]  # the same as the payload, as text
            delivery["request"] = mask_references(delivery["request"], integration)
    return data


def _run_tests(configuration: Configuration, path: Path) -> list[dict[str, Any]]:
    """Run the tests in a file and in the saved test file beside it."""
    stem = path.name.removesuffix(SUFFIX).removesuffix(".yaml")
    own = [path.with_name(f"{stem}.yaml"), path.with_name(f"{stem}{SUFFIX}")]
    try:
        suite = RuleTestSuite(configuration, own)
    except ConfigurationError:
        return []  # `check` has said it
    return [_tested(result) for result, _ in zip(suite.run(), range(MAX_TESTS), strict=False)]


def _tested(result: Result) -> dict[str, Any]:
    entry = result.entry
    return {
        "name": entry.name,
        "line": entry.line,
        "file": Path(entry.document.path).name,
        "passed": result.passed,
        "notes": list(result.notes),
        "differences": [
            {
                "field": each.field,
                "expected": None if each.before is ABSENT else each.before,
                "actual": None if each.after is ABSENT else each.after,
            }
            for each in result.differences
        ],
    }
