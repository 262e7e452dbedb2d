"""Settings and configuration files are described consistently, and match the workers' records."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from deploy.config.models.tests import Decision
from streams.records.outcomes import Outcome, Stage, outcomes_of

ROOT = Path(__file__).parents[3]
BASES = {"streams/settings.py", "forwarders/api/contract.py", "deploy/config/settings.py"}
"""Files with a base class of their own: of settings, of plug-ins' settings and payloads, and of turnout.yaml."""


@pytest.mark.parametrize("package", ["streams", "forwarders", "deploy"])
def test_one_base_and_one_style(package: str) -> None:
    """Strict models inherit their configuration, and describe fields by docstrings instead of `description=`."""
    found = []
    for path in (ROOT / package).rglob("*.py"):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            arguments = {keyword.arg for keyword in node.keywords}
            called = ast.unparse(node.func)
            if called == "Field" and "description" in arguments:
                found.append(f"{name}:{node.lineno}: description= instead of a docstring")
            if called == "ConfigDict" and {"extra", "frozen"} <= arguments and name not in BASES:
                found.append(f"{name}:{node.lineno}: ConfigDict instead of a base class")
    assert found == []


def test_expectations_name_the_outcomes_of_the_router() -> None:
    """Tests may expect each outcome of the router but `duplicate`, which needs two events, `draining`, because tests of
    a draining integration still test its rules, and `lost`, which is not decided.
    """
    decisions = {"forwarded", "rejected", *outcomes_of(Stage.ROUTER)}
    decisions -= {Outcome.DUPLICATE, Outcome.DRAINING, Outcome.LOST}
    assert set(get_args(Decision)) == decisions


def test_every_outcome_is_explained() -> None:
    """Each outcome is recorded by a worker and has a meaning."""
    assert all(outcome.stages and outcome.meaning for outcome in Outcome)
    assert {outcome for stage in Stage for outcome in outcomes_of(stage)} == set(Outcome)
