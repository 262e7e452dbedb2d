"""Record the rules of a configuration, and read recorded rules again."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from deploy.config.configuration import Configuration, ConfigurationError, deciding_settings, read_recorded
from deploy.config.reading import Recorded
from streams.records.format import RecordError
from streams.records.recorded_rules import MAX_FILE_BYTES, DataFile, RecordedRules, pack_files
from transforms.documents import Document, RuleError
from transforms.documents.document import LOADER

LEFT_OUT = ("settings", "tests")
"""Keys of sources and integrations that decide nothing: a vendor's account, and events of tests."""


class UnusableRulesError(Exception):
    """Recorded rules that this release cannot read; the message says why."""


def record_rules(configuration: Configuration, without: Collection[str] = ()) -> RecordedRules:
    """Return the rules of `configuration.rule_set(without)` as a record that has everything but secrets."""
    folder = configuration.folder
    documents = {
        str(Path(document.path).relative_to(folder)): recorded_text(document) for document in configuration.documents
    }
    return RecordedRules(
        version("turnout"),
        [name for name in configuration.integrations if name not in without],
        deciding_settings(configuration.settings),
        documents,
        {name: preset.text for name, preset in configuration.presets.items()},
        pack_files(list(_read_files(configuration))),
    )


def _read_files(configuration: Configuration) -> Iterator[tuple[DataFile, bytes]]:
    """Yield the files of enrichments with their contents; without content if it is too large, or no longer the same."""
    for name, digest in sorted(configuration.digests.items()):
        path = configuration.folder / name
        content, size = b"", 0
        with suppress(OSError):
            size = path.stat().st_size
            content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
        same = hashlib.sha256(content).hexdigest() == digest
        yield DataFile(str(name), digest, len(content) if same else max(size, MAX_FILE_BYTES + 1)), content


def recorded_text(document: Document) -> str:
    """Return the text of a file without comments, and without the values of LEFT_OUT; the rest keeps its place."""
    lines = [[" "] * len(line) for line in document.lines]
    kept = document.lines
    for token in yaml.scan(document.text, Loader=LOADER):
        _copy(kept, lines, token.start_mark, token.end_mark)
    root = yaml.compose(document.text, Loader=LOADER)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value in LEFT_OUT:
            _blank(lines, value)
    return "\n".join("".join(line).rstrip() for line in lines) + "\n"


def _copy(source: Sequence[str], target: list[list[str]], start: yaml.Mark, end: yaml.Mark) -> None:
    for number in range(start.line, min(end.line + 1, len(source))):
        first = start.column if number == start.line else 0
        last = end.column if number == end.line else len(source[number])
        target[number][first:last] = source[number][first:last]


def _blank(lines: list[list[str]], value: yaml.Node) -> None:
    start, end = value.start_mark, value.end_mark
    for number in range(start.line, min(end.line + 1, len(lines))):
        first = start.column if number == start.line else 0
        last = end.column if number == end.line else len(lines[number])
        lines[number][first:last] = " " * (last - first)
    if not isinstance(value, yaml.ScalarNode):
        # A list may begin below its key; in brackets it must be indented.
        empty = " " * (not start.column) + ("{}" if isinstance(value, yaml.MappingNode) else "[]")
        lines[start.line][start.column : start.column + len(empty)] = empty


def read_rules(recorded: RecordedRules, rules_version: str, today: Configuration) -> Configuration:
    """Return the configuration that routed events by these rules, except for the settings of vendors.

    `warnings` say what differs: files that were recorded by their hash alone, and variables that are not set here.

    Args:
        recorded: The rules.
        rules_version: Their version.
        today: The configuration whose Kafka, topics and folder are used.

    Raises:
        UnusableRulesError: This release cannot read them.

    """
    try:
        settings = today.settings.model_validate({**today.settings.model_dump(), **recorded.settings})
    except ValueError as error:
        raise UnusableRulesError(f"their settings are not those of this release: {error}") from error
    with TemporaryDirectory(prefix="turnout-rules-") as temporary:
        folder = Path(temporary)
        files, warnings = {}, []
        try:
            for name, text in recorded.documents.items():
                _write(folder, Path(name), text.encode())
            for number, file in enumerate(recorded.files):
                if (content := file.content) is not None:
                    files[Path(file.name)] = _write(folder, Path("files", str(number), Path(file.name).name), content)
                else:
                    files[Path(file.name)] = path = today.folder / file.name
                    if not _is_same(path, file.sha256):
                        warnings.append(f"{file.name} is recorded by its hash only, and is another file today")
            configuration = read_recorded(folder, Recorded(settings, recorded.presets, files))
        except ConfigurationError as error:
            raise UnusableRulesError(f"this release cannot read them: {error.errors[0].message}") from error
        except (RecordError, OSError) as error:
            raise UnusableRulesError(str(error)) from error
    left_out = [each.message for each in configuration.warnings if each.message.startswith("enrich.")]
    return replace(configuration, version=rules_version, warnings=[RuleError(text) for text in (*warnings, *left_out)])


def _write(folder: Path, name: Path, content: bytes) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise RecordError(f"the file name {name} of recorded rules is outside their folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _is_same(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False
