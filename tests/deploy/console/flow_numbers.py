"""Compare the numbers of Flow with those of `turnout counts --json`."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner

from deploy.cli.main import main
from deploy.console.screens.flow import FAMILIES


def counts(folder: object, ledger_port: object, since: str = "1h") -> dict[str, Any]:
    """Return the output of `turnout counts --json` by integration and outcome."""
    variables = {"TURNOUT_LEDGER__PORT": str(ledger_port)}
    arguments = ["counts", "--config", str(folder), "--since", since, "--by", "integration,outcome", "--json"]
    ran = CliRunner().invoke(main, arguments, env=variables)
    assert ran.exit_code == 0, ran.output
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def check_flow(page: Mapping[str, Any], counted: Mapping[str, Any]) -> None:
    """Fail unless each number of the page equals that of counts, and the rows and the chart add up."""
    assert page["accepted"] == counted["accepted"]
    assert page["rejected"] == counted["rejected"]
    assert {row["integration"] for row in counted["rows"]} - {""} <= {row["name"] for row in page["integrations"]}
    for row in page["integrations"]:
        outcomes: Counter[str] = Counter()
        for each in counted["rows"]:
            if each["integration"] == row["name"]:
                outcomes[each["outcome"]] += each["count"]
        assert row["sum"] == outcomes.total()
        for family, names in FAMILIES.items():
            assert row[family] == sum(outcomes[name] for name in names), (row["name"], family)
    assert sum(page["chart"]["lines"]["received"]) == page["received"] == page["accepted"] + page["rejected"]
