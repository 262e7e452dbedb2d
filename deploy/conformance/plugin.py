"""Run the conformance checks as a pytest plug-in, for each folder named after a forwarder with a `forwarder.yaml`.

A project enables it explicitly with `-p deploy.conformance.plugin`. An entry point would be imported in every project
of the environment, and would fail in projects with their own `deploy` package.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ForwarderFile | None":
    """Collect the description of an installed forwarder."""
    if file_path.name != "forwarder.yaml":
        return None
    from forwarders import registry

    if file_path.parent.name not in registry.names():
        return None
    return ForwarderFile.from_parent(parent, path=file_path)


class ForwarderFile(pytest.File):
    """The tests of one forwarder: one per check, and one per expected outcome."""

    @override
    def collect(self) -> Iterable[pytest.Item]:
        from deploy.conformance.checks import CHECKS, check_case
        from deploy.conformance.golden import Golden
        from forwarders.registry import UnknownForwarderError
        from transforms import RuleError

        try:
            golden = Golden(self.path.parent)
            cases = golden.cases
        except (RuleError, UnknownForwarderError) as error:
            raise self.CollectError(str(error)) from error
        for check in CHECKS:
            yield CheckItem.from_parent(self, name=check.__name__, run=lambda check=check: check(golden))
        for case in cases:
            yield CheckItem.from_parent(self, name=case.name, run=lambda case=case: check_case(golden, case))


class ProblemsError(Exception):
    """The problems that a check found."""


class CheckItem(pytest.Item):
    """One check of one forwarder."""

    def __init__(self, *, run: Callable[[], Iterator[str]], **more: Any) -> None:
        super().__init__(**more)
        self._run = run

    @override
    def runtest(self) -> None:
        problems = list(self._run())
        if problems:
            raise ProblemsError("\n".join(problems))

    @override
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show only the messages of problems, and other errors in full."""
        from transforms import RuleError

        if isinstance(excinfo.value, ProblemsError | RuleError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    @override
    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.parent.name}: {self.name}"
