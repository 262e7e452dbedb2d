import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.options import config_option, read
from deploy.terminal.escaping import echo, echo_json
from deploy.terminal.failures import Misconfigured

if TYPE_CHECKING:
    from deploy.config.configuration import Configuration
    from deploy.dryrun.rule_test_runner import Coverage, Result
    from deploy.dryrun.rule_test_suite import RuleTestSuite


@click.command(short_help="Run the tests in rule files.")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@config_option
@click.option("--update", is_flag=True, help="Write the actual results into the tests that failed.")
@click.option("--coverage", is_flag=True, help="List the rules and directives that no test reaches.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for programs.")
@click.pass_context
def test(
    context: click.Context, files: tuple[Path, ...], folder: Path, update: bool, coverage: bool, as_json: bool
) -> None:
    """Run the tests in the files of integrations and sources, and in NAME.test.yaml beside them.

    With FILEs, run only the tests in these files of the configuration folder. Nothing is sent, and secrets are replaced
    by ***. Exits with 1 if a test fails.
    """
    began = time.perf_counter()
    _check_files(folder, files)
    suite = _suite(read(folder), files)
    results: list[Result] = list(suite.run())
    covered: list[Coverage] = list(suite.cover()) if coverage else []
    failed = [result for result in results if not result.passed]
    if update:
        _update(failed)
    if as_json:
        echo_json(_data(results, covered if coverage else None, update))
    else:
        for result in failed:
            if update:
                echo(f"updated {_where(result)}")
            else:
                _show_failure(result)
        for each in covered:
            _show_coverage(each)
        count = f"{len(results) - len(failed)} passed, {len(failed)} {'updated' if update else 'failed'}"
        seconds = time.perf_counter() - began
        echo(f"{count} in {seconds:.1f} s" if results else "no tests: add `tests:` to a rule file")
    context.exit(1 if failed and not update else 0)


def _check_files(folder: Path, files: Sequence[Path]) -> None:
    """Raise UsageError for a folder among the files, and for a file that is not in the configuration folder."""
    for file in files:
        if file.is_dir():
            raise click.UsageError(f"{file} is a folder: name the configuration folder with --config, then files in it")
        if file.resolve().parent.parent != folder.resolve():
            hint = f"name its configuration folder: --config {file.parent.parent}"
            raise click.UsageError(f"{file} is not in sources/ or integrations/ of {folder}: {hint}")


def _suite(configuration: "Configuration", files: Sequence[Path]) -> "RuleTestSuite":
    from deploy.config.configuration import ConfigurationError
    from deploy.dryrun.rule_test_suite import RuleTestSuite

    try:
        return RuleTestSuite(configuration, files)
    except ConfigurationError as error:
        raise Misconfigured(error.errors) from None


def _update(failed: "Sequence[Result]") -> None:
    from deploy.config.yaml_edit import replace_value
    from deploy.dryrun.rule_test_runner import expected

    for result in failed:
        path = Path(result.entry.document.path)
        text = path.read_text(encoding="utf-8")
        path.write_text(replace_value(text, (*result.entry.keys, "expect"), expected(result)), encoding="utf-8")


def _where(result: "Result") -> str:
    entry = result.entry
    return f"{entry.document.path}:{entry.line}: {entry.name}"


def _show_failure(result: "Result") -> None:
    from deploy.config.json_diff import shown
    from deploy.terminal.console import PlainConsole, one_line

    console = PlainConsole(soft_wrap=True)
    console.print(one_line((f"FAILED {_where(result)}", "bold")))
    for note in result.notes:
        console.print(one_line(f"  {note}"))
    for difference in result.differences:
        place = result.lines.get(difference.field)
        console.print(one_line(f"  {difference.field}{f'  ({place})' if place else ''}"))
        console.print(one_line((f"    - {shown(difference.before)}", "green")))
        console.print(one_line((f"    + {shown(difference.after)}", "red")))
    console.print()


def _show_coverage(coverage: "Coverage") -> None:
    rules, directives = coverage.unreached_rules(), coverage.unreached_directives()
    echo(f"{coverage.subject.document.path}: " + ("no test reaches" if rules or directives else "all reached"))
    for rule in rules:
        echo(f"  {rule.place.line}: the rule {rule.name}")
    for call in directives:
        echo(f"  {call.place.line}: {call.directive.name}")


def _data(results: "Sequence[Result]", covered: "Sequence[Coverage] | None", updated: bool) -> dict[str, Any]:
    from deploy.config.json_diff import ABSENT

    data: dict[str, Any] = {
        "passed": sum(result.passed for result in results),
        "failed": sum(not result.passed for result in results),
        "updated": updated,
        "tests": [
            {
                "path": result.entry.document.path,
                "line": result.entry.line,
                "name": result.entry.name,
                "passed": result.passed,
                "results": result.results,
                "notes": result.notes,
                "differences": [
                    {
                        "field": each.field,
                        "rule": result.lines.get(each.field),
                        **{
                            key: value
                            for key, value in (("expected", each.before), ("actual", each.after))
                            if value is not ABSENT
                        },
                    }
                    for each in result.differences
                ],
            }
            for result in results
        ],
    }
    if covered is not None:
        data["coverage"] = [
            {
                "path": each.subject.document.path,
                "rules": [{"name": rule.name, "line": rule.place.line} for rule in each.unreached_rules()],
                "directives": [
                    {"name": call.directive.name, "line": call.place.line} for call in each.unreached_directives()
                ],
            }
            for each in covered
        ]
    return data
