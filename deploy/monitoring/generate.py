"""Write the files of Prometheus and Grafana, and the page about alerts: python -m deploy.monitoring.generate."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from deploy.monitoring.alerts import ALERTS, Alert, rules
from deploy.monitoring.dashboards import DASHBOARDS, to_json

FILES = Path(__file__).parent / "files"
PAGE = Path(__file__).parents[1] / "docs" / "operations" / "alerts.md"

NOTICE = "Written by `python -m deploy.monitoring.generate`; change deploy/monitoring."

PAGE_HEAD = f"""<!-- {NOTICE} -->
# Alerts

Each alert of `alerts.yaml` has a section here, to which it links: its cause, and the steps to its remedy. `page` is for
people who are woken up, `ticket` for the next working day.

`turnout monitoring DIR` writes the rules, Grafana's dashboards, and Prometheus' configuration for Docker Compose.
"""


def texts() -> Mapping[Path, str]:
    """Return the text of every generated file, by its path."""
    alerts = yaml.safe_dump(rules(), sort_keys=False, width=1000)
    boards = {FILES / "dashboards" / f"{name}.json": to_json(make()) for name, make in DASHBOARDS.items()}
    return {FILES / "alerts.yaml": f"# {NOTICE}\n{alerts}", PAGE: page(), **boards}


def page() -> str:
    """Return the page about alerts."""
    return "\n".join([PAGE_HEAD, *(line for alert in ALERTS for line in _section(alert))])


def _section(alert: Alert) -> Iterator[str]:
    wait = f" for {alert.wait}" if alert.wait != "0m" else ""
    yield f"## {alert.name}\n"
    yield f"`{alert.severity}`, if this holds{wait}:\n"
    yield f"```\n{alert.expression}\n```\n"
    yield f"{alert.cause}\n"
    yield "\n".join(f"{number}. {step}" for number, step in enumerate(alert.steps, 1)) + "\n"


def main() -> None:
    """Write the files."""
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
