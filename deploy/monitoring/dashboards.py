"""Build the Grafana dashboards, with grafana-foundation-sdk."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

from grafana_foundation_sdk.builders import prometheus, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units
from prometheus_client.metrics import MetricWrapperBase

from deploy.monitoring.queries import description_of, highest, lowest, name_of, or_zero, quantile, rate, total
from streams.observability import metrics

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

INTEGRATION = "integration"
"""The variable of the dashboard about deliveries; it selects one or more integrations."""

SELECTED = f'{INTEGRATION}=~"${INTEGRATION}"'

WIDTH, HEIGHT = 8, 7
"""Of a panel; a row is 24 wide."""


class Query(NamedTuple):
    """A PromQL expression, and the legend of its series."""

    expression: str
    legend: str = "__auto"


class Graph(NamedTuple):
    """A panel: its description is that of its metrics."""

    title: str
    metrics: Sequence[MetricWrapperBase]
    queries: Sequence[Query]
    unit: str = units.Short


EVENTS = [
    Graph(
        "Accepted events",
        [metrics.COLLECTOR_ACCEPTED],
        [Query(rate(metrics.COLLECTOR_ACCEPTED, ["source"]), "{{source}}")],
        units.EventsPerSecond,
    ),
    Graph(
        "Requests refused by the collector",
        [metrics.COLLECTOR_ERRORS, metrics.COLLECTOR_THROTTLED, metrics.COLLECTOR_DISABLED],
        [
            Query(rate(metrics.COLLECTOR_ERRORS, ["status"]), "HTTP {{status}}"),
            Query(rate(metrics.COLLECTOR_THROTTLED, ["source"]), "over the limit {{source}}"),
            Query(rate(metrics.COLLECTOR_DISABLED, ["source"]), "disabled {{source}}"),
        ],
        units.RequestsPerSecond,
    ),
    Graph(
        "Invalid events",
        [metrics.COLLECTOR_REFUSED, metrics.ROUTER_REJECTED, metrics.PLAN_VIOLATIONS],
        [
            Query(rate(metrics.COLLECTOR_REFUSED, ["code"]), "collector: {{code}}"),
            Query(rate(metrics.ROUTER_REJECTED, ["reason"]), "router: {{reason}}"),
            Query(rate(metrics.PLAN_VIOLATIONS, ["plan"]), "plan {{plan}}"),
        ],
        units.EventsPerSecond,
    ),
    Graph(
        "Duration of requests to the collector",
        [metrics.COLLECTOR_SECONDS],
        [
            Query(quantile(0.5, metrics.COLLECTOR_SECONDS), "median"),
            Query(quantile(0.99, metrics.COLLECTOR_SECONDS), "99 %"),
        ],
        units.Seconds,
    ),
    Graph(
        "Events that Kafka has not confirmed",
        [metrics.COLLECTOR_UNCONFIRMED],
        [Query(total(metrics.COLLECTOR_UNCONFIRMED), "bytes")],
        units.BytesIEC,
    ),
    Graph(
        "Routed events", [metrics.ROUTER_EVENTS], [Query(rate(metrics.ROUTER_EVENTS), "events")], units.EventsPerSecond
    ),
    Graph(
        "Decisions of the router",
        [metrics.ROUTER_OUTCOMES],
        [Query(rate(metrics.ROUTER_OUTCOMES, ["integration", "outcome"]), "{{integration}} {{outcome}}")],
        units.EventsPerSecond,
    ),
    Graph(
        "Unfinished records",
        [metrics.LAG],
        [Query(total(metrics.LAG, ["topic"]), "{{topic}}")],
    ),
    Graph(
        "Age of the oldest unfinished record",
        [metrics.LAG_SECONDS],
        [Query(highest(metrics.LAG_SECONDS, ["group", "topic"]), "{{topic}}")],
        units.Seconds,
    ),
    Graph(
        "Outcomes of deliveries",
        [metrics.DELIVERY_OUTCOMES],
        [Query(rate(metrics.DELIVERY_OUTCOMES, ["outcome"]), "{{outcome}}")],
        units.EventsPerSecond,
    ),
]

HEALTH = [
    Graph(
        "Paused integrations",
        [metrics.DELIVERY_PAUSED, metrics.DELIVERY_HELD],
        [
            Query(highest(metrics.DELIVERY_PAUSED, ["integration"]), "{{integration}}: the vendor fails"),
            Query(highest(metrics.DELIVERY_HELD, ["integration"]), "{{integration}}: by hand"),
        ],
    ),
    Graph(
        "Failures of workers and enrichments",
        [metrics.WORKER_FAILING, metrics.INTERNAL_FAILURES, metrics.ENRICHMENT_FAILURES, metrics.COMMITS_CUT],
        [
            Query(or_zero(highest(metrics.WORKER_FAILING, ["worker"])), "{{worker}} is stopped"),
            Query(rate(metrics.INTERNAL_FAILURES, ["worker"]), "{{worker}}: failed records"),
            Query(rate(metrics.ENRICHMENT_FAILURES, ["enrichment"]), "{{enrichment}}: failed events"),
            Query(rate(metrics.COMMITS_CUT, ["topic"]), "{{topic}}: commits without room"),
        ],
    ),
    Graph(
        "Values left out of payloads",
        [metrics.ROUTER_LEFT_OUT, metrics.DELIVERY_LEFT_OUT],
        [
            Query(rate(metrics.ROUTER_LEFT_OUT, ["directive"]), "{{directive}}"),
            Query(rate(metrics.DELIVERY_LEFT_OUT, ["integration"]), "{{integration}}"),
        ],
        units.EventsPerSecond,
    ),
    Graph(
        "Time until API versions end",
        [metrics.API_SUNSET],
        [Query(f"{lowest(metrics.API_SUNSET, ['integration'])} - time()", "{{integration}}")],
        units.Seconds,
    ),
    Graph(
        "Time until retention removes unfinished records",
        [metrics.RETENTION_LEFT],
        [Query(lowest(metrics.RETENTION_LEFT, ["group", "topic"]), "{{topic}}")],
        units.Hours,
    ),
    Graph(
        "Records lost to retention",
        [metrics.RECORDS_LOST],
        [Query(rate(metrics.RECORDS_LOST, ["topic"]), "{{topic}}")],
    ),
    Graph(
        "Events whose books do not balance",
        [metrics.LEDGER_PROBLEMS, metrics.LEDGER_IN_FLIGHT],
        [
            Query(highest(metrics.LEDGER_PROBLEMS, ["problem"]), "{{problem}}"),
            Query(highest(metrics.LEDGER_IN_FLIGHT), "in flight"),
        ],
    ),
    Graph(
        "Time since the last audit",
        [metrics.LEDGER_AUDITED],
        [Query(f"time() - {highest(metrics.LEDGER_AUDITED)}", "seconds")],
        units.Seconds,
    ),
    Graph(
        "Processes by release",
        [metrics.BUILD_INFO],
        [Query(f"count by (release, process) ({name_of(metrics.BUILD_INFO)})", "{{process}} {{release}}")],
    ),
    Graph(
        "Processes by version of the rules",
        [metrics.CONFIGURATION, metrics.CONFIGURATION_BROKEN],
        [
            Query(f"count by (version) ({name_of(metrics.CONFIGURATION)} == 1)", "{{version}}"),
            Query(total(metrics.CONFIGURATION_BROKEN), "with an invalid folder"),
        ],
    ),
]

DELIVERY = [
    Graph(
        "Outcomes",
        [metrics.DELIVERY_OUTCOMES],
        [Query(rate(metrics.DELIVERY_OUTCOMES, ["integration", "outcome"], SELECTED), "{{integration}} {{outcome}}")],
        units.EventsPerSecond,
    ),
    Graph(
        "From acceptance to delivery",
        [metrics.END_TO_END_SECONDS],
        [
            Query(quantile(0.5, metrics.END_TO_END_SECONDS, ["integration"], SELECTED), "{{integration}} median"),
            Query(quantile(0.99, metrics.END_TO_END_SECONDS, ["integration"], SELECTED), "{{integration}} 99 %"),
        ],
        units.Seconds,
    ),
    Graph(
        "Requests",
        [metrics.DELIVERY_SECONDS],
        [
            Query(
                f"sum by (integration, status) (rate({name_of(metrics.DELIVERY_SECONDS)}_count{{{SELECTED}}}"
                "[$__rate_interval]))",
                "{{integration}} {{status}}",
            )
        ],
        units.RequestsPerSecond,
    ),
    Graph(
        "Duration of requests",
        [metrics.DELIVERY_SECONDS],
        [
            Query(quantile(0.5, metrics.DELIVERY_SECONDS, ["integration"], SELECTED), "{{integration}} median"),
            Query(quantile(0.99, metrics.DELIVERY_SECONDS, ["integration"], SELECTED), "{{integration}} 99 %"),
        ],
        units.Seconds,
    ),
    Graph(
        "Retries",
        [metrics.DELIVERY_RETRIES],
        [Query(rate(metrics.DELIVERY_RETRIES, ["integration"], SELECTED), "{{integration}}")],
        units.EventsPerSecond,
    ),
]


def overview() -> Dashboard:
    """Return the dashboard about all processes."""
    board = _dashboard("turnout", "Turnout")
    _add(board, {"Events": EVENTS, "Health": HEALTH})
    return board


def delivery() -> Dashboard:
    """Return the dashboard about one or more integrations."""
    board = _dashboard("turnout-delivery", "Turnout: deliveries")
    query = f"label_values({name_of(metrics.DELIVERY_PAUSED)}, {INTEGRATION})"
    board.with_variable(
        QueryVariable(INTEGRATION)
        .label("Integration")
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
    )
    _add(board, {"Deliveries": DELIVERY})
    return board


DASHBOARDS = {"overview": overview, "delivery": delivery}


def to_json(board: Dashboard) -> str:
    """Return a dashboard as Grafana's JSON."""
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _dashboard(uid: str, title: str) -> Dashboard:
    return (
        Dashboard(title)
        .uid(uid)
        .tags(["turnout"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )


def _add(board: Dashboard, rows: Mapping[str, Sequence[Graph]]) -> None:
    """Add rows of panels, each with a number of its own."""
    numbers = count(1)
    for title, graphs in rows.items():
        board.with_row(Row(title).id(next(numbers)))
        for graph in graphs:
            board.with_panel(_panel(graph).id(next(numbers)))


def _panel(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description("\n\n".join(f"`{name_of(metric)}`: {description_of(metric)}" for metric in graph.metrics))
        .datasource(DATASOURCE)
        .unit(graph.unit)
        .min(0)
        .span(WIDTH)
        .height(HEIGHT)
    )
    for letter, query in zip("ABCDEFGH", graph.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expression).legend_format(query.legend)
        panel.with_target(target.datasource(DATASOURCE))
    return panel
