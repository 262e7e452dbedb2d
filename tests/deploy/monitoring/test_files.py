"""The dashboards, the alerts, and the page about them."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.metrics import MetricWrapperBase

from deploy.cli.main import main
from deploy.monitoring import dashboards, generate
from deploy.monitoring.alerts import ALERTS, MAX_STEPS, RUNBOOK
from deploy.monitoring.queries import name_of
from deploy.runtime.exposition import PROCESSES
from streams.observability import metrics

BOARDS = sorted((generate.FILES / "dashboards").glob("*.json"))
METRICS = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def test_the_files_are_up_to_date():
    """Every generated file matches the declarations; `python -m deploy.monitoring.generate` writes them."""
    texts = generate.texts()
    assert {path for path in texts if not path.exists() or path.read_text() != texts[path]} == set()
    assert {path for path in BOARDS if path not in texts} == set()


@pytest.mark.parametrize("metric", METRICS, ids=name_of)
def test_every_metric_is_on_a_dashboard(metric: MetricWrapperBase):
    """No metric is declared and shown nowhere, and each query of a panel is about a metric that it describes."""
    graphs = [*dashboards.EVENTS, *dashboards.HEALTH, *dashboards.DELIVERY]
    assert any(metric in graph.metrics for graph in graphs)
    for graph in graphs:
        names = {name_of(each) for each in graph.metrics}
        for query in graph.queries:
            used = {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"turnout_\w+", query.expression)}
            assert used <= names, (graph.title, used)
        assert all(any(name in query.expression for query in graph.queries) for name in names)


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_panels_are_numbered_and_do_not_overlap(board: Path):
    """Each panel has an id, a place of its own, a description, and the data source that the dashboard selects."""
    panels = json.loads(board.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
            assert all(it["datasource"]["uid"] == "${datasource}" for it in (panel, *panel["targets"]))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_leads_to_its_remedy(alert):
    """Its link leads to a section of the runbook with a cause, and at most three steps."""
    assert alert.runbook == f"{RUNBOOK}#{alert.name.lower()}"
    assert f"\n## {alert.name}\n" in generate.PAGE.read_text()
    assert alert.cause
    assert 0 < len(alert.steps) <= MAX_STEPS
    assert Path(RUNBOOK.partition("/main/")[2]).resolve() == generate.PAGE


def test_the_commands_of_the_steps_exist():
    """Each `turnout` command that a step names is one."""
    named = [word for alert in ALERTS for step in alert.steps for word in re.findall("`turnout ([a-z]+)", step)]
    assert named
    assert set(named) <= set(main.list_commands(None))  # type: ignore[arg-type]


def test_prometheus_scrapes_every_process():
    """The configuration for compose.yaml has each process, at the port that follows from its position."""
    data = yaml.safe_load((generate.FILES / "prometheus.yml").read_text())
    (job,) = data["scrape_configs"]
    ports = {entry["names"][0]: entry["port"] for entry in job["dns_sd_configs"]}
    compose = yaml.safe_load(Path("deploy/image/compose.yaml").read_text())
    first = int(compose["x-environment"]["TURNOUT_METRICS_PORT"])
    assert ports == {process: first + number for number, process in enumerate(PROCESSES)}
    assert ports.keys() <= compose["services"].keys()


def test_the_command_writes_every_file(tmp_path: Path):
    """`turnout monitoring` writes the files into a folder, also a second time."""
    for _ in range(2):
        assert CliRunner().invoke(main, ["monitoring", str(tmp_path)]).exit_code == 0
    assert contents(tmp_path) == contents(generate.FILES)


def contents(folder: Path) -> dict[Path, bytes]:
    """The content of each file in a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
