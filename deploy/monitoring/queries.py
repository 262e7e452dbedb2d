"""Write PromQL expressions about declared metrics."""

from collections.abc import Sequence

from prometheus_client.metrics import MetricWrapperBase

RATE_INTERVAL = "$__rate_interval"
"""Grafana's interval for rates: at least four scrapes, and longer the more time a panel shows."""


def name_of(metric: MetricWrapperBase) -> str:
    """Return the name of a metric's series; for a histogram, without a suffix."""
    (family,) = metric.describe()
    return f"{family.name}_total" if family.type == "counter" else family.name


def description_of(metric: MetricWrapperBase) -> str:
    """Return the description of a metric."""
    (family,) = metric.describe()
    return family.documentation


def rate(counter: MetricWrapperBase, by: Sequence[str] = (), where: str = "") -> str:
    """Return the increase per second of a counter, summed over processes; 0 if it was never increased."""
    return or_zero(f"sum{_by(by)} (rate({name_of(counter)}{_where(where)}[{RATE_INTERVAL}]))")


def total(gauge: MetricWrapperBase, by: Sequence[str] = (), where: str = "") -> str:
    """Return the sum of a gauge over processes."""
    return f"sum{_by(by)} ({name_of(gauge)}{_where(where)})"


def highest(gauge: MetricWrapperBase, by: Sequence[str] = (), where: str = "") -> str:
    """Return the maximum of a gauge over processes."""
    return f"max{_by(by)} ({name_of(gauge)}{_where(where)})"


def lowest(gauge: MetricWrapperBase, by: Sequence[str] = (), where: str = "") -> str:
    """Return the minimum of a gauge over processes."""
    return f"min{_by(by)} ({name_of(gauge)}{_where(where)})"


def quantile(share: float, histogram: MetricWrapperBase, by: Sequence[str] = (), where: str = "") -> str:
    """Return the value that a share of a histogram's observations does not exceed."""
    buckets = f"rate({name_of(histogram)}_bucket{_where(where)}[{RATE_INTERVAL}])"
    return f"histogram_quantile({share}, sum{_by([*by, 'le'])} ({buckets}))"


def increase(counter: MetricWrapperBase, period: str, by: Sequence[str] = (), where: str = "") -> str:
    """Return how much a counter has grown in a period; also counts the first value of a new series.

    PromQL's own `increase` needs two values, and would miss the first event of a kind.
    """
    series = f"{name_of(counter)}{_where(where)}"
    return or_zero(f"sum{_by(by)} ({series} - (({series} offset {period}) or ({series} * 0)) > 0)")


def or_zero(expression: str) -> str:
    """Return the expression, or 0 if none of its series exists yet."""
    return f"({expression} or vector(0))"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _where(where: str) -> str:
    return f"{{{where}}}" if where else ""
