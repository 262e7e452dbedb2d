"""The alert rules, by `promtool test rules`: each fires when it should, and only then."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.generate import FILES
from tests.support import prometheus

DELIVERIES = "turnout_delivery_outcomes_total"


@dataclass(frozen=True)
class AlertCase:
    """Series with a value per minute, when the alert is silent and when it fires, and its message."""

    alert: str
    series: Mapping[str, str]
    silent_at: str
    fires_at: str
    labels: Mapping[str, str]
    summary: str


CASES = [
    AlertCase(
        "TurnoutProcessDown",
        {'up{job="turnout", instance="a:1"}': "1 1 0x10", 'up{job="turnout", instance="b:1"}': "1 0 0 1x10"},
        "6m",
        "8m",
        {"job": "turnout", "instance": "a:1"},
        "a:1 does not answer Prometheus",
    ),
    AlertCase(
        "TurnoutLag",
        {
            'turnout_lag_seconds{group="g", topic="t", partition="0", instance="a:1"}': "0 400x30",
            'turnout_lag_seconds{group="g", topic="t", partition="1", instance="b:1"}': "0x31",
            'turnout_lag_seconds{group="g", topic="u", partition="0", instance="b:1"}': "400x8 10x20",
        },
        "10m",
        "12m",
        {"group": "g", "topic": "t"},
        "t is 6m 40s behind",
    ),
    AlertCase(
        "TurnoutRetentionNear",
        {
            'turnout_retention_hours_left{group="g", topic="t", instance="a:1"}': "23x30",
            'turnout_retention_hours_left{group="g", topic="t", instance="b:1"}': "168x30",
            'turnout_retention_hours_left{group="g", topic="u", instance="b:1"}': "24x30",
        },
        "9m",
        "11m",
        {"group": "g", "topic": "t"},
        "Kafka removes unfinished records of t in 23 hours",
    ),
    AlertCase(
        "TurnoutPaused",
        {
            'turnout_delivery_paused{integration="ga4", instance="a:1"}': "0 1x30",
            'turnout_delivery_paused{integration="ga4", instance="b:1"}': "0x31",
            'turnout_delivery_paused{integration="crm", instance="a:1"}': "1x10 0x20",
        },
        "15m",
        "17m",
        {"integration": "ga4"},
        "ga4 has been paused for 15 minutes",
    ),
    AlertCase(
        "TurnoutDeadLetters",
        {
            # The first dead letter makes the series.
            f'{DELIVERIES}{{integration="ga4", outcome="dead", instance="a:1"}}': "_x5 1x30",
            f'{DELIVERIES}{{integration="crm", outcome="dead", instance="a:1"}}': "7x35",
            f'{DELIVERIES}{{integration="crm", outcome="delivered", instance="a:1"}}': "0+100x35",
        },
        "30m",
        "18m",
        {"integration": "ga4"},
        "ga4 has 1 new dead letters",
    ),
    AlertCase(
        "TurnoutWorkerFailing",
        {
            'turnout_worker_failing{worker="router", instance="a:1"}': "1x10",
            'turnout_worker_failing{worker="ga4", instance="b:1"}': "0x10",
        },
        "4m",
        "6m",
        {"worker": "router"},
        "router fails and is restarted",
    ),
    AlertCase(
        "TurnoutConfigurationInvalid",
        {
            'turnout_configuration_broken{instance="a:1"}': "1x15",
            'turnout_configuration_broken{instance="b:1"}': "0x15",
        },
        "9m",
        "11m",
        {"instance": "a:1"},
        "a:1 cannot use its configuration folder",
    ),
    AlertCase(
        "TurnoutRecordsLost",
        {'turnout_lost_records_total{topic="turnout.forward.ga4", instance="a:1"}': "_x5 40x100"},
        "4m",
        "6m",
        {"topic": "turnout.forward.ga4"},
        "40 records of turnout.forward.ga4 were removed before they were read",
    ),
    AlertCase(
        "TurnoutBooksOutOfBalance",
        {
            'turnout_ledger_problem_events{problem="without_outcome", instance="a:1"}': "0x5 3x5",
            'turnout_ledger_problem_events{problem="unknown_event", instance="a:1"}': "0x10",
        },
        "4m",
        "7m",
        {"problem": "without_outcome"},
        "3 events: without_outcome",
    ),
    AlertCase(
        "TurnoutAuditOverdue",
        {'turnout_ledger_audited_timestamp_seconds{instance="a:1"}': "0x200"},
        "180m",
        "190m",
        {},
        "no audit for 3h 10m 0s",
    ),
    AlertCase(
        "TurnoutApiVersionSunset",
        {
            'turnout_api_version_sunset_timestamp_seconds{integration="crm", instance="a:1"}': "2595600x200",
            'turnout_api_version_sunset_timestamp_seconds{integration="ads", instance="a:1"}': "9999999x200",
        },
        "60m",
        "122m",
        {"integration": "crm"},
        "the vendor turns off the API version of crm in 29d 22h 58m 0s",
    ),
    AlertCase(
        "TurnoutCollectorErrors",
        {
            'turnout_collector_request_errors_total{status="503", instance="a:1"}': "0x10 0+60x20",
            'turnout_collector_request_errors_total{status="429", instance="a:1"}': "0+60x30",
        },
        "12m",
        "22m",
        {},
        "the collector answers 1 requests per second with 5xx",
    ),
]


def test_every_alert_has_a_case():
    """No alert is untested."""
    assert [case.alert for case in CASES] == [alert.name for alert in ALERTS]


@pytest.fixture(scope="module")
def promtool() -> Path:
    """The program; skips if it cannot be had, unless TURNOUT_TESTS_NEED_PROMETHEUS says it must run."""
    reason = prometheus.why_not()
    if reason and not os.environ.get(prometheus.REQUIRED):
        pytest.skip(reason)
    return prometheus.program("promtool")


def run_cases(promtool: Path, folder: Path, cases: list[AlertCase]) -> subprocess.CompletedProcess[str]:
    """Run `promtool test rules` for some cases."""
    shutil.copy(FILES / "alerts.yaml", folder)
    alerts = {alert.name: alert for alert in ALERTS}
    tests = [
        {
            "name": case.alert,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
            "alert_rule_test": [
                {"alertname": case.alert, "eval_time": case.silent_at, "exp_alerts": []},
                {
                    "alertname": case.alert,
                    "eval_time": case.fires_at,
                    "exp_alerts": [
                        {
                            "exp_labels": {"severity": alerts[case.alert].severity, **case.labels},
                            "exp_annotations": {
                                "summary": case.summary,
                                "description": alerts[case.alert].cause,
                                "runbook_url": alerts[case.alert].runbook,
                            },
                        }
                    ],
                },
            ],
        }
        for case in cases
    ]
    (folder / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    command = [promtool, "test", "rules", "tests.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.operations
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires(promtool: Path, tmp_path: Path, case: AlertCase):
    """It is silent as long as it should be, and then fires with its labels, text and link."""
    ran = run_cases(promtool, tmp_path, [case])
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.operations
def test_a_wrong_expectation_fails(promtool: Path, tmp_path: Path):
    """The cases are really compared."""
    wrong = AlertCase("TurnoutPaused", CASES[1].series, "17m", "15m", CASES[1].labels, CASES[1].summary)
    assert run_cases(promtool, tmp_path, [wrong]).returncode != 0


@pytest.mark.operations
def test_the_configuration_is_valid(promtool: Path, tmp_path: Path):
    """`promtool check config` accepts the configuration for compose.yaml with its rules."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    command = [promtool, "check", "config", "prometheus.yml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(ALERTS)} rules found" in ran.stdout
