"""Check drafts of files as `turnout check` would check the saved files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.config.configuration import Configuration, ConfigurationError, read_configuration
from deploy.dryrun.rule_test_suite import RuleTestSuite
from transforms import RuleError


@dataclass(frozen=True, slots=True)
class CheckedDrafts:
    """The result of `check` for a folder with drafts; `configuration` is None if there are errors."""

    configuration: Configuration | None
    errors: Sequence[RuleError]
    warnings: Sequence[RuleError] = ()

    def errors_in(self, path: Path) -> list[RuleError]:
        """Return the errors of one file."""
        return [error for error in self.errors if error.path == str(path)]


def check_drafts(folder: Path, drafts: Mapping[Path, str], only: Path | None = None) -> CheckedDrafts:
    """Check a folder as if its files had these texts; also reads the tests in them.

    With `only`, an integration's file, other integrations are left out, since they cannot affect it.
    """
    try:
        configuration = read_configuration(folder, drafts, only)
        RuleTestSuite(configuration, [only] if only else ())
    except ConfigurationError as error:
        return CheckedDrafts(None, error.errors)
    return CheckedDrafts(configuration, (), configuration.warnings)
