"""Find, read and run the tests in rule files and in NAME.test.yaml beside them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from deploy.config.configuration import Configuration, ConfigurationError
from deploy.config.diagnostics import find_issues, hint_at
from deploy.config.integrations import Integration
from deploy.config.models.tests import Case, CaseFile, SourceCase, SourceCaseFile
from deploy.config.sources import SourceRules
from transforms import RuleError
from transforms.documents import Document

if TYPE_CHECKING:
    from deploy.dryrun.rule_test_runner import (
        Coverage,
        Entry,
        Result,
        RuleTestRunner,
        SourceTestRunner,
        Subject,
    )

CaseModel = type[CaseFile] | type[SourceCaseFile]

SUFFIX = ".test.yaml"


class RuleTestSuite:
    """All tests of a configuration, or of some files; raises ConfigurationError for errors in them."""

    def __init__(self, configuration: Configuration, only: Sequence[Path] = ()) -> None:
        self._configuration = configuration
        self._only = {path.resolve() for path in only}
        self._errors: list[RuleError] = []
        self.entries = list(self._read())
        if self._errors:
            raise ConfigurationError(self._errors)

    def run(self) -> "Iterator[Result]":
        """Run the tests in their order."""
        for runner, entries in self._runners():
            yield from map(runner.run, entries)

    def cover(self) -> "Iterator[Coverage]":
        """Yield the coverage of each file."""
        from deploy.dryrun.rule_test_runner import Coverage

        for runner, entries in self._runners():
            if runner.subject.rules is None:
                continue
            coverage = Coverage(runner.subject)
            for entry in entries:
                runner.cover(entry, coverage)
            yield coverage

    def _runners(self) -> "Iterator[tuple[RuleTestRunner | SourceTestRunner, list[Entry]]]":
        from deploy.dryrun.rule_test_runner import RuleTestRunner, SourceTestRunner

        configuration = self._configuration
        for name, rules in configuration.source_rules.items():
            source = configuration.sources.by_name(name)
            assert source is not None
            yield SourceTestRunner(source, rules), [entry for entry in self.entries if entry.subject is rules]
        for integration in configuration.integrations.values():
            yield RuleTestRunner(configuration, integration), [it for it in self.entries if it.subject is integration]

    def _read(self) -> "Iterator[Entry]":
        yield from self._read_kind("sources", self._configuration.source_rules, SourceCaseFile)
        yield from self._read_kind("integrations", self._configuration.integrations, CaseFile)

    def _read_kind(
        self,
        kind: str,
        subjects: Mapping[str, Integration] | Mapping[str, SourceRules],
        model: CaseModel,
    ) -> "Iterator[Entry]":
        for subject in subjects.values():
            yield from self._entries(subject, subject.document, model)
        for path in sorted((self._configuration.folder / kind).glob(f"*{SUFFIX}")):
            name = path.name.removesuffix(SUFFIX)
            if name in subjects:
                yield from self._entries(subjects[name], self._document(path), model)
            elif self._is_selected(path):
                hint = hint_at(name, sorted(subjects))
                self._errors.append(RuleError(f"no {kind.removesuffix('s')} is called {name!r}", hint, path=str(path)))

    def _document(self, path: Path) -> Document | None:
        try:
            return Document.read(path) if self._is_selected(path) else None
        except RuleError as error:
            self._errors.append(error)
            return None

    def _entries(
        self,
        subject: "Subject",
        document: Document | None,
        model: CaseModel,
    ) -> "Iterator[Entry]":
        if document is None or not self._is_selected(Path(document.path)):
            return
        own = document is subject.document
        data = {"tests": document.data.get("tests", [])} if own else document.data or {}
        try:
            cases: Sequence[Case | SourceCase] = model.model_validate(data).tests
        except ValidationError as error:
            self._errors += [it.within(document) for it in find_issues(error, model, (), data)]
            return
        if not cases:
            return
        # Imported late, because it would be most of the import time of `turnout check`, and many folders have no tests.
        from deploy.dryrun.rule_test_runner import Entry

        for index, case in enumerate(cases):
            self._check_source(case, document, index)
            yield Entry(subject, document, ("tests", index), case)

    def _check_source(self, case: Case | SourceCase, document: Document, index: int) -> None:
        known = sorted(self._configuration.source_files)
        if isinstance(case, Case) and case.source and case.source not in known:
            message, hint = f"no source is called {case.source!r}", hint_at(case.source, known)
            self._errors.append(document.error(message, hint, at=("tests", index, "source")))

    def _is_selected(self, path: Path) -> bool:
        return not self._only or path.resolve() in self._only
